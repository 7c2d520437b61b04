import type { PolkadotClient, PolkadotSigner, SS58String } from 'polkadot-api'

/** Where a request stands. */
export type RequestState =
	'Requested' | 'Assigned' | 'Provisional' | 'Disputed' | 'Final' | 'Rejected' | 'Expired' | 'Cancelled' | 'Unanswerable' | 'Overturned'

/** How tokens are chosen, in the units of the OpenAI API. */
export interface How {
	temperature?: number
	topP?: number
	topK?: number
	minP?: number
	repetitionPenalty?: number
	presencePenalty?: number
	frequencyPenalty?: number
	/** Token ids and what is added to their logits. */
	logitBias?: Record<string, number>
	stop?: string | string[]
}

/** A model on chain. */
export interface Model {
	/** Hash of its manifest. */
	id: string
	name: string
	task: 'TextGeneration' | 'Embedding' | 'Tensor'
	class: 'Exact' | 'Tolerant'
	status: 'Registered' | 'Active' | 'Deprecated'
	/** In the token's smallest unit. */
	price: { perRequest: bigint; perInputUnit: bigint; perOutputUnit: bigint }
	/** Validators that serve it. */
	serving: SS58String[]
	/** What its publisher advises. */
	sampling: Pick<How, 'temperature' | 'topP' | 'topK' | 'minP' | 'repetitionPenalty'>
}

/** A tensor of an answer. */
export interface AnswerTensor {
	name: string
	datatype: string
	shape: number[]
	/** Row-major and little-endian. */
	data: Uint8Array
}

/** An input as PAPI encodes it. */
export type Input = { type: 'TextGeneration' | 'Embedding' | 'Tensor'; value: any }

export declare const SETTLED: readonly RequestState[]
export declare function connect(url?: string): PolkadotClient
export declare function signerOf(suri: string): PolkadotSigner & { address: string }
export declare function models(client: PolkadotClient): Promise<Model[]>
export declare function chat(question: string, maxTokens?: number, how?: How): Input
export declare function embedding(text: string): Input
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
export declare function quote(client: PolkadotClient, model: string, input: Input, verifiers?: number): Promise<Quote>
export declare function request(
	client: PolkadotClient,
	signer: PolkadotSigner,
	model: string,
	input: Input,
	options?: { verifiers?: number; feeLimit?: bigint; tip?: bigint }
): Promise<{ id: bigint; block: string; fee: bigint }>
export declare function settled(
	client: PolkadotClient,
	id: bigint,
	onState?: (state: RequestState) => void
): Promise<{ block: { number: number; hash: string }; request: any }>
export declare function answer(client: PolkadotClient, id: bigint): Promise<string | AnswerTensor[]>
