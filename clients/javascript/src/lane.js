// What clients and validators of the session lane say to one another, and what they sign: encoded as the chain's own programs encode it
// (`primitives/src/session.rs`, `offchain-worker/lane/src/message.rs`). Runs in browsers, and needs no node.

import { TypeRegistry } from '@polkadot/types'
import { compactToU8a, stringToU8a, u8aConcat, u8aEq, u8aToHex, u8aToU8a } from '@polkadot/util'
import { blake2AsU8a, sr25519Sign, sr25519Verify } from '@polkadot/util-crypto'

/** Version of the messages, and of everything that is signed in the lane. */
export const VERSION = 1

/** Questions of a channel: as many steps its hash chain has. */
export const MAX_NUMBER = 65_536

/** Tokens that either side risks: a validator sends no more than these beyond what is paid. */
export const SLICE_TOKENS = 32

/** Most executors that a channel pays. */
export const MAX_PAYEES = 16

/** Longest message, in bytes. */
export const MAX_MESSAGE = 1 << 20

/** Longest text of an answer, in bytes. */
export const MAX_TEXT = 32_768

/** Units of an input beside its bytes: for a chat, and again for each of its messages. */
const MESSAGE_UNITS = 16

/** Only names that polkadot.js's structs do not have themselves: a block's hash is `block`. */
const TYPES = {
	Role: { _enum: ['System', 'User', 'Assistant', 'Tool', 'Developer'] },
	Message: { role: 'Role', content: 'Bytes' },
	Prompt: { _enum: { Chat: 'Vec<Message>', Text: 'Bytes' } },
	LogitsProcessing: {
		topK: 'u16',
		minP: 'u16',
		repetitionPenalty: 'u16',
		presencePenalty: 'i16',
		frequencyPenalty: 'i16',
		logitBias: 'Vec<(u32, i32)>',
	},
	Sampling: { maxTokens: 'u32', temperature: 'u16', topP: 'u16', stop: 'Vec<Bytes>', processing: 'Option<LogitsProcessing>' },
	TextGeneration: { prompt: 'Prompt', sampling: 'Sampling' },
	ConstraintForm: { _enum: ['JsonSchema', 'Regex', 'Lark'] },
	Constraint: { rules: 'u16', form: 'ConstraintForm', text: 'Bytes' },
	ConstrainedText: { prompt: 'Prompt', sampling: 'Sampling', constraint: 'Constraint' },
	Tensor: { name: 'Bytes', datatype: 'u8', shape: 'Vec<u32>', data: 'Bytes' },
	Input: { _enum: { TextGeneration: 'TextGeneration', Embedding: 'Bytes', Tensor: 'Vec<Tensor>', ConstrainedText: 'ConstrainedText' } },
	Anchor: { number: 'u32', block: 'H256' },
	Ask: { channel: 'u64', number: 'u32', payee: 'AccountId32', model: 'H256', input: 'Input', anchor: 'Anchor', salt: 'H256' },
	FinishReason: { _enum: ['EndOfText', 'StopString', 'Length'] },
	Receipt: {
		channel: 'u64',
		payee: 'AccountId32',
		number: 'u32',
		session: 'u32',
		request: 'H256',
		transcript: 'H256',
		inputUnits: 'u32',
		outputUnits: 'u32',
		amount: 'u128',
		anchor: 'Anchor',
	},
	SignedReceipt: { body: 'Receipt', signature: '[u8; 64]' },
	Values: { tag: 'Compact<u32>', values: 'Vec<i32>' },
	Fingerprint: { _enum: { Digest: '[u8; 16]', Values: 'Values' } },
	Measured: { marginMax: 'Compact<u32>', marginMean: 'Compact<u32>', deviations: 'Compact<u32>' },
	Evidence: { fingerprint: 'Fingerprint', verdict: 'Measured', prior: 'Option<Fingerprint>' },
	Verdict: { receipt: 'H256', checker: 'AccountId32', session: 'u32', evidence: 'Evidence' },
	SignedVerdict: { body: 'Verdict', signature: '[u8; 64]' },
	Refusal: {
		_enum: [
			'Malformed',
			'Incompatible',
			'Channel',
			'Voucher',
			'Number',
			'Anchor',
			'Model',
			'Input',
			'Busy',
			'Unanswerable',
			'Receipt',
			'Preimage',
			'Failed',
			'Unpaid',
		],
	},
	Fault: {
		_enum: {
			NoLane: 'Null',
			Address: 'Text',
			Connection: 'Text',
			Silent: 'u64',
			Malformed: 'Text',
			Held: 'Null',
			OtherValidator: 'Null',
			NotOffered: 'Null',
			Refused: '(Refusal, Text)',
			FrameSignature: 'Null',
			Transcript: 'Null',
			Text: 'Null',
			TooMuch: 'Null',
			Unpaid: 'Null',
			Short: 'Null',
			ReceiptSignature: 'Null',
			ReceiptSession: 'Null',
			Receipt: 'Text',
			VerdictSignature: 'Null',
			Verdict: 'Null',
			Funds: 'Null',
			NoPlace: 'u64',
		},
	},
	Outcome: { _enum: { Verdict: 'SignedVerdict', Skipped: 'Fault' } },
	Check: { checker: 'AccountId32', outcome: 'Outcome' },
	Price: { perRequest: 'u128', perInputUnit: 'u128', perOutputUnit: 'u128' },
	Bounds: { mean: 'u32', max: 'u32', marginMax: 'u32', marginMean: 'u32' },
	NumericClass: { _enum: ['Exact', 'Tolerant'] },
	Policy: {
		class: 'NumericClass',
		positions: 'u8',
		entries: 'u8',
		fractionBits: 'u8',
		accept: 'Bounds',
		fraud: 'Bounds',
		minVerifiers: 'u8',
		minSampling: 'u16',
	},
	Certified: { validator: 'AccountId32', session: 'u32', key: '[u8; 32]' },
	Facts: {
		genesis: 'H256',
		seed: 'H256',
		tip: 'H256',
		price: 'Price',
		check: 'Price',
		policy: 'Policy',
		serving: 'Vec<AccountId32>',
		certified: 'Vec<Certified>',
	},
	Record: {
		ask: 'Ask',
		tokens: 'Vec<Compact<u32>>',
		text: 'Bytes',
		finish: 'Option<FinishReason>',
		paid: 'u128',
		receipt: 'Option<SignedReceipt>',
		fault: 'Option<Fault>',
		preimage: 'Option<H256>',
		wanted: 'u32',
		checks: 'Vec<Check>',
		facts: 'Facts',
	},
	Service: { _enum: ['Answer', 'Check'] },
	Voucher: {
		channel: 'u64',
		payee: 'AccountId32',
		service: 'Service',
		number: 'u32',
		request: 'H256',
		transcript: 'H256',
		amount: 'u128',
		expires: 'u32',
	},
	Payment: { body: 'Voucher', signature: '[u8; 64]' },
	Output: {
		_enum: {
			Text: 'TextOutput',
			Tensors: 'Vec<Tensor>',
			Unanswerable: 'u8',
		},
	},
	TextOutput: { tokens: 'Vec<Compact<u32>>', text: 'Bytes', finish: 'FinishReason' },
	Hello: { version: 'u8', genesis: 'H256', channel: 'u64' },
	Asked: { ask: 'Ask', voucher: 'Payment' },
	Cancelled: { number: 'u32' },
	CheckRequest: { receipt: 'SignedReceipt', ask: 'Ask', output: 'Output', preimage: 'H256' },
	Waiter: { channel: 'u64', payee: 'AccountId32', model: 'H256' },
	SignedWaiter: { body: 'Waiter', signature: '[u8; 64]' },
	ToValidator: {
		_enum: {
			Hello: 'Hello',
			Ask: 'Asked',
			Pay: 'Payment',
			Cancel: 'Cancelled',
			Check: 'CheckRequest',
			Release: 'Null',
			Wait: 'SignedWaiter',
		},
	},
	OfferedModel: { model: 'H256', price: 'Price', free: 'u32' },
	Offer: { payee: 'AccountId32', models: 'Vec<OfferedModel>', heldAnswer: 'Option<Payment>', heldCheck: 'Option<Payment>' },
	Progress: { channel: 'u64', number: 'u32', request: 'H256', transcript: 'H256', tokens: 'u32' },
	SignedProgress: { body: 'Progress', signature: '[u8; 64]' },
	Frame: { tokens: 'Vec<Compact<u32>>', text: 'Bytes', progress: 'SignedProgress' },
	End: { text: 'Bytes', finish: 'FinishReason', receipt: 'SignedReceipt' },
	Refused: { number: 'Option<u32>', why: 'Refusal', words: 'Text' },
	Release: { channel: 'u64', payee: 'AccountId32', session: 'u32', releases: 'u32', amount: 'u128' },
	SignedRelease: { body: 'Release', signature: '[u8; 64]' },
	Ahead: { ahead: 'u32' },
	ToClient: {
		_enum: {
			Offer: 'Offer',
			Frame: 'Frame',
			End: 'End',
			Verdict: 'SignedVerdict',
			Refused: 'Refused',
			Released: 'SignedRelease',
			Waiting: 'Ahead',
		},
	},
}

const registry = new TypeRegistry()
registry.register(TYPES)

/** A value of one of the lane's types, out of its bytes or of what polkadot.js makes it from. */
export const make = (type, value) => registry.createType(type, value)

/** The value whose encoding these bytes are, and nothing beside it. Throws where there is none. */
export function parse(type, bytes) {
	const value = make(type, bytes)
	if (!u8aEq(value.toU8a(), bytes)) throw new Error(`these bytes are no ${type}, or more than one`)
	return value
}

/** BLAKE2b-256 over parts, one after the other. */
export const hash = (...parts) => blake2AsU8a(u8aConcat(...parts.map((part) => (typeof part === 'string' ? stringToU8a(part) : part))))

const u32 = (value) => Uint8Array.of(value & 255, (value >>> 8) & 255, (value >>> 16) & 255, value >>> 24)

/** What is signed: chain, type (`ask`, `voucher`, `receipt`, `verdict`, `progress`, `waiter`, `release`), version, and what it says. */
export function payload(genesis, type, body) {
	const name = stringToU8a(`consilience/session/${type}`)
	return u8aConcat(genesis, compactToU8a(name.length), name, [VERSION], body.toU8a())
}

/** The name of something that can be signed: BLAKE2b-256 of what would be. */
export const nameOf = (genesis, type, body) => blake2AsU8a(payload(genesis, type, body))

/** A signature by a channel's key, `{ publicKey, secretKey }`. */
export const sign = (genesis, type, body, pair) => sr25519Sign(payload(genesis, type, body), pair)

/** Whether this key has signed it for the chain with this genesis block. */
export function verify(genesis, type, { body, signature }, key) {
	try {
		return sr25519Verify(payload(genesis, type, body), signature.toU8a(), key)
	} catch {
		// No signature, or no key, at all.
		return false
	}
}

/** What is asked where text is wanted, constrained or not; null where something else is. */
export function textOf(input) {
	if (input.isTextGeneration) return input.asTextGeneration
	return input.isConstrainedText ? input.asConstrainedText : null
}

/** Input units of a question: bytes of its text and of what its answer is held to, and an allowance for a chat and each of its messages. */
export function units(input) {
	if (input.isEmbedding) return input.asEmbedding.toU8a(true).length
	const asked = textOf(input)
	if (!asked) throw new Error('the session lane has no such questions')
	const held = input.isConstrainedText ? asked.constraint.text.toU8a(true).length : 0
	if (asked.prompt.isText) return held + asked.prompt.asText.toU8a(true).length
	return asked.prompt.asChat.reduce((sum, { content }) => sum + MESSAGE_UNITS + content.toU8a(true).length, MESSAGE_UNITS + held)
}

/** Price of so many units in and out. */
export function priceOf({ perRequest, perInputUnit, perOutputUnit }, input, output) {
	return perRequest.toBigInt() + perInputUnit.toBigInt() * BigInt(input) + perOutputUnit.toBigInt() * BigInt(output)
}

/** What was seen of the answer to the question of this name: a running hash over its tokens. */
export class Transcript {
	constructor(request) {
		this.hash = hash('consilience/session/transcript', request)
		this.tokens = 0
	}

	/** The same with another token; this one stays as it is. */
	with(token) {
		const next = Object.create(Transcript.prototype)
		return Object.assign(next, { hash: hash(this.hash, u32(token)), tokens: this.tokens + 1 })
	}

	/** Hash of an answer that ends here, says this (bytes) and has this encoded reason for it. */
	end(text, finish) {
		return hash(this.hash, u32(this.tokens), blake2AsU8a(text), finish)
	}
}

/** So many steps of a channel's hash chain. */
export function steps(from, count) {
	const link = stringToU8a('consilience/session/chain')
	const step = new Uint8Array(link.length + 32)
	step.set(link)
	step.set(from, link.length)
	for (let i = 0; i < count; i++) step.set(blake2AsU8a(step), link.length)
	return step.slice(link.length)
}

/** Whether `preimage` is what the channel's hash chain has at this number. */
export function isPreimage(preimage, number, tip) {
	return number >= 1 && number <= MAX_NUMBER && u8aEq(steps(preimage, number), tip)
}

/** Who is to check, in order and in hexadecimal digits, of those who serve the model; the executor is none of them. */
export function candidates(seed, preimage, serving, executor) {
	const drawn = serving
		.map((who) => u8aToU8a(who))
		.filter((who) => !u8aEq(who, executor))
		.map((who) => u8aToHex(u8aConcat(hash('consilience/session/checker', seed, preimage, who), who)))
	return [...new Set(drawn)].sort().map((key) => `0x${key.slice(66)}`)
}

/** What a measurement says under a policy: `right`, `unclear` or `wrong`. */
export function finding({ marginMax, marginMean }, { accept, fraud }) {
	const within = (bounds) => marginMax.toNumber() <= bounds.marginMax.toNumber() && marginMean.toNumber() <= bounds.marginMean.toNumber()
	return within(accept) ? 'right' : within(fraud) ? 'unclear' : 'wrong'
}
