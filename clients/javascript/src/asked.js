// A question: who answers it, what is paid as the answer comes, and what becomes of it.

import { hexToU8a, u8aEq, u8aToHex } from '@polkadot/util'

import { LOOK_AGAIN, SessionError, limitOf } from './channel.js'
import { Checking } from './checking.js'
import { CUT, unexpected } from './connection.js'
import { Fault } from './faults.js'
import { SLICE_TOKENS, make, nameOf, priceOf, textOf, units } from './lane.js'
import { Reading } from './reading.js'
import { address, certify, plain, standing, verifyAnswer, verifyChecks } from './record.js'

/** How long others have to offer something better, once one has said what it offers, in milliseconds as all of these. */
const GRACE = 250

/** How long whoever keeps a line may say nothing: it says every ten seconds how long the line is. */
const QUIET = 60_000

/** How long finality may be behind a validator's certificate. */
const CERTIFIED = 30_000

/** What a question costs; throws where the model does not take it. */
export function quoteOf(model, input, checks) {
	const text = textOf(input)
	if (!text) throw new SessionError('input', 'the session lane answers questions to text models only')
	const [asked, tokens] = [units(input), text.sampling.maxTokens.toNumber()]
	const { maxInputUnits, maxOutputUnits } = model.limits
	if (asked > maxInputUnits.toNumber()) throw new SessionError('input', 'the question is longer than the model takes: shorten it')
	if (tokens < 1 || tokens > maxOutputUnits.toNumber()) throw new SessionError('input', 'the model does not give so many tokens')
	const prompt = priceOf(model.price, asked, 0)
	if (prompt === 0n) throw new SessionError('free', 'the model takes no money for a question: vouchers cannot pay for its answers')
	return { prompt, answer: priceOf(model.price, asked, tokens), checks: priceOf(model.check, asked, tokens) * BigInt(checks) }
}

/** A question under way. */
export class Asked {
	#tried = []
	#wasBusy = new Set()
	#waits = false

	constructor(session, { model, input, checks, executor, answer }) {
		Object.assign(this, { session, model, input, checks, executor, answer })
		this.wallet = session.wallet
		this.chain = session.chain
	}

	async run() {
		for (let attempts = this.session.patience.attempts; attempts > 0; attempts--) {
			if (this.answer.cut.aborted) throw new SessionError('cancelled', 'cancelled before the question was sent: nothing was paid')
			const scene = await this.#scene()
			const chosen = await this.#choose(scene)
			if (!chosen) break
			const record = await this.#attempt(scene, chosen)
			if (record) return this.#finish(scene, record)
			if (this.answer.cut.aborted) break
		}
		const faults = this.#tried.map(({ who, why }) => ({ executor: who, why: why.message, code: why.code }))
		const said = faults.map(({ executor, why }) => `\n  ${executor}: ${why}`).join('')
		throw new SessionError('no_answer', `no executor answered:${said}`, faults)
	}

	/** What holds when a question is sent: all of one finalised block. */
	async #scene() {
		const { at, anchor } = await this.chain.finalised()
		const [channel, model, session, lanes] = await Promise.all([
			this.session.channel(at),
			this.chain.model(at, this.model),
			at.call.sessionsApi.session(),
			this.chain.lanes(at, this.model),
		])
		if (channel.seed.isNone) throw new SessionError('no_seed', 'the channel’s seed is not drawn yet: try again in a minute')
		return {
			anchor,
			channel,
			model,
			lanes,
			session: session.toNumber(),
			expires: session.toNumber() + this.chain.voucherSessions,
			quote: quoteOf(model, this.input, this.checks),
		}
	}

	/** Who could answer, and has not failed. */
	#able({ channel, lanes, quote }) {
		const able = []
		let most
		for (const lane of lanes) {
			if (this.executor && !u8aEq(this.executor, lane.validator)) continue
			const allocation = channel.allocations.find(({ payee }) => u8aEq(payee.toU8a(), lane.validator))
			if (!allocation) continue
			const limit = limitOf(allocation.allotment)
			const left = limit - this.wallet.signed(lane.validator, 'Answer')
			if (most === undefined || left > most) most = left
			const failed = this.#tried.some(({ account }) => u8aEq(account, lane.validator))
			if (left >= quote.answer && !failed) able.push({ lane, limit, claimed: allocation.allotment.claimed.toBigInt() })
		}
		if (able.length > 0 || this.#tried.length > 0) return able
		const id = channel.id.toString()
		if (most === undefined) throw new SessionError('no_executor', `none of those whom channel ${id} pays answers for this model`)
		throw new SessionError('funds', `the answer may cost ${quote.answer}, and the channel has ${most} left for an executor of this model`)
	}

	/** Finds who is to answer, and waits in line where nobody has a place. Nothing where nobody is left. */
	async #choose(scene) {
		const able = this.#able(scene)
		const opening = able.map((who) =>
			this.#offer(who).then(
				(connection) => ({ ...who, connection }),
				(why) => ({ ...who, why })
			)
		)
		const offers = []
		const left = new Set(opening)
		let grace
		while (left.size > 0) {
			const ended = [...left].map((opened) => opened.then((who) => ({ opened, who })))
			const next = await Promise.race(grace ? [...ended, grace] : ended)
			if (!next) break
			left.delete(next.opened)
			if (next.who.why) {
				this.#failed(next.who.lane, null, next.who.why)
				continue
			}
			offers.push(next.who)
			grace ??= new Promise((resolve) => setTimeout(resolve, GRACE))
		}
		// Whoever comes later is not waited for.
		for (const late of left) void late.then(({ connection }) => connection?.drop())
		const free = offers.filter((who) => who.model.free.toNumber() > 0)
		if (free.length > 0 && !this.#waits) {
			const price = (who) => who.model.price.perOutputUnit.toBigInt()
			const best = free.reduce((a, b) => {
				if (price(a) !== price(b)) return price(a) < price(b) ? a : b
				return b.model.free.toNumber() > a.model.free.toNumber() ? b : a
			})
			this.#drop(offers, best)
			return best
		}
		return offers.length > 0 ? this.#line(offers) : undefined
	}

	/** Opens a connection to an executor, or greets it over the one that there is, and looks for the model in what it offers. */
	async #offer(who) {
		const { session } = this
		const kept = session.take('Answer', who.lane)
		let connection
		if (kept) {
			const { genesis, channel } = this.wallet.bound
			const again = kept.hello(who.lane, genesis, channel, session.patience.connect)
			connection = await again.then(
				() => kept,
				() => kept.drop()
			)
		}
		connection ??= await session.connect(who.lane)
		who.model = connection.offer.models.find((offered) => u8aEq(offered.model.toU8a(), hexToU8a(this.model)))
		if (who.model) return connection
		connection.drop()
		throw new Fault('NotOffered')
	}

	#drop(offers, but) {
		for (const { connection } of offers) if (connection !== but?.connection) connection.drop()
	}

	/** Waits in the lines of all of them, and takes the first place. Dropping the other connections leaves the other lines. */
	async #line(offers) {
		const { place } = this.session.patience
		const [lines, stop] = [new Map(), new AbortController()]
		let told
		const tell = () => {
			const least = Math.min(...lines.values())
			if (lines.size > 0 && least !== told) this.answer.tell({ type: 'waiting', ahead: (told = least) })
		}
		const stand = async (who) => {
			who.connection.send({ Wait: this.wallet.waiter(who.lane.validator, this.model) })
			for (;;) {
				const message = await who.connection.receive(QUIET, stop.signal)
				if (message === CUT) return undefined
				if (message.isWaiting) {
					lines.set(who, message.asWaiting.ahead.toNumber())
					tell()
				} else if (message.isOffer && u8aEq(message.asOffer.payee.toU8a(), who.lane.validator)) {
					const offered = message.asOffer.models.find((m) => u8aEq(m.model.toU8a(), hexToU8a(this.model)))
					if (!offered || offered.free.toNumber() === 0) throw new Fault('NotOffered')
					who.connection.offer = message.asOffer
					return who
				} else throw unexpected(message)
			}
		}
		const failed = new Map()
		const waiting = offers.map((who) =>
			stand(who).catch((why) => {
				if (!(why instanceof Fault)) throw why
				failed.set(who, why)
				lines.delete(who)
				tell()
				return new Promise((_, reject) => reject(why))
			})
		)
		const timer = setTimeout(() => stop.abort(), place)
		const cut = () => stop.abort()
		this.answer.cut.addEventListener('abort', cut)
		const invited = await Promise.any(waiting).catch(() => undefined)
		clearTimeout(timer)
		this.answer.cut.removeEventListener('abort', cut)
		stop.abort()
		this.#drop(offers, invited)
		this.#waits = false
		if (invited) return invited
		if (this.answer.cut.aborted) throw new SessionError('cancelled', 'cancelled before the question was sent: nothing was paid')
		for (const who of offers) this.#failed(who.lane, null, failed.get(who) ?? new Fault('NoPlace', place))
		return undefined
	}

	#failed(lane, number, why) {
		const who = address(make('AccountId32', lane.validator))
		this.answer.tell({ type: 'failed', executor: who, number, why: why.message, code: why.code })
		// Others were quicker. A place is waited for then, also with it; but not twice.
		if (why.isBusy && number !== null && !this.#wasBusy.has(who)) {
			this.#wasBusy.add(who)
			this.#waits = true
			return
		}
		this.#tried.push({ account: lane.validator, who, why })
	}

	/** Sends the question to one executor; resolves with the record where that answered. */
	async #attempt(scene, { lane, limit, claimed, connection }) {
		const { wallet } = this
		const payee = lane.validator
		let counted
		try {
			counted = await this.#counted(scene, lane, limit, connection)
		} catch (why) {
			return this.#fault(lane, null, connection, why)
		}
		const from = counted > claimed ? counted : claimed
		// Its former question may have been paid since this was looked at.
		if (from + scene.quote.answer > limit) return this.#fault(lane, null, connection, new Fault('Funds'))
		const { ask, voucher } = await wallet.begin({
			payee,
			model: this.model,
			input: this.input,
			anchor: scene.anchor,
			from,
			prompt: scene.quote.prompt,
			expires: scene.expires,
			limit,
		})
		const { price, check, policy, serving } = scene.model
		const facts = {
			genesis: this.chain.genesis,
			seed: scene.channel.seed.unwrap().toU8a(),
			tip: scene.channel.chain.toU8a(),
			price,
			check,
			policy,
			serving,
			certified: [],
		}
		const record = {
			ask,
			tokens: [],
			text: '0x',
			finish: null,
			paid: scene.quote.prompt,
			receipt: null,
			fault: null,
			preimage: null,
			wanted: this.checks,
			checks: [],
			facts,
		}
		await wallet.put(make('Record', record))
		const number = ask.number.toNumber()
		this.answer.tell({ type: 'started', executor: address(ask.payee), number })
		const terms = { lane, limit, expires: scene.expires, session: scene.session }
		try {
			await this.#answered(terms, connection, voucher, record)
		} catch (why) {
			if (why instanceof Fault) record.fault = why.value
			await wallet.put(make('Record', record))
			return this.#fault(lane, number, connection, why)
		}
		await wallet.put(make('Record', record))
		this.session.keep('Answer', lane, connection)
		return record
	}

	/** Ends a connection after a fault of the executor's; anything else is no reason to try another. */
	async #fault(lane, number, connection, why) {
		// The next voucher must not overtake the last one that was sent here.
		await connection.close()
		if (!(why instanceof Fault)) throw why
		this.#failed(lane, number, why)
		return undefined
	}

	/** Asks, shows and pays until the receipt is verified. What came is in the record, whatever comes of it. */
	async #answered(terms, connection, voucher, record) {
		const reading = new Reading(this.chain.genesis, record.ask, terms.lane.key, record.facts.price)
		connection.send({ Ask: { ask: record.ask, voucher } })
		let end
		let cut
		try {
			;({ end, cut } = await this.#stream(terms, connection, reading, record, (text) => this.answer.tell({ type: 'text', text })))
		} finally {
			record.tokens = [...reading.tokens]
			record.text = u8aToHex(new TextEncoder().encode(reading.shown))
		}
		record.finish = end.finish
		await this.#receipt(record, end.receipt, Math.min(terms.session, terms.lane.session))
		// A constraint may leave nothing more to say; whether it does is for those to find who check.
		const held = record.ask.input.isConstrainedText
		if (end.finish.isLength && reading.tokens.length < reading.maxTokens && !cut && !held) throw new Fault('Short')
		const { body } = end.receipt
		this.answer.tell({
			type: 'receipt',
			receipt: u8aToHex(nameOf(this.chain.genesis, 'receipt', body)),
			tokens: body.outputUnits.toNumber(),
			amount: body.amount.toBigInt(),
			finish: { EndOfText: 'end_of_text', StopString: 'stop_string', Length: 'length' }[end.finish.type],
		})
		if (reading.owed > 0n) await this.#pay(terms, connection, reading, record, reading.owed)
	}

	/** Shows and pays for what comes, up to the end of the answer. */
	async #stream(terms, connection, reading, record, show) {
		const number = record.ask.number.toNumber()
		const { first, next } = this.session.patience
		let [cut, fresh] = [false, false]
		for (;;) {
			const signal = cut ? undefined : this.answer.cut
			const message = await connection.receive(reading.tokens.length === 0 ? first : next, signal)
			if (message === CUT) {
				cut = true
				connection.send({ Cancel: { number } })
			} else if (message.isFrame) {
				let text
				try {
					text = reading.frame(message.asFrame)
				} catch (why) {
					// A new session has begun, and it has a new key.
					if (why.code !== 'FrameSignature' || fresh) throw why
					fresh = true
					const key = (await this.chain.laneKeys(terms.lane.validator, await this.chain.session())).at(-1)
					if (!key) throw why
					reading.key = key
					text = reading.frame(message.asFrame)
				}
				if (text) show(text)
				if (reading.isDue) {
					await this.#pay(terms, connection, reading, record, reading.owed)
					reading.paid = reading.tokens.length
				}
			} else if (message.isEnd) {
				const text = reading.end(message.asEnd)
				if (text) show(text)
				return { end: message.asEnd, cut }
			} else if (message.isRefused) {
				const of = message.asRefused.number
				if (of.isNone || of.unwrap().eq(number)) throw unexpected(message)
			} else throw unexpected(message)
		}
	}

	/** Pays for all that was seen so far. */
	async #pay({ lane, limit, expires }, connection, reading, record, amount, from) {
		const voucher = await this.wallet.pay({
			payee: lane.validator,
			service: 'Answer',
			number: record.ask.number.toNumber(),
			request: reading.request,
			transcript: reading.transcript.hash,
			from,
			amount,
			expires,
			limit,
		})
		record.paid += amount
		connection.send({ Pay: voucher })
	}

	/** Takes a receipt that is signed by a key of this time, from a session on, and fits what was sent, and writes it down. */
	async #receipt(record, signed, from) {
		const session = signed.body.session.toNumber()
		// The executor may see a new session before it is final.
		if (session < from || session > (await this.chain.session()) + 1) throw new Fault('ReceiptSession')
		const payee = record.ask.payee.toU8a()
		const until = Date.now() + CERTIFIED
		let keys = await this.chain.laneKeys(payee, session)
		while (keys.length === 0 && Date.now() < until) {
			await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN))
			keys = await this.chain.laneKeys(payee, session)
		}
		certify(record, payee, session, keys)
		const whole = make('Record', { ...record, receipt: signed })
		try {
			verifyAnswer(whole, whole.facts, this.chain.genesis)
		} catch (flaw) {
			throw new Fault(flaw.code ?? 'ReceiptSignature', flaw.detail)
		}
		record.receipt = signed
		await this.wallet.put(whole)
	}

	/** What the executor's next voucher counts on from, once its last answer is paid as far as it arrived. */
	async #counted(scene, lane, limit, connection) {
		const { wallet } = this
		const held = connection.offer.heldAnswer
		const amount = wallet.held(lane.validator, 'Answer', held.isSome ? held.unwrap() : undefined)
		if (amount === undefined) throw new Fault('Held')
		if (held.isNone) return amount
		const kept = await wallet.record(held.unwrap().body.number.toNumber())
		if (!kept || kept.receipt.isSome || kept.ask.number.toNumber() <= wallet.shown) return amount
		if (kept.fault.isSome && !['Connection', 'Silent'].includes(kept.fault.unwrap().type)) return amount
		try {
			return await this.#resume({ lane, limit, expires: scene.expires }, connection, held.unwrap(), kept)
		} catch (why) {
			if (why.code === 'Refused') return amount
			throw why
		}
	}

	/** Fetches and pays the rest of a former answer, whose connection broke: an executor lets only so much go unpaid. */
	async #resume(terms, connection, held, kept) {
		const record = plain(kept)
		const reading = new Reading(this.chain.genesis, kept.ask, terms.lane.key, kept.facts.price).again()
		const from = held.body.amount.toBigInt()
		const acknowledged = held.body.transcript.toU8a()
		let transcript = reading.transcript
		connection.send({ Ask: { ask: kept.ask, voucher: held } })
		connection.send({ Cancel: { number: kept.ask.number } })
		const { end } = await this.#stream(terms, connection, reading, record, () => {})
		if (!record.tokens.every((token, i) => token === reading.tokens[i])) throw new Fault('Transcript')
		let paid = u8aEq(transcript.hash, acknowledged) ? 0 : undefined
		for (const token of reading.tokens) {
			transcript = transcript.with(token)
			if (u8aEq(transcript.hash, acknowledged)) paid = transcript.tokens
		}
		if (paid === undefined) throw new Fault('Held')
		reading.paid = paid
		// What was signed and did not arrive is not paid.
		record.paid = priceOf(kept.facts.price, units(kept.ask.input), paid)
		if (reading.tokens.length > paid + SLICE_TOKENS) throw new Fault('Unpaid')
		record.tokens = [...reading.tokens]
		record.text = u8aToHex(reading.text)
		record.finish = end.finish
		await this.#receipt(record, end.receipt, 0)
		const { owed } = reading
		if (owed > 0n) await this.#pay(terms, connection, reading, record, owed, from)
		await this.wallet.put(make('Record', record))
		return from + owed
	}

	/** Gets the answer checked, and says where it stands. */
	async #finish(scene, record) {
		// Where nobody is left who wants to know what checkers find, nobody pays them.
		if (this.answer.isHeard && this.checks > 0 && record.tokens.length > 0) await new Checking(this, scene).run(record)
		const whole = make('Record', record)
		const name = verifyAnswer(whole, whole.facts, this.chain.genesis)
		const findings = verifyChecks(whole, whole.facts, name).map(({ finding }) => finding)
		const checks = findings.filter((found) => found !== 'skipped').length
		const check = priceOf(whole.facts.check, units(whole.ask.input), whole.tokens.length)
		const paid = whole.paid.toBigInt() + BigInt(checks) * check
		this.answer.tell({ type: 'done', number: whole.ask.number.toNumber(), ...standing(findings, this.checks), paid })
	}
}
