// What there is to show for a question, and its verification by whoever has it. `receipt.js` and `session.js` share it.

import { hexToU8a, u8aEq, u8aToHex, u8aToString } from '@polkadot/util'
import { encodeAddress } from '@polkadot/util-crypto'

import { faultOf } from './faults.js'
import { Transcript, candidates, finding, isPreimage, make, nameOf, parse, priceOf, textOf, units, verify } from './lane.js'

/** Version of receipts' files. */
const VERSION = 1

/** Reads a receipt's file, and refuses one whose words are not what was signed. */
export function read(file) {
	if (file?.version !== VERSION) throw new Error('this is no receipt, or one of another version of this program')
	const { record: bytes, checks = [], ...rest } = file
	const record = decode(bytes)
	// Why a checker was skipped is words for people, and nothing follows from it: other versions may have others.
	const bare = ({ checks, ...words }) => ({
		...words,
		checks: checks.map((check) => ('skipped' in check ? { ...check, skipped: true } : check)),
	})
	if (!same(bare({ checks, ...rest }), bare(describe(record))))
		throw new Error('the words in the file are not what was signed: somebody has changed it')
	return record
}

/** Reads a record out of its hexadecimal digits. */
export function decode(hex) {
	let why = 'it is no hexadecimal number'
	if (typeof hex === 'string' && /^0x([0-9a-f]{2})+$/.test(hex)) {
		try {
			return parse('Record', hexToU8a(hex))
		} catch (e) {
			why = e.message
		}
	}
	throw new Error(`this is no receipt: "record" cannot be read: ${why}`)
}

/** Whether two values are the same JSON, whatever the order of their fields. */
function same(a, b) {
	if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return a === b
	const [as, bs] = [Object.keys(a), Object.keys(b)]
	return (
		Array.isArray(a) === Array.isArray(b) && as.length === bs.length && as.every((key) => Object.hasOwn(b, key) && same(a[key], b[key]))
	)
}

/** An account for people. */
export const address = (account) => encodeAddress(account.toU8a(), 42)

/** The words beside `record`. */
export function describe({ ask, tokens, text, finish, paid, receipt, checks, facts }) {
	const words = { EndOfText: 'end_of_text', StopString: 'stop_string', Length: 'length' }
	return {
		version: VERSION,
		genesis: facts.genesis.toHex(),
		channel: ask.channel.toNumber(),
		number: ask.number.toNumber(),
		model: ask.model.toHex(),
		executor: address(ask.payee),
		question: question(ask.input),
		answer: u8aToString(text.toU8a(true)),
		tokens: tokens.length,
		finish: finish.isSome ? words[finish.unwrap().type] : null,
		paid: paid.toString(),
		receipt: receipt.isSome ? u8aToHex(nameOf(facts.genesis.toU8a(), 'receipt', receipt.unwrap().body)) : null,
		checks: checks.map(({ checker, outcome }) => ({
			checker: address(checker),
			...(outcome.isVerdict
				? { verdict: finding(outcome.asVerdict.body.evidence.verdict, facts.policy) }
				: { skipped: faultOf(outcome.asSkipped).message }),
		})),
	}
}

function question(input) {
	if (input.isEmbedding) return u8aToString(input.asEmbedding.toU8a(true))
	if (input.isTensor) return null
	const { prompt } = textOf(input)
	if (prompt.isText) return u8aToString(prompt.asText.toU8a(true))
	return prompt.asChat.map(({ role, content }) => ({ role: role.type.toLowerCase(), content: u8aToString(content.toU8a(true)) }))
}

/** The file of a record, as `consilience channel receipt` writes it. */
export function fileOf(record) {
	return { ...describe(record), record: record.toHex() }
}

/** Why a record does not show what it should: the name of the fault that a validator is charged with, and what belongs to that. */
const flaw = (message, code = null, detail = null) => Object.assign(new Error(message), { code, detail })

/** Hash of a whole answer to the question of this name. */
function transcriptOf(request, { tokens, text, finish }) {
	const said = tokens.reduce((so, token) => so.with(token.toNumber()), new Transcript(request))
	return said.end(text.toU8a(true), finish.unwrap().toU8a())
}

/** Whether a validator has signed something with one of its lane keys of a session; throws where none is known. */
function hasSigned(facts, validator, session, type, signed) {
	const keys = facts.certified.filter((known) => known.validator.eq(validator) && known.session.eq(session))
	if (keys.length === 0) throw flaw(`the chain has certified no lane key of ${address(validator)} in session ${session}`)
	return keys.some(({ key }) => verify(facts.genesis.toU8a(), type, signed, key.toU8a()))
}

/** Verifies that the executor signed for this question and this answer; returns the receipt's name. */
export function verifyAnswer(record, facts, genesis) {
	const { ask } = record
	if (record.receipt.isNone || record.finish.isNone)
		throw new Error('the executor signed no receipt that fits: nothing proves who said this')
	const signed = record.receipt.unwrap()
	const receipt = signed.body
	try {
		new TextDecoder('utf-8', { fatal: true }).decode(record.text.toU8a(true))
	} catch {
		throw flaw('this is no answer: it is not text', 'Text')
	}
	const request = nameOf(genesis, 'ask', ask)
	const [input, output] = [units(ask.input), record.tokens.length]
	const price = priceOf(facts.price, input, output)
	const fields = {
		channel: receipt.channel.eq(ask.channel),
		payee: receipt.payee.eq(ask.payee),
		number: receipt.number.eq(ask.number),
		question: u8aEq(receipt.request.toU8a(), request),
		anchor: u8aEq(receipt.anchor.toU8a(), ask.anchor.toU8a()),
		transcript: u8aEq(receipt.transcript.toU8a(), transcriptOf(request, record)),
		'input units': receipt.inputUnits.eq(input),
		'output units': receipt.outputUnits.eq(output),
		amount: receipt.amount.toBigInt() === price,
	}
	for (const [field, fits] of Object.entries(fields)) {
		if (!fits) throw flaw(`the receipt's ${field} is not that of question and answer`, 'Receipt', field)
	}
	if (!hasSigned(facts, ask.payee, receipt.session, 'receipt', signed))
		throw flaw("the receipt is not signed by the executor's lane key", 'ReceiptSignature')
	return nameOf(genesis, 'receipt', receipt)
}

/** Verifies who checked, in which order, and what they signed. */
export function verifyChecks(record, facts, name) {
	const { ask, checks } = record
	if (checks.length === 0) return []
	const preimage = record.preimage.isSome ? record.preimage.unwrap().toU8a() : null
	if (!preimage || !isPreimage(preimage, ask.number.toNumber(), facts.tip.toU8a())) {
		throw new Error("the preimage is not the channel's of this number: the checkers were not drawn by it")
	}
	const order = candidates(facts.seed.toU8a(), preimage, facts.serving, ask.payee.toU8a())
	const session = record.receipt.unwrap().body.session.toNumber()
	return checks.map(({ checker, outcome }, place) => {
		const who = address(checker)
		if (order[place] !== u8aToHex(checker.toU8a())) throw new Error(`${who} is not the next in the order of checkers`)
		if (!outcome.isVerdict) return { checker: who, finding: 'skipped' }
		return { checker: who, finding: verifyVerdict(facts, checker, name, session, outcome.asVerdict) }
	})
}

/** Verifies that a verdict is this checker's, signed, and about the receipt of this name and session; returns what it finds. */
export function verifyVerdict(facts, checker, name, session, signed) {
	const who = address(checker)
	const { body } = signed
	const { evidence } = body
	const kind = facts.policy.class.isExact ? evidence.fingerprint.isDigest : evidence.fingerprint.isValues
	const fits = body.checker.eq(checker) && u8aEq(body.receipt.toU8a(), name) && body.session.toNumber() + 1 >= session
	if (!fits || !kind || evidence.prior.isSome) throw flaw(`the verdict of ${who} is not one about this answer`, 'Verdict')
	if (!hasSigned(facts, checker, body.session, 'verdict', signed)) {
		throw flaw(`the verdict of ${who} is not signed by its lane key`, 'VerdictSignature')
	}
	return finding(evidence.verdict, facts.policy)
}

/** Where an answer with a receipt stands by what its checkers found: one who found it wrong is not outvoted. */
export function standing(findings, wanted) {
	const right = findings.filter((found) => found === 'right').length
	const status = findings.includes('wrong') ? 'refuted' : right > 0 ? 'checked' : 'answered'
	return { status, right, wanted: Math.max(wanted, right) }
}

/** The fields of a struct of polkadot.js. */
export const fieldsOf = (struct) => Object.fromEntries(struct.entries())

/** A record as it grows. */
export function plain(record) {
	const option = (value) => (value.isSome ? value.unwrap() : null)
	return {
		ask: record.ask,
		tokens: record.tokens.map((token) => token.toNumber()),
		text: u8aToHex(record.text.toU8a(true)),
		finish: option(record.finish),
		paid: record.paid.toBigInt(),
		receipt: option(record.receipt),
		fault: option(record.fault),
		preimage: option(record.preimage),
		wanted: record.wanted.toNumber(),
		checks: record.checks,
		facts: { ...fieldsOf(record.facts), certified: [...record.facts.certified] },
	}
}

/** Adds lane keys that the chain has certified. */
export function certify(record, validator, session, keys) {
	for (const key of keys) {
		const entry = make('Certified', { validator, session, key })
		if (!record.facts.certified.some((known) => known.eq(entry))) record.facts.certified.push(entry)
	}
}
