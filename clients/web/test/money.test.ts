import { describe, expect, it } from 'vitest'
import { answerPrice, chatUnits, csl, shortCsl } from '../src/money'

describe('amounts', () => {
	it.each([
		[0, '0 CSL'],
		['1', '0.000000000001 CSL'],
		[1_500_000_000_000, '1.5 CSL'],
		['0x38d7ea4c68000', '1000 CSL'],
		['340282366920938463463374607431768211455', '340282366920938463463374607.431768211455 CSL'],
		[-1n, '−0.000000000001 CSL'],
	])('%s is %s, to the last digit', (amount, text) => expect(csl(amount)).toBe(text))

	it('are short where that is enough, and never too small for what one may have to pay', () => {
		expect(shortCsl(12_638_200_001)).toBe('0.01264 CSL')
		expect(shortCsl(730_000_000)).toBe('0.00073 CSL')
		expect(shortCsl(600)).toBe('0.0000000006 CSL')
		expect(shortCsl(9_999_999_987_008_515_615n, 'down')).toBe('9999999.987 CSL')
		for (const amount of [1n, 99_999n, 123_456_789n, 1_999_999_999_999n, 7_777_777_777_777_777n]) {
			const back = BigInt(Math.round(parseFloat(shortCsl(amount)) * 1e12))
			expect(back + 1n >= amount).toBe(true)
		}
	})
})

describe('units and prices', () => {
	it('are those of the chain', () => {
		expect(chatUnits([{ role: 'user', content: 'größer' }])).toBe(16 + 16 + 8)
		expect(chatUnits([])).toBe(16)
		expect(answerPrice({ perRequest: 10n, perInputUnit: 2n, perOutputUnit: 3n }, 5, 7)).toBe(41n)
	})
})
