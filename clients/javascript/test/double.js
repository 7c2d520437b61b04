// A chain and validators of the session lane that behave, or do not: for tests of its client.

import { u8aEq, u8aToHex } from '@polkadot/util'
import { randomAsU8a, sr25519PairFromSeed } from '@polkadot/util-crypto'
import { WebSocketServer } from 'ws'

import { SLICE_TOKENS, Transcript, make, nameOf, parse, priceOf, sign, units, verify } from '../src/lane.js'

export const GENESIS = new Uint8Array(32).fill(0x11)
export const MODEL = u8aToHex(new Uint8Array(32).fill(0x33))
export const SESSION = 3
const SEED = new Uint8Array(32).fill(0xbb)
const ANCHOR = new Uint8Array(32).fill(0x44)

export const PRICE = make('Price', { perRequest: 1000n, perInputUnit: 10n, perOutputUnit: 100n })
export const CHECK = make('Price', { perRequest: 50n, perInputUnit: 1n, perOutputUnit: 5n })
const BOUNDS = { mean: 0, max: 0, marginMax: 0, marginMean: 0 }
const POLICY = make('Policy', {
	class: 'Exact',
	positions: 8,
	entries: 4,
	fractionBits: 12,
	accept: BOUNDS,
	fraud: BOUNDS,
	minVerifiers: 2,
	minSampling: 1000,
})

const some = (value) => ({ isSome: true, isNone: false, unwrap: () => value })
const none = { isSome: false, isNone: true }
const number = (value) => make('u128', value)

/**
 * A validator. `ways` change what it does: `frames(frames)`, `end(end)`, `offer(offer)`, `verdict(evidence)` get what it would say and
 * return what it says; `free` how many places it has; `mute` how many checks it does not answer; `refuse` a refusal of questions; `silentAfter` tokens after which the connection breaks.
 */
export class Validator {
	constructor(byte, ways = {}) {
		this.account = new Uint8Array(32).fill(byte)
		this.pair = sr25519PairFromSeed(randomAsU8a(32))
		this.ways = ways
		/** Vouchers that it has taken, by service. */
		this.held = { Answer: undefined, Check: undefined }
		this.vouchers = []
		this.cancelled = 0
		this.asked = 0
		this.checked = 0
		/** Numbers of the answers that it was given to check. */
		this.checks = []
	}

	async listen() {
		this.server = new WebSocketServer({ port: 0, host: '127.0.0.1' })
		await new Promise((resolve) => this.server.once('listening', resolve))
		this.endpoint = `ws://127.0.0.1:${this.server.address().port}`
		this.server.on('connection', (socket) => {
			const state = { paid: 0 }
			socket.on('message', (bytes) => this.#hear(socket, state, parse('ToValidator', new Uint8Array(bytes))))
		})
		return this
	}

	close() {
		for (const socket of this.server.clients) socket.terminate()
		this.server.close()
	}

	#say(socket, message) {
		socket.send(make('ToClient', message).toU8a())
	}

	signed(type, body) {
		return { body, signature: sign(GENESIS, type, body, this.pair) }
	}

	#offer() {
		const offer = {
			payee: this.account,
			models: [{ model: MODEL, price: PRICE, free: this.ways.free ?? 4 }],
			heldAnswer: this.held.Answer ?? null,
			heldCheck: this.held.Check ?? null,
		}
		return { Offer: this.ways.offer?.(offer) ?? offer }
	}

	#hear(socket, state, message) {
		if (message.isHello) this.#say(socket, this.#offer())
		else if (message.isWait) {
			this.#say(socket, { Waiting: { ahead: 3 } })
			this.ways.free = 1
			setTimeout(() => this.#say(socket, this.#offer()), 20)
		} else if (message.isAsk) this.#ask(socket, state, message.asAsk)
		else if (message.isPay) {
			const { body } = message.asPay
			this.#take(message.asPay)
			if (body.service.isAnswer) {
				const at = state.hashes?.findIndex((hash) => u8aEq(hash, body.transcript.toU8a()))
				if (at > 0) state.paid = at
				this.#go(socket, state)
			}
		} else if (message.isCancel) {
			this.cancelled++
			state.cut = true
			this.#go(socket, state)
		} else if (message.isCheck) this.#check(socket, message.asCheck)
	}

	#take(voucher) {
		if (!verify(GENESIS, 'voucher', voucher, this.channelKey)) throw new Error('a voucher that nobody signed')
		this.held[voucher.body.service.type] = voucher
		this.vouchers.push(voucher.body)
	}

	#ask(socket, state, { ask, voucher }) {
		this.asked++
		if (this.ways.refuse && this.asked === 1) {
			this.#say(socket, { Refused: { number: ask.number, why: this.ways.refuse, words: '' } })
			return
		}
		const again = this.held.Answer && u8aEq(this.held.Answer.toU8a(), voucher.toU8a())
		if (!again) this.#take(voucher)
		const request = nameOf(GENESIS, 'ask', ask)
		const most = ask.input.asTextGeneration.sampling.maxTokens.toNumber()
		const all = this.ways.tokens ?? Array.from({ length: most }, (_, i) => i + 5)
		const hashes = [new Transcript(request).hash]
		all.reduce((so, token) => {
			const next = so.with(token)
			hashes.push(next.hash)
			return next
		}, new Transcript(request))
		Object.assign(state, { ask, request, all, hashes, sent: 0, paid: again ? all.length : 0, over: false, cut: false })
		// What was sent before comes again.
		if (again) state.all = all.slice(0, this.sent ?? all.length)
		this.#go(socket, state)
	}

	/** Sends what may be sent. */
	#go(socket, state) {
		const { ask, request, all, hashes } = state
		if (!ask || state.over) return
		const upTo = Math.min(all.length, state.paid + SLICE_TOKENS)
		while (state.sent < upTo && !(state.cut && state.sent > 0 && !this.ways.again)) {
			const tokens = all.slice(state.sent, Math.min(state.sent + 4, upTo))
			state.sent += tokens.length
			this.sent = state.sent
			const body = make('Progress', {
				channel: ask.channel,
				number: ask.number,
				request,
				transcript: hashes[state.sent],
				tokens: state.sent,
			})
			const frame = {
				tokens,
				text: u8aToHex(new TextEncoder().encode('ab '.repeat(tokens.length))),
				progress: this.signed('progress', body),
			}
			const said = this.ways.frame?.(frame, state.sent, this) ?? frame
			this.#say(socket, { Frame: said })
			if (this.ways.breakAfter && state.sent >= this.ways.breakAfter) {
				this.ways.breakAfter = undefined
				state.over = true
				socket.terminate()
				return
			}
		}
		if (state.sent < all.length && !state.cut) return
		state.over = true
		const finish = state.sent < ask.input.asTextGeneration.sampling.maxTokens.toNumber() && !state.cut ? 'EndOfText' : 'Length'
		const seen = all.slice(0, state.sent).reduce((so, token) => so.with(token), new Transcript(request))
		const text = new TextEncoder().encode('ab '.repeat(state.sent))
		const body = {
			channel: ask.channel,
			payee: this.account,
			number: ask.number,
			session: SESSION,
			request,
			transcript: seen.end(text, make('FinishReason', finish).toU8a()),
			inputUnits: units(ask.input),
			outputUnits: state.sent,
			amount: priceOf(PRICE, units(ask.input), state.sent),
			anchor: ask.anchor,
		}
		const receipt = this.signed('receipt', make('Receipt', this.ways.receipt?.(body) ?? body))
		this.#say(socket, { End: { text: '0x', finish, receipt: this.ways.signed?.(receipt, this) ?? receipt } })
	}

	#check(socket, { receipt }) {
		this.checked++
		this.checks.push(receipt.body.number.toNumber())
		if (this.ways.mute-- > 0) return
		if (this.ways.unavailable) {
			this.#say(socket, { Refused: { number: receipt.body.number, why: 'Busy', words: '' } })
			return
		}
		const margin = this.ways.finds === 'wrong' ? 9 : 0
		const evidence = {
			fingerprint: { Digest: new Uint8Array(16) },
			verdict: { marginMax: margin, marginMean: 0, deviations: 0 },
			prior: null,
		}
		const body = make('Verdict', { receipt: nameOf(GENESIS, 'receipt', receipt.body), checker: this.account, session: SESSION, evidence })
		const verdict = this.signed('verdict', body)
		this.#say(socket, { Waiting: { ahead: 1 } })
		this.#say(socket, { Verdict: this.ways.verdict?.(verdict, this) ?? verdict })
	}
}

/** A chain, as polkadot.js's `api` would read it, on which these validators serve and a channel of this wallet pays them. */
export function chainOf(wallet, validators, { each = 1_000_000n, pot = 1_000_000n } = {}) {
	const allotment = (amount) => ({ amount: number(amount), claimed: number(0n), lowering: none })
	const channel = {
		id: make('u64', 5),
		key: { toU8a: () => wallet.key },
		chain: { toU8a: () => wallet.tip },
		seed: some({ toU8a: () => SEED }),
		closesAt: none,
		pot: allotment(pot),
		allocations: validators.map(({ account }) => ({ payee: make('AccountId32', account), allotment: allotment(each) })),
	}
	for (const validator of validators) validator.channelKey = wallet.key
	const limits = { maxInputUnits: make('u32', 4096), maxOutputUnits: make('u32', 512) }
	const model = {
		status: { isActive: true },
		spec: { policy: POLICY, limits },
		price: PRICE,
		serving: validators.map(({ account }) => make('AccountId32', account)),
	}
	const lanes = validators.map(({ account, pair, endpoint }) => ({
		validator: make('AccountId32', account),
		session: make('u32', SESSION),
		key: { toU8a: () => pair.publicKey },
		endpoint: make('Bytes', u8aToHex(new TextEncoder().encode(endpoint))),
	}))
	const keysOf = (who) => validators.filter(({ account }) => u8aEq(account, who)).map(({ pair }) => ({ toU8a: () => pair.publicKey }))
	const at = {
		call: {
			inferenceApi: { model: async () => some(model) },
			sessionsApi: {
				channel: async () => some(channel),
				session: async () => make('u32', SESSION),
				lanes: async () => lanes,
				laneKeys: async (who) => keysOf(who),
				checkPrice: async () => some(CHECK),
			},
		},
	}
	return {
		channel,
		genesisHash: { toU8a: () => GENESIS },
		consts: { staking: { sessionsPerEra: make('u32', 6) } },
		rpc: {
			chain: { getFinalizedHead: async () => ({ toU8a: () => ANCHOR }), getHeader: async () => ({ number: make('u32', 1000) }) },
		},
		at: async () => at,
	}
}
