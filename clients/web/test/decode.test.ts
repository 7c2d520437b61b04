import { describe, expect, it } from 'vitest'
import * as decode from '../src/decode'

const hex = decode.toHex
const sampling = { maxTokens: 20, temperature: 700, topP: 1000, stop: [], processing: null }
const chat = { textGeneration: { prompt: { chat: [{ role: 'User', content: hex('größer?') }] }, sampling } }
const tensor = { name: hex('x'), datatype: 'Fp32', shape: [2], data: '0x0000003f000080bf' }
const whole = {
	id: 7,
	model: '0x01',
	requester: 'r',
	state: 'Final',
	input: { inline: chat },
	assurance: { committee: 2 },
	executor: 'e',
	verifiers: ['v', 'w'],
	jurors: ['j', 'v'],
	output: { text: { tokens: [1, 2], text: hex('Paris'), finish: 'EndOfText' } },
	seed: null,
	evidence: ['e', 'v', 'w', 'j', 'v'].map((m) => [
		m,
		{ fingerprint: { digest: '0xaa' }, verdict: { marginMax: 0, marginMean: 0, deviations: 0 }, prior: null },
	]),
	requestedAt: 1,
	assignedAt: 2,
	provisionalAt: null,
	settledAt: null,
	escrow: '0x00000000000000000000000000000005',
	paid: 0,
	surcharge: 0,
	refunded: 0,
}

describe('inputs', () => {
	it('are the same from before and since there are inputs in transactions', () => {
		const read = { kind: 'chat', messages: [{ role: 'user', content: 'größer?' }], sampling: { maxTokens: 20, temperature: 0.7, topP: 1 } }
		expect(decode.input(chat)).toEqual(read)
		expect(decode.input({ inline: chat })).toEqual(read)
		expect(decode.input({ inline: { tensor: [tensor] } })).toMatchObject({
			kind: 'tensors',
			tensors: [{ name: 'x', datatype: 'FP32', bytes: 8 }],
		})
		expect(decode.input({ embedding: hex('a') })).toEqual({ kind: 'text', text: 'a' })
	})

	it('whose data stayed in the transaction are described by their headers', () => {
		const indexed = { tensors: [{ name: hex('pixels'), datatype: 'Uint8', shape: [1, 3, 224, 224], bytes: 150_528 }], dataHash: '0xbb' }
		expect(decode.input({ indexed })).toEqual({
			kind: 'tensors',
			hash: '0xbb',
			tensors: [{ name: 'pixels', datatype: 'UINT8', shape: [1, 3, 224, 224], bytes: 150_528, data: undefined }],
		})
	})

	it('of a kind to come are called unknown', () => {
		expect(decode.input({ picture: '0x' })).toEqual({ kind: 'unknown' })
	})
})

describe('requests', () => {
	it('are read whole', () => {
		expect(decode.request(whole)).toMatchObject({
			id: 7,
			state: 'Final',
			assurance: 'committee of 2',
			executor: 'e',
			escrow: 5n,
			requestedAt: 1,
			assignedAt: 2,
			provisionalAt: undefined,
			output: { kind: 'text', text: 'Paris', tokens: 2, finish: 'end-of-text' },
		})
	})

	it('know the jury’s evidence from the round’s', () => {
		expect(decode.request(whole).evidence.map((e) => [e.member, e.jury])).toEqual([
			['e', false],
			['v', false],
			['w', false],
			['j', true],
			['v', true],
		])
	})

	it('can be unanswerable, by chance checked, and without an answer', () => {
		expect(decode.output({ unanswerable: 'PromptTooLong' })).toEqual({ kind: 'unanswerable', code: 'prompt too long' })
		expect(decode.assurance({ sampled: 50 })).toBe('by chance, 5 % of answers')
		expect(decode.request({ ...whole, output: null }).output).toBeUndefined()
	})
})

describe('tensors', () => {
	it('show their first elements', () => {
		const [shown] = (decode.input({ tensor: [tensor] }) as { tensors: decode.TensorShown[] }).tensors
		expect(decode.elements(shown!)).toEqual(['0.5', '-1'])
		expect(decode.elements({ ...shown!, datatype: 'BF16' })).toEqual([])
		expect(decode.elements({ name: 'x', datatype: 'INT64', shape: [1], bytes: 8, data: decode.hexBytes('0xffffffffffffffff') })).toEqual([
			'-1',
		])
	})
})

it('what an answer is held to is read with the question', () => {
	const constraint = { rules: 1, form: 'JsonSchema', text: hex('{"type":"object"}') }
	const held = decode.input({ constrainedText: { ...chat.textGeneration, constraint } })
	expect(held).toEqual({
		kind: 'chat',
		messages: [{ role: 'user', content: 'größer?' }],
		sampling: { maxTokens: 20, temperature: 0.7, topP: 1, constraint: { form: 'JSON schema', text: '{"type":"object"}' } },
	})
})
