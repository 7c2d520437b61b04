// Distances and judgements as the runtime computes them (primitives/src/comparison.rs): whole numbers, medians, bounds.
// The page computes them again from what the members revealed; it does not take them from anybody.

export interface Bounds {
	/** Mean distance, in 1/256 of a value step. */
	mean: number
	/** Largest distance, in value steps. */
	max: number
	/** In 2⁻¹⁶ of a logit. */
	marginMax: number
	marginMean: number
}

export interface Policy {
	class: 'exact' | 'tolerant'
	positions: number
	fractionBits: number
	accept: Bounds
	fraud: Bounds
	minVerifiers: number
}

export type Fingerprint = { digest: string } | { tag: number; values: number[] }

export interface Verdict {
	marginMax: number
	marginMean: number
	deviations: number
}

export type Judgement = 'accept' | 'grey' | 'fraud'

export interface Measured {
	judgement: Judgement
	/** Mean and largest distance from the reference, in value steps; none where fingerprints are digests or cannot be compared. */
	mean?: number
	max?: number
	/** Distance of each value from the reference. */
	distances?: number[]
	/** How many members show the same bits, this one included; none where there are values. */
	same?: number
}

/** Largest margin of an answer that no model could give. */
export const IMPOSSIBLE = 0xffffffff
const LOGIT = 1 << 16

/** The two middle values. They are equal where the number of values is odd. */
export function middle(values: number[]): [number, number] | undefined {
	if (values.length === 0) return undefined
	const sorted = [...values].sort((a, b) => a - b)
	return [sorted[Math.floor((sorted.length - 1) / 2)]!, sorted[Math.floor(sorted.length / 2)]!]
}

/** Judges each fingerprint against the median of all. */
export function judge(policy: Policy, fingerprints: Fingerprint[]): Measured[] {
	return fingerprints.every((f) => 'values' in f) && fingerprints.length > 0
		? judgeValues(policy, fingerprints as { tag: number; values: number[] }[])
		: judgeDigests(fingerprints.map((f) => ('digest' in f ? f.digest : JSON.stringify(f))))
}

function judgeDigests(digests: string[]): Measured[] {
	const count = (digest: string) => digests.filter((d) => d === digest).length
	const majority = digests.find((digest) => count(digest) * 2 > digests.length)
	return digests.map((digest) => {
		const same = count(digest)
		if (majority === undefined) return { judgement: 'grey', same }
		if (digest === majority) return { judgement: 'accept', same }
		return { judgement: count(majority) >= 2 && same === 1 ? 'fraud' : 'grey', same }
	})
}

function judgeValues(policy: Policy, all: { tag: number; values: number[] }[]): Measured[] {
	const form = (f: { tag: number; values: number[] }) => `${f.tag}/${f.values.length}`
	const count = (wanted: string) => all.filter((f) => form(f) === wanted).length
	const common = all.map(form).find((f) => count(f) * 2 > all.length)
	if (common === undefined) return all.map(() => ({ judgement: 'grey' }))
	const comparable = all.filter((f) => form(f) === common)
	const middles = comparable[0]!.values.map((_, i) => middle(comparable.map((f) => f.values[i]!))!)
	return all.map((f) => {
		if (form(f) !== common) return { judgement: 'fraud' }
		const far = f.values.map((v, i) => Math.max(Math.abs(v - middles[i]![0]), Math.abs(v - middles[i]![1])))
		const near = f.values.map((v, i) => {
			const [low, high] = middles[i]!
			return v >= low && v <= high ? 0 : Math.min(Math.abs(v - low), Math.abs(v - high))
		})
		const judgement = within(far, policy.accept) ? 'accept' : within(near, policy.fraud) ? 'grey' : 'fraud'
		const sum = far.reduce((a, b) => a + b, 0)
		return { judgement, mean: far.length ? sum / far.length : 0, max: Math.max(0, ...far), distances: far }
	})
}

function within(distances: number[], bounds: Bounds): boolean {
	const sum = distances.reduce((a, b) => a + BigInt(b), 0n)
	return Math.max(0, ...distances) <= bounds.max && sum * 256n <= BigInt(bounds.mean) * BigInt(distances.length)
}

/** Whether one verdict says that the answer is what the model says. */
export function judgeVerdict({ accept, fraud }: Policy, verdict: Verdict): Judgement {
	const inside = (b: Bounds) => verdict.marginMax <= b.marginMax && verdict.marginMean <= b.marginMean
	return inside(accept) ? 'accept' : inside(fraud) ? 'grey' : 'fraud'
}

/** The answer, by the middle verdicts of those who did not give it. */
export function judgeAnswer({ accept, fraud }: Policy, verdicts: Verdict[]): 'right' | 'undecided' | 'wrong' {
	const max = middle(verdicts.map((v) => v.marginMax))
	const mean = middle(verdicts.map((v) => v.marginMean))
	if (!max || !mean) return 'undecided'
	if (max[1] <= accept.marginMax && mean[1] <= accept.marginMean) return 'right'
	return max[0] <= fraud.marginMax && mean[0] <= fraud.marginMean ? 'undecided' : 'wrong'
}

/** A margin for people, in logits. */
export function logits(margin: number): string {
	if (margin === IMPOSSIBLE) return 'impossible'
	return margin === 0 ? '0' : (margin / LOGIT).toPrecision(3)
}

/** Where a value stands on a drawing in which accept and fraud bounds have fixed places: accept at 40 %, fraud at 80 %. */
export function place(value: number, accept: number, fraud: number): number {
	if (value <= accept) return accept === 0 ? 0 : (value / accept) * 40
	if (value <= fraud) return fraud === accept ? 80 : 40 + ((value - accept) / (fraud - accept)) * 40
	// Beyond, an open end: twice the bound is nine tenths of the way there.
	return 80 + 20 * (1 - Math.max(fraud, 1) / (Math.max(fraud, 1) + 9 * (value - fraud)))
}
