// What a validator did instead of what it should: in events, in records, and in words that are the chain's programs' own, so that a
// receipt's file says the same whoever wrote it.

import { SLICE_TOKENS } from './lane.js'

const REFUSALS = {
	Malformed: 'it does not understand the message',
	Incompatible: 'it speaks another version, or is of another chain',
	Channel: 'it knows no such channel, or has no allotment in it',
	Voucher: 'it does not take the voucher',
	Number: 'it says that the number was used',
	Anchor: 'it does not know the block, or finds it too old',
	Model: 'it does not serve the model',
	Input: 'it does not take the input',
	Busy: 'it is busy',
	Unanswerable: 'no machine can answer this input',
	Receipt: 'it does not take the receipt',
	Preimage: 'it does not take the preimage',
	Failed: 'it failed',
	Unpaid: 'it was not paid in time',
}

/** What a peer says itself, as far as people want to read it. */
function said(words) {
	// eslint-disable-next-line no-control-regex
	const clean = [...words].filter((c) => !/[\u0000-\u001f\u007f-\u009f]/.test(c)).slice(0, 200)
	return clean.length > 0 ? ` (${clean.join('')})` : ''
}

/** A duration as Rust writes it: `250ms`, `5s`, `1.5s`. */
function span(millis) {
	return millis < 1000 ? `${millis}ms` : `${millis / 1000}s`
}

const WORDS = {
	NoLane: () => 'it does not take part in the session lane now',
	Address: (what) => `its address on chain is none: ${what}`,
	Connection: (what) => `the connection failed: ${what}`,
	Silent: (millis) => `it said nothing for ${span(millis)}`,
	Malformed: (what) => `it sent what does not belong there: ${what}`,
	Held: () => 'it shows a voucher that this channel did not sign',
	OtherValidator: () => 'another validator answers at its address',
	NotOffered: () => 'it does not offer the model now',
	Refused: ([why, words]) => `it refused: ${REFUSALS[why]}${said(words)}`,
	FrameSignature: () => 'part of the answer is not signed by its key on chain',
	Transcript: () => 'what it signed is not what it sent',
	Text: () => 'what it sent is not text',
	TooMuch: () => 'it sent more than was asked for',
	Unpaid: () => `it sent more than ${SLICE_TOKENS} tokens unpaid for`,
	Short: () => 'it ended the answer before its end',
	ReceiptSignature: () => 'the receipt is not signed by its key on chain, and was not paid',
	ReceiptSession: () => 'the receipt is of another session, and was not paid',
	Receipt: (field) => `the receipt's ${field} is not that of what it sent, and was not paid`,
	VerdictSignature: () => 'its verdict is not signed by its key on chain',
	Verdict: () => 'its verdict is not one about this answer',
	Funds: () => 'nothing is left in the channel to pay it with',
	NoPlace: (millis) => `others came before, and it had no place within ${span(millis)}: try again later`,
}

/** A fault of a validator; `code` is a word that never changes, `detail` what belongs to it. */
export class Fault extends Error {
	constructor(code, detail = null) {
		super(WORDS[code](detail))
		this.name = 'Fault'
		this.code = code
		this.detail = detail
	}

	/** Whether it had no place, as far as it says: there may be one later. */
	get isBusy() {
		return this.code === 'NoPlace' || (this.code === 'Refused' && this.detail[0] === 'Busy')
	}

	/** As a record has it. */
	get value() {
		return { [this.code]: this.detail }
	}
}

/** A fault out of a record. */
export function faultOf(value) {
	const inner = value.value
	switch (value.type) {
		case 'Refused':
			return new Fault('Refused', [inner[0].type, inner[1].toString()])
		case 'Silent':
		case 'NoPlace':
			return new Fault(value.type, inner.toNumber())
		default:
			return new Fault(value.type, inner.isEmpty && inner.toRawType() === 'Null' ? null : inner.toString())
	}
}
