// The node's own JSON-RPC methods for polkadot.js: `connect(url, { rpc: definitions })` makes `api.rpc.inference.watch(id, callback)` and
// the others. Nothing depends on this file: everything on chain can be read without it.
//
// Results are what the node sends, as JSON: hashes in hexadecimal, accounts as addresses, amounts as decimal strings.

const at = { name: 'at', type: 'Hash', isOptional: true }
const model = { name: 'model', type: 'Hash' }
const request = { name: 'request', type: 'u64' }

/** A method: what it returns, what it is for, and its parameters. polkadot.js's `Json` is an object; lists and what may be `null` say so. */
const method = (type, description, ...params) => ({ description, params, type })

/** A subscription: the name of its messages beside that. */
const subscription = (message, subscribe, unsubscribe, described) => ({ ...described, pubsub: [message, subscribe, unsubscribe] })

/** For `ApiPromise.create({ rpc: definitions })`: `models`, `inference` and `sessions`. */
export const definitions = {
	models: {
		list: method('Vec<Json>', 'Every model on chain', at),
		get: method('Option<Json>', 'One model on chain; null if it is not registered', model, at),
		manifest: method('Json', "A model's manifest", model),
		local: method('Vec<Json>', 'Models stored on this node, and where each stands with its validator'),
		serve: method('Json', "Lets this node's validator serve a model (unsafe)", model),
		fetch: method('bool', "Fetches a model from other nodes into this node's store (unsafe)", model),
		remove: method('bool', "Removes a model from this node's store (unsafe)", model),
		withdraw: method('bool', "Lets this node's validator serve the model no longer (unsafe)", model),
	},
	inference: {
		request: method('Option<Json>', 'A request that is open or was settled not long ago; null if there is none', request, at),
		quote: method(
			'Json',
			"What a request would cost at most, in the token's smallest unit, and in how many blocks it is expected to be final",
			model,
			{ name: 'input', type: 'Json' },
			{ name: 'verifiers', type: 'u8' }
		),
		data: method('Option<Bytes>', 'Data that a transaction brought, by its BLAKE2b-256 hash', { name: 'hash', type: 'Hash' }),
		proof: method('Json', 'A request at a finalised block, with a storage proof', request, at),
		engine: method('Json', 'The engine and its work'),
		watch: subscription(
			'step',
			'watch',
			'unwatch',
			method('Json', 'Every step of a request, its finality, and what a fork took back', request)
		),
		subscribeRequest: subscription(
			'requestUpdate',
			'subscribeRequest',
			'unsubscribeRequest',
			method('Json', 'How a request stands, whenever that changes', request)
		),
	},
	sessions: {
		channel: method('Option<Json>', 'A channel of the session lane; null where there is none', { name: 'channel', type: 'u64' }, at),
		channelsOf: method('Vec<Json>', "An account's channels, the oldest first", { name: 'owner', type: 'AccountId' }, at),
		lanes: method('Vec<Json>', 'Validators that serve the model in the session lane, with their addresses', model, at),
	},
}
