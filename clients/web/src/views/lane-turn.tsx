// An answer from the page's own channel, as it comes and is checked.

import { useState } from 'preact/hooks'
import { receiptOf } from '../lane'
import { LANE_NAME, laneLadder, laneSentence, laneTag, laneTrust, type Checker, type LaneAnswer } from '../lane-status'
import { csl } from '../money'
import { Long, Notice } from '../ui'

/** Classes that the style has, by what may be relied on. */
const KIND = { none: '', streaming: 'provisional', answered: 'provisional', checked: 'checked', refuted: 'failed', failed: 'failed' }

export function LaneTurn({ answer: a, cut }: { answer: LaneAnswer; cut: boolean }) {
	const trust = laneTrust(a)
	const stages = laneLadder(a)
	return (
		<>
			{a.said && (
				<div class={`answer ${KIND[trust]}`}>
					<p class="tag">{laneTag(a)}</p>
					<p class="text" aria-live="polite">
						{a.said}
					</p>
					{a.receipt?.finish === 'length' && <p class="muted">{cut ? 'You stopped it here.' : 'It ends here because of “most tokens”.'}</p>}
				</div>
			)}
			<ol class="ladder" aria-label="How far this answer is">
				{stages.map(({ stage, past }, i) => {
					const isNow = past && (i === stages.length - 1 || !stages[i + 1]!.past)
					const kind = stage === 'refuted' ? 'failed' : stage
					return (
						<li class={`${past ? 'past' : 'next'}${isNow ? ' now' : ''} ${kind}`} aria-current={isNow ? 'step' : undefined}>
							<span class="name">{LANE_NAME[stage]}</span>
							{!past && <span class="hidden">(to come)</span>}
						</li>
					)
				})}
			</ol>
			<p class="meaning" role="status">
				{laneSentence(a)}{' '}
				{a.executor && (
					<>
						Executor <Long text={a.executor} of="validator" />.
					</>
				)}
			</p>
			{a.checkers.length > 0 && (
				<ul class="bare checkers" aria-label="Checkers, in the order of the draw">
					{a.checkers.map((checker) => (
						<li>
							<Long text={checker.who} of="validator" /> {foundBy(checker)}
						</li>
					))}
				</ul>
			)}
			{a.failed.map(({ executor, why, sent }) => (
				<Notice>
					<Long text={executor} of="validator" /> was passed over: {why}.
					{sent ? ' What it sent is no answer; what came of it was paid.' : ' Nothing was paid.'}
				</Notice>
			))}
		</>
	)
}

function foundBy({ finding, skipped }: Checker) {
	if (skipped !== undefined) return `did not check: ${skipped}`
	switch (finding) {
		case 'right':
			return <span class="badge good">found it right</span>
		case 'wrong':
			return <span class="badge bad">found it wrong</span>
		case 'unclear':
			return <span class="badge open">neither right nor wrong</span>
		default:
			return <span class="badge open">measures it</span>
	}
}

/** What it cost, and the receipt for whoever wants to verify it. */
export function LaneFacts({ answer: a }: { answer: LaneAnswer }) {
	const [wrong, setWrong] = useState('')
	const save = async () => {
		try {
			const file = await receiptOf(a.number!)
			const url = URL.createObjectURL(new Blob([JSON.stringify(file)], { type: 'application/json' }))
			const link = Object.assign(document.createElement('a'), { href: url, download: `receipt-${a.number}.json` })
			link.click()
			setTimeout(() => URL.revokeObjectURL(url))
			setWrong('')
		} catch (e) {
			setWrong((e as Error).message)
		}
	}
	if (a.number === undefined) return null
	return (
		<>
			Question {a.number} of your channel ·{' '}
			{a.done ? <>{csl(a.done.paid)} signed away, checks included · </> : a.receipt ? <>{csl(a.receipt.amount)} signed away · </> : ''}
			{a.receipt && (
				<>
					<button type="button" class="small" onClick={() => void save()}>
						Save the receipt
					</button>{' '}
					{wrong && <span class="wrong">{wrong} </span>}·{' '}
				</>
			)}
		</>
	)
}
