// The page's own channel of the session lane: its key is made and kept here, and what is signed and verified is signed and verified here.
// The library that does it is large, and is loaded when somebody wants it.

import type { ApiPromise } from '@polkadot/api'
import { signal } from '@preact/signals'
import type { Session, Wallet } from 'consilience-client/session'
import { apiKey, gatewayBase, served } from './state'
import type { Account } from './wallet'

/** What is left of the channel. */
export interface Left {
	/** For answers, with all validators together. */
	answers: bigint
	checks: bigint
}

export type Own =
	| { phase: 'reading' }
	/** There is none in this browser. */
	| { phase: 'none' }
	/** This browser cannot hold one, or another tab does. */
	| { phase: 'unable'; why: string }
	| { phase: 'opening'; step: string }
	| { phase: 'ready'; channel: number; owner: string; left?: Left }
	/** It takes no questions any more: `gone` when all of it was paid and returned. */
	| { phase: 'closing'; channel: number; owner: string; gone: boolean }
	| { phase: 'wrong'; why: string }

export const own = signal<Own>({ phase: 'reading' })

type Library = typeof import('consilience-client/session')
type Store = Awaited<ReturnType<Library['browserStore']>>

let library: Library | undefined
let store: Store | undefined
let wallet: Wallet | undefined
let session: Session | undefined
let loaded = ''

const explain = (e: unknown) => (e instanceof Error ? e.message : String(e))
const code = (e: unknown) => (e as { code?: string }).code

/** How a validator is reached. One with a certificate that browsers take, straight: then the gateway sees nothing. Others through it. */
export function waysTo({ model, address, endpoint }: { model: string; address: string; endpoint: string }, relay?: string, key = '') {
	const ways: { url: string; protocols?: string[] }[] = []
	if (endpoint.startsWith('wss://')) ways.push({ url: endpoint })
	if (relay) {
		const url = new URL(`${relay}/${model}/${address}`, gatewayBase)
		url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:'
		const hex = [...new TextEncoder().encode(key)].map((byte) => byte.toString(16).padStart(2, '0')).join('')
		ways.push({ url: url.href, protocols: ['consilience-lane', ...(key ? [`consilience-key.${hex}`] : [])] })
	}
	return ways
}

/** Names that this page holds: it alone signs with their keys. */
const held = new Set<string>()

/** Holds a name until the page is closed; says whether nobody else does. */
async function alone(name: string): Promise<boolean> {
	if (!held.has(name) && (await free(name))) held.add(name)
	return held.has(name)
}

function free(name: string): Promise<boolean> {
	return new Promise((resolve) => {
		void navigator.locks.request(name, { ifAvailable: true }, (lock) => {
			resolve(lock !== null)
			return lock ? new Promise(() => {}) : undefined
		})
	})
}

/** Reads what this browser holds for the chain of this node. */
export async function loadOwn(api: ApiPromise) {
	const name = `consilience-session-${api.genesisHash.toHex()}`
	if (loaded === name && (session || own.value.phase !== 'wrong')) {
		if (session && session.chain.api !== api) {
			// Another node of the same chain: what is under way there ends first.
			await session.close()
			await begin(api)
		}
		return
	}
	loaded = name
	;[session, wallet, store] = [undefined, undefined, undefined]
	own.value = { phase: 'reading' }
	if (!api.call.sessionsApi) {
		own.value = { phase: 'unable', why: 'This chain has no session lane.' }
		return
	}
	if (!navigator.locks || !globalThis.indexedDB) {
		own.value = { phase: 'unable', why: 'A browser keeps keys only for pages that came by https, or from this machine.' }
		return
	}
	try {
		if (!(await alone(name))) {
			loaded = ''
			own.value = {
				phase: 'unable',
				why: 'Another tab of this browser holds the channel: ask there, or close it and load this page again.',
			}
			return
		}
		library = await import('consilience-client/session')
		store = await library.browserStore(name)
		if ((await store.get('keys')) === undefined) {
			own.value = { phase: 'none' }
			return
		}
		wallet = await library.Wallet.open(store)
		if (wallet.bound) await begin(api)
		else own.value = { phase: 'none' }
	} catch (e) {
		own.value = { phase: 'wrong', why: explain(e) }
	}
}

async function begin(api: ApiPromise) {
	const { channel } = wallet!.bound!
	const owner = ((await store!.get('owner')) as string | undefined) ?? ''
	try {
		session = await library!.openSession(api, wallet!, {
			routes: ({ model, address, endpoint }) => waysTo({ model, address, endpoint }, served.value.relay, apiKey.value),
		})
		own.value = { phase: 'ready', channel, owner }
		await readLeft()
	} catch (e) {
		session = undefined
		const ended = code(e) === 'closing' || code(e) === 'no_channel'
		own.value = ended ? { phase: 'closing', channel, owner, gone: code(e) === 'no_channel' } : { phase: 'wrong', why: explain(e) }
	}
}

/** Reads what is left of the channel. */
export async function readLeft() {
	const now = own.value
	if (!session || now.phase !== 'ready') return
	const { answers, checks } = await session.left()
	const sum = answers.reduce((sum, { left }) => sum + left, 0n)
	if (own.value === now) own.value = { ...now, left: { answers: sum, checks } }
}

const STEPS: Record<string, string> = {
	keys: 'Keys are made in this browser …',
	sign: 'Your account signs, once …',
	signed: 'Signed and sent. Waiting for its block …',
	in_block: 'In a block. Waiting until that is final and its seed is drawn …',
	finalised: 'Final. Its seed is being drawn …',
	ready: 'Ready.',
}

/** Opens a channel with so much of the account's money. */
export async function openOwn(api: ApiPromise, account: Account, model: string, deposit: bigint) {
	const step = (name: string) => (own.value = { phase: 'opening', step: STEPS[name] ?? name })
	try {
		step('keys')
		// A browser that is short of room shall not throw it away.
		await navigator.storage?.persist?.()
		wallet ??= await library!.Wallet.open(store!)
		await store!.put({ owner: account.address })
		step('sign')
		const { sign, signer } = account
		await library!.openChannel(api, wallet, { account: sign, signer, model, deposit, onStep: step })
		await begin(api)
	} catch (e) {
		const why = /Cancelled|Rejected/i.test(explain(e)) ? 'You did not sign. Nothing was sent.' : explain(e)
		own.value = { phase: 'wrong', why }
	}
}

/** Closes the channel: nobody is asked any more, and validators have until the end of their notice to claim what they are owed. */
export async function closeOwn(api: ApiPromise, account: Account) {
	const now = own.value
	if (now.phase !== 'ready') return
	await library!.closeChannel(api, now.channel, { account: account.sign, signer: account.signer })
	await session?.close()
	session = undefined
	own.value = { phase: 'closing', channel: now.channel, owner: now.owner, gone: false }
}

/** Takes back what is left of a channel whose notice is over. */
export async function withdrawOwn(api: ApiPromise, account: Account) {
	const now = own.value
	if (now.phase !== 'closing') return
	await library!.withdraw(api, now.channel, { account: account.sign, signer: account.signer })
	own.value = { ...now, gone: true }
}

/** Throws away the keys and receipts of a channel that is closed, so that another can be opened. */
export async function forgetOwn() {
	const names = await store!.names()
	await store!.put(Object.fromEntries(names.map((name) => [name, null])))
	wallet = undefined
	own.value = { phase: 'none' }
}

/** Channels of an account that take questions, and whose keys are not in this browser. */
export async function channelsElsewhere(api: ApiPromise, account: Account): Promise<number[]> {
	const channels: any = await (api.call.sessionsApi as any).channelsOf(account.address)
	const open = channels.filter((channel: any) => channel.closesAt.isNone).map((channel: any) => Number(channel.id))
	return open.filter((channel: number) => channel !== wallet?.bound?.channel)
}

/** Closes a channel of an account, whoever has its keys. */
export async function closeElsewhere(api: ApiPromise, channel: number, account: Account) {
	await library!.closeChannel(api, channel, { account: account.sign, signer: account.signer })
}

export interface LaneQuestion {
	model: string
	input: object
	checks: number
}

/** Asks out of the page's own channel. */
export function askOwn({ model, input, checks }: LaneQuestion) {
	if (!session) throw new Error('There is no channel to ask from.')
	return session.ask(model, input, { checks })
}

/** What a question costs: for itself, and at most for its answer and all checks. */
export async function quoteOwn({ model, input, checks }: LaneQuestion) {
	if (!session) throw new Error('There is no channel to ask from.')
	return session.quote(model, input, checks)
}

/** The receipt of an answer, as a file that anybody can verify. */
export async function receiptOf(number: number): Promise<object | undefined> {
	return session?.receipt(number)
}
