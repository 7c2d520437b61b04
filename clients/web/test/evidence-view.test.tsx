import { render } from 'preact-render-to-string'
import { describe, expect, it, vi } from 'vitest'
vi.stubGlobal('location', { hash: '', href: 'http://gateway/', protocol: 'http:' })
vi.stubGlobal('addEventListener', () => {})
vi.stubGlobal('document', { documentElement: { dataset: {} } })
const { EvidenceOf } = await import('../src/views/evidence')
import type { Evidence, Model, Request } from '../src/decode'

const bounds = { mean: 1024, max: 64, marginMax: 8192, marginMean: 100 }
const policy = {
	class: 'tolerant' as const,
	positions: 2,
	fractionBits: 20,
	minVerifiers: 2,
	accept: bounds,
	fraud: { mean: 16384, max: 1024, marginMax: 65536, marginMean: 800 },
}
const model = { task: 'tensor', policy } as Model
const of = (member: string, values: number[], jury = false, marginMax = 0): Evidence => ({
	member,
	fingerprint: { tag: 1, values },
	verdict: { marginMax, marginMean: 0, deviations: 0 },
	jury,
})

function page(evidence: Evidence[], change: Partial<Request> = {}, of: Model = model): string {
	const request = { state: 'Final', executor: 'e', verifiers: ['v', 'w'], jurors: [], evidence, ...change } as unknown as Request
	return render(<EvidenceOf request={request} model={of} />)
}

describe('evidence drawn', () => {
	it('says of each member how far it is from the thresholds', () => {
		const text = page([of('e', [0, 0]), of('v', [10, 0]), of('w', [5000, 0])])
		expect(text).toContain('Largest distance 0.0000095; accept up to 0.000061, fraud beyond 0.00098: within accept')
		expect(text).toContain('Largest distance 0.0048; accept up to 0.000061, fraud beyond 0.00098: beyond fraud')
		expect(text).toContain('2 components; the largest distance from the median is 4990 steps')
	})

	it('does not draw what is the same', () => {
		expect(page([of('e', [1, 2]), of('v', [1, 2])])).toContain('All 2 components are the same for every member.')
	})

	it('judges a text by those who did not write it, and shows margins in logits', () => {
		const text = page([of('e', [0]), of('v', [0], false, 1 << 15), of('w', [0], false, 1 << 15)], {}, { ...model, task: 'text-generation' })
		expect(text).toContain('the answer is <strong>undecided</strong>')
		expect(text).toContain('Largest margin 0.500; accept up to 0.125, fraud beyond 1.00: between the thresholds')
	})

	it('tells a committee from its jury', () => {
		const text = page([of('e', [0]), of('v', [0]), of('j', [0], true)], { jurors: ['j'] })
		expect(text).toMatch(/Committee.*Jury/s)
	})

	it('does not make anything of nothing', () => {
		expect(page([], { verifiers: [] })).toContain('nobody but the executor measured this answer')
		expect(page([], { state: 'Assigned' })).toContain('None yet')
	})
})
