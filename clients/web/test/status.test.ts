import { describe, expect, it } from 'vitest'
import { advance, ladder, sentence, stageOf, trust, type Mark, type Step } from '../src/status'

function step(status: string, change: Partial<Step> = {}): Step {
	return {
		request: 1,
		status,
		checked: false,
		finalized: false,
		block: { number: 5, hash: '0x05' },
		executor: null,
		verifiers: [],
		jurors: [],
		fee: { held: '3', paid: '2', refunded: '1' },
		...change,
	}
}

const two = { verifiers: ['a', 'b'] }
const marks = (...steps: Step[]) => steps.reduce(advance, [] as Mark[])

describe('how far an answer is', () => {
	it('grows from asked to final, each with its block', () => {
		const way = marks(
			step('requested', { block: { number: 1, hash: '' } }),
			step('assigned', { block: { number: 2, hash: '' } }),
			step('provisional', { block: { number: 3, hash: '' } }),
			step('provisional', { ...two, block: { number: 4, hash: '' } }),
			step('checked', { ...two, checked: true, block: { number: 5, hash: '' } }),
			step('final', { ...two, checked: true, finalized: true, block: { number: 5, hash: '' } })
		)
		expect(way.map((m) => [m.stage, m.block.number])).toEqual([
			['asked', 1],
			['assigned', 2],
			['provisional', 3],
			['measured', 4],
			['checked', 5],
			['final', 5],
		])
		expect(trust(way)).toBe('final')
	})

	it('calls nothing checked that is not', () => {
		for (const status of [
			'requested',
			'assigned',
			'provisional',
			'disputed',
			'settled',
			'rejected',
			'expired',
			'unanswerable',
			'something new',
		]) {
			for (const verifiers of [[], ['a', 'b']]) {
				const rely = trust(marks(step(status, { verifiers })))
				expect(['checked', 'final'], status).not.toContain(rely)
			}
		}
		// A gateway that says the word and not the fact is not believed.
		expect(trust(marks(step('checked')))).toBe('unchecked')
		expect(trust(marks(step('final', { checked: true, finalized: false })))).toBe('checked')
		expect(trust(marks(step('final', { finalized: true })))).toBe('unchecked')
	})

	it('is provisional while others measure and while a jury sits', () => {
		expect(trust(marks(step('provisional')))).toBe('provisional')
		expect(trust(marks(step('provisional', two)))).toBe('provisional')
		expect(trust(marks(step('disputed', two)))).toBe('provisional')
		expect(sentence(marks(step('provisional'))[0]!)).toBe('One validator says so; nobody has checked it.')
		expect(sentence(marks(step('provisional', { verifiers: ['a'] }))[0]!)).toContain('one validator says so')
	})

	it('goes back with a fork, and takes back what came later', () => {
		const before = marks(step('requested'), step('assigned'), step('provisional'), step('checked', { ...two, checked: true }))
		const after = advance(before, step('assigned', { executor: 'x' }))
		expect(after.map((m) => m.stage)).toEqual(['asked', 'assigned'])
		expect(trust(after)).toBe('none')
	})

	it('keeps the block in which a stage was reached', () => {
		const way = marks(
			step('assigned', { block: { number: 2, hash: '' } }),
			step('assigned', { block: { number: 9, hash: '' }, executor: 'y' })
		)
		expect(way).toHaveLength(1)
		expect(way[0]).toMatchObject({ block: { number: 2 }, step: { executor: 'y' } })
	})

	it('counts who agrees, and names a jury', () => {
		expect(sentence(marks(step('checked', { ...two, checked: true }))[0]!)).toContain('2 of 2 validators')
		expect(sentence(marks(step('final', { ...two, jurors: ['c', 'd', 'e'], checked: true, finalized: true }))[0]!)).toContain('a jury of 3')
		expect(sentence(marks(step('final', { finalized: true }))[0]!)).toContain('Nobody but the executor')
	})

	it('shows what is to come, and nothing after an end', () => {
		expect(ladder([]).map((l) => l.stage)).toEqual(['asked', 'assigned', 'provisional', 'measured', 'checked', 'final'])
		expect(ladder(marks(step('provisional'))).map((l) => [l.stage, Boolean(l.mark)])).toEqual([
			['provisional', true],
			['measured', false],
			['checked', false],
			['final', false],
		])
		expect(ladder(marks(step('settled'))).map((l) => l.stage)).toEqual(['settled', 'final'])
		expect(ladder(marks(step('requested'), step('expired'))).map((l) => l.stage)).toEqual(['asked', 'failed'])
		expect(ladder(marks(step('provisional')), true)).toHaveLength(1)
	})

	it('knows the gateway’s words', () => {
		expect(stageOf(step('requested'))).toBe('asked')
		expect(stageOf(step('settled'))).toBe('settled')
		expect(stageOf(step('overturned'))).toBe('failed')
	})
})
