import { describe, expect, it, vi } from 'vitest'
vi.stubGlobal('location', { hash: '', href: 'http://gateway/page/', protocol: 'http:' })
vi.stubGlobal('addEventListener', () => {})
vi.stubGlobal('document', { documentElement: { dataset: {} } })
const { gatewayBase, nodeAddress, parsePlace, place, to } = await import('../src/state')
const { admitsDevelopmentKeys, refusal } = await import('../src/wallet')

describe('places', () => {
	it('are read out of the hash, and lead back to it', () => {
		expect(parsePlace('')).toEqual({ view: 'chat', rest: [], node: undefined })
		expect(parsePlace('#/requests/17?node=wss%3A%2F%2Fa.example')).toEqual({ view: 'requests', rest: ['17'], node: 'wss://a.example' })
		place.value = parsePlace('#/models?node=ws://b:1')
		expect(parsePlace(to('requests/3'))).toEqual({ view: 'requests', rest: ['3'], node: 'ws://b:1' })
	})

	it('ask the gateway where the page is, in whichever folder', () => {
		expect(new URL('v1/models', gatewayBase).href).toBe('http://gateway/page/v1/models')
	})
})

describe('a node’s address', () => {
	it('is one of WebSocket', () => {
		expect(nodeAddress(' ws://127.0.0.1:9944 ')).toEqual({ url: 'ws://127.0.0.1:9944' })
		for (const bad of ['', 'localhost', 'http://a.example', 'javascript:alert(1)']) expect(nodeAddress(bad)).toHaveProperty('wrong')
	})

	it('has TLS where the page has, save on the own machine', () => {
		expect(nodeAddress('ws://a.example', true)).toHaveProperty('wrong')
		expect(nodeAddress('wss://a.example', true)).toEqual({ url: 'wss://a.example' })
		expect(nodeAddress('ws://localhost:9944', true)).toHaveProperty('url')
	})
})

describe('wallets', () => {
	it('are development keys on development chains alone', () => {
		expect(['Development', 'Local', 'Live', 'Custom'].map(admitsDevelopmentKeys)).toEqual([true, true, false, false])
	})

	it('are told why the chain would refuse', () => {
		expect(refusal('NoCapacity')).toContain('Try again in a minute')
		expect(refusal({ input: 'NoChat' })).toBe('The model has no chat template.')
		expect(refusal({ somethingNew: null })).toContain('somethingNew')
	})
})
