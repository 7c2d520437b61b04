import { expect, test, vi } from 'vitest'
import { BEGINNING, follow, laneLadder, laneSentence, laneTag, laneTrust, type LaneAnswer, type LaneEvent } from '../src/lane-status'
import { parseCsl } from '../src/money'

vi.stubGlobal('location', { hash: '', href: 'http://gateway/page/', protocol: 'http:' })
vi.stubGlobal('addEventListener', () => {})
vi.stubGlobal('document', { documentElement: { dataset: {} } })
const { waysTo } = await import('../src/lane')

const said = (...events: LaneEvent[]) => events.reduce(follow, BEGINNING)
const STARTED: LaneEvent = { type: 'started', executor: 'alice', number: 1 }
const TEXT: LaneEvent = { type: 'text', text: 'Paris' }
const RECEIPT: LaneEvent = { type: 'receipt', receipt: '0x', tokens: 1, amount: 3n, finish: 'end_of_text' }
const verdict = (checker: string, finding: 'right' | 'unclear' | 'wrong'): LaneEvent => ({ type: 'verdict', checker, finding })
const done = (status: 'answered' | 'checked' | 'refuted', right: number): LaneEvent => ({
	type: 'done',
	number: 1,
	status,
	right,
	wanted: 2,
	paid: 5n,
})

test('nothing is called checked before all of it is verified', () => {
	const way = [
		STARTED,
		TEXT,
		RECEIPT,
		{ type: 'checking', checker: 'bob' },
		verdict('bob', 'right'),
		verdict('carol', 'right'),
	] as LaneEvent[]
	for (let i = 0; i <= way.length; i++) {
		const so = said(...way.slice(0, i))
		expect(laneTrust(so)).not.toBe('checked')
		expect(laneTag(so)).not.toMatch(/^checked/)
		expect(laneLadder(so).find(({ stage }) => stage === 'checked')?.past).toBe(false)
	}
	const whole = said(...way, done('checked', 2))
	expect([laneTrust(whole), laneTag(whole)]).toEqual(['checked', 'checked (2 of 2)'])
	expect(laneSentence(whole)).toMatch(/2 validators .* not a verdict of the chain/)
	expect(laneLadder(whole).every(({ past }) => past)).toBe(true)
})

test('an answer that nobody confirmed is none that was checked', () => {
	const so = said(STARTED, TEXT, RECEIPT, { type: 'skipped', checker: 'bob', why: 'it is busy' }, done('answered', 0))
	expect(laneTrust(so)).toBe('answered')
	expect(laneTag(so)).toBe('signed by one validator: nobody has checked this')
	expect(laneLadder(so).map(({ stage }) => stage)).toEqual(['asked', 'streaming', 'signed'])
})

test('one who finds it wrong is heard at once, and is not outvoted', () => {
	const early = said(STARTED, TEXT, RECEIPT, verdict('bob', 'wrong'), verdict('carol', 'right'))
	expect(laneTrust(early)).toBe('refuted')
	expect(laneTag(early)).toBe('do not rely on this')
	expect(laneLadder(early).at(-1)).toEqual({ stage: 'refuted', past: true })
	expect(laneTrust(follow(early, done('refuted', 1)))).toBe('refuted')
})

test('no text of one validator is mixed with that of another', () => {
	const failed: LaneEvent = { type: 'failed', executor: 'alice', number: 1, why: 'it lied' }
	const so = said(STARTED, TEXT, failed, { type: 'started', executor: 'bob', number: 2 }, { type: 'text', text: 'Lyon' })
	expect(so.said).toBe('Lyon')
	expect(so.failed).toEqual([{ executor: 'alice', why: 'it lied', sent: true }])
	expect(so.number).toBe(2)
})

test('what did not come to its end is no answer', () => {
	const over = (so: LaneAnswer) => ({ ...so, isOver: true })
	expect(laneTrust(over(said(STARTED, TEXT)))).toBe('failed')
	expect(laneTag(over(said(STARTED, TEXT)))).toBe('not an answer')
	expect(laneSentence(over(said()))).toBe('There is no answer.')
	expect(laneSentence(said({ type: 'waiting', ahead: 3 }))).toMatch(/3 are before this question. Waiting costs nothing/)
})

test('validators are reached straight where browsers take their certificate, and through the gateway otherwise', () => {
	const lane = { model: '0x12', address: '5Alice', endpoint: 'ws://127.0.0.1:30555' }
	const relayed = 'ws://gateway/page/v1/lane/0x12/5Alice'
	expect(waysTo(lane)).toEqual([])
	expect(waysTo(lane, 'v1/lane')).toEqual([{ url: relayed, protocols: ['consilience-lane'] }])
	const secure = { ...lane, endpoint: 'wss://lane.example' }
	expect(waysTo(secure, 'v1/lane', 'ké').map(({ url }) => url)).toEqual(['wss://lane.example', relayed])
	expect(waysTo(secure, 'v1/lane', 'ké')[1]!.protocols).toEqual(['consilience-lane', 'consilience-key.6bc3a9'])
})

test('amounts are read as people write them', () => {
	expect([parseCsl('10'), parseCsl(' 1.5 '), parseCsl('0.000000000001')]).toEqual([10n ** 13n, 15n * 10n ** 11n, 1n])
	for (const none of ['', '0', '-1', '1e3', '1.0000000000001', 'x', '.5', '0x10']) expect(parseCsl(none)).toBeUndefined()
})
