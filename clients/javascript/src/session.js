// The session lane from JavaScript: a channel of one's own, answers straight from validators, paid as they come, and checked by others.
//
// Whatever validators, or who relays between them and this, send: nothing is signed away beyond the price of the question and of tokens
// that came, signed and in order; what is signed is in the wallet's store first. Runs in browsers and in Node.

import { u8aEq, u8aToHex } from '@polkadot/util'
import { cryptoWaitReady, decodeAddress } from '@polkadot/util-crypto'

import { Asked, quoteOf } from './asked.js'
import { Chain, SessionError, closeChannel, limitOf, openChannel, withdraw } from './channel.js'
import { Connection } from './connection.js'
import { Fault } from './faults.js'
import { make } from './lane.js'
import { address, fileOf } from './record.js'
import { Wallet, WalletError, browserStore, memoryStore } from './wallet.js'

export { Fault, SessionError, Wallet, WalletError, browserStore, closeChannel, memoryStore, openChannel, withdraw }

/** Milliseconds that validators have, and how many executors are tried. */
const PATIENCE = { connect: 5_000, first: 60_000, next: 30_000, verdict: 60_000, place: 300_000, attempts: 3 }

/** A question's events; whoever stops reading has seen enough, and the answer is cut. */
class Answer {
	#events = []
	#wake = () => {}
	#over = false
	#cut = new AbortController()
	/** Whether somebody still wants to know what happens. */
	isHeard = true

	/** Cuts the answer: it ends with a receipt for what was sent. */
	cancel() {
		this.#cut.abort()
	}

	get cut() {
		return this.#cut.signal
	}

	tell(event) {
		this.#events.push({ value: event })
		this.#wake()
	}

	end(error) {
		this.#over = true
		if (error) this.#events.push({ error })
		this.#wake()
	}

	async *[Symbol.asyncIterator]() {
		try {
			for (;;) {
				while (this.#events.length > 0) {
					const { value, error } = this.#events.shift()
					if (error) throw error
					yield value
				}
				if (this.#over) return
				await new Promise((resolve) => (this.#wake = resolve))
			}
		} finally {
			this.isHeard = false
			this.cancel()
		}
	}
}

/**
 * A channel's client. Questions are asked one after the other: a payee's vouchers rise from one to the next.
 *
 * `options.routes(lane)` says how a validator is reached, `[{ url, protocols }]`, the best way first; without it, straight at
 * `lane.endpoint`. `options.patience` has milliseconds: `connect`, `first` (token), `next`, `verdict`, `place` (in line), and `attempts`.
 */
export async function openSession(api, wallet, options = {}) {
	await cryptoWaitReady()
	const session = new Session(api, wallet, options)
	const { at } = await session.chain.finalised()
	await session.channel(at)
	return session
}

class Session {
	#answered = new Map()
	#checked = new Map()
	#promised = 0n
	#turn = Promise.resolve()

	constructor(api, wallet, { routes = ({ endpoint }) => [{ url: endpoint }], patience = {} }) {
		this.chain = new Chain(api)
		this.wallet = wallet
		this.routes = routes
		this.patience = { ...PATIENCE, ...patience }
		if (wallet.bound && !u8aEq(wallet.bound.genesis, this.chain.genesis)) {
			throw new SessionError('other_chain', 'the wallet’s channel is on another chain')
		}
	}

	/** The channel as it stands in finalised state. */
	async channel(at) {
		const id = this.wallet.bound?.channel
		if (id === undefined) throw new SessionError('no_channel', 'the wallet belongs to no channel yet')
		const channel = await at.call.sessionsApi.channel(id)
		if (channel.isNone) throw new SessionError('no_channel', `channel ${id} is not in finalised state`)
		this.wallet.check(channel.unwrap())
		if (channel.unwrap().closesAt.isSome) throw new SessionError('closing', `channel ${id} is closing and takes no questions: open another`)
		return channel.unwrap()
	}

	/** What of the channel is left: `{ channel, answers: [{ payee, left }], checks }`. */
	async left() {
		const { at } = await this.chain.finalised()
		const channel = await this.channel(at)
		return {
			channel: channel.id.toNumber(),
			answers: channel.allocations.map(({ payee, allotment }) => ({
				payee: address(payee),
				left: limitOf(allotment) - this.wallet.signed(payee.toU8a(), 'Answer'),
			})),
			checks: limitOf(channel.pot) - this.wallet.spentOnChecks,
		}
	}

	/** What a question costs at the last finalised block: `{ prompt, answer, checks }`, the last two at most. */
	async quote(model, input, checks = 2) {
		const { at } = await this.chain.finalised()
		return quoteOf(await this.chain.model(at, model), make('Input', input), checks)
	}

	/**
	 * Asks. `checks` is how many are to confirm the answer, `executor` the address of who is to answer (left out: whoever offers best).
	 * Iterate over what it returns for events until `done`, or the reason why there is no answer is thrown:
	 *
	 * `{ type: 'waiting', ahead }` nobody has a place, and nothing is paid for waiting; `started` `{ executor, number }`, and if there was one
	 * before, the answer begins anew; `text` `{ text }`; `failed` `{ executor, number, why }`: what it sent was paid, and is no answer;
	 * `receipt` `{ receipt, tokens, amount, finish }`; `checking` `{ checker }`; `verdict` `{ checker, finding }`; `skipped` `{ checker,
	 * why }`; `done` `{ number, status, right, wanted, paid }`. `cancel()` cuts the answer.
	 */
	ask(model, input, { checks = 2, executor } = {}) {
		const answer = new Answer()
		const question = { model, input: make('Input', input), checks, executor: executor && decodeAddress(executor), answer }
		const asked = this.#turn.then(() => new Asked(this, question).run())
		this.#turn = asked.then(
			() => answer.end(),
			(error) => answer.end(error)
		)
		return answer
	}

	/** What there is to show for a question, as a file that {@link verifyReceipt} and `consilience verify` take; nothing of one that was not asked. */
	async receipt(number) {
		const record = await this.wallet.record(number)
		return record && fileOf(record)
	}

	/** Says goodbye to validators, and waits for theirs: what was sent last has been read then. */
	async close() {
		await this.#turn
		const all = [...this.#answered.values(), ...this.#checked.values()]
		await Promise.all(all.map((connection) => connection.close()))
	}

	/** The connection to a payee that the last question or check has left, if it stands. */
	take(service, lane) {
		const kept = service === 'Answer' ? this.#answered : this.#checked
		const key = u8aToHex(lane.validator)
		const connection = kept.get(key)
		kept.delete(key)
		return connection?.isOpen && connection.endpoint === lane.endpoint ? connection : undefined
	}

	/** Keeps a connection over which nothing is left to be said. */
	keep(service, lane, connection) {
		connection.endpoint = lane.endpoint
		const kept = service === 'Answer' ? this.#answered : this.#checked
		kept.set(u8aToHex(lane.validator), connection)
	}

	async connect(lane) {
		const { genesis, channel } = this.wallet.bound
		return Connection.open(this.routes(lane), lane, genesis, channel, this.patience.connect)
	}

	/** Sets the price of a check apart; says no where the pot has no more for one. */
	promise(price, limit) {
		if (this.#promised + price > limit - this.wallet.spentOnChecks) return false
		this.#promised += price
		return true
	}

	release(price) {
		this.#promised -= price
	}
}
