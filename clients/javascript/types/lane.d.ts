// Values of polkadot.js's types have no narrower type here: what they hold is said by the lane's own definitions.
type Value = any
type Bytes = Uint8Array

/** Version of the messages, and of everything that is signed in the lane. */
export declare const VERSION: number
/** Questions of a channel. */
export declare const MAX_NUMBER: number
/** Tokens that either side risks. */
export declare const SLICE_TOKENS: number
/** Most executors that a channel pays. */
export declare const MAX_PAYEES: number
/** Longest message, in bytes. */
export declare const MAX_MESSAGE: number
/** Longest text of an answer, in bytes. */
export declare const MAX_TEXT: number

/** Names of what is signed. */
export type Signable = 'ask' | 'voucher' | 'receipt' | 'verdict' | 'progress' | 'waiter' | 'release'

export declare const make: (type: string, value?: unknown) => Value
export declare function parse(type: string, bytes: Bytes): Value
export declare const hash: (...parts: (string | Bytes)[]) => Bytes
export declare function payload(genesis: Bytes, type: Signable, body: Value): Bytes
export declare const nameOf: (genesis: Bytes, type: Signable, body: Value) => Bytes
export declare const sign: (genesis: Bytes, type: Signable, body: Value, pair: { publicKey: Bytes; secretKey: Bytes }) => Bytes
export declare function verify(genesis: Bytes, type: Signable, signed: Value, key: Bytes): boolean
/** What is asked where text is wanted, constrained or not; null where something else is. */
export declare function textOf(input: Value): Value | null
export declare function units(input: Value): number
export declare function priceOf(price: Value, input: number, output: number): bigint
export declare class Transcript {
	constructor(request: Bytes)
	readonly hash: Bytes
	readonly tokens: number
	with(token: number): Transcript
	end(text: Bytes, finish: Bytes): Bytes
}
export declare function steps(from: Bytes, count: number): Bytes
export declare function isPreimage(preimage: Bytes, number: number, tip: Bytes): boolean
export declare function candidates(seed: Bytes, preimage: Bytes, serving: Value[], executor: Bytes): string[]
export declare function finding(measured: Value, policy: Value): 'right' | 'unclear' | 'wrong'
