import type { ApiPromise } from '@polkadot/api'
import type { ComponentChildren } from 'preact'
import { useState } from 'preact/hooks'
import { life, modelNames, models, palletOf, seen, type ChainEvent } from '../chain'
import { SETTLED, elements, type Input, type Model, type Output, type Request, type Sampling, type TensorShown } from '../decode'
import type { Head } from '../node'
import { csl } from '../money'
import { nodeUrl, to } from '../state'
import { Copy, Long, Money, Notice, OfNode, State, Title, useRead } from '../ui'
import { EvidenceOf } from './evidence'

export function OneRequest({ id }: { id: number }) {
	return (
		<>
			<p class="up">
				<a href={to('requests')}>All requests</a>
			</p>
			<Title>Request {id}</Title>
			<OfNode>{({ api, best, finalized }) => <Watched id={id} api={api} best={best} finalized={finalized} />}</OfNode>
		</>
	)
}

function Watched({ id, api, best, finalized }: { id: number; api: ApiPromise; best: Head; finalized: Head }) {
	const [done, setDone] = useState(false)
	const deps = [api, id, done ? 0 : best.hash, done ? 0 : finalized.hash]
	const { value, error } = useRead(async () => {
		const [found, all] = await Promise.all([seen(api, id, finalized.hash), models(api)])
		return { found, model: all.find((m) => m.id === found?.request.model) }
	}, deps)
	const request = value?.found?.request
	const happened = useRead(async () => {
		const found = request && (await life(api, request, best.number, finalized.number))
		// A settled request changes no more, unless somebody appeals: then it is read again when the page is opened.
		if (found && value?.found?.finalized) setDone(true)
		return found
	}, [request])
	if (error && !value) return <Notice kind="error">The request could not be read: {error}</Notice>
	if (!value) return <p role="status">Reading …</p>
	if (!value.found) {
		return (
			<Notice kind="error">
				This chain does not know request {id}: it was never made, or was settled so long ago that the chain has forgotten it.
			</Notice>
		)
	}
	return <Shown of={value.found.request} finalized={value.found.finalized} life={happened.value} model={value.model} api={api} />
}

function isChecked(r: Request): boolean {
	return r.verifiers.length + r.jurors.length > 0
}

interface ShownProps {
	of: Request
	finalized: boolean
	/** What happened; nothing while it is being read. */
	life?: { events: ChainEvent[]; missing: number }
	model?: Model
	api: ApiPromise
}

function Shown({ of: r, finalized, life, model, api }: ShownProps) {
	const { events, missing } = life ?? { events: [], missing: 0 }
	const settled = SETTLED.includes(r.state)
	return (
		<>
			<p role="status" class="lead">
				<State state={r.state} finalized={finalized} checked={isChecked(r)} /> {meaning(r, finalized)}
			</p>
			<section aria-labelledby="answer">
				<h2 id="answer">Question and answer</h2>
				<Asked input={r.input} />
				{r.output ? <Answered output={r.output} state={r.state} checked={isChecked(r)} /> : <p class="muted">No answer yet.</p>}
			</section>
			<section aria-labelledby="life">
				<h2 id="life">Life</h2>
				<Steps r={r} events={events} />
				{!life && <p role="status">Reading …</p>}
				{missing > 0 && <p class="muted">The node has not kept the state of {missing} of the blocks: what happened in them is left out.</p>}
			</section>
			<section aria-labelledby="who">
				<h2 id="who">Who</h2>
				<dl class="wide">
					<div>
						<dt>Model</dt>
						<dd>{model?.name ?? modelNames.value.get(r.model) ?? <Long text={r.model} of="manifest" />}</dd>
					</div>
					<div>
						<dt>Requester</dt>
						<dd>
							<Long text={r.requester} of="account" />
						</dd>
					</div>
					<div>
						<dt>Assurance</dt>
						<dd>{r.assurance}</dd>
					</div>
					<div>
						<dt>Executor</dt>
						<dd>{r.executor ? <Long text={r.executor} of="validator" /> : 'not drawn yet'}</dd>
					</div>
					<div>
						<dt>Verifiers</dt>
						<dd>
							<Accounts of={r.verifiers} none={settled ? 'none: nobody checked' : 'not drawn yet'} />
						</dd>
					</div>
					{r.jurors.length > 0 && (
						<div>
							<dt>Jurors</dt>
							<dd>
								<Accounts of={r.jurors} none="" />
							</dd>
						</div>
					)}
					{r.seed && (
						<div>
							<dt>Seed</dt>
							<dd>
								<Long text={r.seed} of="seed" />
							</dd>
						</div>
					)}
				</dl>
			</section>
			<section aria-labelledby="evidence">
				<h2 id="evidence">Evidence</h2>
				<EvidenceOf request={r} model={model} />
			</section>
			<section aria-labelledby="money">
				<h2 id="money">Money</h2>
				<dl class="wide">
					<div>
						<dt>Held</dt>
						<dd>{csl(r.escrow)}</dd>
					</div>
					<div>
						<dt>Paid</dt>
						<dd>
							{csl(r.paid)}
							{(payments(events).length > 0 || (settled && r.surcharge > 0n)) && (
								<ul class="bare">
									{settled && r.surcharge > 0n && (
										<li>
											<Money amount={r.surcharge} /> burned: those who serve the model were more than half taken
										</li>
									)}
									{payments(events).map((p) => (
										<li>
											<Money amount={p.amount} /> to {fund(api, p.who) ?? <Long text={p.who} of="account" />}
										</li>
									))}
								</ul>
							)}
						</dd>
					</div>
					<div>
						<dt>Returned</dt>
						<dd>{csl(r.refunded)}</dd>
					</div>
				</dl>
			</section>
			{settled && r.output && (
				<section aria-labelledby="verify">
					<h2 id="verify">Verify it at home</h2>
					<p>
						This reads the answer and all evidence from a node, runs the model again on your machine, and says whether the answer is right.
					</p>
					<Copy text={`consilience verify ${r.id} --url ${nodeUrl.value}`} what="the command that verifies this answer" />
				</section>
			)}
		</>
	)
}

function Accounts({ of, none }: { of: string[]; none: string }) {
	return of.length === 0 ? (
		<>{none}</>
	) : (
		<>
			{of.map((a, i) => (
				<>
					{i > 0 && ', '}
					<Long text={a} of="validator" />
				</>
			))}
		</>
	)
}

/** The chain's own accounts, which have no key. */
function fund(api: ApiPromise, account: string): string | undefined {
	return FUNDS[palletOf(api, account) ?? '']
}

const FUNDS: Record<string, string> = { 'csl/trsy': 'the treasury', 'csl/jury': 'the jury fund' }

function payments(events: ChainEvent[]): { who: string; amount: bigint }[] {
	return events.filter((e) => e.method === 'Paid').map(({ data }) => ({ who: data.who, amount: BigInt(data.amount) }))
}

function meaning(r: Request, finalized: boolean): string {
	switch (r.state) {
		case 'Requested':
			return 'The fee limit is held; an executor is to be drawn.'
		case 'Assigned':
			return 'An executor is at work.'
		case 'Provisional':
			return r.verifiers.length
				? `One validator says so; ${r.verifiers.length} others measure it now.`
				: r.output
					? 'One validator says so; nobody has checked it.'
					: 'The executor has committed to an answer and shows it with its evidence.'
		case 'Disputed':
			return 'Those who measured it do not agree: a jury is to decide.'
		case 'Final': {
			const block = finalized ? 'Its block is finalised.' : 'Its block is not finalised yet: a fork could undo it.'
			if (!isChecked(r)) return `Nobody but the executor measured it. ${block}`
			return r.jurors.length
				? `A jury of ${r.jurors.length} found it right. ${block}`
				: `${r.verifiers.length} of ${r.verifiers.length} verifiers agree. ${block}`
		}
		case 'Rejected':
			return 'A jury found the answer wrong, or could not decide: everything was returned.'
		case 'Expired':
			return 'It was not answered and checked in time: everything was returned.'
		case 'Cancelled':
			return 'Its requester cancelled it before an executor was drawn.'
		case 'Unanswerable':
			return 'No honest machine can answer this input.'
		case 'Overturned':
			return 'It was final, and its answer was found false later.'
		default:
			return ''
	}
}

function Asked({ input }: { input: Input }) {
	switch (input.kind) {
		case 'chat':
			return (
				<div class="said">
					{input.messages.map((m) => (
						<p>
							<span class="who">{m.role}</span> {m.content}
						</p>
					))}
					<How of={input.sampling} />
				</div>
			)
		case 'text':
			return (
				<div class="said">
					<p>{input.text}</p>
					{input.sampling && <How of={input.sampling} />}
				</div>
			)
		case 'tensors':
			return (
				<>
					<ul class="bare">
						{input.tensors.map((t) => (
							<li>
								<Tensor of={t} />
							</li>
						))}
					</ul>
					{input.hash && (
						<p class="muted">
							The data stayed in the transaction that asked; state has these headers and its hash, <Long text={input.hash} of="hash" />.
						</p>
					)}
				</>
			)
		case 'unknown':
			return <Notice>The input is of a kind that this page does not know.</Notice>
	}
}

/** How the answer is chosen, and what it is held to. */
function How({ of }: { of: Sampling }) {
	return (
		<>
			<p class="muted">{how(of)}</p>
			{of.constraint && (
				<details>
					<summary>Held to a {of.constraint.form}</summary>
					<pre>{of.constraint.text}</pre>
				</details>
			)}
		</>
	)
}

function how(s: { maxTokens: number; temperature: number; topP: number }): string {
	return `at most ${s.maxTokens} tokens, ${s.temperature === 0 ? 'greedy' : `temperature ${s.temperature}, top_p ${s.topP}`}`
}

function size(bytes: number): string {
	return bytes < 10_000 ? `${bytes} bytes` : `${Math.round(bytes / 1000)} kB`
}

function Tensor({ of }: { of: TensorShown }) {
	const shown = elements(of)
	const count = of.shape.reduce((a, b) => a * b, 1)
	// Three or four channels, or one, and two sides: that is how pictures come.
	const [a, b, c] = of.shape.slice(-3)
	const isPicture =
		of.shape.length >= 3 && (((a === 1 || a === 3 || a === 4) && b! > 7 && c! > 7) || ((c === 1 || c === 3 || c === 4) && a! > 7 && b! > 7))
	const sides = isPicture ? (a! <= 4 ? `${c} × ${b}` : `${b} × ${a}`) : ''
	return (
		<>
			<code>{of.name}</code>: {of.datatype} [{of.shape.join(', ')}], {size(of.bytes)}
			{isPicture && `, a picture of ${sides}`}
			{shown.length > 0 && (
				<code class="block">
					{shown.join(', ')}
					{count > shown.length ? `, … (${count} elements)` : ''}
				</code>
			)}
		</>
	)
}

function Answered({ output, state, checked }: { output: Output; state: string; checked: boolean }) {
	const trust =
		state === 'Final'
			? checked
				? 'checked'
				: 'unchecked'
			: ['Rejected', 'Overturned'].includes(state)
				? 'failed'
				: state === 'Unanswerable'
					? 'checked'
					: 'provisional'
	const word = {
		checked: 'checked',
		unchecked: 'nobody checked this',
		failed: 'found wrong, or not decided',
		provisional: 'provisional: not checked',
	}[trust]
	return (
		<div class={`answer ${trust}`}>
			<p class="tag">{word}</p>
			{output.kind === 'text' && (
				<>
					<p class="text">{output.text}</p>
					<p class="muted">
						{output.tokens} tokens, ended by{' '}
						{{ 'end-of-text': 'the model', 'stop-string': 'a stop string', length: 'the limit' }[output.finish] ?? output.finish}
					</p>
				</>
			)}
			{output.kind === 'tensors' && (
				<ul class="bare">
					{output.tensors.map((t) => (
						<li>
							<Tensor of={t} />
						</li>
					))}
				</ul>
			)}
			{output.kind === 'unanswerable' && <p>Cannot be answered: {output.code}.</p>}
		</div>
	)
}

function Steps({ r, events }: { r: Request; events: ChainEvent[] }) {
	const of = (method: string) => events.filter((e) => e.method === method)
	const steps: { block: number; what: ComponentChildren }[] = []
	const add = (block: number | undefined, what: ComponentChildren) => block !== undefined && steps.push({ block, what })
	add(
		r.requestedAt,
		<>
			asked; <Money amount={r.escrow} /> held
		</>
	)
	const drawn = of('ExecutorDrawn')
	if (drawn.length === 0) add(r.assignedAt, 'executor drawn')
	for (const e of drawn)
		add(
			e.block,
			<>
				executor <Long text={e.data.executor} of="validator" /> drawn, to answer by block {e.data.deadline}
			</>
		)
	for (const e of of('ExecutorReplaced'))
		add(
			e.block,
			<>
				executor <Long text={e.data.executor} of="validator" /> was late and is replaced
			</>
		)
	if (r.provisionalAt !== undefined)
		add(r.provisionalAt, of('OutputCommitted').length ? 'executor committed to an answer' : 'answer posted: provisional')
	for (const e of of('CommitteeDrawn'))
		add(
			e.block,
			e.data.verifiers.length
				? `${e.data.verifiers.length} verifiers and the challenge drawn`
				: 'challenge drawn; there is nobody else to verify'
		)
	for (const e of of('NotChecked'))
		add(e.block, `not drawn for a check; open to appeal until block ${e.data.appealable_until ?? e.data.appealableUntil}`)
	for (const [block, list] of byBlock(of('EvidenceCommitted')))
		add(block, `${list.length === 1 ? 'one member' : `${list.length} members`} committed to evidence`)
	for (const e of of('RevealStarted')) add(e.block, 'all have committed: evidence is due')
	for (const [block, list] of byBlock(of('EvidenceRevealed')))
		add(block, `${list.length === 1 ? 'one member' : `${list.length} members`} showed evidence`)
	for (const e of of('OutputRevealed')) add(e.block, 'the answer is shown')
	for (const e of of('VerifierReplaced'))
		add(
			e.block,
			<>
				verifier <Long text={e.data.verifier} of="validator" /> is replaced
			</>
		)
	for (const e of of('RevealMissing'))
		add(
			e.block,
			<>
				<Long text={e.data.member} of="validator" /> did not show what it had committed to
			</>
		)
	for (const e of of('Appealed'))
		add(
			e.block,
			<>
				<Long text={e.data.who} of="account" /> appealed
			</>
		)
	for (const e of of('RequestDisputed')) add(e.block, 'disputed: a jury is to be drawn')
	for (const e of of('JuryDrawn')) add(e.block, `jury of ${e.data.jurors.length} drawn`)
	for (const e of of('Accused'))
		add(
			e.block,
			<>
				<Long text={e.data.offender} of="validator" /> is accused
			</>
		)
	for (const e of of('OffenceReported'))
		add(
			e.block,
			<>
				offence of <Long text={e.data.offender} of="validator" /> reported
			</>
		)
	add(
		r.settledAt,
		<>
			settled: {r.state.toLowerCase()}; <Money amount={r.paid} /> paid, <Money amount={r.refunded} /> returned
		</>
	)
	const order = steps.map((s, i) => ({ ...s, i })).sort((a, b) => a.block - b.block || a.i - b.i)
	return (
		<ol class="steps">
			{order.map((s, i) => (
				<li>
					<span class="number">
						{i > 0 && order[i - 1]!.block === s.block ? <span class="hidden">block {s.block}</span> : <>block {s.block}</>}
					</span>{' '}
					<span>{s.what}</span>
				</li>
			))}
		</ol>
	)
}

function byBlock(events: ChainEvent[]): Map<number, ChainEvent[]> {
	const map = new Map<number, ChainEvent[]>()
	for (const event of events) map.set(event.block, [...(map.get(event.block) ?? []), event])
	return map
}
