import { describe, expect, it } from 'vitest'
import { IMPOSSIBLE, judge, judgeAnswer, judgeVerdict, logits, middle, place, type Policy } from '../src/evidence'

// As in the tests of primitives/src/comparison.rs.
const policy: Policy = {
	class: 'tolerant',
	positions: 4,
	fractionBits: 8,
	minVerifiers: 1,
	accept: { mean: 2 * 256, max: 4, marginMax: 10, marginMean: 5 },
	fraud: { mean: 10 * 256, max: 20, marginMax: 100, marginMean: 50 },
}
const zero = { mean: 0, max: 0, marginMax: 0, marginMean: 0 }
const exact: Policy = { ...policy, class: 'exact', accept: zero, fraud: zero }
const of = (...values: number[]) => ({ tag: 0, values })
const words = (p: Policy, list: Parameters<typeof judge>[1]) => judge(p, list).map((m) => m.judgement)

describe('the median', () => {
	it('is one value of three and an interval of two', () => {
		expect(middle([])).toBeUndefined()
		expect(middle([7])).toEqual([7, 7])
		expect(middle([9, 1, 5])).toEqual([5, 5])
		expect(middle([-9, 1])).toEqual([-9, 1])
	})
})

describe('values', () => {
	it('are accepted within the bounds, and grey and fraud beyond', () => {
		const base = [0, 0, 0, 0]
		expect(words(policy, [of(...base), of(...base), of(2, 2, 2, 2)])).toEqual(['accept', 'accept', 'accept'])
		// The bound itself is within.
		expect(words(policy, [of(...base), of(...base), of(4, 4, 0, 0)])[2]).toBe('accept')
		// One value beyond the largest; the mean beyond; both far beyond.
		expect(words(policy, [of(...base), of(...base), of(5, 0, 0, 0)])[2]).toBe('grey')
		expect(words(policy, [of(...base), of(...base), of(3, 3, 3, 3)])[2]).toBe('grey')
		expect(words(policy, [of(...base), of(...base), of(21, 0, 0, 0)])[2]).toBe('fraud')
		expect(words(policy, [of(...base), of(...base), of(11, 11, 11, 11)])[2]).toBe('fraud')
	})

	it('of two who disagree blame nobody', () => {
		expect(words(policy, [of(0, 0, 0, 0), of(99, 99, 99, 99)])).toEqual(['grey', 'grey'])
	})

	it('of another form are fraud against a majority, and grey without one', () => {
		expect(words(policy, [of(0), of(0), { tag: 1, values: [0] }])).toEqual(['accept', 'accept', 'fraud'])
		expect(words(policy, [of(0), of(0, 0)])).toEqual(['grey', 'grey'])
	})

	it('have distances in steps', () => {
		expect(judge(policy, [of(0, 10), of(1, 10), of(4, 13)])[2]).toMatchObject({ mean: 3, max: 3, distances: [3, 3] })
	})
})

describe('digests', () => {
	it('agree, stand alone, or have no majority', () => {
		const d = (digest: string) => ({ digest })
		expect(words(exact, [d('a'), d('a'), d('a')])).toEqual(['accept', 'accept', 'accept'])
		expect(words(exact, [d('a'), d('a'), d('b')])).toEqual(['accept', 'accept', 'fraud'])
		expect(words(exact, [d('a'), d('b')])).toEqual(['grey', 'grey'])
		expect(words(exact, [d('a'), d('a'), d('a'), d('b'), d('b')])).toEqual(['accept', 'accept', 'accept', 'grey', 'grey'])
		expect(judge(exact, [d('a')])[0]).toEqual({ judgement: 'accept', same: 1 })
	})
})

describe('verdicts', () => {
	const v = (marginMax: number, marginMean = 0) => ({ marginMax, marginMean, deviations: 0 })

	it('are judged by both margins', () => {
		expect(judgeVerdict(policy, v(10, 5))).toBe('accept')
		expect(judgeVerdict(policy, v(11, 5))).toBe('grey')
		expect(judgeVerdict(policy, v(10, 51))).toBe('fraud')
		expect(judgeVerdict(exact, v(1))).toBe('fraud')
	})

	it('decide by their middle', () => {
		expect(judgeAnswer(policy, [v(0), v(0), v(999)])).toBe('right')
		expect(judgeAnswer(policy, [v(999), v(999), v(0)])).toBe('wrong')
		expect(judgeAnswer(policy, [v(0), v(999)])).toBe('undecided')
		expect(judgeAnswer(policy, [])).toBe('undecided')
	})

	it('are written in logits', () => {
		expect([0, 1 << 13, 1 << 16, IMPOSSIBLE].map(logits)).toEqual(['0', '0.125', '1.00', 'impossible'])
	})
})

describe('places on the drawing', () => {
	it('have the thresholds where they are drawn', () => {
		expect(place(0, 4, 20)).toBe(0)
		expect(place(4, 4, 20)).toBe(40)
		expect(place(12, 4, 20)).toBe(60)
		expect(place(20, 4, 20)).toBe(80)
		expect(place(21, 4, 20)).toBeGreaterThan(80)
		expect(place(IMPOSSIBLE, 4, 20)).toBeLessThanOrEqual(100)
	})

	it('are right where thresholds are zero or alike', () => {
		expect(place(0, 0, 0)).toBe(0)
		expect(place(1, 0, 0)).toBeGreaterThan(80)
		expect(place(5, 5, 5)).toBe(40)
		expect(place(6, 5, 5)).toBeGreaterThan(80)
	})
})
