// Units of people and of the chain; needs no network.

import assert from 'node:assert/strict'
import { test } from 'node:test'

import { chat, tensors } from '../src/index.js'
import { chat as papiChat } from '../src/papi.js'
import { constraint, sampling } from '../src/sampling.js'

test('what is left out is greedy and takes no room', () => {
	assert.deepEqual(sampling(48), { maxTokens: 48, temperature: 0, topP: 1000, stop: [], processing: null })
	assert.equal(sampling(1, { topK: 0, repetitionPenalty: 1, logitBias: {} }).processing, null)
})

test('parameters become thousandths', () => {
	const found = sampling(5, {
		temperature: 0.7,
		topP: 0.9,
		stop: 'x',
		topK: 40,
		minP: 0.05,
		repetitionPenalty: 1.1,
		presencePenalty: -0.5,
		frequencyPenalty: 2,
		logitBias: { 10: -100, 9: 1.5 },
	})
	assert.deepEqual(found, {
		maxTokens: 5,
		temperature: 700,
		topP: 900,
		stop: ['0x78'],
		processing: {
			topK: 40,
			minP: 50,
			repetitionPenalty: 1100,
			presencePenalty: -500,
			frequencyPenalty: 2000,
			logitBias: [
				[9, 1500],
				[10, -100000],
			],
		},
	})
})

test('a constraint makes another input, and none the same as ever', () => {
	const schema = { type: 'object', properties: { z: {}, a: {} } }
	assert.deepEqual(constraint(), null)
	const held = constraint({ jsonSchema: schema })
	assert.deepEqual(held, { rules: 1, form: 'JsonSchema', text: '0x' + Buffer.from(JSON.stringify(schema)).toString('hex') })
	assert.equal(constraint({ regex: '[0-9]' }).form, 'Regex')
	assert.equal(constraint({ lark: 'start: "a"' }).form, 'Lark')
	assert.deepEqual(Object.keys(chat('a', 5, { temperature: 1 })), ['TextGeneration'])
	const { ConstrainedText } = chat('a', 5, { temperature: 1, jsonSchema: schema })
	assert.deepEqual(ConstrainedText.constraint, held)
	assert.equal(ConstrainedText.sampling.temperature, 1000)
	assert.equal(papiChat('a').type, 'TextGeneration')
	const papi = papiChat('a', 5, { jsonSchema: schema })
	assert.equal(papi.type, 'ConstrainedText')
	assert.equal(papi.value.constraint.form.type, 'JsonSchema')
	assert.throws(() => chat('a', 5, { regex: 'a', lark: 'b' }), /one of/)
	assert.throws(() => constraint({ regex: 'a'.repeat(8193) }), /8193 bytes/)
	assert.throws(() => constraint({ regex: '' }), /0 bytes/)
})

test('what is not known is refused by name', () => {
	assert.throws(() => sampling(1, { top_k: 5 }), /top_k is no parameter/)
	assert.throws(() => sampling(1, { logitBias: { the: 1 } }), /the is no token id/)
})

test('a tensor is the bytes of its typed array, and of nothing else', () => {
	const of = (data) => tensors([{ name: 'x', datatype: 'Fp32', shape: [1], data }]).Tensor[0].data
	const numbers = Float32Array.of(0.5, 1.5)
	assert.deepEqual(of(numbers.subarray(1)), new Uint8Array([0, 0, 0xc0, 0x3f]))
	assert.equal(of(numbers.buffer).length, 8)
	assert.throws(() => of([1.5, 2]), /tensor x: data is no typed array/)
})
