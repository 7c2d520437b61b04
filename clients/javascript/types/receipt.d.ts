import type { ApiPromise } from '@polkadot/api'

/** A receipt's file (`consilience channel receipt`), as JSON. */
export type ReceiptFile = Record<string, any>

/** What the chain says about a receipt's file. */
export type Facts = any

export interface VerifiedReceipt {
	/** `checked`: at least one checker found it right and none wrong. */
	status: 'answered' | 'checked' | 'refuted'
	/** Checkers who found it right. */
	right: number
	/** Checkers who were wanted. */
	wanted: number
	/** Whose word was taken for lane keys, seed, price and who served. */
	facts: 'chain' | 'file'
	genesis: string
	channel: number
	number: number
	model: string
	executor: string
	question: string | { role: string; content: string }[] | null
	answer: string
	/** Block to whose state the question refers. */
	anchor: { number: number; hash: string }
	checkers: { checker: string; finding: 'right' | 'unclear' | 'wrong' | 'skipped' }[]
}

export declare function verifyReceipt(file: ReceiptFile, facts?: Facts): Promise<VerifiedReceipt>
export declare function fetchFacts(api: ApiPromise, file: ReceiptFile): Promise<Facts>
