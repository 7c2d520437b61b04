// An answer as it comes: what is signed, what people may see of it, and what is owed for it.

import { u8aConcat, u8aEq } from '@polkadot/util'

import { Fault } from './faults.js'
import { MAX_TEXT, SLICE_TOKENS, Transcript, nameOf, textOf, verify } from './lane.js'

/** When what is not paid for is paid for: often enough that a stream never waits. */
const PAY_FROM = SLICE_TOKENS / 2

/** How far an answer is, without its connection. */
export class Reading {
	constructor(genesis, ask, key, price) {
		this.genesis = genesis
		this.ask = ask
		this.key = key
		this.request = nameOf(genesis, 'ask', ask)
		this.perToken = price.perOutputUnit.toBigInt()
		this.maxTokens = textOf(ask.input).sampling.maxTokens.toNumber()
		this.transcript = new Transcript(this.request)
		this.tokens = []
		this.text = new Uint8Array()
		/** Tokens that are paid for. */
		this.paid = 0
		this.decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
		/** What people have seen. */
		this.shown = ''
	}

	/** Takes part of the answer and returns what people may see of it. Throws a {@link Fault}, and takes nothing then. */
	frame({ tokens, text, progress }) {
		const { body } = progress
		const after = this.tokens.length + tokens.length
		if (tokens.length === 0) throw new Fault('Malformed', 'part of an answer without a token')
		if (after > this.maxTokens) throw new Fault('TooMuch')
		if (after > this.paid + SLICE_TOKENS) throw new Fault('Unpaid')
		const transcript = tokens.reduce((so, token) => so.with(token.toNumber()), this.transcript)
		const fits =
			body.channel.eq(this.ask.channel) &&
			body.number.eq(this.ask.number) &&
			u8aEq(body.request.toU8a(), this.request) &&
			u8aEq(body.transcript.toU8a(), transcript.hash) &&
			body.tokens.eq(transcript.tokens)
		if (!fits) throw new Fault('Transcript')
		if (!verify(this.genesis, 'progress', progress, this.key)) throw new Fault('FrameSignature')
		const more = this.#show(text.toU8a(true))
		this.transcript = transcript
		this.tokens.push(...tokens.map((token) => token.toNumber()))
		return more
	}

	/** Takes the end of the answer and returns the last of its text. The receipt is not looked at. */
	end({ text }) {
		const more = this.#show(text.toU8a(true))
		try {
			this.decoder.decode()
		} catch {
			throw new Fault('Text')
		}
		return more
	}

	/** Adds text, and returns what is whole of what was not shown. */
	#show(bytes) {
		if (this.text.length + bytes.length > MAX_TEXT) throw new Fault('TooMuch')
		let more
		try {
			// The rest of the last character may still come.
			more = this.decoder.decode(bytes, { stream: true })
		} catch {
			throw new Fault('Text')
		}
		this.text = u8aConcat(this.text, bytes)
		this.shown += more
		return more
	}

	/** Price of what is seen and not paid for. */
	get owed() {
		return this.perToken * BigInt(Math.max(0, this.tokens.length - this.paid))
	}

	get isDue() {
		return this.tokens.length >= this.paid + PAY_FROM && this.owed > 0n
	}

	/** Takes all that was sent before, without waiting for payments. */
	again() {
		this.paid = this.maxTokens
		return this
	}
}
