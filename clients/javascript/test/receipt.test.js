// A receipt that a network's client wrote (`consilience channel receipt`); needs no network.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'

import { verifyReceipt } from '../src/receipt.js'

const text = readFileSync(new URL('data/receipt.json', import.meta.url), 'utf8')
const file = () => JSON.parse(text)

/** The file with one byte of what is signed changed. */
function changed(offset) {
	const receipt = file()
	const at = 2 + 2 * offset
	const byte = Number.parseInt(receipt.record.slice(at, at + 2), 16) ^ 1
	receipt.record = receipt.record.slice(0, at) + byte.toString(16).padStart(2, '0') + receipt.record.slice(at + 2)
	return receipt
}

test('a receipt says who answered, what, and who found it right', async () => {
	const found = await verifyReceipt(file())
	const { checks, executor, model, question } = file()
	assert.deepEqual(
		{ ...found, anchor: undefined },
		{
			status: 'checked',
			right: 2,
			wanted: 2,
			facts: 'file',
			genesis: file().genesis,
			channel: 0,
			number: 1,
			model,
			executor,
			question,
			answer: 'The capital of France is Paris.',
			anchor: undefined,
			checkers: checks.map(({ checker, verdict }) => ({ checker, finding: verdict })),
		}
	)
	assert.ok(found.anchor.number > 0)
})

test('words that were not signed are found out', async () => {
	for (const change of [
		{ answer: 'The capital of France is Lyon.' },
		{ executor: file().checks[0].checker },
		{ number: 2 },
		{ tokens: 7 },
		{ paid: '1' },
		{ checks: [] },
		{ checks: file().checks.toReversed?.() ?? [...file().checks].reverse() },
		{ question: 'What is the capital of Germany?' },
		{ more: 1 },
	]) {
		await assert.rejects(verifyReceipt({ ...file(), ...change }), /somebody has changed it/, JSON.stringify(change))
	}
	for (const other of [null, {}, { ...file(), version: 2 }]) await assert.rejects(verifyReceipt(other), /no receipt/)
	for (const record of [undefined, 7, '', '0x', '0xzz', `${file().record}00`, file().record.slice(0, -2)]) {
		await assert.rejects(verifyReceipt({ ...file(), record }), /"record" cannot be read/)
	}
})

test('no byte of what is signed can be another', async () => {
	const bytes = (file().record.length - 2) / 2
	// Behind what is signed stand the file's own facts, of which prices of checks and half of the policy are none that it is verified by.
	const facts = file().record.indexOf(file().genesis.slice(2)) / 2 - 1
	assert.ok(facts > 0 && facts < bytes)
	// A signature takes milliseconds to verify, so not every byte is tried.
	for (let offset = 0; offset < facts; offset += 13) {
		await assert.rejects(verifyReceipt(changed(offset)), Error, `byte ${offset}`)
	}
})

test('facts of a chain that certified another key refuse it', async () => {
	const receipt = file()
	// The last bytes of the record are the last key.
	const other = changed((receipt.record.length - 2) / 2 - 1)
	await assert.rejects(verifyReceipt(other), /not signed by/)
})
