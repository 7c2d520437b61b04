// Receipts of the session lane: who signed what was answered, and who checked it. Runs in browsers; with what the file itself says of
// the chain it needs no node.

import { TypeRegistry } from '@polkadot/types'
import { compactToU8a, hexToU8a, stringToU8a, u8aConcat, u8aEq, u8aToHex, u8aToString } from '@polkadot/util'
import { blake2AsU8a, cryptoWaitReady, encodeAddress, sr25519Verify } from '@polkadot/util-crypto'

/** Version of receipts' files and of everything that is signed in the lane (`primitives/src/session.rs`). */
const VERSION = 1

/** Requests of a channel: as many steps its hash chain has. */
const MAX_NUMBER = 65_536

/** Units of an input beside its bytes: for a chat, and again for each of its messages. */
const MESSAGE_UNITS = 16

/** What `record` holds, as `clients/session` writes it. */
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
	Tensor: { name: 'Bytes', datatype: 'u8', shape: 'Vec<u32>', data: 'Bytes' },
	Input: { _enum: { TextGeneration: 'TextGeneration', Embedding: 'Bytes', Tensor: 'Vec<Tensor>' } },
	Anchor: { number: 'u32', hash: 'H256' },
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
		keys: 'Vec<Certified>',
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
}

const registry = new TypeRegistry()
registry.register(TYPES)

/** BLAKE2b-256 over parts, one after the other. */
const hash = (...parts) => blake2AsU8a(u8aConcat(...parts.map((part) => (typeof part === 'string' ? stringToU8a(part) : part))))

const u32 = (value) => registry.createType('u32', value).toU8a()

/** What is signed: chain, type, version, and what it says. */
function payload(genesis, type, body) {
	const name = stringToU8a(`consilience/session/${type}`)
	return u8aConcat(genesis, compactToU8a(name.length), name, [VERSION], body.toU8a())
}

/** Reads a receipt's file, and refuses one whose words are not what was signed. */
function read(file) {
	if (file?.version !== VERSION) throw new Error('this is no receipt of this program, or one of another version')
	let record
	try {
		const bytes = hexToU8a(file.record)
		record = registry.createType('Record', bytes)
		if (!u8aEq(record.toU8a(), bytes)) throw new Error('there is more, or less')
	} catch (e) {
		throw new Error(`this is no receipt: its "record" cannot be read: ${e.message}`, { cause: e })
	}
	const words = JSON.stringify(describe(record))
	const { checks, ...rest } = file
	const said = { ...rest, checks: checks?.map(({ skipped, ...check }) => (skipped === undefined ? check : { ...check, skipped: true })) }
	if (words !== JSON.stringify(said, Object.keys(describe(record)).concat('checker', 'verdict', 'skipped', 'role', 'content')))
		throw new Error('the words in the file are not what was signed: somebody has changed it')
	return record
}
