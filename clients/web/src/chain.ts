// What the page reads of the chain, through runtime API, storage and events, with the chain's own metadata.

import type { ApiPromise } from '@polkadot/api'
import { signal } from '@preact/signals'
import * as decode from './decode'
import type { Model, Request } from './decode'

// The chain's types come from its metadata at run time: TypeScript does not know them.
type Any = any

/** All models, whatever their status. */
export async function models(api: ApiPromise): Promise<Model[]> {
	const found: Model[] = []
	const page = 32
	for (;;) {
		const views: Any = await (api.call as Any).inferenceApi!.models(found.at(-1)?.id ?? null, page)
		found.push(...views.toJSON().map(decode.model))
		if (views.length < page) return found
	}
}

/** A request that is open or was settled not long ago. */
async function request(api: ApiPromise, id: number): Promise<Request | undefined> {
	const view: Any = await (api.call as Any).inferenceApi.request(id)
	return view.isSome ? decode.request(view.unwrap().toJSON()) : undefined
}

export interface Row {
	id: number
	model: string
	state: string
	requester: string
	executor?: string
	/** Whether others than the executor are to measure the answer, or have. */
	checked: boolean
	requestedAt: number
	settledAt?: number
	paid: bigint
}

/** Number of the next request. */
export async function nextRequest(api: ApiPromise): Promise<number> {
	return Number(((await api.query.inference!.nextRequest!()) as Any).toString())
}

/** The newest requests before a number. What was forgotten by the chain is left out. */
export async function requests(api: ApiPromise, before: number, most: number): Promise<Row[]> {
	const ids = Array.from({ length: Math.min(before, most) }, (_, i) => before - 1 - i)
	if (ids.length === 0) return []
	const stored: Any[] = await api.query.inference!.requests!.multi(ids)
	return stored.flatMap((option, i) => {
		if (option.isNone) return []
		const json = option.unwrap().toJSON()
		return [
			{
				id: ids[i]!,
				model: json.model,
				state: json.state,
				requester: json.requester,
				executor: json.executor ?? undefined,
				checked: json.verifiers > 0 && !json.course?.unchecked,
				requestedAt: json.requestedAt,
				settledAt: json.settledAt ?? undefined,
				paid: BigInt(json.paid),
			},
		]
	})
}

export interface ChainEvent {
	block: number
	section: string
	method: string
	data: Record<string, Any>
}

/** Events of blocks by hash, and of finalised ones, whose hash is sure, by number. */
const heldEvents = new WeakMap<ApiPromise, Map<string | number, ChainEvent[]>>()
const HELD = 1_000

function held(api: ApiPromise): Map<string | number, ChainEvent[]> {
	const map = heldEvents.get(api) ?? new Map()
	heldEvents.set(api, map)
	return map
}

function hold(api: ApiPromise, key: string | number, events: ChainEvent[]) {
	const map = held(api)
	if (map.size >= HELD) map.delete(map.keys().next().value!)
	map.set(key, events)
}

/** The events of a block. */
async function eventsAt(api: ApiPromise, hash: string, number: number): Promise<ChainEvent[]> {
	const known = held(api).get(hash)
	if (known) return known
	// `api.at` prepares the whole interface for a block, which takes a tenth of a second: only a block of another runtime needs it.
	const version = await api.rpc.state.getRuntimeVersion(hash)
	const isPresent = version.specVersion.eq(api.runtimeVersion.specVersion)
	const records: Any = isPresent ? await api.query.system!.events!.at(hash) : await (await api.at(hash)).query.system!.events!()
	const events = records.map(({ event }: Any) => ({
		block: number,
		section: event.section,
		method: event.method,
		data: Object.fromEntries(event.data.map((value: Any, i: number) => [event.data.names?.[i] ?? String(i), value.toJSON()])),
	}))
	hold(api, hash, events)
	return events
}

/** Events of a span of blocks, the oldest first. Blocks whose state the node has not kept say nothing: `missing` counts them. */
export async function eventsOf(
	api: ApiPromise,
	from: number,
	to: number,
	finalized: number
): Promise<{ events: ChainEvent[]; missing: number }> {
	const numbers = Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => from + i)
	const events: ChainEvent[] = []
	let missing = 0
	for (let i = 0; i < numbers.length; i += 8) {
		const batch = numbers.slice(i, i + 8).map(async (number) => {
			const known = held(api).get(number)
			if (known) return known
			try {
				const hash = await api.rpc.chain.getBlockHash(number)
				const events = await eventsAt(api, hash.toHex(), number)
				if (number <= finalized) hold(api, number, events)
				return events
			} catch {
				missing += 1
				return []
			}
		})
		events.push(...(await Promise.all(batch)).flat())
	}
	return { events, missing }
}

/** Most blocks of a request's life that are looked through. */
export const LIFE = 160

/** A request as the best chain has it, and whether it is settled so in the finalised chain too. */
export async function seen(
	api: ApiPromise,
	id: number,
	finalizedHash: string
): Promise<{ request: Request; finalized: boolean } | undefined> {
	const [now, then] = await Promise.all([
		request(api, id),
		api.query.inference!.requests!.at(finalizedHash, id).catch(() => undefined) as Any,
	])
	if (!now) return undefined
	const settled = then?.isSome ? then.unwrap().toJSON() : undefined
	return { request: now, finalized: now.settledAt !== undefined && settled?.state === now.state && settled.settledAt !== null }
}

/** What happened to a request, block by block. Its members are paid in the block that settles it. */
export async function life(
	api: ApiPromise,
	r: Request,
	best: number,
	finalized: number
): Promise<{ events: ChainEvent[]; missing: number }> {
	const last = Math.min(r.settledAt ?? best, r.requestedAt + LIFE)
	const { events, missing } = await eventsOf(api, r.requestedAt, last, finalized)
	return { events: events.filter((e) => e.section === 'inference' && Number(e.data.request) === r.id), missing }
}

/** Name of the pallet whose account this is, if it is one: such an account begins with `modl`. */
export function palletOf(api: ApiPromise, account: string): string | undefined {
	const text = new TextDecoder().decode(api.createType('AccountId', account).toU8a())
	return text.startsWith('modl') ? text.slice(4, 12) : undefined
}

export interface Validator {
	account: string
	/** Names of the models that it serves. */
	serves: string[]
	/** Work that it was drawn for, in thousandths of a block. */
	load: number
	strikes: number
	suspended: boolean
}

/** The session's validators. */
export async function validators(api: ApiPromise, all: Model[]): Promise<Validator[]> {
	const [keys, loads, suspended, strikes]: Any[] = await Promise.all([
		api.query.inference!.keys!(),
		api.query.inference!.loads!(),
		api.query.inference!.suspended!(),
		api.query.inference!.strikes!.entries(),
	])
	const session: Any = await api.query.session!.validators!()
	const order: string[] = keys.toJSON().map(([account]: Any) => account)
	const load: number[] = loads.toJSON()
	const out = new Set(suspended.toJSON().map((s: Any) => s.validator))
	const late = new Map(strikes.map(([key, n]: Any) => [key.args[0].toString(), n.toJSON()]))
	return session.toJSON().map((account: string) => ({
		account,
		serves: all.filter((m) => m.serving.includes(account)).map((m) => m.name),
		load: load[order.indexOf(account)] ?? 0,
		strikes: late.get(account) ?? 0,
		suspended: out.has(account),
	}))
}

/** What costs a validator, and what only may: events that the network view tells of. */
const TROUBLE: Record<string, string> = {
	'offences.Offence': 'An offence was reported',
	'staking.SlashReported': 'A slash is to be applied',
	'staking.Slashed': 'Stake was slashed',
	'inference.OffenceReported': 'An offence was reported to staking',
	'inference.RevealMissing': 'Evidence that was committed to was not shown',
	'inference.Accused': 'A jury accuses',
	'inference.Contested': 'A second jury was called',
	'inference.ContestEnded': 'A second jury has spoken',
	'inference.ValidatorSuspended': 'A validator is drawn for nothing',
	'inference.SuspensionEnded': 'A validator may serve again',
	'inference.RequestRejected': 'An answer was rejected',
	'inference.AnswerOverturned': 'A final answer was found false',
	'inference.ExecutorReplaced': 'An executor was late and replaced',
	'inference.VerifierReplaced': 'A verifier was replaced',
	'inference.ExecutorSilent': 'An executor was absent from its own round',
}

export interface Trouble {
	block: number
	what: string
	who?: string
	request?: number
	amount?: bigint
	costs: boolean
}

export function trouble(event: ChainEvent): Trouble | undefined {
	const name = `${event.section}.${event.method}`
	const what = TROUBLE[name]
	if (!what) return undefined
	const { data } = event
	const who = data.validator ?? data.offender ?? data.member ?? data.verifier ?? data.staker ?? data.executor
	const amount = data.amount ?? undefined
	return {
		block: event.block,
		what: data.kind && typeof data.kind === 'string' ? `${what}: ${data.kind}` : what,
		who: typeof who === 'string' ? who : undefined,
		request: data.request === undefined ? undefined : Number(data.request),
		amount: amount === undefined ? undefined : BigInt(amount),
		costs: /Slash|Offence|RevealMissing|Rejected|Overturned|Accused/.test(event.method),
	}
}

/** Names of models by id, as they were last read. */
export const modelNames = signal<Map<string, string>>(new Map())

export function remember(all: Model[]) {
	modelNames.value = new Map(all.map((m) => [m.id, m.name]))
}
