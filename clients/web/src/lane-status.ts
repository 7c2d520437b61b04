// How far an answer from the page's own channel is, and what it may be called. Nothing here calls an answer more than it is.

/** What the session lane's client says (`clients/javascript/src/session.js`). */
export type LaneEvent =
	| { type: 'waiting'; ahead: number }
	| { type: 'started'; executor: string; number: number }
	| { type: 'text'; text: string }
	| { type: 'failed'; executor: string; number: number | null; why: string }
	| { type: 'receipt'; receipt: string; tokens: number; amount: bigint; finish: string }
	| { type: 'checking'; checker: string }
	| { type: 'verdict'; checker: string; finding: Finding }
	| { type: 'skipped'; checker: string; why: string }
	| { type: 'done'; number: number; status: 'answered' | 'checked' | 'refuted'; right: number; wanted: number; paid: bigint }

export type Finding = 'right' | 'unclear' | 'wrong'

export interface Checker {
	who: string
	/** What it found; nothing as long as it measures. */
	finding?: Finding
	/** Why it did not check. */
	skipped?: string
}

/** An answer from the page's own channel. */
export interface LaneAnswer {
	said: string
	/** How many are before it, while nobody has a place. */
	ahead?: number
	executor?: string
	number?: number
	/** Validators that did not do what they should: what they sent is no answer. */
	failed: { executor: string; why: string; sent: boolean }[]
	/** What the executor has signed for: the whole answer. */
	receipt?: { hash: string; tokens: number; amount: bigint; finish: string }
	checkers: Checker[]
	done?: { status: 'answered' | 'checked' | 'refuted'; right: number; wanted: number; paid: bigint }
	/** Nothing more comes, and there is no answer. */
	isOver?: boolean
}

export const BEGINNING: LaneAnswer = { said: '', failed: [], checkers: [] }

/** The answer after one more event. */
export function follow(so: LaneAnswer, event: LaneEvent): LaneAnswer {
	const checker = (who: string, what: Partial<Checker>) => ({
		...so,
		checkers: [...so.checkers.filter((c) => c.who !== who), { who, ...what }],
	})
	switch (event.type) {
		case 'waiting':
			return { ...so, ahead: event.ahead }
		case 'started':
			// Another validator begins anew: no text of one is mixed with that of another.
			return { ...BEGINNING, failed: so.failed, executor: event.executor, number: event.number }
		case 'text':
			return { ...so, said: so.said + event.text }
		case 'failed':
			return { ...so, failed: [...so.failed, { executor: event.executor, why: event.why, sent: event.number !== null }] }
		case 'receipt':
			return { ...so, receipt: { hash: event.receipt, tokens: event.tokens, amount: event.amount, finish: event.finish } }
		case 'checking':
			return checker(event.checker, {})
		case 'verdict':
			return checker(event.checker, { finding: event.finding })
		case 'skipped':
			return checker(event.checker, { skipped: event.why })
		case 'done':
			return { ...so, done: { status: event.status, right: event.right, wanted: event.wanted, paid: event.paid } }
	}
}

export type LaneTrust = 'none' | 'streaming' | 'answered' | 'checked' | 'refuted' | 'failed'

/** How much somebody may rely on the text that is shown. */
export function laneTrust({ said, receipt, checkers, done, isOver, executor }: LaneAnswer): LaneTrust {
	// One checker who found it wrong is not outvoted, and what the others find changes nothing.
	if (done?.status === 'refuted' || checkers.some((c) => c.finding === 'wrong')) return 'refuted'
	if (isOver && !receipt) return said ? 'failed' : 'none'
	if (done?.status === 'checked') return 'checked'
	if (receipt) return 'answered'
	return executor && said ? 'streaming' : 'none'
}

/** What stands above the text. */
export function laneTag(answer: LaneAnswer): string {
	switch (laneTrust(answer)) {
		case 'streaming':
			return 'coming: nobody has checked this'
		case 'answered':
			return answer.done ? 'signed by one validator: nobody has checked this' : 'signed by one validator: being checked'
		case 'checked':
			return `checked (${answer.done!.right} of ${answer.done!.wanted})`
		case 'refuted':
			return 'do not rely on this'
		case 'failed':
			return 'not an answer'
		default:
			return ''
	}
}

const validators = (n: number) => (n === 1 ? 'one validator' : `${n} validators`)

/** What it means, in one sentence or two. */
export function laneSentence(answer: LaneAnswer): string {
	const { ahead, executor, checkers, done, isOver } = answer
	switch (laneTrust(answer)) {
		case 'none':
			if (isOver) return 'There is no answer.'
			if (executor) return 'A validator was asked; its first word is to come.'
			if (ahead !== undefined) return `No validator has a place free: ${ahead} are before this question. Waiting costs nothing.`
			return 'Validators are asked who has a place.'
		case 'streaming':
			return 'Each piece is signed by the validator, verified in this page and paid as it comes.'
		case 'answered':
			if (done) return 'The validator has signed the whole answer. Nobody else has measured it.'
			if (checkers.length === 0) return 'The validator has signed the whole answer. Now it is shown who is to check it.'
			return `${validators(checkers.length)} that neither you nor the validator chose ${checkers.length === 1 ? 'is' : 'are'} asked to measure it.`
		case 'checked':
			return `${validators(done!.right)} that neither you nor the executor chose measured it and found it right. It is their signed word, not a verdict of the chain.`
		case 'refuted':
			return 'A checker found that the model does not say this. Save the receipt: it can be put before a jury for three hours.'
		case 'failed':
			return 'The validator did not come to the end, or what it signed is not what it sent.'
	}
}

export const LANE_STAGES = ['asked', 'streaming', 'signed', 'checked'] as const
export type LaneStage = (typeof LANE_STAGES)[number] | 'refuted'

export const LANE_NAME: Record<LaneStage, string> = {
	asked: 'asked',
	streaming: 'coming',
	signed: 'signed',
	checked: 'checked',
	refuted: 'refuted',
}

/** The stages, those that are behind first: what is over has no stages to come. */
export function laneLadder(answer: LaneAnswer): { stage: LaneStage; past: boolean }[] {
	const trust = laneTrust(answer)
	const past = (stage: LaneStage) =>
		stage === 'asked'
			? !!answer.executor
			: stage === 'streaming'
				? !!answer.said
				: stage === 'signed'
					? !!answer.receipt
					: trust === 'checked'
	const all = LANE_STAGES.map((stage) => ({ stage: stage as LaneStage, past: past(stage) }))
	if (trust === 'refuted') return [...all.filter(({ past }) => past), { stage: 'refuted', past: true }]
	return answer.isOver || answer.done ? all.filter(({ past }) => past) : all
}
