// A light client (smoldot): it follows the chain's headers and GRANDPA's finality by itself, and checks every value that it reads against
// a finalised header. No server is trusted; peers only pass bytes on. Runs in Node and in browsers.

import { createClient } from 'polkadot-api'
import { getSmProvider } from 'polkadot-api/sm-provider'
import { start } from 'polkadot-api/smoldot'

/**
 * Starts a light client of a chain. `chainSpec` is the chain's specification in the raw form, as text or as what JSON makes of it
 * (`consilience export-chain-spec --chain local --raw`): whatever it says of the genesis block is what is trusted. `bootNodes` are more
 * peers to begin with, besides those in the specification: in browsers and in Node they have to listen for WebSocket
 * (`/ip4/127.0.0.1/tcp/30343/ws/p2p/12D3KooW…`; browsers reach others than localhost by `wss` alone). `log(level, target, message)` is told
 * what happens, up to `logLevel` (1 for errors, to 5).
 *
 * Resolves with `{ client, stop }`: a PAPI client, for all functions of `papi.js`, and a function that ends everything. Rejects a
 * specification that cannot be read.
 */
export async function light(chainSpec, { bootNodes = [], log = () => {}, logLevel = 1 } = {}) {
	const spec = typeof chainSpec === 'string' ? JSON.parse(chainSpec) : chainSpec
	if (!spec?.genesis?.raw) throw new Error('the chain specification is not in the raw form: export it with --raw')
	const peers = [...new Set([...(spec.bootNodes ?? []), ...bootNodes])]
	if (peers.length === 0) throw new Error('no peer is named: give bootNodes, addresses that end in /ws/p2p/ and a peer id')
	const smoldot = start({ maxLogLevel: logLevel, logCallback: log })
	let client
	const stop = async () => {
		client?.destroy()
		await smoldot.terminate().catch(() => {})
	}
	try {
		const chain = await smoldot.addChain({ chainSpec: JSON.stringify({ ...spec, bootNodes: peers }) })
		client = createClient(getSmProvider(() => chain))
		return { client, stop }
	} catch (e) {
		await stop()
		throw e
	}
}

/**
 * Addresses of a node for light clients: those at which it listens for WebSocket. `client` is one of a node (`papi.js`), for whoever has
 * one at hand; that it lies costs no more than a peer that does not answer.
 */
export async function addressesOf(client) {
	const addresses = await client._request('system_localListenAddresses', [])
	return addresses.filter((address) => /\/wss?(\/|$)/.test(address))
}
