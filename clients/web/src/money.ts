// Amounts of CSL. The chain counts in 1e-12 CSL, in numbers that are larger than JavaScript's.

const DECIMALS = 12
const ONE = 10n ** BigInt(DECIMALS)

/** An amount as polkadot.js and the gateway write it: a number, or a string of digits or hexadecimal digits. */
export type Amount = bigint | number | string

/** An amount for people, to the last digit: `0.00075 CSL`. */
export function csl(amount: Amount): string {
	const value = BigInt(amount)
	const sign = value < 0n ? '−' : ''
	const size = value < 0n ? -value : value
	const part = (size % ONE).toString().padStart(DECIMALS, '0').replace(/0+$/, '')
	return `${sign}${size / ONE}${part ? `.${part}` : ''} CSL`
}

/** An amount for people, short: four digits that say something, rounded up, since it is what somebody may have to pay; or down. */
export function shortCsl(amount: Amount, round: 'up' | 'down' = 'up'): string {
	const value = BigInt(amount)
	const digits = value.toString().length
	const drop = value >= ONE ? DECIMALS - 4 : Math.max(0, digits - 4)
	const step = 10n ** BigInt(drop)
	return csl(((value + (round === 'up' ? step - 1n : 0n)) / step) * step)
}

/** Reads an amount that somebody wrote: `1.5`, in CSL. Nothing where it is none, or zero. */
export function parseCsl(text: string): bigint | undefined {
	const found = /^(\d{1,15})(?:\.(\d{1,12}))?$/.exec(text.trim())
	if (!found) return undefined
	const amount = BigInt(found[1]!) * ONE + BigInt((found[2] ?? '').padEnd(DECIMALS, '0'))
	return amount > 0n ? amount : undefined
}

export interface Price {
	perRequest: bigint
	perInputUnit: bigint
	perOutputUnit: bigint
}

export interface Message {
	role: 'system' | 'user' | 'assistant'
	content: string
}

const MESSAGE_UNITS = 16

/** Input units that the chain charges for a chat: a byte of text each, 16 for the chat and for each of its messages. */
export function chatUnits(messages: Message[]): number {
	const bytes = (text: string) => new TextEncoder().encode(text).length
	return messages.reduce((sum, { content }) => sum + MESSAGE_UNITS + bytes(content), MESSAGE_UNITS)
}

/** What the executor is paid for the longest answer. Verifiers and the jury premium come on top: the chain's quote has those. */
export function answerPrice(price: Price, inputUnits: number, outputUnits: number): bigint {
	return price.perRequest + price.perInputUnit * BigInt(inputUnits) + price.perOutputUnit * BigInt(outputUnits)
}
