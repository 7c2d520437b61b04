// The session lane's client against validators that do what they should, and others. Needs no network.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import { hexToU8a } from '@polkadot/util'
import { cryptoWaitReady, sr25519PairFromSeed } from '@polkadot/util-crypto'

import { chat } from '../src/index.js'
import { make, priceOf, sign, units } from '../src/lane.js'
import { verifyReceipt } from '../src/receipt.js'
import { Wallet, memoryStore, openSession } from '../src/session.js'
import { CHECK, GENESIS, MODEL, PRICE, Validator, chainOf } from './double.js'

const INPUT = (tokens = 40) => chat('What is the capital of France?', tokens)
const PROMPT = () => priceOf(PRICE, units(make('Input', INPUT())), 0)
const PATIENCE = { connect: 1_000, first: 1_000, next: 1_000, verdict: 1_000, place: 2_000 }

const open = []
before(() => cryptoWaitReady())
after(() => open.forEach((validator) => validator.close()))

/** A session over these validators, `{ session, wallet, store, validators, api }`. */
async function scene(...ways) {
	const store = memoryStore()
	const wallet = await Wallet.open(store)
	await wallet.bind(GENESIS, 5)
	const validators = await Promise.all(ways.map((way, i) => new Validator(i + 1, way).listen()))
	open.push(...validators)
	const api = chainOf(wallet, validators)
	const session = await openSession(api, wallet, { patience: PATIENCE })
	return { session, wallet, store, validators, api }
}

/** All events of an answer, and the error that it ended with. */
async function events(answer, look = () => {}) {
	const seen = []
	try {
		for await (const event of answer) {
			seen.push(event)
			look(event)
		}
	} catch (error) {
		return { seen, error }
	}
	return { seen, done: seen.at(-1) }
}

const of = (seen, type) => seen.filter((event) => event.type === type)
const failures = (seen) => of(seen, 'failed').map(({ code }) => code)

/** What an executor was paid for the answer alone. */
const paidTo = (validator) => (validator.held.Answer?.body.amount.toBigInt() ?? 0n) - PROMPT()

test('an answer is paid as it comes, checked, and shown for', async () => {
	const { session, validators } = await scene({}, {}, {}, {})
	const { seen, done } = await events(session.ask(MODEL, INPUT(80)))
	assert.deepEqual({ ...done, paid: 0n }, { type: 'done', number: 1, status: 'checked', right: 2, wanted: 2, paid: 0n })
	const check = (tokens) => priceOf(CHECK, units(make('Input', INPUT())), tokens)
	assert.equal(done.paid, PROMPT() + 8000n + 2n * check(80))
	const text = of(seen, 'text').map((event) => event.text)
	assert.equal(text.join(''), 'ab '.repeat(80))
	const file = await session.receipt(1)
	assert.equal((await verifyReceipt(file)).status, 'checked')
	// The next goes over the connection that was kept, and its vouchers count on.
	const next = await events(session.ask(MODEL, INPUT(4), { executor: file.executor }))
	assert.equal(next.done.status, 'checked')
	// What was sent last has been read then.
	await session.close()
	const [executor] = validators.filter(({ asked }) => asked > 0)
	assert.equal(executor.asked, 2)
	assert.equal(executor.held.Answer.body.amount.toBigInt(), 2n * PROMPT() + 8400n)
	const amounts = executor.vouchers
		.filter(({ service, number }) => service.isAnswer && number.eq(1))
		.map(({ amount }) => amount.toBigInt() - PROMPT())
	// The question; then slices as they come, the last when the receipt is as it should be.
	assert.equal(amounts[0], 0n)
	assert.equal(amounts.at(-1), 8000n)
	assert.ok(amounts.length >= 4, `${amounts}`)
	for (let i = 1; i < amounts.length; i++) assert.ok(amounts[i] > amounts[i - 1] && amounts[i] - amounts[i - 1] <= 3200n)
	const checks = validators.reduce((sum, { held }) => sum + (held.Check?.body.amount.toBigInt() ?? 0n), 0n)
	assert.equal(checks, 2n * check(80) + 2n * check(4))
})

const LIES = {
	'tokens that are not those of the signed transcript': {
		way: { frame: (frame) => ({ ...frame, tokens: frame.tokens.map((token) => token + 1) }) },
		code: 'Transcript',
		most: 0n,
	},
	'a frame that somebody else has signed': {
		way: {
			frame: (frame, sent) => {
				if (sent < 20) return frame
				const stranger = sr25519PairFromSeed(new Uint8Array(32).fill(9))
				return { ...frame, progress: { ...frame.progress, signature: sign(GENESIS, 'progress', frame.progress.body, stranger) } }
			},
		},
		code: 'FrameSignature',
		most: 1600n,
	},
	'what is no text': { way: { frame: (frame) => ({ ...frame, text: '0xff' }) }, code: 'Text', most: 0n },
	'more tokens than were asked for': { way: { tokens: Array.from({ length: 60 }, (_, i) => i) }, code: 'TooMuch', most: 4000n },
	'a part without a token': { way: { frame: (frame) => ({ ...frame, tokens: [] }) }, code: 'Malformed', most: 0n },
	'a receipt over more money': {
		way: { receipt: (body) => ({ ...body, amount: body.amount + 1n }) },
		code: 'Receipt',
		most: 3200n,
	},
	'a receipt for another answer': {
		way: { receipt: (body) => ({ ...body, transcript: new Uint8Array(32) }) },
		code: 'Receipt',
		most: 3200n,
	},
	'a receipt that nobody signed': {
		way: { signed: ({ body }) => ({ body, signature: new Uint8Array(64) }) },
		code: 'ReceiptSignature',
		most: 3200n,
	},
	'a receipt of a session to come': { way: { receipt: (body) => ({ ...body, session: 9 }) }, code: 'ReceiptSession', most: 3200n },
	'a voucher that this channel never signed': {
		way: {
			offer: (offer) => {
				const body = make('Voucher', { channel: 5, payee: offer.payee, service: 'Answer', number: 1, amount: 9 })
				return { ...offer, heldAnswer: { body, signature: new Uint8Array(64) } }
			},
		},
		code: 'Held',
		most: -1n,
	},
	'another validator’s name': { way: { offer: (offer) => ({ ...offer, payee: new Uint8Array(32) }) }, code: 'OtherValidator', most: -1n },
	'another model': { way: { offer: (offer) => ({ ...offer, models: [] }) }, code: 'NotOffered', most: -1n },
	nothing: { way: { refuse: 'Failed' }, code: 'Refused', most: -1n },
}

for (const [what, { way, code, most }] of Object.entries(LIES)) {
	test(`who says ${what} is passed over, and is paid for nothing that is not as it should be`, async () => {
		const { session, validators } = await scene(way)
		const { seen, error } = await events(session.ask(MODEL, INPUT(), { checks: 0 }))
		assert.deepEqual(failures(seen), [code])
		assert.equal(error.code, 'no_answer')
		assert.deepEqual(
			error.faults.map((fault) => fault.code),
			[code]
		)
		assert.equal(of(seen, 'receipt').length, 0)
		const [liar] = validators
		if (most < 0n) assert.equal(liar.vouchers.length, 0)
		else assert.ok(paidTo(liar) <= most, `${paidTo(liar)} of ${most}`)
		await session.close()
	})
}

test('after one that lies another answers, under a new number, and its text begins anew', async () => {
	const { session, validators } = await scene({ signed: ({ body }) => ({ body, signature: new Uint8Array(64) }) }, {}, {})
	// The one that lies has most places: it is asked first.
	validators[0].ways.free = 9
	const { seen, done } = await events(session.ask(MODEL, INPUT()))
	assert.equal(done.number, 2)
	assert.deepEqual(
		of(seen, 'started').map(({ number }) => number),
		[1, 2]
	)
	// It checks, too: that it lied as an executor says nothing of its measuring.
	assert.equal(done.status, 'checked')
	const [first, second] = [await session.receipt(1), await session.receipt(2)]
	assert.equal(first.receipt, null)
	assert.equal((await verifyReceipt(second)).status, 'checked')
	await assert.rejects(verifyReceipt(first), /no receipt/)
	await session.close()
})

test('one checker that finds it wrong is not outvoted', async () => {
	const { session } = await scene({ free: 9 }, { finds: 'wrong' }, {})
	const { done } = await events(session.ask(MODEL, INPUT()))
	assert.deepEqual([done.status, done.right, done.wanted], ['refuted', 1, 2])
	assert.equal((await verifyReceipt(await session.receipt(1))).status, 'refuted')
	await session.close()
})

test('who does not check, or signs what is no verdict of its own, is passed over and not paid', async () => {
	const stranger = sr25519PairFromSeed(new Uint8Array(32).fill(9))
	const forged = ({ body }) => ({ body, signature: sign(GENESIS, 'verdict', body, stranger) })
	const { session, validators } = await scene({ free: 9 }, { verdict: forged }, { unavailable: true }, {})
	const { seen, done } = await events(session.ask(MODEL, INPUT()))
	assert.deepEqual([done.status, done.right, done.wanted], ['checked', 1, 2])
	assert.deepEqual(
		of(seen, 'skipped')
			.map(({ code }) => code)
			.sort(),
		['Refused', 'VerdictSignature']
	)
	// What was sent last has been read then.
	await session.close()
	assert.deepEqual(
		validators.map(({ held }) => held.Check !== undefined),
		[false, false, false, true]
	)
	const { checkers } = await verifyReceipt(await session.receipt(1))
	assert.deepEqual(checkers.map(({ finding }) => finding).sort(), ['right', 'skipped', 'skipped'])
})

test('what a checker found when nobody waited any more is fetched and paid before its next check', async () => {
	const { session, validators } = await scene({ free: 9 }, { mute: 1 })
	const [executor, checker] = validators
	const first = await events(session.ask(MODEL, INPUT(), { checks: 1 }))
	assert.deepEqual([first.done.status, of(first.seen, 'skipped').map(({ code }) => code)], ['answered', ['Silent']])
	const second = await events(session.ask(MODEL, INPUT(4), { checks: 1 }))
	assert.deepEqual([second.done.status, second.done.right], ['checked', 1])
	await session.close()
	assert.deepEqual(checker.checks, [1, 1, 2])
	const check = (tokens) => priceOf(CHECK, units(make('Input', INPUT())), tokens)
	assert.equal(checker.held.Check.body.amount.toBigInt(), check(40) + check(4))
	assert.equal(executor.checked, 0)
	// What it found stands with the first answer now.
	assert.equal((await verifyReceipt(await session.receipt(1))).status, 'checked')
})

test('where the pot has no more, nothing is signed away for checks', async () => {
	const { session, validators, api } = await scene({}, {}, {})
	api.channel.pot.amount = make('u128', 10n)
	const { done } = await events(session.ask(MODEL, INPUT()))
	assert.equal(done.status, 'answered')
	assert.ok(validators.every(({ checked }) => checked === 0))
	await session.close()
})

test('an answer that is stopped ends with a receipt for what came, and is paid to there', async () => {
	const { session, validators } = await scene({ frame: (frame) => frame })
	const answer = session.ask(MODEL, INPUT(400), { checks: 0 })
	let text = ''
	const { done } = await events(answer, (event) => {
		if (event.type === 'text') text += event.text
		if (text.length > 30) answer.cancel()
	})
	assert.equal(done.status, 'answered')
	const file = await session.receipt(1)
	assert.ok(file.tokens < 400 && file.finish === 'length', `${file.tokens} tokens`)
	assert.equal((await verifyReceipt(file)).answer, text)
	await session.close()
	assert.equal(validators[0].cancelled, 1)
	assert.equal(paidTo(validators[0]), 100n * BigInt(file.tokens))
})

test('whoever stops reading has an answer that is cut, and pays no checkers', async () => {
	const { session, validators } = await scene({}, {}, {})
	for await (const event of session.ask(MODEL, INPUT(400))) if (event.type === 'text') break
	await session.close()
	assert.equal(
		validators.reduce((sum, { cancelled }) => sum + cancelled, 0),
		1
	)
	assert.ok(validators.every(({ checked }) => checked === 0))
})

test('nobody has a place: it waits in line, and pays nothing for that', async () => {
	const { session, validators } = await scene({ free: 0 }, { free: 0 })
	const { seen, done } = await events(session.ask(MODEL, INPUT(), { checks: 1 }))
	assert.equal(done.status, 'checked')
	assert.deepEqual(of(seen, 'waiting')[0], { type: 'waiting', ahead: 3 })
	assert.equal(validators.filter(({ asked }) => asked > 0).length, 1)
	await session.close()
})

test('one that offered a place and was busy is waited for once', async () => {
	const { session } = await scene({ refuse: 'Busy' })
	const { seen, done } = await events(session.ask(MODEL, INPUT(), { checks: 0 }))
	assert.deepEqual(failures(seen), ['Refused'])
	assert.deepEqual([done.status, done.number], ['answered', 2])
	await session.close()
})

test('an answer whose connection broke is fetched and paid before the next, also after a restart', async () => {
	const { session, store, api, validators } = await scene({ breakAfter: 24 })
	const { seen } = await events(session.ask(MODEL, INPUT(), { checks: 0 }))
	assert.deepEqual(failures(seen), ['Connection'])
	const [validator] = validators
	const before = paidTo(validator)
	assert.ok(before < 2400n)
	// A page that was loaded again has what was written down.
	const wallet = await Wallet.open(store)
	assert.equal(wallet.nextNumber, 2)
	const again = await openSession(api, wallet, { patience: PATIENCE })
	const { done } = await events(again.ask(MODEL, INPUT(4), { checks: 0 }))
	assert.equal(done.number, 2)
	const [first, second] = [await again.receipt(1), await again.receipt(2)]
	assert.equal(first.tokens, 24)
	assert.equal((await verifyReceipt(first)).status, 'answered')
	assert.equal((await verifyReceipt(second)).status, 'answered')
	await again.close()
	assert.equal(validator.held.Answer.body.amount.toBigInt(), 2n * PROMPT() + 2800n)
})

test('what cannot be written down is not sent', async () => {
	const { session, store, validators } = await scene({})
	store.put = async () => {
		throw new Error('the disk is full')
	}
	const { error } = await events(session.ask(MODEL, INPUT()))
	assert.match(error.message, /the disk is full/)
	assert.equal(validators[0].asked, 0)
	await session.close()
})

test('a wallet that was copied back from an older state is noticed', async () => {
	const { session, validators, api } = await scene({})
	await events(session.ask(MODEL, INPUT(), { checks: 0 }))
	await session.close()
	// The same keys, and nothing of what they have signed.
	const store = memoryStore()
	const old = await Wallet.open(store)
	await old.bind(GENESIS, 5)
	for (const validator of validators) validator.channelKey = old.key
	api.channel.key = { toU8a: () => old.key }
	api.channel.chain = { toU8a: () => old.tip }
	const body = make('Voucher', { channel: 5, payee: validators[0].account, service: 'Answer', number: 1, amount: 9 })
	const keys = await store.get('keys')
	validators[0].held.Answer = make('Payment', { body, signature: sign(GENESIS, 'voucher', body, sr25519PairFromSeed(hexToU8a(keys.seed))) })
	const again = await openSession(api, old, { patience: PATIENCE })
	const { error } = await events(again.ask(MODEL, INPUT(), { checks: 0 }))
	assert.equal(error.code, 'old_copy')
	await again.close()
})

test('a question that the channel cannot pay, or the model does not take, is not sent', async () => {
	const { session, validators, api } = await scene({})
	for (const [input, code] of [
		[INPUT(513), 'input'],
		[INPUT(0), 'input'],
		[chat('x'.repeat(5000), 4), 'input'],
	]) {
		assert.equal((await events(session.ask(MODEL, input))).error.code, code)
	}
	api.channel.allocations[0].allotment.amount = make('u128', 100n)
	const { error } = await events(session.ask(MODEL, INPUT()))
	assert.equal(error.code, 'funds')
	api.channel.closesAt = { isSome: true }
	assert.equal((await events(session.ask(MODEL, INPUT()))).error.code, 'closing')
	assert.equal(validators[0].vouchers.length, 0)
	await session.close()
})
