// A Consilience chain through PAPI (`polkadot-api`), over a node's WebSocket or a light client (`light.js`): all names and types come from
// the chain's own metadata, so that there are no descriptors to keep in step.

import { Keyring } from '@polkadot/keyring'
import { WebSocket } from '@polkadot/x-ws'
import { Binary, Enum, createClient } from 'polkadot-api'
import { getPolkadotSigner } from 'polkadot-api/signer'
import { getWsProvider } from 'polkadot-api/ws'

import { constraint, sampling } from './sampling.js'
import { SETTLED } from './states.js'

export { SETTLED }

/** Connects to a node: a PAPI client. `client.destroy()` ends it. */
export function connect(url = 'ws://127.0.0.1:9944') {
	return createClient(getWsProvider(url, { websocketClass: WebSocket }))
}

/** A signer for PAPI of a phrase and a derivation, `//Alice` say: for development. Browsers take one from an extension. */
export function signerOf(suri) {
	const pair = new Keyring({ type: 'sr25519' }).addFromUri(suri)
	return Object.assign(
		getPolkadotSigner(pair.publicKey, 'Sr25519', (data) => pair.sign(data)),
		{ address: pair.address }
	)
}

/** All registered models as of the last finalised block: `{ id, name, task, class, status, price, serving, sampling }`. */
export async function models(client) {
	const { query } = client.getUnsafeApi()
	return atFinalized(client, async (at) => {
		const entries = await query.ModelRegistry.Models.getEntries({ at })
		return Promise.all(
			entries.map(async ({ keyArgs: [id], value: { spec, status, price } }) => ({
				id,
				name: Binary.toText(spec.name),
				task: spec.task.type,
				class: spec.policy.class.type,
				status: status.type,
				price: { perRequest: price.per_request, perInputUnit: price.per_input_unit, perOutputUnit: price.per_output_unit },
				serving: (await query.ModelRegistry.Serving.getValue(id, { at })).map(({ who }) => who),
				sampling: advice(spec.sampling),
			}))
		)
	})
}

/** What `read` finds at the last finalised block, which is kept meanwhile: PAPI lets go of a block as soon as a later one is final. */
async function atFinalized(client, read) {
	const { hash } = await client.getFinalizedBlock()
	const release = client.hodlBlock(hash)
	try {
		return await read(hash)
	} finally {
		release()
	}
}

/** A publisher's advice in the units of {@link chat}'s `how`; what it does not say is left out. */
function advice({ top_k: topK, ...thousandths }) {
	const names = { temperature: 'temperature', top_p: 'topP', min_p: 'minP', repetition_penalty: 'repetitionPenalty' }
	const said = Object.entries(names).filter(([name]) => thousandths[name] !== undefined)
	const shares = Object.fromEntries(said.map(([name, as]) => [as, thousandths[name] / 1000]))
	return topK === undefined ? shares : { ...shares, topK }
}

/**
 * Input of a text-generation model: one question, answered greedily if `how` does not say otherwise (temperature, topP, topK, minP,
 * repetitionPenalty, presencePenalty, frequencyPenalty, logitBias, stop, as in the OpenAI API). What the answer may be is said by one of
 * `jsonSchema` (an object), `regex` and `lark` in `how`.
 */
export function chat(question, maxTokens = 48, { jsonSchema, regex, lark, ...how } = {}) {
	const { processing, stop, ...given } = sampling(maxTokens, how)
	const held = constraint({ jsonSchema, regex, lark })
	const asked = {
		prompt: Enum('Chat', [{ role: Enum('User'), content: Binary.fromText(question) }]),
		sampling: {
			max_tokens: given.maxTokens,
			temperature: given.temperature,
			top_p: given.topP,
			stop: stop.map(Binary.fromHex),
			processing: processing
				? {
						top_k: processing.topK,
						min_p: processing.minP,
						repetition_penalty: processing.repetitionPenalty,
						presence_penalty: processing.presencePenalty,
						frequency_penalty: processing.frequencyPenalty,
						logit_bias: processing.logitBias,
					}
				: undefined,
		},
	}
	if (held === null) return Enum('TextGeneration', asked)
	return Enum('ConstrainedText', { ...asked, constraint: { rules: held.rules, form: Enum(held.form), text: Binary.fromHex(held.text) } })
}

/** Input of an embedding model. */
export function embedding(text) {
	return Enum('Embedding', Binary.fromText(text))
}

/**
 * What a request would cost at most, in the token's smallest unit (`fee`, the tip not counted, and of it `surcharge`, which is burned because
 * those who serve the model are more than half taken), what is `taken` of what they can do, in thousandths, and in how many `blocks` the
 * answer is expected to be final; or throws the reason for which it would be refused.
 */
export async function quote(client, model, input, verifiers = 2) {
	const api = client.getUnsafeApi()
	const answer = await api.apis.InferenceApi.quote(model, Enum('Inline', input), Enum('Committee', verifiers))
	if (answer.success) {
		const { fee, surcharge, taken, wait } = answer.value
		return { fee, surcharge, taken, blocks: wait.queue + wait.work + wait.draws + wait.rounds }
	}
	const { type, value } = answer.value
	const detail = type === 'NoCapacity' ? `room is expected in ${value.blocks} blocks` : value?.type
	throw new Error(`the request would be refused: ${detail ? `${type}: ${detail}` : type}`)
}

/**
 * Submits a request and resolves when it stands in a block of the best chain, with `{ id, block, fee }`; {@link settled} says what becomes
 * of it. A refusal rejects with the name of the pallet's error.
 */
export async function request(client, signer, model, input, { verifiers = 2, feeLimit, tip = 0n } = {}) {
	const limit = feeLimit ?? (await quote(client, model, input, verifiers)).fee + tip
	const assurance = Enum('Committee', verifiers)
	const call = client.getUnsafeApi().tx.Inference.request({ model, input, assurance, fee_limit: limit, tip })
	return new Promise((resolve, reject) => {
		const submitted = call.signSubmitAndWatch(signer).subscribe({
			next(event) {
				if (event.type !== 'txBestBlocksState' || !event.found) return
				// A fork may put it into another block later: where it stands for good, `settled` finds by its number.
				queueMicrotask(() => submitted.unsubscribe())
				if (!event.ok) return reject(describe(event.dispatchError))
				const find = (pallet, name) => event.events.find(({ type, value }) => type === pallet && value.type === name)?.value.value
				resolve({
					id: find('Inference', 'RequestSubmitted').request,
					block: event.block.hash,
					fee: find('TransactionPayment', 'TransactionFeePaid').actual_fee,
				})
			},
			error: reject,
		})
	})
}

function describe({ type, value }) {
	if (type !== 'Module') return new Error(type)
	return Object.assign(new Error(`${value.type}.${value.value.type}`), { section: value.type, errorName: value.value.type })
}

/** Finalised blocks in which a request must have appeared: a fork may take it out of the best chain for a while. */
const APPEARS_WITHIN = 20

/**
 * Follows a request through finalised blocks until it is settled there: what a best block says, a fork may still undo. `onState` sees
 * each state once. Resolves with `{ block, request }`: the finalised block as `{ number, hash }`, and the request as stored.
 */
export async function settled(client, id, onState = () => {}) {
	const { query } = client.getUnsafeApi()
	let following
	let last
	let missing = 0
	try {
		return await new Promise((resolve, reject) => {
			const look = async ({ hash, number }, release) => {
				const stored = await query.Inference.Requests.getValue(id, { at: hash }).finally(release)
				if (!stored) {
					if (++missing > APPEARS_WITHIN) throw new Error(`there is no request ${id}`)
					return
				}
				const state = stored.state.type
				if (state !== last) onState((last = state))
				if (SETTLED.includes(state)) resolve({ block: { number, hash }, request: stored })
			}
			// One after the other, so that states come in their order. A block is kept until it was looked at: a light client may learn of
			// the next while it still reads this one.
			let before = Promise.resolve()
			following = client.finalizedBlock$.subscribe({
				next(block) {
					const release = client.hodlBlock(block.hash)
					before = before.then(() => look(block, release)).catch(unlessGone(reject))
				},
				error: reject,
			})
		})
	} finally {
		following?.unsubscribe()
	}
}

/** Where a connection broke, blocks that were kept are gone with it: the next finalised block says what these would have said. */
const unlessGone = (reject) => (error) => {
	if (error.name !== 'BlockNotPinnedError') reject(error)
}

/** The answer of a settled request: a text, or tensors `{ name, datatype, shape, data }`. Only a Final one is an answer. */
export async function answer(client, id) {
	const { query } = client.getUnsafeApi()
	const [stored, output] = await atFinalized(client, (at) =>
		Promise.all([query.Inference.Requests.getValue(id, { at }), query.Inference.Outputs.getValue(id, { at })])
	)
	if (stored?.state.type !== 'Final') {
		throw new Error(`request ${id} is ${stored?.state.type ?? 'unknown'}, not Final: there is no checked answer`)
	}
	if (output.type === 'Text') return Binary.toText(output.value.text)
	return output.value.map(({ name, datatype, shape, data }) => ({
		name: Binary.toText(name),
		datatype: datatype.type.toUpperCase(),
		shape,
		data,
	}))
}
