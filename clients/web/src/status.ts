// How far an answer is, in the gateway's and DESIGN.md's words. Nothing here calls an answer more than it is.

/** What the gateway says of the request behind a reply: the object `consilience`. */
export interface Step {
	request: number
	status: string
	checked: boolean
	finalized: boolean
	block: { number: number; hash: string }
	executor: string | null
	verifiers: string[]
	jurors: string[]
	fee: { held: string; paid: string; refunded: string }
}

export type Stage = 'asked' | 'assigned' | 'provisional' | 'measured' | 'disputed' | 'checked' | 'settled' | 'final' | 'failed'

/** How much somebody may rely on the text that is shown. */
export type Trust = 'none' | 'provisional' | 'unchecked' | 'checked' | 'final' | 'failed'

export interface Mark {
	stage: Stage
	block: { number: number; hash: string }
	step: Step
}

/** Where a stage stands on the way; what is seen again further back takes back what came after it. */
const PLACE: Record<Stage, number> = {
	asked: 0,
	assigned: 1,
	provisional: 2,
	measured: 3,
	disputed: 4,
	checked: 5,
	settled: 5,
	final: 6,
	failed: 6,
}

export function stageOf(step: Step): Stage {
	switch (step.status) {
		case 'requested':
			return 'asked'
		case 'assigned':
			return 'assigned'
		case 'provisional':
			return step.verifiers.length > 0 ? 'measured' : 'provisional'
		case 'disputed':
			return 'disputed'
		case 'checked':
			return step.checked ? 'checked' : 'settled'
		case 'settled':
			return 'settled'
		case 'final':
			return step.finalized ? 'final' : step.checked ? 'checked' : 'settled'
		default:
			return 'failed'
	}
}

/** The marks so far with one more step. A fork or a new executor may put a request back: later marks go then. */
export function advance(marks: Mark[], step: Step): Mark[] {
	const stage = stageOf(step)
	const before = marks.filter((mark) => PLACE[mark.stage] < PLACE[stage])
	const same = marks.find((mark) => mark.stage === stage)
	// The block in which it came so far counts, not the one in which it was looked at again.
	return [...before, { stage, block: same?.block ?? step.block, step }]
}

export function trust(marks: Mark[]): Trust {
	const last = marks.at(-1)
	switch (last?.stage) {
		case 'provisional':
		case 'measured':
		case 'disputed':
			return 'provisional'
		case 'checked':
			return 'checked'
		case 'settled':
			return 'unchecked'
		case 'final':
			return last.step.checked ? 'final' : 'unchecked'
		case 'failed':
			return 'failed'
		default:
			return 'none'
	}
}

const validators = (n: number) => (n === 1 ? 'one validator' : `${n} validators`)

/** What a stage means, in one sentence, with who stands behind it. */
export function sentence({ stage, step }: Mark): string {
	const { verifiers, jurors } = step
	const checkers = jurors.length
		? `a jury of ${jurors.length} found it right`
		: `${verifiers.length} of ${verifiers.length} validators measured it and agree`
	switch (stage) {
		case 'asked':
			return 'The request is in a block; the fee limit is held.'
		case 'assigned':
			return 'An executor was drawn and runs the model.'
		case 'provisional':
			return 'One validator says so; nobody has checked it.'
		case 'measured':
			return `${validators(verifiers.length)} ${verifiers.length === 1 ? 'was' : 'were'} drawn to measure it. Until all agree, one validator says so.`
		case 'disputed':
			return 'Those who measured it do not agree: a jury is to decide.'
		case 'checked':
			return `${checkers}. A fork could still undo the block.`
		case 'settled':
			return 'Settled and paid, and nobody but the executor measured it.'
		case 'final':
			return step.checked
				? `${checkers}, and the block is finalised.`
				: 'The block is finalised. Nobody but the executor measured the answer.'
		case 'failed':
			return FAILED[step.status] ?? `It ended as ${step.status}.`
	}
}

const FAILED: Record<string, string> = {
	rejected: 'A jury found the answer wrong or could not decide. Everything was returned.',
	expired: 'Nobody answered and checked it in time. Everything was returned.',
	cancelled: 'The account that asked cancelled it. Everything was returned.',
	unanswerable: 'Validators agree that no honest machine can answer this. What finding that out cost was paid.',
	overturned: 'It was final, and its answer was found false later.',
}

/** The stages to show: those that are behind, and those that are still to come on the ordinary way. */
export function ladder(marks: Mark[], over = false): { stage: Stage; mark?: Mark }[] {
	const last = marks.at(-1)
	const done = marks.map((mark) => ({ stage: mark.stage, mark }))
	if (over || last?.stage === 'final' || last?.stage === 'failed') return done
	const way: Stage[] = ['asked', 'assigned', 'provisional', 'measured', last?.stage === 'settled' ? 'settled' : 'checked', 'final']
	const from = last ? PLACE[last.stage] : -1
	return [...done, ...way.filter((stage) => PLACE[stage] > from).map((stage) => ({ stage }))]
}

export const NAME: Record<Stage, string> = {
	asked: 'asked',
	assigned: 'assigned',
	provisional: 'provisional',
	measured: 'being checked',
	disputed: 'disputed',
	checked: 'checked',
	settled: 'settled, unchecked',
	final: 'final',
	failed: 'ended',
}
