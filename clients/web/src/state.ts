// What the whole page knows: where it is, whom it asks, how it looks.

import { computed, effect, signal } from '@preact/signals'

export const DEFAULT_NODE = 'ws://127.0.0.1:9944'

/** Where the page is: `#/requests/17?node=ws://…`. */
export interface Place {
	view: string
	rest: string[]
	node?: string
}

export function parsePlace(hash: string): Place {
	const [path = '', query = ''] = hash.replace(/^#/, '').split('?', 2)
	const [view = '', ...rest] = path.split('/').filter(Boolean)
	return { view: view || 'chat', rest, node: new URLSearchParams(query).get('node') || undefined }
}

/** A node's address, or why it is none. Browsers refuse an address without TLS on a page with TLS, save on the own machine. */
export function nodeAddress(text: string, isSecure = false): { url: string } | { wrong: string } {
	let url: URL
	try {
		url = new URL(text.trim())
	} catch {
		return { wrong: 'This is no address: it looks like ws://127.0.0.1:9944 or wss://node.example.' }
	}
	if (url.protocol !== 'ws:' && url.protocol !== 'wss:') return { wrong: 'A node is reached by ws:// or wss://.' }
	const isHere = ['localhost', '127.0.0.1', '[::1]'].includes(url.hostname)
	if (isSecure && url.protocol === 'ws:' && !isHere) return { wrong: 'This page came by https: its node has to be reached by wss://.' }
	return { url: url.href.replace(/\/$/, '') }
}

export const place = signal<Place>(parsePlace(location.hash))
addEventListener('hashchange', () => (place.value = parsePlace(location.hash)))

/** What whoever serves the page says: which node to read, and where it passes bytes on to validators. */
export const served = signal<{ node?: string; relay?: string }>({})

export const nodeUrl = computed(() => {
	const given = nodeAddress(place.value.node ?? served.value.node ?? DEFAULT_NODE, location.protocol === 'https:')
	return 'url' in given ? given.url : DEFAULT_NODE
})

/** A link within the page. A node that was chosen stays chosen. */
export function to(path: string, node = place.value.node): string {
	return `#/${path}${node ? `?node=${encodeURIComponent(node)}` : ''}`
}

export const gatewayBase = new URL('./', location.href.split('#')[0]).href

function stored(storage: () => Storage, name: string, usual: string) {
	const read = () => {
		try {
			return storage().getItem(name) ?? usual
		} catch {
			return usual
		}
	}
	const held = signal(read())
	effect(() => {
		const value = held.value
		try {
			if (value === usual) storage().removeItem(name)
			else storage().setItem(name, value)
		} catch {
			// A browser that keeps nothing: it holds as long as the page is open.
		}
	})
	return held
}

export const theme = stored(() => localStorage, 'consilience-theme', 'auto')
effect(() => {
	document.documentElement.dataset.theme = theme.value
})

/** The API key, where the gateway wants one. It is gone when the tab is closed. */
export const apiKey = stored(() => sessionStorage, 'consilience-key', '')

/** Who asks and pays in the chat: the gateway's account, or the page's own channel. */
export const payer = stored(() => localStorage, 'consilience-payer', 'gateway')

export const gateway = computed(() => ({ base: gatewayBase, key: apiKey.value }))

/** Reads what whoever serves the page says of itself. Another server than the gateway says nothing. */
export async function loadServed() {
	try {
		const reply = await fetch(new URL('config.json', gatewayBase))
		if (reply.ok) served.value = await reply.json()
	} catch {
		// Then the usual node.
	}
}
