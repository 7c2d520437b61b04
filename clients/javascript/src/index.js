// A Consilience chain through polkadot.js (@polkadot/api), with the chain's own metadata and no custom types.

import { ApiPromise, WsProvider } from '@polkadot/api'
import { u8aConcat, u8aToHex, u8aToU8a } from '@polkadot/util'
import { blake2AsHex } from '@polkadot/util-crypto'

import { advice, constraint, sampling, utf8 } from './sampling.js'
import { SETTLED } from './states.js'

export { SETTLED, sampling }

/** Connects to a node. `options` are polkadot.js's: `{ rpc: definitions }` for the node's own methods (`definitions.js`). */
export async function connect(url = 'ws://127.0.0.1:9944', options = {}) {
	return ApiPromise.create({ provider: new WsProvider(url), noInitWarn: true, throwOnConnect: true, ...options })
}

/** All registered models: `{ id, name, task, class, status, price, serving, sampling }`; the last is what its publisher advises. */
export async function models(api) {
	const entries = await api.query.modelRegistry.models.entries()
	return Promise.all(
		entries.map(async ([key, details]) => {
			const model = details.unwrap()
			const id = key.args[0]
			const serving = await api.query.modelRegistry.serving(id)
			return {
				id: id.toHex(),
				name: model.spec.name.toUtf8(),
				task: model.spec.task.type,
				class: model.spec.policy.class.type,
				status: model.status.type,
				price: {
					perRequest: model.price.perRequest.toBigInt(),
					perInputUnit: model.price.perInputUnit.toBigInt(),
					perOutputUnit: model.price.perOutputUnit.toBigInt(),
				},
				serving: serving.map(({ who }) => who.toString()),
				sampling: advice(model.spec.sampling),
			}
		})
	)
}

/**
 * Input of a text-generation model: one question, answered greedily if `how` does not say otherwise (see {@link sampling}). What the answer
 * may be is said by one of `jsonSchema` (an object), `regex` and `lark` in `how` (see {@link constraint}).
 */
export function chat(question, maxTokens = 48, { jsonSchema, regex, lark, ...how } = {}) {
	const held = constraint({ jsonSchema, regex, lark })
	const asked = { prompt: { Chat: [{ role: 'User', content: utf8(question) }] }, sampling: sampling(maxTokens, how) }
	return held === null ? { TextGeneration: asked } : { ConstrainedText: { ...asked, constraint: held } }
}

/** Input of an embedding model. */
export function embedding(text) {
	return { Embedding: utf8(text) }
}

/** Most bytes of a tensor that the chain's state takes. The data of larger ones stays in the transaction that asks. */
const MOST_IN_STATE = 65_536

/**
 * Input of a tensor model: `[{ name, datatype, shape, data }]`, one for each of the graph's inputs. `datatype` is a name such as
 * `Fp32`, `data` a typed array or a Uint8Array, row-major and little-endian. All together may have 3 MiB.
 */
export function tensors(list) {
	return {
		Tensor: list.map(({ name, datatype, shape, data }) => ({ name: utf8(name), datatype, shape, data: bytesOf(name, data) })),
	}
}

/** The bytes of a typed array, without copying them. */
function bytesOf(name, data) {
	if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
	if (data instanceof ArrayBuffer) return new Uint8Array(data)
	throw new TypeError(`tensor ${name}: data is no typed array, such as a Float32Array, and no ArrayBuffer`)
}

/** How an input stands on chain, and what a transaction brings beside it. */
function split(input) {
	if (!input.Tensor) return { stored: { Inline: input } }
	const list = input.Tensor.map((tensor) => ({ ...tensor, data: u8aToU8a(tensor.data) }))
	if (list.every(({ data }) => data.length <= MOST_IN_STATE)) {
		return { stored: { Inline: { Tensor: list.map(({ data, ...header }) => ({ ...header, data: u8aToHex(data) })) } } }
	}
	const data = u8aConcat(...list.map(({ data }) => data))
	const headers = list.map(({ data, ...header }) => ({ ...header, bytes: data.length }))
	return { stored: { Indexed: { tensors: headers, dataHash: blake2AsHex(data) } }, data: u8aToHex(data) }
}

/**
 * What a request would cost at most (`fee`, the tip not counted, and of it `surcharge`, which is burned because those who serve the model are
 * more than half taken), what is `taken` of what they can do, in thousandths, and in how many `blocks` the answer is expected to be final; or
 * throws the reason for which it would be refused.
 */
export async function quote(api, model, input, verifiers = 2) {
	const answer = await api.call.inferenceApi.quote(model, split(input).stored, { Committee: verifiers })
	if (answer.isErr) throw new Error(`the request would be refused: ${refusal(answer.asErr)}`)
	const { fee, surcharge, taken, wait } = answer.asOk
	const parts = [wait.queue, wait.work, wait.draws, wait.rounds]
	return {
		fee: fee.toBigInt(),
		surcharge: surcharge.toBigInt(),
		taken: taken.toNumber(),
		blocks: parts.reduce((sum, part) => sum + part.toNumber(), 0),
	}
}

function refusal(error) {
	if (!error.isNoCapacity) return error.toString()
	return `NoCapacity: room is expected in ${error.asNoCapacity.blocks.toString()} blocks`
}

/**
 * Submits a request and resolves when it stands in a block, with `{ id, block, fee }`; with `final` when that block is final, before which
 * a fork may give it another number and another fee. A refusal rejects with the name and the documentation of the pallet's error.
 */
export async function request(api, account, model, input, { verifiers = 2, feeLimit, tip = 0n, final = false } = {}) {
	const limit = feeLimit ?? (await quote(api, model, input, verifiers)).fee + tip
	const { stored, data } = split(input)
	const call = data
		? api.tx.inference.requestWithData(model, stored.Indexed.tensors, { Committee: verifiers }, limit, tip, data)
		: api.tx.inference.request(model, stored.Inline, { Committee: verifiers }, limit, tip)
	return new Promise((resolve, reject) => {
		call
			.signAndSend(account, ({ status, events, dispatchError, isError }) => {
				if (isError) return reject(new Error(`the transaction was dropped: ${status.type}`))
				if (final ? !status.isFinalized : !status.isInBlock) return
				if (dispatchError) return reject(describe(api, dispatchError))
				const find = (section, method) => events.find(({ event }) => event.section === section && event.method === method)?.event.data
				resolve({
					id: find('inference', 'RequestSubmitted').request.toBigInt(),
					block: (final ? status.asFinalized : status.asInBlock).toHex(),
					fee: find('transactionPayment', 'TransactionFeePaid').actualFee.toBigInt(),
				})
			})
			.catch(reject)
	})
}

function describe(api, error) {
	if (!error.isModule) return new Error(error.toString())
	const { section, name, docs } = api.registry.findMetaError(error.asModule)
	return Object.assign(new Error(`${section}.${name}: ${docs.join(' ')}`), { section, errorName: name })
}

/** Finalised blocks in which a request must have appeared: a fork may take it out of the best chain for a while. */
const APPEARS_WITHIN = 20

/**
 * Follows a request through finalised blocks until it is settled there: what a best block says, a fork may still undo. `onState` sees
 * each state once. Resolves with the request as stored.
 */
export async function settled(api, id, onState = () => {}) {
	let stop = () => {}
	let last
	let missing = 0
	try {
		return await new Promise((resolve, reject) => {
			const look = async ({ hash }) => {
				const found = await (await api.at(hash)).query.inference.requests(id)
				if (found.isNone) {
					if (++missing > APPEARS_WITHIN) reject(new Error(`there is no request ${id}`))
					return
				}
				const stored = found.unwrap()
				const state = stored.state.type
				if (state !== last) onState((last = state))
				if (SETTLED.includes(state)) resolve(stored)
			}
			api.rpc.chain.subscribeFinalizedHeads((head) => look(head).catch(reject)).then((unsubscribe) => (stop = unsubscribe), reject)
		})
	} finally {
		stop()
	}
}

/** The answer of a settled request: a text, or tensors `{ name, datatype, shape, data }`. Only a Final one is an answer. */
export async function answer(api, id) {
	const stored = (await api.query.inference.requests(id)).unwrap()
	if (!stored.state.isFinal) throw new Error(`request ${id} is ${stored.state.type}, not Final: there is no checked answer`)
	const output = (await api.query.inference.outputs(id)).unwrap()
	if (output.isText) return output.asText.text.toUtf8()
	return output.asTensors.map((tensor) => ({
		name: tensor.name.toUtf8(),
		datatype: tensor.datatype.type.toUpperCase(),
		shape: tensor.shape.map((length) => length.toNumber()),
		data: tensor.data.toU8a(true),
	}))
}
