// Finalised state as the session lane's client reads it, and the transactions that open and close a channel.

import { u8aEq, u8aToString } from '@polkadot/util'
import { cryptoWaitReady } from '@polkadot/util-crypto'

import { MAX_PAYEES, make } from './lane.js'
import { address } from './record.js'

/** How often something is looked for that is about to be final, in milliseconds. */
export const LOOK_AGAIN = 500

/** Why a question, or everything, does not go on; `code` is a word that never changes. */
export class SessionError extends Error {
	constructor(code, message, faults = []) {
		super(message)
		this.name = 'SessionError'
		this.code = code
		/** Who was tried, and why each failed. */
		this.faults = faults
	}
}

/** Finalised state, as polkadot.js reads it. */
export class Chain {
	constructor(api) {
		this.api = api
		this.genesis = api.genesisHash.toU8a()
		// Vouchers can be claimed for an era.
		this.voucherSessions = api.consts.staking.sessionsPerEra.toNumber()
	}

	async finalised() {
		const { api } = this
		const block = await api.rpc.chain.getFinalizedHead()
		const [at, header] = await Promise.all([api.at(block), api.rpc.chain.getHeader(block)])
		return { at, anchor: { number: header.number.toNumber(), block: block.toU8a() } }
	}

	async session() {
		const { at } = await this.finalised()
		return (await at.call.sessionsApi.session()).toNumber()
	}

	async laneKeys(validator, session) {
		const { at } = await this.finalised()
		return (await at.call.sessionsApi.laneKeys(validator, session)).map((key) => key.toU8a())
	}

	/** Those who answer for a model. */
	async lanes(at, model) {
		const lanes = await at.call.sessionsApi.lanes(model)
		return lanes.map(({ validator, session, key, endpoint }) => ({
			model,
			address: address(validator),
			validator: validator.toU8a(),
			session: session.toNumber(),
			key: key.toU8a(),
			endpoint: u8aToString(endpoint.toU8a(true)),
		}))
	}

	async model(at, id) {
		const [model, check] = await Promise.all([at.call.inferenceApi.model(id), at.call.sessionsApi.checkPrice(id)])
		if (model.isNone || !model.unwrap().status.isActive || check.isNone) {
			throw new SessionError('no_model', 'the model is not registered, or takes no requests')
		}
		const { spec, price, serving } = model.unwrap()
		return {
			price: make('Price', price.toU8a()),
			check: make('Price', check.unwrap().toU8a()),
			policy: make('Policy', spec.policy.toU8a()),
			serving: serving.map((who) => who.toU8a()),
			limits: spec.limits,
		}
	}
}

/** What an allotment admits: with what is about to be taken back taken back. */
export function limitOf({ amount, lowering }) {
	return amount.toBigInt() - (lowering.isSome ? lowering.unwrap().by.toBigInt() : 0n)
}

/** A channel of an account that was opened with this wallet, if the block at `at` has one. */
async function find(at, wallet, owner) {
	const channels = await at.call.sessionsApi.channelsOf(owner)
	return channels.find((channel) => u8aEq(channel.key.toU8a(), wallet.key) && u8aEq(channel.chain.toU8a(), wallet.tip))
}

/**
 * Opens a channel for those who answer for a model, and resolves when it can be used: its block is finalised and its seed drawn, which takes
 * some blocks. `account` is a key pair of polkadot.js, or an address with `signer`, an extension's: it signs once. `deposit` is held
 * from it, a quarter of it for checkers. A wallet whose channel is on its way already waits for that one. `onStep` hears `signed`,
 * `in_block`, `finalised` and `ready`.
 *
 * Resolves with the channel's number.
 */
export async function openChannel(api, wallet, { account, signer, model, deposit, onStep = () => {}, patience = 300_000 }) {
	await cryptoWaitReady()
	if (wallet.bound) return wallet.bound.channel
	const chain = new Chain(api)
	const owner = account.address ?? account
	const { at } = await chain.finalised()
	if (!(await find(api, wallet, owner))) {
		const lanes = (await chain.lanes(at, model)).slice(0, MAX_PAYEES)
		if (lanes.length === 0) throw new SessionError('no_executor', 'nobody answers for this model in the session lane')
		const pot = BigInt(deposit) / 4n
		const each = (BigInt(deposit) - pot) / BigInt(lanes.length)
		const payees = lanes.map(({ validator }) => [validator, each])
		await submit(api.tx.sessions.open(wallet.key, wallet.tip, payees, pot), account, signer, onStep)
	}
	const until = Date.now() + patience
	let seen
	while (Date.now() < until) {
		// A number that a block on a lost fork gave is nobody's: what is finalised counts.
		const { at } = await chain.finalised()
		const channel = await find(at, wallet, owner)
		if (channel && !seen) onStep((seen = 'finalised'))
		if (channel?.seed.isSome) {
			const id = channel.id.toNumber()
			await wallet.bind(chain.genesis, id)
			onStep('ready')
			return id
		}
		await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN))
	}
	throw new SessionError('not_ready', 'the channel is not in finalised state yet, or its seed is not drawn: try again in a minute')
}

/** Signs a call, and resolves when it is in a block. */
function submit(call, account, signer, onStep) {
	return new Promise((resolve, reject) => {
		let stop = () => {}
		const done = (end) => {
			stop()
			end()
		}
		const look = ({ status, dispatchError, isError }) => {
			if (isError) return done(() => reject(new SessionError('dropped', `the transaction was dropped: ${status.type}`)))
			if (status.isReady) onStep('signed')
			if (!status.isInBlock) return
			if (dispatchError) return done(() => reject(refusal(call.registry, dispatchError)))
			onStep('in_block')
			done(resolve)
		}
		call.signAndSend(account, { signer, withSignedTransaction: true }, look).then((unsubscribe) => (stop = unsubscribe), reject)
	})
}

function refusal(registry, error) {
	if (!error.isModule) return new SessionError('refused', `the chain refused it: ${error.toString()}`)
	const { section, name, docs } = registry.findMetaError(error.asModule)
	return Object.assign(new SessionError('refused', `the chain refused it: ${section}.${name}: ${docs.join(' ')}`), { errorName: name })
}

/** Closes a channel: payees have until the end of their notice to claim, then {@link withdraw} returns the rest. */
export async function closeChannel(api, channel, { account, signer }) {
	await submit(api.tx.sessions.close(channel), account, signer, () => {})
}

/** Takes back what is left of a channel that was closed. */
export async function withdraw(api, channel, { account, signer }) {
	await submit(api.tx.sessions.withdraw(channel), account, signer, () => {})
}
