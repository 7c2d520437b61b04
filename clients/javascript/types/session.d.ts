import type { ApiPromise } from '@polkadot/api'
import type { ReceiptFile } from './receipt.js'

/** Why a question, or everything, does not go on. */
export declare class SessionError extends Error {
	/** A word that never changes: `no_channel`, `closing`, `funds`, `no_answer` … */
	readonly code: string
	/** Who was tried, and why each failed. */
	readonly faults: { executor: string; why: string; code: string }[]
}

/** A fault of a validator. */
export declare class Fault extends Error {
	/** A word that never changes. */
	readonly code: string
	readonly detail: unknown
	readonly isBusy: boolean
}

/** Why a wallet does not do what it is asked. */
export declare class WalletError extends Error {
	/** `damaged`, `funds`, `nothing`, `not_used`, `old_copy`, `other_channel`, `storage`, `unbound`, `used_up`. */
	readonly code: string
}

/** Where a wallet is kept. */
export interface Store {
	get(name: string): Promise<any>
	names(): Promise<string[]>
	/** All of it or nothing is kept when this resolves; `null` takes away. */
	put(changes: Record<string, unknown>): Promise<void>
}

export declare function memoryStore(entries?: Record<string, unknown>): Store
export declare function browserStore(name: string): Promise<Store & { close(): void }>

/** A channel's wallet. One program has it at a time. */
export declare class Wallet {
	static open(store: Store): Promise<Wallet>
	/** Public half of its signing key. */
	readonly key: Uint8Array
	/** Link 0 of its hash chain. */
	readonly tip: Uint8Array
	readonly bound?: { genesis: Uint8Array; channel: number }
	/** The number that the next question gets. */
	readonly nextNumber: number
	/** Numbers of all questions of which there is something to show. */
	records(): Promise<number[]>
}

/** Who signs a transaction: a key pair of polkadot.js, or an address with an extension's signer. */
export interface Signing {
	account: any
	signer?: any
}

export interface Opening extends Signing {
	/** The model's id: those who answer for it are paid. */
	model: string
	/** What is held, in the chain's smallest unit; a quarter of it for checkers. */
	deposit: bigint
	/** Hears `signed`, `in_block`, `finalised`, `ready`. */
	onStep?: (step: string) => void
	/** Milliseconds until it has to be ready. */
	patience?: number
}

export declare function openChannel(api: ApiPromise, wallet: Wallet, opening: Opening): Promise<number>
export declare function closeChannel(api: ApiPromise, channel: number, signing: Signing): Promise<void>
export declare function withdraw(api: ApiPromise, channel: number, signing: Signing): Promise<void>

/** A validator that answers in the session lane. */
export interface Lane {
	model: string
	address: string
	validator: Uint8Array
	session: number
	key: Uint8Array
	endpoint: string
}

export interface SessionOptions {
	/** How a validator is reached, the best way first. */
	routes?: (lane: Lane) => { url: string; protocols?: string[] }[]
	/** Milliseconds that validators have, and how many executors are tried. */
	patience?: Partial<{ connect: number; first: number; next: number; verdict: number; place: number; attempts: number }>
}

export type SessionEvent =
	| { type: 'waiting'; ahead: number }
	| { type: 'started'; executor: string; number: number }
	| { type: 'text'; text: string }
	| { type: 'failed'; executor: string; number: number | null; why: string; code: string }
	| { type: 'receipt'; receipt: string; tokens: number; amount: bigint; finish: 'end_of_text' | 'stop_string' | 'length' }
	| { type: 'checking'; checker: string }
	| { type: 'verdict'; checker: string; finding: 'right' | 'unclear' | 'wrong' }
	| { type: 'skipped'; checker: string; why: string; code: string }
	| { type: 'done'; number: number; status: 'answered' | 'checked' | 'refuted'; right: number; wanted: number; paid: bigint }

export interface Answer extends AsyncIterable<SessionEvent> {
	/** Cuts the answer: it ends with a receipt for what was sent. */
	cancel(): void
}

export interface Session {
	readonly chain: { readonly api: ApiPromise }
	ask(model: string, input: object, options?: { checks?: number; executor?: string }): Answer
	quote(model: string, input: object, checks?: number): Promise<{ prompt: bigint; answer: bigint; checks: bigint }>
	left(): Promise<{ channel: number; answers: { payee: string; left: bigint }[]; checks: bigint }>
	receipt(number: number): Promise<ReceiptFile | undefined>
	close(): Promise<void>
}

export declare function openSession(api: ApiPromise, wallet: Wallet, options?: SessionOptions): Promise<Session>
