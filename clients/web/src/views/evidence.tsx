// Evidence as a drawing: each member's distance against the model's accept and fraud thresholds.

import type { Evidence, Model, Request } from '../decode'
import { judge, judgeAnswer, judgeVerdict, logits, place, type Judgement, type Measured, type Policy } from '../evidence'
import { Long, Notice, short } from '../ui'

const WORD: Record<Judgement, string> = { accept: 'within accept', grey: 'between the thresholds', fraud: 'beyond fraud' }

export function EvidenceOf({ request: r, model }: { request: Request; model?: Model }) {
	if (r.evidence.length === 0) {
		if (r.state === 'Final' && r.verifiers.length + r.jurors.length === 0)
			return <Notice>There is none: nobody but the executor measured this answer.</Notice>
		return <p class="muted">None yet. Members commit to their evidence first and show it when all have.</p>
	}
	if (!model) return <Notice kind="error">The model is not on chain any more: without its policy there is nothing to judge by.</Notice>
	// A claim that an input cannot be answered is compared as in the exact class, whatever the model's.
	const zero = { mean: 0, max: 0, marginMax: 0, marginMean: 0 }
	const policy: Policy = r.output?.kind === 'unanswerable' ? { ...model.policy, class: 'exact', accept: zero, fraud: zero } : model.policy
	const round = r.evidence.filter((e) => !e.jury)
	const jury = r.evidence.filter((e) => e.jury)
	return (
		<>
			{round.length > 0 && (
				<Round title={jury.length ? 'Committee' : undefined} of={round} policy={policy} task={model.task} executor={r.executor} />
			)}
			{jury.length > 0 && <Round title="Jury" of={jury} policy={policy} task={model.task} executor={r.executor} />}
			<p class="muted">
				The page computes medians, distances and judgements from what the members revealed, as the runtime does. The chain keeps of a text’s
				margins the largest, the mean and the number of deviations, not one for each token.
			</p>
		</>
	)
}

interface RoundProps {
	title?: string
	of: Evidence[]
	policy: Policy
	task: Model['task']
	executor?: string
}

function Round({ title, of, policy, task, executor }: RoundProps) {
	const measured = judge(
		policy,
		of.map((e) => e.fingerprint)
	)
	const isText = task === 'text-generation'
	const others = of.filter((e) => e.member !== executor)
	const answer =
		isText && others.length
			? judgeAnswer(
					policy,
					others.map((e) => e.verdict)
				)
			: undefined
	const role = (e: Evidence) => (e.member === executor ? 'executor' : title === 'Jury' ? 'juror' : 'verifier')
	return (
		<div class="round">
			{title && <h3>{title}</h3>}
			{answer && (
				<p>
					The verifiers’ own measurements: the answer is <strong>{answer}</strong>.
				</p>
			)}
			<ul class="members">
				{of.map((e, i) => (
					<li key={e.member}>
						<p>
							<Long text={e.member} of="validator" /> <span class="muted">{role(e)}</span>
						</p>
						<Numbers of={measured[i]!} fingerprint={e} policy={policy} />
						{isText && <Margins of={e} policy={policy} own={e.member === executor} />}
					</li>
				))}
			</ul>
			{measured.some((m) => m.distances && m.distances.length > 1) && <Components of={of} measured={measured} policy={policy} />}
		</div>
	)
}

function Numbers({ of, fingerprint, policy }: { of: Measured; fingerprint: Evidence; policy: Policy }) {
	if ('digest' in fingerprint.fingerprint) {
		const all = of.judgement === 'accept'
		return (
			<p class={`judged ${of.judgement}`}>
				<span class="mark" aria-hidden="true">
					{all ? '=' : '≠'}
				</span>{' '}
				digest <code>{short(fingerprint.fingerprint.digest)}</code>:{' '}
				{all && of.same === 1
					? 'there is nobody to compare it with'
					: all
						? `the same bits as ${of.same! - 1} other${of.same === 2 ? '' : 's'}`
						: of.same === 1
							? 'bits that nobody shares'
							: `bits that ${of.same! - 1} share, and no majority`}
			</p>
		)
	}
	if (of.mean === undefined) return <p class="judged fraud">of another form than the others’: cannot be compared</p>
	const unit = 2 ** -policy.fractionBits
	const value = (steps: number) => (steps === 0 ? '0' : (steps * unit).toPrecision(2))
	return (
		<>
			<Bar
				name="Largest distance"
				value={of.max!}
				accept={policy.accept.max}
				fraud={policy.fraud.max}
				show={value}
				judgement={of.max! <= policy.accept.max ? 'accept' : of.max! <= policy.fraud.max ? 'grey' : 'fraud'}
			/>
			<Bar
				name="Mean distance"
				value={of.mean}
				accept={policy.accept.mean / 256}
				fraud={policy.fraud.mean / 256}
				show={value}
				judgement={of.judgement}
			/>
		</>
	)
}

function Margins({ of, policy, own }: { of: Evidence; policy: Policy; own: boolean }) {
	const judgement = judgeVerdict(policy, of.verdict)
	if (policy.class === 'exact') {
		const { marginMax, deviations } = of.verdict
		const says =
			marginMax === 0
				? 'every token is what the model says'
				: deviations === 1
					? 'one token is not what the model says'
					: `${deviations} tokens are not what the model says`
		return (
			<p class={`judged ${judgement}`}>
				<span class="mark" aria-hidden="true">
					{marginMax === 0 ? '✓' : '✗'}
				</span>{' '}
				largest margin {logits(marginMax)}: {says}
				{own && ' (of its own answer: does not count)'}
			</p>
		)
	}
	return (
		<>
			<Bar
				name={`Largest margin${own ? ' (own answer)' : ''}`}
				value={of.verdict.marginMax}
				accept={policy.accept.marginMax}
				fraud={policy.fraud.marginMax}
				show={logits}
				judgement={judgement}
			/>
			<Bar
				name="Mean margin"
				value={of.verdict.marginMean}
				accept={policy.accept.marginMean}
				fraud={policy.fraud.marginMean}
				show={logits}
				judgement={judgement}
			/>
		</>
	)
}

interface BarProps {
	name: string
	value: number
	accept: number
	fraud: number
	show: (value: number) => string
	judgement: Judgement
}

/** One distance on a line on which the thresholds have fixed places. */
function Bar({ name, value, accept, fraud, show, judgement }: BarProps) {
	const text = `${name} ${show(value)}; accept up to ${show(accept)}, fraud beyond ${show(fraud)}: ${WORD[judgement]}`
	return (
		<div class="bar">
			<span>
				{name} <strong>{show(value)}</strong>
			</span>
			<svg viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label={text}>
				<title>{text}</title>
				<rect class="zone accept" x="0" y="1" width="40" height="6" />
				<rect class="zone grey" x="40" y="1" width="40" height="6" />
				<rect class="zone fraud" x="80" y="1" width="20" height="6" />
				<rect class={`value ${judgement}`} x="0" y="3" width={Math.max(0.6, place(value, accept, fraud))} height="2" />
			</svg>
			<span class="scale" aria-hidden="true">
				<span class="at40">accept {show(accept)}</span>
				<span class="at80">fraud {show(fraud)}</span>
			</span>
		</div>
	)
}

/** Every component of the fingerprint: one column each, one dot for each member. */
function Components({ of, measured, policy }: { of: Evidence[]; measured: Measured[]; policy: Policy }) {
	const count = Math.max(...measured.map((m) => m.distances?.length ?? 0))
	const { accept, fraud } = policy
	const most = Math.max(0, ...measured.flatMap((m) => m.distances ?? []))
	if (most === 0) return <p>All {count} components are the same for every member.</p>
	const text = `${count} components; the largest distance from the median is ${most} steps, accept up to ${accept.max}, fraud beyond ${fraud.max}`
	return (
		<figure class="components">
			<svg viewBox={`0 0 ${count * 4} 100`} preserveAspectRatio="none" role="img" aria-label={text}>
				<title>{text}</title>
				<rect class="zone accept" x="0" y="60" width={count * 4} height="40" />
				<rect class="zone grey" x="0" y="20" width={count * 4} height="40" />
				<rect class="zone fraud" x="0" y="0" width={count * 4} height="20" />
				{measured.flatMap((m, i) =>
					(m.distances ?? []).map((d, k) => {
						const width = 3 / of.length
						const height = place(d, accept.max, fraud.max)
						const judged = d <= accept.max ? 'accept' : d <= fraud.max ? 'grey' : 'fraud'
						return (
							height > 0 && (
								<rect class={`value ${judged}`} x={k * 4 + 0.5 + i * width} y={100 - height} width={width * 0.8} height={height} />
							)
						)
					})
				)}
			</svg>
			<figcaption>
				Distance of each of {count} components from the median, members side by side. Green ends at accept; red begins at fraud.
			</figcaption>
		</figure>
	)
}
