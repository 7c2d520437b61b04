// Receipts of the session lane: who signed what was answered, and who checked it. Runs in browsers; with what the file itself says of
// the chain it needs no node.

import { u8aToHex } from '@polkadot/util'
import { cryptoWaitReady } from '@polkadot/util-crypto'

import { make } from './lane.js'
import { decode, describe, read, standing, verifyAnswer, verifyChecks } from './record.js'

/**
 * Verifies a receipt's file, as `consilience channel receipt` and the gateway write it: that its words are those that were signed, every
 * signature, that the receipt is for this question, this answer and this price, and that the checkers are those whom the draw named.
 *
 * `facts` is what the chain says ({@link fetchFacts}); then nothing in the file is trusted. Without it the file's own word is taken for
 * the chain's: lane keys, seed, price and who served are then only consistent with each other, and anybody can make such a file up.
 *
 * Resolves with `{ status, right, wanted, facts, channel, number, genesis, model, executor, question, answer, checkers }`: `status` is
 * `answered`, `checked` or `refuted` (one checker who found it wrong is not outvoted), `facts` is `chain` or `file`, `checkers` has
 * `{ checker, finding }` with `right`, `unclear`, `wrong` or `skipped`. Rejects with the first thing that does not hold. That the answer
 * is what the model says is the checkers' word; `consilience verify` runs the model.
 */
export async function verifyReceipt(file, facts) {
	await cryptoWaitReady()
	const record = read(file)
	const known = facts ?? record.facts
	const { ask } = record
	const genesis = known.genesis.toU8a()
	const name = verifyAnswer(record, known, genesis)
	const checkers = verifyChecks(record, known, name)
	const { status, right, wanted } = standing(
		checkers.map((check) => check.finding),
		record.wanted.toNumber()
	)
	const { channel, number, model, executor, question, answer } = describe(record)
	return {
		status,
		right,
		wanted,
		facts: facts ? 'chain' : 'file',
		genesis: u8aToHex(genesis),
		channel,
		number,
		model,
		executor,
		question,
		answer,
		anchor: { number: ask.anchor.number.toNumber(), hash: ask.anchor.block.toHex() },
		checkers,
	}
}

/**
 * What the chain says about a receipt's file, for {@link verifyReceipt}: channel and lane keys as of the last finalised block, model as of
 * the block that the question named. `api` is polkadot.js's. Rejects where the chain has forgotten one of them: lane keys after about an
 * era, a channel when all in it is paid, a block's state when the node has pruned it.
 */
export async function fetchFacts(api, file) {
	const record = decode(file.record)
	const { ask } = record
	const gone = (what) =>
		new Error(`the chain does not know ${what} of this receipt any more: without facts of the chain, the file's own word is taken`)
	const finalized = await api.at(await api.rpc.chain.getFinalizedHead())
	const channel = await finalized.call.sessionsApi.channel(ask.channel.toString())
	if (channel.isNone) throw gone('the channel')
	const { seed, chain: tip } = channel.unwrap()
	if (seed.isNone) throw gone("the channel's seed")
	let model
	try {
		model = await (await api.at(ask.anchor.block.toHex())).call.inferenceApi.model(ask.model.toHex())
	} catch (e) {
		throw Object.assign(gone(`block ${ask.anchor.number}`), { cause: e })
	}
	if (model.isNone || !model.unwrap().status.isActive) throw gone('the model')
	const { spec, price, serving } = model.unwrap()
	const verdicts = record.checks.filter(({ outcome }) => outcome.isVerdict).map(({ outcome }) => outcome.asVerdict.body)
	const signers = verdicts.map(({ checker, session }) => [checker, session])
	if (record.receipt.isSome) signers.push([record.receipt.unwrap().body.payee, record.receipt.unwrap().body.session])
	const certified = []
	for (const [validator, session] of signers) {
		const keys = await finalized.call.sessionsApi.laneKeys(validator.toU8a(), session.toNumber())
		certified.push(...keys.map((key) => ({ validator: validator.toU8a(), session, key: key.toU8a() })))
	}
	return make('Facts', {
		genesis: api.genesisHash.toU8a(),
		seed: seed.unwrap().toU8a(),
		tip: tip.toU8a(),
		price: make('Price', price.toU8a()),
		// What checks cost is no part of what is verified.
		check: record.facts.check,
		policy: make('Policy', spec.policy.toU8a()),
		serving: serving.map((who) => who.toU8a()),
		certified,
	})
}
