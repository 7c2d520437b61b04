// The connection to a node. polkadot.js is large and is loaded only here.

import type { ApiPromise, WsProvider } from '@polkadot/api'
import { effect, signal } from '@preact/signals'
import { nodeUrl } from './state'

export interface Head {
	number: number
	hash: string
}

export type Node =
	| { phase: 'connecting'; url: string }
	| { phase: 'unreachable'; url: string; since: number; best?: Head; finalized?: Head }
	| { phase: 'other'; url: string; why: string }
	| {
			phase: 'connected'
			url: string
			api: ApiPromise
			provider: WsProvider
			chain: string
			chainType: string
			symbol: string
			best: Head
			finalized: Head
	  }

export const node = signal<Node>({ phase: 'connecting', url: nodeUrl.value })

const RETRY = 2_000

/** Connects to whichever node is chosen, and stays connected. Begun once. */
export function connectNodes() {
	let stop = () => {}
	effect(() => {
		const url = nodeUrl.value
		stop()
		stop = follow(url)
	})
}

function follow(url: string): () => void {
	let live = true
	let provider: WsProvider | undefined
	const tell = (next: Node) => {
		if (live) node.value = next
	}
	tell({ phase: 'connecting', url })
	const gone = () => {
		const last = node.peek()
		if (last.phase === 'unreachable' && last.url === url) return
		const heads = last.phase === 'connected' ? { best: last.best, finalized: last.finalized } : {}
		tell({ phase: 'unreachable', url, since: Date.now(), ...heads })
	}
	const begin = async () => {
		const { ApiPromise, WsProvider } = await import('@polkadot/api')
		if (!live) return
		const socket = new WsProvider(url, RETRY)
		provider = socket
		const api = new ApiPromise({ provider: socket, noInitWarn: true })
		// What polkadot.js reports beside: the page says it in its own words.
		api.on('error', () => {})
		api.isReadyOrError.catch(() => {})
		socket.on('disconnected', gone)
		socket.on('error', gone)
		const ready = async () => {
			if (!live || provider !== socket) return
			try {
				// A chain of another genesis has other metadata: everything is read anew.
				const genesis = await api.rpc.chain.getBlockHash(0)
				if (!genesis.eq(api.genesisHash)) {
					await api.disconnect()
					return begin()
				}
				if (!api.tx.inference || !api.call.inferenceApi) {
					return tell({ phase: 'other', url, why: 'This node is of another chain: it has no inference pallet.' })
				}
				const [chain, chainType, best, finalized] = await Promise.all([
					api.rpc.system.chain(),
					api.rpc.system.chainType(),
					api.rpc.chain.getHeader(),
					api.rpc.chain.getFinalizedHead().then((hash) => api.rpc.chain.getHeader(hash)),
				])
				const head = (h: typeof best) => ({ number: h.number.toNumber(), hash: h.hash.toHex() })
				tell({
					phase: 'connected',
					url,
					api,
					provider: socket,
					chain: chain.toString(),
					chainType: chainType.type,
					symbol: api.registry.chainTokens[0] ?? 'CSL',
					best: head(best),
					finalized: head(finalized),
				})
			} catch {
				gone()
			}
		}
		api.once('ready', async () => {
			await ready()
			const change = (name: 'best' | 'finalized') => (h: { number: { toNumber(): number }; hash: { toHex(): string } }) => {
				const now = node.peek()
				if (live && now.phase === 'connected' && now.api === api) {
					node.value = { ...now, [name]: { number: h.number.toNumber(), hash: h.hash.toHex() } }
				}
			}
			// They are subscribed to again by polkadot.js after a break.
			await api.rpc.chain.subscribeNewHeads(change('best')).catch(gone)
			await api.rpc.chain.subscribeFinalizedHeads(change('finalized')).catch(gone)
			socket.on('connected', ready)
		})
	}
	begin().catch(() => tell({ phase: 'other', url, why: 'A part of this page could not be loaded: reload it.' }))
	return () => {
		live = false
		provider?.disconnect().catch(() => {})
	}
}
