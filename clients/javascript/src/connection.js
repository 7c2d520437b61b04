// A connection to a validator's endpoint of the session lane.

import { u8aEq } from '@polkadot/util'
import { WebSocket } from '@polkadot/x-ws'

import { Fault } from './faults.js'
import { MAX_MESSAGE, VERSION, make, parse } from './lane.js'

/** What messages are called where they do not belong. */
const NAMES = {
	Offer: 'an offer',
	Frame: 'part of an answer',
	End: 'the end of an answer',
	Verdict: 'a verdict',
	Refused: 'a refusal of something else',
	Waiting: 'word that something waits',
	Released: 'leave to take money back',
}

/** The fault of whoever sends this where it is not expected; a refusal is one of its own. */
export function unexpected(message) {
	if (message.isRefused) return new Fault('Refused', [message.asRefused.why.type, message.asRefused.words.toString()])
	return new Fault('Malformed', NAMES[message.type])
}

/** Said of a wait that the client itself has ended. */
export const CUT = Symbol('cut')

/** How long a goodbye is waited for. */
const GOODBYE = 5_000

/** Most bytes that wait to be read: of a slice, and a message that is as long as can be. */
const MOST_WAITING = 2 * MAX_MESSAGE

/** An open connection, of which the greeting is over. */
export class Connection {
	#socket
	#heard = []
	/** Bytes that were heard and not read. */
	#waiting = 0
	#ended
	#wake = () => {}
	/** What was offered last. */
	offer

	constructor(socket) {
		this.#socket = socket
		socket.binaryType = 'arraybuffer'
		socket.addEventListener('message', ({ data }) => {
			this.#heard.push(data)
			this.#waiting += data.length ?? data.byteLength
			// Nothing holds a WebSocket's other side back: whoever says more than is read is not listened to.
			if (this.#waiting > MOST_WAITING) {
				this.#ended ??= new Fault('Malformed', 'more than can be read')
				this.drop()
			}
			this.#wake()
		})
		socket.addEventListener('close', ({ reason }) => {
			this.#ended ??= new Fault('Connection', reason || 'it was closed')
			this.#wake()
		})
		// What went wrong is said by the close that follows.
		socket.addEventListener('error', () => {})
	}

	/**
	 * Connects to a validator within so many milliseconds, and hears what it offers. `routes` are the ways to it, `{ url, protocols }`, of
	 * which the first that opens is taken.
	 */
	static async open(routes, lane, genesis, channel, patience) {
		let why = new Fault('Address', 'there is no way to it')
		for (const { url, protocols } of routes) {
			let connection
			try {
				connection = new Connection(protocols ? new WebSocket(url, protocols) : new WebSocket(url))
				await connection.#opened(patience)
				await connection.hello(lane, genesis, channel, patience)
				return connection
			} catch (e) {
				connection?.drop()
				why = e instanceof Fault ? e : new Fault('Address', e.message)
				// Whoever refuses was reached.
				if (why.code === 'Refused') break
			}
		}
		throw why
	}

	#opened(patience) {
		return new Promise((resolve, reject) => {
			const timer = setTimeout(() => reject(new Fault('Silent', patience)), patience)
			const done = (end) => () => {
				clearTimeout(timer)
				end()
			}
			this.#socket.addEventListener('open', done(resolve))
			this.#socket.addEventListener(
				'close',
				done(() => reject(this.#ended ?? new Fault('Connection', 'it was closed')))
			)
		})
	}

	/** Whether it can still be spoken over. */
	get isOpen() {
		return !this.#ended && this.#socket.readyState === 1
	}

	/** Hears what a validator offers: first, and again where a voucher has verified over the connection. */
	async hello(lane, genesis, channel, patience) {
		this.send({ Hello: { version: VERSION, genesis, channel } })
		const message = await this.receive(patience)
		if (!message.isOffer) throw unexpected(message)
		if (!u8aEq(message.asOffer.payee.toU8a(), lane.validator)) throw new Fault('OtherValidator')
		this.offer = message.asOffer
	}

	send(message) {
		if (!this.isOpen) throw this.#ended ?? new Fault('Connection', 'it was closed')
		this.#socket.send(make('ToValidator', message).toU8a())
	}

	/** The next message, which has to come within so many milliseconds; {@link CUT} where the signal aborts before. */
	async receive(patience, signal) {
		const data = await this.#next(patience, signal)
		if (data === CUT) return CUT
		this.#waiting -= data.length ?? data.byteLength
		if (typeof data === 'string') throw new Fault('Malformed', 'text')
		const bytes = new Uint8Array(data)
		if (bytes.length > MAX_MESSAGE) throw new Fault('Malformed', 'a message that is too long')
		try {
			return parse('ToClient', bytes)
		} catch {
			throw new Fault('Malformed', 'bytes that are no message')
		}
	}

	#next(patience, signal) {
		return new Promise((resolve, reject) => {
			const end = (finish) => {
				clearTimeout(timer)
				signal?.removeEventListener('abort', look)
				this.#wake = () => {}
				finish()
			}
			const look = () => {
				if (this.#heard.length > 0) return end(() => resolve(this.#heard.shift()))
				if (this.#ended) return end(() => reject(this.#ended))
				if (signal?.aborted) return end(() => resolve(CUT))
			}
			const timer = setTimeout(() => end(() => reject(new Fault('Silent', patience))), patience)
			signal?.addEventListener('abort', look)
			this.#wake = look
			look()
		})
	}

	/** Closes it and waits for the other side's goodbye: what was sent has been read then. */
	async close() {
		if (this.#ended) return
		const ended = new Promise((resolve) => {
			const timer = setTimeout(resolve, GOODBYE)
			this.#socket.addEventListener('close', () => {
				clearTimeout(timer)
				resolve()
			})
		})
		this.drop()
		await ended
	}

	/** Closes it. */
	drop() {
		try {
			this.#socket.close()
		} catch {
			// One that never opened.
		}
	}
}
