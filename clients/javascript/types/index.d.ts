import type { ApiPromise } from '@polkadot/api'
import type { ApiOptions } from '@polkadot/api/types'
import type { KeyringPair } from '@polkadot/keyring/types'
import type { AnswerTensor, How, Model, RequestState } from './papi.js'

/** An input as polkadot.js encodes it. */
export type Input = { TextGeneration: any } | { Embedding: string } | { Tensor: any[] }

/** A tensor of a question. */
export interface Tensor {
	/** Name of the graph's input. */
	name: string
	/** Such as `Fp32`. */
	datatype: string
	shape: number[]
	/** Row-major and little-endian. */
	data: ArrayBufferView | ArrayBuffer
}

export declare const SETTLED: readonly RequestState[]
export declare function connect(url?: string, options?: ApiOptions): Promise<ApiPromise>
export declare function models(api: ApiPromise): Promise<Model[]>
export declare function chat(question: string, maxTokens?: number, how?: How): Input
export declare function embedding(text: string): Input
export declare function tensors(list: Tensor[]): Input
/** How tokens are chosen, as the chain takes it. */
export declare function sampling(maxTokens: number, how?: How): Record<string, unknown>
/** What a request would cost, and how long it would take. */
export interface Quote {
	/** What must be held at least, in the token's smallest unit, the tip not counted. */
	fee: bigint
	/** Of it, what is burned because those who serve the model are more than half taken. */
	surcharge: bigint
	/** What is taken of what they can do, in thousandths. */
	taken: number
	/** Blocks after which the answer is expected to be final. */
	blocks: number
}
export declare function quote(api: ApiPromise, model: string, input: Input, verifiers?: number): Promise<Quote>
export declare function request(
	api: ApiPromise,
	account: KeyringPair,
	model: string,
	input: Input,
	options?: { verifiers?: number; feeLimit?: bigint; tip?: bigint; final?: boolean }
): Promise<{ id: bigint; block: string; fee: bigint }>
/** Resolves with the request as stored: a codec of polkadot.js. */
export declare function settled(api: ApiPromise, id: bigint, onState?: (state: RequestState) => void): Promise<any>
export declare function answer(api: ApiPromise, id: bigint): Promise<string | AnswerTensor[]>
