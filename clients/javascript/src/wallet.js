// A channel's wallet: the key that signs its vouchers, its hash chain, what was signed, and what there is to show for it.
//
// A number and a voucher are in the store before anybody is told of them, and a number is given out once. The amounts of a payee's vouchers
// rise by what is paid from one that it holds, so that what was signed and never arrived is not paid once more on top.

import { hexToU8a, u8aEq, u8aToHex } from '@polkadot/util'
import { cryptoWaitReady, randomAsU8a, sr25519PairFromSeed } from '@polkadot/util-crypto'

import { MAX_NUMBER, Transcript, make, nameOf, parse, sign, steps, verify } from './lane.js'

/** Layout of the store. */
const LAYOUT = 1

/** Every so many links of the hash chain one is kept, so that a preimage costs fewer steps than this. */
const STRIDE = 256

/** Why a wallet does not do what it is asked; `code` is a word that never changes. */
export class WalletError extends Error {
	constructor(code, message) {
		super(message)
		this.name = 'WalletError'
		this.code = code
	}
}

const wrong = (code, message) => new WalletError(code, message)

/** A store in memory: for tests, and for channels whose rest may wait for the end of their notice when the program ends. */
export function memoryStore(entries = {}) {
	const held = new Map(Object.entries(entries))
	return {
		get: async (name) => held.get(name),
		names: async () => [...held.keys()],
		put: async (changes) => {
			for (const [name, value] of Object.entries(changes)) {
				if (value === null) held.delete(name)
				else held.set(name, value)
			}
		},
	}
}

/**
 * A store in a browser's own database (IndexedDB). What `put` has resolved for is on the disk. One page at a time may use it:
 * hold a lock of `navigator.locks` on the name.
 */
export async function browserStore(name) {
	const done = (request) =>
		new Promise((resolve, reject) => {
			request.onsuccess = () => resolve(request.result)
			request.onerror = () => reject(wrong('storage', `the browser keeps nothing: ${request.error?.message}`))
		})
	const opening = globalThis.indexedDB.open(name, 1)
	opening.onupgradeneeded = () => opening.result.createObjectStore('wallet')
	const database = await done(opening)
	const read = () => database.transaction('wallet').objectStore('wallet')
	return {
		get: (key) => done(read().get(key)),
		names: () => done(read().getAllKeys()),
		put: (changes) =>
			new Promise((resolve, reject) => {
				const transaction = database.transaction('wallet', 'readwrite', { durability: 'strict' })
				const table = transaction.objectStore('wallet')
				for (const [key, value] of Object.entries(changes)) {
					if (value === null) table.delete(key)
					else table.put(value, key)
				}
				transaction.oncomplete = () => resolve()
				transaction.onabort = transaction.onerror = () =>
					reject(wrong('storage', `the browser kept nothing: ${transaction.error?.message}. Nothing was sent that is not written down`))
			}),
		close: () => database.close(),
	}
}

/** Names of what is kept of a payee: its account in hexadecimal digits. */
const hex = (payee) => u8aToHex(payee)
const VOUCHER = { Answer: (payee) => `answer/${hex(payee)}`, Check: (payee) => `check/${hex(payee)}` }
const noted = (checker) => `noted/${hex(checker)}`
const recordName = (number) => `record/${number}`

export class Wallet {
	#store
	#pair
	#links
	#known
	#turn = Promise.resolve()

	constructor(store, pair, links, known) {
		this.#store = store
		this.#pair = pair
		this.#links = links
		this.#known = known
	}

	/** The wallet in a store, or a new one where there is none. A new one takes 65,536 hashes. */
	static async open(store) {
		await cryptoWaitReady()
		const kept = await store.get('keys')
		if (kept === undefined) return Wallet.#create(store)
		if (kept.layout !== LAYOUT) throw wrong('damaged', 'the wallet is of another version of this program')
		const links = kept.links.map((link) => hexToU8a(link))
		if (links.length !== MAX_NUMBER / STRIDE + 1) throw wrong('damaged', 'the wallet is damaged: its hash chain is missing')
		const known = {}
		for (const name of await store.names()) {
			if (name !== 'keys' && !name.startsWith('record/')) known[name] = await store.get(name)
		}
		if (!Number.isInteger(known.next) || !Number.isInteger(known.shown))
			throw wrong('damaged', 'the wallet is damaged: a number is missing')
		return new Wallet(store, sr25519PairFromSeed(hexToU8a(kept.seed)), links, known)
	}

	static async #create(store) {
		const seed = randomAsU8a(32)
		const links = [randomAsU8a(32)]
		while (links.length <= MAX_NUMBER / STRIDE) {
			links.push(steps(links.at(-1), STRIDE))
			// Whoever looks at the page meanwhile is not kept waiting.
			if (links.length % 16 === 0) await new Promise((resolve) => setTimeout(resolve))
		}
		const known = { next: 1, shown: 0 }
		await store.put({ keys: { layout: LAYOUT, seed: u8aToHex(seed), links: links.map((link) => u8aToHex(link)) }, ...known })
		return new Wallet(store, sr25519PairFromSeed(seed), links, known)
	}

	/** The public half of its signing key: what `sessions.open` takes. */
	get key() {
		return this.#pair.publicKey
	}

	/** Link 0 of its hash chain: what `sessions.open` takes. */
	get tip() {
		return this.#links.at(-1)
	}

	/** The channel that it is bound to, `{ genesis, channel }`, or nothing. */
	get bound() {
		const { channel: bound } = this.#known
		return bound && { genesis: hexToU8a(bound.genesis), channel: bound.channel }
	}

	/** Binds it to the channel that was opened with its key and tip. */
	bind(genesis, channel) {
		return this.#change(() => {
			const now = { genesis: u8aToHex(genesis), channel }
			const before = this.#known.channel
			if (before && (before.channel !== channel || before.genesis !== now.genesis)) throw otherChannel()
			return { changes: { channel: now } }
		})
	}

	#bound() {
		const { bound } = this
		if (!bound) throw wrong('unbound', 'the wallet belongs to no channel yet: open one with its key and tip')
		return bound
	}

	/** Changes come one after the other, and are in the store before they are known here. */
	#change(change) {
		const mine = this.#turn.then(async () => {
			const { changes, result } = change()
			await this.#store.put(changes)
			for (const [name, value] of Object.entries(changes)) {
				if (name.startsWith('record/')) continue
				if (value === null) delete this.#known[name]
				else this.#known[name] = value
			}
			return result
		})
		this.#turn = mine.catch(() => {})
		return mine
	}

	/** Checks that a channel of the chain is the one that was opened with this wallet, and that the wallet is no old copy. */
	check(channel) {
		if (!u8aEq(channel.key.toU8a(), this.key) || !u8aEq(channel.chain.toU8a(), this.tip)) throw otherChannel()
		for (const { payee, allotment } of channel.allocations) {
			if (allotment.claimed.toBigInt() > this.signed(payee.toU8a(), 'Answer')) throw oldCopy(payee)
		}
	}

	/** What a payee can claim at most for a service: the largest amount that was signed. */
	signed(payee, service) {
		return BigInt(this.#known[VOUCHER[service](payee)]?.signed ?? 0)
	}

	/** What all checkers together can claim at most. */
	get spentOnChecks() {
		const accounts = Object.entries(this.#known).filter(([name]) => name.startsWith('check/'))
		return accounts.reduce((sum, [, account]) => sum + BigInt(account.signed), 0n)
	}

	/** The last voucher for a payee's service, or nothing. */
	last(payee, service) {
		const account = this.#known[VOUCHER[service](payee)]
		return account && parse('Payment', hexToU8a(account.last))
	}

	/**
	 * What a payee's next voucher counts on from: the amount of the last one that it holds. Nothing if what it shows is no voucher of this
	 * channel for it; throws if this wallet's key has signed what the wallet knows nothing of.
	 */
	held(payee, service, shown) {
		if (!shown) return 0n
		const { genesis, channel } = this.#bound()
		const { body } = shown
		const own = body.channel.eq(channel) && u8aEq(body.payee.toU8a(), payee) && body.service.type === service
		if (!own || !verify(genesis, 'voucher', shown, this.key)) return undefined
		const amount = body.amount.toBigInt()
		if (amount > this.signed(payee, service) || body.number.toNumber() >= this.nextNumber) throw oldCopy(body.payee)
		return amount
	}

	/** The number that the next question gets. */
	get nextNumber() {
		return this.#known.next
	}

	/** The highest number whose preimage was shown: no receipt for it, or for a lower one, is worth anything any more. */
	get shown() {
		return this.#known.shown
	}

	/**
	 * Takes the next number for a question and pays for it. `from` is what {@link held} says, `prompt` the price of the question alone,
	 * `limit` what vouchers for this executor's answers may come to. Resolves with what may then be sent, `{ ask, voucher }`.
	 */
	begin({ payee, model, input, anchor, from, prompt, expires, limit }) {
		return this.#change(() => {
			const { genesis, channel } = this.#bound()
			const number = this.#known.next
			if (number > MAX_NUMBER) throw wrong('used_up', `all ${MAX_NUMBER} questions of the channel are asked: open another`)
			const ask = make('Ask', { channel, number, payee, model, input, anchor, salt: randomAsU8a(32) })
			const request = nameOf(genesis, 'ask', ask)
			const transcript = new Transcript(request).hash
			const due = { payee, service: 'Answer', number, request, transcript, from, amount: prompt, expires, limit }
			const { changes, result: voucher } = this.#sign(due)
			return { changes: { ...changes, next: number + 1 }, result: { ask, voucher } }
		})
	}

	/**
	 * Signs a voucher: `{ payee, service, number, request, transcript, from, amount, expires, limit }`. `amount` is what is paid now, `from`
	 * what {@link held} says (left out: the last voucher's amount), `limit` what vouchers may come to: for answers this payee's, for checks
	 * all checkers' together. Resolves with what may then be sent.
	 */
	pay(due) {
		return this.#change(() => {
			if (due.number < 1 || due.number >= this.#known.next) throw wrong('not_used', `question ${due.number} was not asked with this wallet`)
			return this.#sign(due)
		})
	}

	#sign({ payee, service, number, request, transcript, from, amount, expires, limit }) {
		const { genesis, channel } = this.#bound()
		if (amount <= 0n) throw wrong('nothing', 'a voucher over nothing is not signed')
		const name = VOUCHER[service](payee)
		const signed = this.signed(payee, service)
		const before = from ?? this.last(payee, service)?.body.amount.toBigInt() ?? 0n
		if (before > signed) throw oldCopy(make('AccountId32', payee))
		const others = service === 'Check' ? this.spentOnChecks - signed : 0n
		const left = limit - others - before
		if (amount > left) throw wrong('funds', `${amount} would be signed away where the channel has ${left < 0n ? 0n : left} left`)
		const body = make('Voucher', { channel, payee, service, number, request, transcript, amount: before + amount, expires })
		const voucher = make('Payment', { body, signature: sign(genesis, 'voucher', body, this.#pair) })
		const most = before + amount > signed ? before + amount : signed
		const changes = { [name]: { signed: String(most), last: voucher.toHex() } }
		if (service === 'Check') changes[noted(payee)] = null
		return { changes, result: voucher }
	}

	/** Signs that the channel waits for a payee's place for a model. Nothing is promised by that. */
	waiter(payee, model) {
		const { genesis, channel } = this.#bound()
		const body = make('Waiter', { channel, payee, model })
		return make('SignedWaiter', { body, signature: sign(genesis, 'waiter', body, this.#pair) })
	}

	/** Notes which question's answer a checker is about to be given, and may have to be paid for; `null` once it has refused. */
	noteCheck(checker, number) {
		return this.#change(() => ({ changes: { [noted(checker)]: number } }))
	}

	/** Which question's answer a checker was given that neither was paid for it nor has refused, or nothing. */
	notedCheck(checker) {
		return this.#known[noted(checker)]
	}

	/** The preimage of a number that was used: it belongs to checkers. Whoever calls has every lower number's receipt, or wants none. */
	show(number) {
		return this.#change(() => {
			const shown = Math.max(number, this.#known.shown)
			return { changes: { shown }, result: this.preimage(number) }
		})
	}

	/** The same, without writing down that it was shown. */
	preimage(number) {
		if (number < 1 || number >= this.#known.next) throw wrong('not_used', `question ${number} was not asked with this wallet`)
		const fromSecret = MAX_NUMBER - number
		return steps(this.#links[Math.floor(fromSecret / STRIDE)], fromSecret % STRIDE)
	}

	/** Writes down what there is to show for a question: a `Record`. */
	put(record) {
		return this.#change(() => ({ changes: { [recordName(record.ask.number.toNumber())]: record.toHex() } }))
	}

	/** What there is to show for a question, or nothing. */
	async record(number) {
		const kept = await this.#store.get(recordName(number))
		return kept === undefined ? undefined : parse('Record', hexToU8a(kept))
	}

	/** Numbers of all questions of which there is something to show. */
	async records() {
		const names = await this.#store.names()
		const numbers = names.filter((name) => name.startsWith('record/')).map((name) => Number(name.slice(7)))
		return numbers.sort((a, b) => a - b)
	}
}

const otherChannel = () => wrong('other_channel', 'the wallet belongs to another channel or chain')
const oldCopy = (payee) =>
	wrong(
		'old_copy',
		`${payee.toString()} has more from this channel than this wallet knows to have signed: it is an old copy. Close the channel`
	)
