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

/** What `record` holds, as `clients/session` writes it. Only names that polkadot.js's structs do not have themselves. */
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
	if (file?.version !== VERSION) throw new Error('this is no receipt, or one of another version of this program')
	const { record: bytes, checks = [], ...rest } = file
	const record = decode(bytes)
	// Why a checker was skipped is words for people, and nothing follows from it.
	const said = { ...rest, checks: checks.map((check) => ('skipped' in check ? { ...check, skipped: true } : check)) }
	if (!same(said, describe(record))) throw new Error('the words in the file are not what was signed: somebody has changed it')
	return record
}

function decode(hex) {
	let why = 'it is no hexadecimal number'
	if (typeof hex === 'string' && /^0x([0-9a-f]{2})+$/.test(hex)) {
		const bytes = hexToU8a(hex)
		try {
			const record = registry.createType('Record', bytes)
			if (u8aEq(record.toU8a(), bytes)) return record
			why = 'it holds more than a record, or one that was not written like this'
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

const address = (account) => encodeAddress(account.toU8a(), 42)

/** The words beside `record`. */
function describe({ ask, tokens, text, finish, paid, receipt, checks, facts }) {
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
		receipt: receipt.isSome ? u8aToHex(nameOf(receipt.unwrap().body, facts.genesis.toU8a())) : null,
		checks: checks.map(({ checker, outcome }) => ({
			checker: address(checker),
			...(outcome.isVerdict ? { verdict: finding(outcome.asVerdict.body.evidence.verdict, facts.policy) } : { skipped: true }),
		})),
	}
}

function question(input) {
	if (input.isEmbedding) return u8aToString(input.asEmbedding.toU8a(true))
	if (input.isTensor) return null
	const { prompt } = asked(input)
	if (prompt.isText) return u8aToString(prompt.asText.toU8a(true))
	return prompt.asChat.map(({ role, content }) => ({ role: role.type.toLowerCase(), content: u8aToString(content.toU8a(true)) }))
}

/** What a measurement says under a policy: `right`, `unclear` or `wrong`. */
function finding({ marginMax, marginMean }, { accept, fraud }) {
	const within = (bounds) => marginMax.toNumber() <= bounds.marginMax.toNumber() && marginMean.toNumber() <= bounds.marginMean.toNumber()
	return within(accept) ? 'right' : within(fraud) ? 'unclear' : 'wrong'
}

const nameOf = (receipt, genesis) => blake2AsU8a(payload(genesis, 'receipt', receipt))

/** What is asked where text is wanted. */
const asked = (input) => (input.isConstrainedText ? input.asConstrainedText : input.asTextGeneration)

/** Input units of a question. */
function units(input) {
	if (input.isEmbedding) return input.asEmbedding.toU8a(true).length
	if (!input.isTextGeneration && !input.isConstrainedText) throw new Error('the session lane has no such questions')
	const { prompt } = asked(input)
	const held = input.isConstrainedText ? input.asConstrainedText.constraint.text.toU8a(true).length : 0
	if (prompt.isText) return held + prompt.asText.toU8a(true).length
	return prompt.asChat.reduce((sum, { content }) => sum + MESSAGE_UNITS + content.toU8a(true).length, MESSAGE_UNITS + held)
}

/** Hash of a whole answer to the question of this name. */
function transcriptOf(request, { tokens, text, finish }) {
	const begun = hash('consilience/session/transcript', request)
	const said = tokens.reduce((so, token) => hash(so, u32(token.toNumber())), begun)
	return hash(said, u32(tokens.length), blake2AsU8a(text.toU8a(true)), finish.unwrap().toU8a())
}

/** Whether `preimage` is what the channel's hash chain has at this number. */
function isPreimage(preimage, number, tip) {
	if (number < 1 || number > MAX_NUMBER) return false
	let at = preimage
	for (let step = 0; step < number; step++) at = hash('consilience/session/chain', at)
	return u8aEq(at, tip)
}

/** Who is to check, in order. */
function candidates(facts, executor, preimage) {
	const draw = (who) => hash('consilience/session/checker', facts.seed.toU8a(), preimage, who)
	const drawn = facts.serving.filter((who) => !who.eq(executor)).map((who) => u8aToHex(u8aConcat(draw(who.toU8a()), who.toU8a())))
	return [...new Set(drawn)].sort().map((key) => `0x${key.slice(66)}`)
}

/** Whether a validator has signed something with one of its lane keys of a session; throws where none is known. */
function hasSigned(facts, validator, session, type, { body, signature }) {
	const keys = facts.certified.filter((known) => known.validator.eq(validator) && known.session.eq(session))
	if (keys.length === 0) throw new Error(`the chain has certified no lane key of ${address(validator)} in session ${session}`)
	const message = payload(facts.genesis.toU8a(), type, body)
	return keys.some(({ key }) => {
		try {
			return sr25519Verify(message, signature.toU8a(), key.toU8a())
		} catch {
			// No signature, or no key, at all.
			return false
		}
	})
}

/**
 * Verifies a receipt's file, as `consilience channel receipt` and the gateway write it: that its words are those that were signed, every
 * signature, that the receipt is for this question, this answer and this price, and that the checkers are those whom the draw named.
 *
 * `facts` is what the chain says ({@link fetchFacts}); then nothing in the file is trusted. Without it the file's own word is taken for
 * the chain's: lane keys, seed, price and who served are then only consistent with each other, and anybody can make such a file up.
 *
 * Resolves with `{ status, right, wanted, facts, channel, number, genesis, model, executor, question, answer, checkers }`: `status` is
 * `answered`, `checked` or `refuted` (one checker who found it wrong is not outvoted), `facts` is `chain` or `file`, `checkers` has
 * `{ checker, finding }` with `right`, `unclear`, `wrong` or `skipped`. Rejects with the first thing that does not hold. That the answer
 * is what the model says is the checkers' word; `consilience verify` runs the model.
 */
export async function verifyReceipt(file, facts) {
	await cryptoWaitReady()
	const record = read(file)
	const known = facts ?? record.facts
	const { ask } = record
	const genesis = known.genesis.toU8a()
	const name = verifyAnswer(record, known, genesis)
	const checkers = verifyChecks(record, known, name)
	const right = checkers.filter((check) => check.finding === 'right').length
	const refuted = checkers.some((check) => check.finding === 'wrong')
	const { channel, number, model, executor, question, answer } = describe(record)
	return {
		status: refuted ? 'refuted' : right > 0 ? 'checked' : 'answered',
		right,
		wanted: Math.max(record.wanted.toNumber(), right),
		facts: facts ? 'chain' : 'file',
		genesis: u8aToHex(genesis),
		channel,
		number,
		model,
		executor,
		question,
		answer,
		anchor: { number: ask.anchor.number.toNumber(), hash: ask.anchor.block.toHex() },
		checkers,
	}
}

/** Verifies that the executor signed for this question and this answer; returns the receipt's name. */
function verifyAnswer(record, facts, genesis) {
	const { ask } = record
	if (record.receipt.isNone || record.finish.isNone)
		throw new Error('the executor signed no receipt that fits: nothing proves who said this')
	const signed = record.receipt.unwrap()
	const receipt = signed.body
	try {
		new TextDecoder('utf-8', { fatal: true }).decode(record.text.toU8a(true))
	} catch {
		throw new Error('this is no answer: it is not text')
	}
	const request = blake2AsU8a(payload(genesis, 'ask', ask))
	const [input, output] = [units(ask.input), record.tokens.length]
	const { perRequest, perInputUnit, perOutputUnit } = facts.price
	const price = perRequest.toBigInt() + perInputUnit.toBigInt() * BigInt(input) + perOutputUnit.toBigInt() * BigInt(output)
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
		if (!fits) throw new Error(`the receipt's ${field} is not that of question and answer`)
	}
	if (!hasSigned(facts, ask.payee, receipt.session, 'receipt', signed))
		throw new Error("the receipt is not signed by the executor's lane key")
	return nameOf(receipt, genesis)
}

/** Verifies who checked, in which order, and what they signed. */
function verifyChecks(record, facts, name) {
	const { ask, checks } = record
	if (checks.length === 0) return []
	const preimage = record.preimage.isSome ? record.preimage.unwrap().toU8a() : null
	if (!preimage || !isPreimage(preimage, ask.number.toNumber(), facts.tip.toU8a())) {
		throw new Error("the preimage is not the channel's of this number: the checkers were not drawn by it")
	}
	const order = candidates(facts, ask.payee, preimage)
	const session = record.receipt.unwrap().body.session.toNumber()
	return checks.map(({ checker, outcome }, place) => {
		const who = address(checker)
		if (order[place] !== u8aToHex(checker.toU8a())) throw new Error(`${who} is not the next in the order of checkers`)
		if (!outcome.isVerdict) return { checker: who, finding: 'skipped' }
		const signed = outcome.asVerdict
		const { evidence, ...verdict } = { evidence: signed.body.evidence, session: signed.body.session.toNumber() }
		const kind = facts.policy.class.isExact ? evidence.fingerprint.isDigest : evidence.fingerprint.isValues
		const fits = signed.body.checker.eq(checker) && u8aEq(signed.body.receipt.toU8a(), name) && verdict.session + 1 >= session
		if (!fits || !kind || evidence.prior.isSome) throw new Error(`the verdict of ${who} is not one about this answer`)
		if (!hasSigned(facts, checker, signed.body.session, 'verdict', signed)) {
			throw new Error(`the verdict of ${who} is not signed by its lane key`)
		}
		return { checker: who, finding: finding(evidence.verdict, facts.policy) }
	})
}

/**
 * What the chain says about a receipt's file, for {@link verifyReceipt}: channel and lane keys as of the last finalised block, model as of
 * the block that the question named. `api` is polkadot.js's. Rejects where the chain has forgotten one of them: lane keys after about an
 * era, a channel when all in it is paid, a block's state when the node has pruned it.
 */
export async function fetchFacts(api, file) {
	const record = decode(file.record)
	const { ask } = record
	const gone = (what) =>
		new Error(`the chain does not know ${what} of this receipt any more: without facts of the chain, the file's own word is taken`)
	const finalized = await api.at(await api.rpc.chain.getFinalizedHead())
	const channel = await finalized.call.sessionsApi.channel(ask.channel.toString())
	if (channel.isNone) throw gone('the channel')
	const { seed, chain: tip } = channel.unwrap()
	if (seed.isNone) throw gone("the channel's seed")
	let model
	try {
		model = await (await api.at(ask.anchor.block.toHex())).call.inferenceApi.model(ask.model.toHex())
	} catch (e) {
		throw Object.assign(gone(`block ${ask.anchor.number}`), { cause: e })
	}
	if (model.isNone || !model.unwrap().status.isActive) throw gone('the model')
	const { spec, price, serving } = model.unwrap()
	const verdicts = record.checks.filter(({ outcome }) => outcome.isVerdict).map(({ outcome }) => outcome.asVerdict.body)
	const signers = verdicts.map(({ checker, session }) => [checker, session])
	if (record.receipt.isSome) signers.push([record.receipt.unwrap().body.payee, record.receipt.unwrap().body.session])
	const certified = []
	for (const [validator, session] of signers) {
		const keys = await finalized.call.sessionsApi.laneKeys(validator.toU8a(), session.toNumber())
		certified.push(...keys.map((key) => ({ validator: validator.toU8a(), session, key: key.toU8a() })))
	}
	return registry.createType('Facts', {
		genesis: api.genesisHash.toU8a(),
		seed: seed.unwrap().toU8a(),
		tip: tip.toU8a(),
		price: registry.createType('Price', price.toU8a()),
		// What checks cost is no part of what is verified.
		check: record.facts.check,
		policy: registry.createType('Policy', spec.policy.toU8a()),
		serving: serving.map((who) => who.toU8a()),
		certified,
	})
}
