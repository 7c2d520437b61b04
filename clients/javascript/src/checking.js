// Having an answer checked by validators whom neither its client nor its executor chose.

import { hexToU8a, u8aEq, u8aToHex } from '@polkadot/util'

import { limitOf } from './channel.js'
import { unexpected } from './connection.js'
import { Fault } from './faults.js'
import { candidates, make, nameOf, priceOf, units } from './lane.js'
import { address, certify, fieldsOf, plain, verifyVerdict } from './record.js'

/** All checks of one answer. */
export class Checking {
	constructor({ session, wallet, chain, answer, model, checks }, scene) {
		Object.assign(this, { session, wallet, chain, answer, model, checks })
		/** What the pot admits, and the last session in which a voucher can be claimed. */
		this.limit = limitOf(scene.channel.pot)
		this.expires = scene.expires
	}

	/** Has an answer checked by as many as are wanted, in the order of the draw. What becomes of each is in the record. */
	async run(record) {
		const { wallet, session, limit } = this
		const number = record.ask.number.toNumber()
		// Every lower number is over: questions are asked one after the other.
		const preimage = await wallet.show(number)
		record.preimage = u8aToHex(preimage)
		const whole = make('Record', record)
		const subject = subjectOf(whole, preimage)
		const { at } = await this.chain.finalised()
		const lanes = await this.chain.lanes(at, this.model)
		const order = candidates(record.facts.seed, preimage, record.facts.serving, record.ask.payee.toU8a()).map((who) => hexToU8a(who))
		const [outcomes, running] = [[], new Map()]
		let [place, missing] = [0, this.checks]
		const skip = (at, why) => {
			this.answer.tell({ type: 'skipped', checker: address(make('AccountId32', order[at])), why: why.message, code: why.code })
			outcomes[at] = { Skipped: why.value }
		}
		for (;;) {
			while (running.size < missing && place < order.length) {
				const mine = place++
				if (!session.promise(subject.price, limit)) {
					skip(mine, new Fault('Funds'))
					// For the others there is no more than for this one.
					place = order.length
					break
				}
				const lane = lanes.find(({ validator }) => u8aEq(validator, order[mine]))
				const checking = lane ? this.#checkedBy(lane, subject) : Promise.reject(new Fault('NoLane'))
				const settled = checking.then(
					(verdict) => ({ mine, verdict }),
					(why) => ({ mine, why })
				)
				running.set(
					mine,
					settled.finally(() => session.release(subject.price))
				)
			}
			if (running.size === 0) break
			const { mine, verdict, why } = await Promise.race(running.values())
			running.delete(mine)
			if (why && !(why instanceof Fault)) throw why
			if (why) skip(mine, why)
			else {
				missing--
				certify(record, order[mine], verdict.signed.body.session.toNumber(), verdict.keys)
				outcomes[mine] = { Verdict: verdict.signed }
			}
			// Those before the first that is still being asked: the order is part of what is shown.
			let count = 0
			while (outcomes[count] !== undefined) count++
			record.checks = outcomes.slice(0, count).map((outcome, i) => ({ checker: order[i], outcome }))
			await wallet.put(make('Record', record))
		}
	}

	/** Asks one validator to check, and pays it where its verdict is one. */
	async #checkedBy(lane, subject) {
		const checker = address(make('AccountId32', lane.validator))
		this.answer.tell({ type: 'checking', checker })
		const kept = this.session.take('Check', lane)
		let verdict
		if (kept) {
			const from = this.wallet.last(lane.validator, 'Check')?.body.amount.toBigInt() ?? 0n
			try {
				verdict = await this.#over(lane, kept, subject, from)
			} catch (why) {
				if (why.code !== 'Connection') throw why
			}
		}
		if (!verdict) {
			const connection = await this.session.connect(lane)
			const held = connection.offer.heldCheck
			const from = this.wallet.held(lane.validator, 'Check', held.isSome ? held.unwrap() : undefined)
			if (from === undefined) {
				connection.drop()
				throw new Fault('Held')
			}
			verdict = await this.#over(lane, connection, subject, from)
		}
		this.answer.tell({ type: 'verdict', checker, finding: verdict.finding })
		return verdict
	}

	/** Asks and pays; keeps the connection where all went well. */
	async #over(lane, connection, subject, from) {
		try {
			const next = await this.#late(lane, connection, subject, from)
			const verdict = await this.#measured(lane, connection, subject, next)
			this.session.keep('Check', lane, connection)
			return verdict
		} catch (why) {
			await connection.close()
			throw why
		}
	}

	/** Fetches and pays what a checker found of a former answer when nobody waited for it any more: it checks nothing else before. */
	async #late(lane, connection, { number }, from) {
		const { wallet, session } = this
		const checker = lane.validator
		const noted = wallet.notedCheck(checker)
		const kept = noted !== undefined && noted !== number ? await wallet.record(noted) : undefined
		if (!kept || kept.receipt.isNone) return from
		const subject = subjectOf(kept, wallet.preimage(noted))
		if (!session.promise(subject.price, this.limit)) throw new Fault('Funds')
		try {
			const { signed, keys } = await this.#measured(lane, connection, subject, from)
			const record = plain(kept)
			certify(record, checker, signed.body.session.toNumber(), keys)
			record.checks = kept.checks.map((check) =>
				u8aEq(check.checker.toU8a(), checker) ? { checker, outcome: { Verdict: signed } } : check
			)
			await wallet.put(make('Record', record))
			return wallet.last(checker, 'Check')?.body.amount.toBigInt() ?? from
		} catch (why) {
			// It has not checked that, and will not: it may check this.
			if (why.code === 'Refused') return from
			throw why
		} finally {
			session.release(subject.price)
		}
	}

	async #measured(lane, connection, subject, from) {
		const { wallet, limit, expires } = this
		const checker = lane.validator
		const { verdict: patience, place } = this.session.patience
		await wallet.noteCheck(checker, subject.number)
		connection.send({ Check: subject.request })
		const end = Date.now() + Math.max(place, patience)
		let [until, least] = [Date.now() + patience, Infinity]
		let message
		for (;;) {
			message = await connection.receive(Math.max(0, until - Date.now())).catch((why) => {
				throw why.code === 'Silent' ? new Fault('Silent', patience) : why
			})
			if (message.isWaiting) {
				// It goes on; who only says so is not waited for.
				const ahead = message.asWaiting.ahead.toNumber()
				if (ahead < least) [least, until] = [ahead, Math.min(end, Date.now() + patience)]
				continue
			}
			// What became of the check before is known.
			const isOfOther = message.isRefused && message.asRefused.number.isSome && !message.asRefused.number.unwrap().eq(subject.number)
			if (!isOfOther) break
		}
		if (!message.isVerdict) {
			await wallet.noteCheck(checker, null)
			throw unexpected(message)
		}
		const signed = message.asVerdict
		const session = signed.body.session.toNumber()
		const keys = await this.chain.laneKeys(checker, session)
		let finding
		try {
			const certified = keys.map((key) => ({ validator: checker, session, key }))
			const facts = make('Facts', { ...fieldsOf(subject.facts), certified })
			finding = verifyVerdict(facts, make('AccountId32', checker), subject.name, subject.session, signed)
		} catch (flaw) {
			await wallet.noteCheck(checker, null)
			throw new Fault(flaw.code ?? 'VerdictSignature')
		}
		if (subject.price === 0n) await wallet.noteCheck(checker, null)
		else {
			const voucher = await wallet.pay({
				payee: checker,
				service: 'Check',
				number: subject.number,
				request: subject.question,
				transcript: nameOf(this.chain.genesis, 'verdict', signed.body),
				from,
				amount: subject.price,
				expires,
				limit,
			})
			try {
				connection.send({ Pay: voucher })
			} catch {
				// The verdict stands, whether or not its payment arrives.
			}
		}
		return { signed, keys, finding }
	}
}

/** What checkers are given of an answer, and what all its checks have in common. */
function subjectOf(record, preimage) {
	const { ask, facts } = record
	const receipt = record.receipt.unwrap()
	const genesis = facts.genesis.toU8a()
	const output = { Text: { tokens: record.tokens, text: u8aToHex(record.text.toU8a(true)), finish: record.finish.unwrap() } }
	return {
		number: ask.number.toNumber(),
		question: nameOf(genesis, 'ask', ask),
		name: nameOf(genesis, 'receipt', receipt.body),
		session: receipt.body.session.toNumber(),
		price: priceOf(facts.check, units(ask.input), record.tokens.length),
		facts,
		request: make('CheckRequest', { receipt, ask, output, preimage }),
	}
}
