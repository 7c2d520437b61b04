// What the chain stores, out of polkadot.js's JSON. Enums without data are words there, others objects with one key.

import type { Fingerprint, Policy, Verdict } from './evidence'
import type { Price } from './money'

type Json = any

export interface Model {
	id: string
	name: string
	task: 'text-generation' | 'embedding' | 'tensor'
	status: string
	chat: boolean
	owner: string
	size: number
	maxInputUnits: number
	maxOutputUnits: number
	price: Price
	policy: Policy
	serving: string[]
	signature: string[]
}

export interface TensorShown {
	name: string
	datatype: string
	shape: number[]
	bytes: number
	/** The data; none where it stayed in its transaction. */
	data?: Uint8Array
}

export type Input =
	| { kind: 'chat'; messages: { role: string; content: string }[]; sampling: Sampling }
	| { kind: 'text'; text: string; sampling?: Sampling }
	| { kind: 'tensors'; tensors: TensorShown[]; hash?: string }
	| { kind: 'unknown' }

export interface Sampling {
	maxTokens: number
	temperature: number
	topP: number
	/** What the answer is held to. */
	constraint?: { form: string; text: string }
}

export type Output =
	| { kind: 'text'; text: string; tokens: number; finish: string }
	| { kind: 'tensors'; tensors: TensorShown[] }
	| { kind: 'unanswerable'; code: string }

export interface Evidence {
	member: string
	fingerprint: Fingerprint
	verdict: Verdict
	/** Of a jury's measurement, and not of the round's. */
	jury: boolean
}

export interface Request {
	id: number
	model: string
	requester: string
	state: string
	input: Input
	assurance: string
	executor?: string
	verifiers: string[]
	jurors: string[]
	output?: Output
	seed?: string
	evidence: Evidence[]
	requestedAt: number
	assignedAt?: number
	provisionalAt?: number
	settledAt?: number
	escrow: bigint
	paid: bigint
	/** Of what was paid, or is to be: what is burned because those who serve the model were more than half taken. */
	surcharge: bigint
	refunded: bigint
}

export const SETTLED = ['Final', 'Rejected', 'Expired', 'Cancelled', 'Unanswerable', 'Overturned']

export function hexBytes(hex: string): Uint8Array {
	const pairs = hex.replace(/^0x/, '').match(/../g) ?? []
	return Uint8Array.from(pairs, (pair) => parseInt(pair, 16))
}

/** Bytes as text. polkadot.js gives hexadecimal digits for bytes that it does not know to be text. */
export function utf8(hex: string): string {
	return new TextDecoder().decode(hexBytes(hex))
}

/** Text as polkadot.js takes bytes: a plain string could be read as hexadecimal. */
export function toHex(text: string): string {
	return `0x${Array.from(new TextEncoder().encode(text), (b) => b.toString(16).padStart(2, '0')).join('')}`
}

const kebab = (word: string) => word.replace(/[a-z](?=[A-Z])/g, '$&-').toLowerCase()
const some = <T>(value: T | null | undefined): T | undefined => value ?? undefined

export function model(json: Json): Model {
	const { spec, price } = json
	return {
		id: json.id,
		name: utf8(spec.name),
		task: kebab(spec.task) as Model['task'],
		status: json.status.toLowerCase(),
		chat: spec.chat,
		owner: json.owner,
		size: Number(spec.size),
		maxInputUnits: spec.limits.maxInputUnits,
		maxOutputUnits: spec.limits.maxOutputUnits,
		price: { perRequest: BigInt(price.perRequest), perInputUnit: BigInt(price.perInputUnit), perOutputUnit: BigInt(price.perOutputUnit) },
		policy: { ...spec.policy, class: kebab(spec.policy.class) },
		serving: json.serving,
		signature: (spec.signature ?? []).map(
			(t: Json) => `${utf8(t.name)}: ${t.datatype.toUpperCase()} [${t.shape.map((d: number | null) => d ?? '?').join(', ')}]`
		),
	}
}

function tensor(json: Json): TensorShown {
	const data = json.data === undefined ? undefined : hexBytes(json.data)
	return { name: utf8(json.name), datatype: json.datatype.toUpperCase(), shape: json.shape, bytes: data?.length ?? json.bytes, data }
}

/** What a constraint's form is called among people. */
const FORMS: Record<string, string> = { JsonSchema: 'JSON schema', Regex: 'regular expression', Lark: 'grammar' }

function sampling(json: Json, held?: Json): Sampling {
	const how: Sampling = { maxTokens: json.maxTokens, temperature: json.temperature / 1000, topP: json.topP / 1000 }
	if (held) how.constraint = { form: FORMS[held.form] ?? kebab(held.form), text: utf8(held.text) }
	return how
}

/** An input, whether the chain keeps it whole, says where the rest is, or is from before it could say that. */
export function input(json: Json): Input {
	if (json.inline) return input(json.inline)
	if (json.indexed) return { kind: 'tensors', tensors: json.indexed.tensors.map(tensor), hash: json.indexed.dataHash }
	const asked = json.textGeneration ?? json.constrainedText
	if (asked) {
		const { prompt, sampling: how, constraint } = asked
		return prompt.chat
			? {
					kind: 'chat',
					messages: prompt.chat.map((m: Json) => ({ role: m.role.toLowerCase(), content: utf8(m.content) })),
					sampling: sampling(how, constraint),
				}
			: { kind: 'text', text: utf8(prompt.text), sampling: sampling(how, constraint) }
	}
	if (json.embedding) return { kind: 'text', text: utf8(json.embedding) }
	if (json.tensor) return { kind: 'tensors', tensors: json.tensor.map(tensor) }
	return { kind: 'unknown' }
}

export function output(json: Json): Output {
	if (json.text) return { kind: 'text', text: utf8(json.text.text), tokens: json.text.tokens.length, finish: kebab(json.text.finish) }
	if (json.tensors) return { kind: 'tensors', tensors: json.tensors.map(tensor) }
	return { kind: 'unanswerable', code: kebab(json.unanswerable ?? 'unknown').replaceAll('-', ' ') }
}

/** The round's comes first, then the jury's. A validator may sit in both; only jurors have evidence under a prior challenge. */
function evidence(list: [string, Json][], members: (string | null)[]): Evidence[] {
	const seen = new Set<string>()
	return list.map(([member, json]) => {
		const { digest, values } = json.fingerprint
		const jury = Boolean(json.prior) || !members.includes(member) || seen.has(member)
		seen.add(member)
		return { member, fingerprint: digest ? { digest } : { tag: values.tag, values: values.values }, verdict: json.verdict, jury }
	})
}

export function assurance(json: Json): string {
	if (json.committee !== undefined) return `committee of ${json.committee}`
	return `by chance, ${json.sampled / 10} % of answers`
}

export function request(json: Json): Request {
	return {
		id: Number(json.id),
		model: json.model,
		requester: json.requester,
		state: json.state,
		input: input(json.input),
		assurance: assurance(json.assurance),
		executor: some(json.executor),
		verifiers: json.verifiers,
		jurors: json.jurors,
		output: json.output ? output(json.output) : undefined,
		seed: some(json.seed),
		evidence: evidence(json.evidence, [json.executor, ...json.verifiers]),
		requestedAt: json.requestedAt,
		assignedAt: some(json.assignedAt),
		provisionalAt: some(json.provisionalAt),
		settledAt: some(json.settledAt),
		escrow: BigInt(json.escrow),
		paid: BigInt(json.paid),
		surcharge: BigInt(json.surcharge),
		refunded: BigInt(json.refunded),
	}
}

const READ: Record<string, [number, (view: DataView, at: number) => number | bigint | boolean]> = {
	BOOL: [1, (v, i) => v.getUint8(i) !== 0],
	INT8: [1, (v, i) => v.getInt8(i)],
	UINT8: [1, (v, i) => v.getUint8(i)],
	INT16: [2, (v, i) => v.getInt16(i, true)],
	UINT16: [2, (v, i) => v.getUint16(i, true)],
	INT32: [4, (v, i) => v.getInt32(i, true)],
	UINT32: [4, (v, i) => v.getUint32(i, true)],
	INT64: [8, (v, i) => v.getBigInt64(i, true)],
	UINT64: [8, (v, i) => v.getBigUint64(i, true)],
	FP32: [4, (v, i) => v.getFloat32(i, true)],
	FP64: [8, (v, i) => v.getFloat64(i, true)],
}

/** The first elements of a tensor for people; nothing for types that JavaScript does not read. */
export function elements({ datatype, data }: TensorShown, most = 8): string[] {
	const [size, read] = READ[datatype] ?? [0, undefined]
	if (!read || !data) return []
	const view = new DataView(data.buffer, data.byteOffset, data.byteLength)
	const count = Math.min(most, Math.floor(data.length / size))
	return Array.from({ length: count }, (_, i) => read(view, i * size)).map((v) =>
		typeof v === 'number' ? String(Number(v.toPrecision(6))) : String(v)
	)
}
