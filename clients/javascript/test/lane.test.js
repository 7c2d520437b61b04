// The lane's messages and what is signed in it, held against what the chain's own programs write: `clients/session/tests/javascript.rs`
// made `lane.json` of the same values. Needs no network.

import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { before, test } from 'node:test'

import { hexToU8a, stringToHex, u8aToHex } from '@polkadot/util'
import { cryptoWaitReady, sr25519PairFromSeed } from '@polkadot/util-crypto'

import { faultOf } from '../src/faults.js'
import {
	MAX_NUMBER,
	Transcript,
	candidates,
	isPreimage,
	make,
	nameOf,
	parse,
	payload,
	priceOf,
	sign,
	steps,
	units,
	verify,
} from '../src/lane.js'
import { chat } from '../src/index.js'
import { decode, fileOf } from '../src/record.js'

const data = (name) => new URL(`data/${name}`, import.meta.url)
const rust = JSON.parse(readFileSync(data('lane.json'), 'utf8'))
const SIGNED = data('signed.json')

const bytes = (byte, length = 32) => u8aToHex(new Uint8Array(length).fill(byte))
const genesis = hexToU8a(bytes(0x11))
const ANSWER = 'It is Paris: 巴黎.'
const TOKENS = [1, 300, 70_000, 2]
const unsigned = (body) => ({ body, signature: bytes(0x5a, 64) })
const anchor = { number: 1000, block: bytes(0x44) }
const price = { perRequest: 10_000_000_000n, perInputUnit: 20_000_000n, perOutputUnit: 100_000_000n }

/** The same values as the other side's, out of the same words. */
const its = {}
before(async () => {
	await cryptoWaitReady()
	its.ask = make('Ask', {
		channel: 5,
		number: 7,
		payee: bytes(0x22),
		model: bytes(0x33),
		input: {
			TextGeneration: {
				prompt: {
					Chat: [
						{ role: 'System', content: stringToHex('Be brief.') },
						{ role: 'User', content: stringToHex('0x is a prefix. Capital of France?') },
					],
				},
				sampling: {
					maxTokens: 48,
					temperature: 700,
					topP: 950,
					stop: [stringToHex('\n')],
					processing: {
						topK: 40,
						minP: 0,
						repetitionPenalty: 1000,
						presencePenalty: -500,
						frequencyPenalty: 0,
						logitBias: [[17, -100_000]],
					},
				},
			},
		},
		anchor,
		salt: bytes(0x55),
	})
	const request = nameOf(genesis, 'ask', its.ask)
	const seen = TOKENS.reduce((so, token) => so.with(token), new Transcript(request))
	const end = (reason) => make('FinishReason', reason)
	its.voucher = make('Voucher', {
		channel: 5,
		payee: bytes(0x22),
		service: 'Answer',
		number: 7,
		request,
		transcript: new Transcript(request).hash,
		amount: 12_345_678_901_234_567_890n,
		expires: 9,
	})
	its.receipt = make('Receipt', {
		channel: 5,
		payee: bytes(0x22),
		number: 7,
		session: 3,
		request,
		transcript: seen.end(new TextEncoder().encode(ANSWER), end('EndOfText').toU8a()),
		inputUnits: units(its.ask.input),
		outputUnits: 4,
		amount: priceOf(make('Price', price), units(its.ask.input), 4),
		anchor,
	})
	its.verdict = make('Verdict', {
		receipt: nameOf(genesis, 'receipt', its.receipt),
		checker: bytes(0x88),
		session: 3,
		evidence: { fingerprint: { Digest: bytes(0x66, 16) }, verdict: { marginMax: 0, marginMean: 0, deviations: 0 }, prior: null },
	})
	its.progress = make('Progress', { channel: 5, number: 7, request, transcript: seen.hash, tokens: seen.tokens })
	its.waiter = make('Waiter', { channel: 5, payee: bytes(0x22), model: bytes(0x33) })
	its.release = make('Release', { channel: 5, payee: bytes(0x22), session: 3, releases: 1, amount: 6 })
})

test('what is signed, and its names, are the other side’s', () => {
	assert.equal(units(its.ask.input), rust.units)
	for (const { type, body, payload: signed, hash } of rust.signed) {
		assert.equal(its[type].toHex(), body, type)
		assert.equal(u8aToHex(payload(genesis, type, its[type])), signed, type)
		assert.equal(u8aToHex(nameOf(genesis, type, its[type])), hash, type)
	}
	assert.deepEqual(
		rust.signed.map(({ type }) => type),
		['ask', 'voucher', 'receipt', 'verdict', 'progress', 'waiter', 'release']
	)
})

test('messages to validators are the other side’s, byte by byte', () => {
	const { ask, voucher, receipt, waiter } = its
	const output = { Text: { tokens: TOKENS, text: stringToHex(ANSWER), finish: 'EndOfText' } }
	const said = [
		{ Hello: { version: 1, genesis, channel: 5 } },
		{ Ask: { ask, voucher: unsigned(voucher) } },
		{ Pay: unsigned(voucher) },
		{ Cancel: { number: 7 } },
		{ Check: { receipt: unsigned(receipt), ask, output, preimage: bytes(0x77) } },
		'Release',
		{ Wait: unsigned(waiter) },
	]
	assert.deepEqual(
		said.map((message) => make('ToValidator', message).toHex()),
		rust.toValidator
	)
})

test('messages of validators are read, and written again as they came', () => {
	const [offer, frame, end, verdict, refused, released, waiting] = rust.toClient.map((hex) => parse('ToClient', hexToU8a(hex)))
	assert.equal(offer.asOffer.models[0].free.toNumber(), 4)
	assert.equal(offer.asOffer.heldAnswer.unwrap().body.toHex(), its.voucher.toHex())
	assert.ok(offer.asOffer.heldCheck.isNone)
	assert.deepEqual(
		frame.asFrame.tokens.map((token) => token.toNumber()),
		TOKENS
	)
	assert.equal(new TextDecoder().decode(frame.asFrame.text.toU8a(true)), ANSWER)
	assert.equal(frame.asFrame.progress.body.toHex(), its.progress.toHex())
	assert.ok(end.asEnd.finish.isLength)
	assert.equal(end.asEnd.receipt.body.toHex(), its.receipt.toHex())
	assert.equal(verdict.asVerdict.body.toHex(), its.verdict.toHex())
	assert.deepEqual(refused.asRefused.toJSON(), { number: 7, why: 'Busy', words: 'come back later' })
	assert.equal(released.asReleased.body.toHex(), its.release.toHex())
	assert.equal(waiting.asWaiting.ahead.toNumber(), 12)
})

test('what is no message, or more than one, is not read', () => {
	for (const hex of rust.toClient) {
		const whole = hexToU8a(hex)
		for (const wrong of [whole.slice(0, -1), Uint8Array.of(...whole, 0), Uint8Array.of(9, ...whole.slice(1)), new Uint8Array()]) {
			assert.throws(() => parse('ToClient', wrong), hex)
		}
	}
})

test('hash chain and the order of checkers are the other side’s', () => {
	const secret = hexToU8a(bytes(0x99))
	for (const [count, link] of rust.links) assert.equal(u8aToHex(steps(secret, count)), link, `${count} steps`)
	const tip = steps(secret, MAX_NUMBER)
	assert.ok(isPreimage(steps(secret, MAX_NUMBER - 7), 7, tip))
	assert.ok(!isPreimage(steps(secret, MAX_NUMBER - 7), 8, tip))
	assert.ok(!isPreimage(tip, 0, tip))
	const serving = [1, 2, 3, 4, 5, 6, 6].map((byte) => hexToU8a(bytes(byte)))
	assert.deepEqual(candidates(hexToU8a(bytes(0xbb)), hexToU8a(bytes(0x77)), serving, hexToU8a(bytes(3))), rust.candidates)
})

test('faults have the other side’s words', () => {
	for (const [hex, words] of rust.faults) {
		const fault = faultOf(parse('Fault', hexToU8a(hex)))
		assert.equal(fault.message, words)
		assert.equal(make('Fault', fault.value).toHex(), hex, words)
	}
})

test('a receipt’s file is the other side’s, word by word', () => {
	assert.deepEqual(fileOf(decode(rust.file.record)), rust.file)
})

test('what is signed here is signed for this chain, as this type, by this key', () => {
	const seed = hexToU8a(bytes(0xcc))
	const pair = sr25519PairFromSeed(seed)
	const signed = (type, name) => make(name, { body: its[type], signature: sign(genesis, type, its[type], pair) })
	const [voucher, waiter] = [signed('voucher', 'Payment'), signed('waiter', 'SignedWaiter')]
	assert.ok(verify(genesis, 'voucher', voucher, pair.publicKey))
	assert.ok(!verify(hexToU8a(bytes(0)), 'voucher', voucher, pair.publicKey))
	assert.ok(!verify(genesis, 'receipt', voucher, pair.publicKey))
	assert.ok(!verify(genesis, 'voucher', voucher, genesis))
	assert.ok(!verify(genesis, 'voucher', make('Payment', unsigned(its.voucher)), pair.publicKey))
	// What `clients/session/tests/javascript.rs` verifies. A signature takes chance: it is written where that is asked for.
	if (process.env.CONSILIENCE_FIXTURES === 'write') {
		const file = { seed: u8aToHex(seed), key: u8aToHex(pair.publicKey), voucher: voucher.toHex(), waiter: waiter.toHex() }
		writeFileSync(SIGNED, `${JSON.stringify(file, null, '\t')}\n`)
	}
	const kept = JSON.parse(readFileSync(SIGNED, 'utf8'))
	assert.equal(kept.key, u8aToHex(pair.publicKey))
	assert.equal(parse('Payment', hexToU8a(kept.voucher)).body.toHex(), its.voucher.toHex())
	assert.ok(verify(genesis, 'voucher', parse('Payment', hexToU8a(kept.voucher)), pair.publicKey))
})

test('a constraint is asked, counted and signed with the question', () => {
	const [free, held] = [{}, { regex: '[0-9]+' }].map((how) => make('Input', chat('How many?', 5, how)))
	assert.equal(units(held), units(free) + '[0-9]+'.length)
	// The variant that the chain has had last: what asks for no constraint is written as ever.
	assert.deepEqual([free.toU8a()[0], held.toU8a()[0]], [0, 3])
	assert.equal(make('Input', held.toU8a()).asConstrainedText.constraint.text.toUtf8(), '[0-9]+')
})
