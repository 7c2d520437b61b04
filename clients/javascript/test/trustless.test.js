// PAPI, a light client, proofs and polkadot.js's definitions over one request. Needs a network with an active text-generation model, of
// which a node listens for WebSocket: CONSILIENCE_URL names that node, CONSILIENCE_CHAIN_SPEC the raw specification of its chain, or
// CONSILIENCE_BIN the program that writes the one of the development network.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { after, before, test } from 'node:test'

import { u8aToHex } from '@polkadot/util'
import { Enum } from 'polkadot-api'

import { definitions } from '../src/definitions.js'
import { connect as connectPolkadotJs } from '../src/index.js'
import { addressesOf, light } from '../src/light.js'
import { answer, chat, connect, models, quote, request, settled, signerOf } from '../src/papi.js'
import { storageKey, verifyProof } from '../src/proof.js'

const { CONSILIENCE_URL: url, CONSILIENCE_CHAIN_SPEC: specFile, CONSILIENCE_BIN: binary } = process.env
const CSL = 10n ** 12n
const account = signerOf('//Dave//papi')

let node
let api
let lightClient
let stop = async () => {}
let model
let funded

/** The chain's specification: what a light client trusts. */
function specification() {
	if (specFile) return readFileSync(specFile, 'utf8')
	assert.ok(binary, 'CONSILIENCE_CHAIN_SPEC or CONSILIENCE_BIN says which chain it is')
	const options = { maxBuffer: 256 << 20, stdio: ['ignore', 'pipe', 'ignore'] }
	return execFileSync(binary, ['export-chain-spec', '--chain', 'local', '--raw'], options).toString()
}

before(async () => {
	node = connect(url)
	const transfer = node.getUnsafeApi().tx.Balances.transfer_keep_alive({ dest: Enum('Id', account.address), value: 100n * CSL })
	funded = transfer.signAndSubmit(signerOf('//Dave'))
	;({ client: lightClient, stop } = await light(specification(), { bootNodes: await addressesOf(node) }))
	api = await connectPolkadotJs(url, { rpc: definitions })
})

after(async () => {
	await api?.disconnect()
	node?.destroy()
	await stop()
})

test('a light client syncs by itself and reads what the chain has', { timeout: 120_000 }, async () => {
	const genesis = await lightClient.getChainSpecData()
	assert.equal(genesis.genesisHash, (await node.getChainSpecData()).genesisHash)
	const found = await models(lightClient)
	model = found.find(({ task, status }) => task === 'TextGeneration' && status === 'Active')
	assert.ok(model, `an active text-generation model among ${JSON.stringify(found.map((m) => [m.name, m.status]))}`)
	assert.deepEqual(
		(await models(node)).find(({ id }) => id === model.id),
		model
	)
	assert.ok(model.serving.every((who) => /^5/.test(who)))
	// polkadot.js says the same in its own words, and so does the node in its.
	const said = (await api.rpc.models.get(model.id)).unwrap().toJSON()
	assert.deepEqual([said.name, said.serving, BigInt(said.price.per_request)], [model.name, model.serving, model.price.perRequest])
	assert.deepEqual((await api.rpc.sessions.channelsOf(account.address)).toJSON(), [])
	for (const lane of (await api.rpc.sessions.lanes(model.id)).toJSON()) assert.match(lane.endpoint, /^wss?:\/\//)
})

test('a question by PAPI, watched step by step, and its result proven', { timeout: 300_000 }, async () => {
	const { ok } = await funded
	assert.ok(ok, 'the account has money')
	const question = chat('What is the capital of France?', 24)
	const quoted = await quote(lightClient, model.id, question)
	const said = await quote(node, model.id, question)
	const price = quoted.fee
	assert.equal(said.fee, price)
	assert.ok(said.surcharge < price && said.taken <= 1_000 && said.blocks >= 5, 'the quote says how long it takes')
	const { id } = await request(node, account, model.id, question, { feeLimit: price })

	const steps = []
	const ended = new Promise((resolve) => {
		api.rpc.inference.watch(id, (step) => {
			const said = step.toJSON()
			steps.push(said)
			if (said.event === 'ended') resolve(said)
		})
	})
	const states = []
	const { block, request: stored } = await settled(lightClient, id, (state) => states.push(state))
	assert.equal(states.at(-1), 'Final', states.join(' '))
	const text = await answer(lightClient, id)
	assert.match(text, /\w/)
	assert.equal(stored.paid + stored.refunded, stored.escrow)

	const end = await ended
	assert.equal(end.state, 'final')
	assert.equal((await api.rpc.chain.getBlockHash(end.block.number)).toHex(), end.block.hash)
	// What a fork took back was told before, and came again.
	const standing = []
	for (const step of steps) {
		if (step.event === 'step') standing.push(step)
		if (step.event === 'retracted') assert.deepEqual(standing.pop().block, step.block)
	}
	const finalized = steps.filter(({ event }) => event === 'finalized')
	assert.deepEqual(
		finalized.map((step) => [step.block, step.state]),
		standing.map((step) => [step.block, step.request.state])
	)
	assert.equal(standing[0].request.state, 'requested')

	// The light client knows the block; the node's word is not needed any more.
	assert.deepEqual(verifyProof((await api.rpc.inference.proof(id, block.hash)).toJSON(), id, block.hash).block, block)
	// Kept, for PAPI lets go of a block as soon as a later one is final.
	const { hash, number } = await lightClient.getFinalizedBlock()
	const release = lightClient.hodlBlock(hash)
	const proof = (await api.rpc.inference.proof(id, hash)).toJSON()
	const proven = verifyProof(proof, id, hash)
	assert.deepEqual(proven.block, { number, hash })
	for (const entry of ['request', 'input', 'output']) {
		assert.equal(u8aToHex(proven[entry]), proof.entries[entry].value)
		assert.equal(u8aToHex(proven[entry]), await lightClient.rawQuery(storageKey(entry, id), { at: hash }))
	}
	release()
	assert.equal(proof.request.output.text, text)
	const lie = structuredClone(proof)
	lie.proof = lie.proof.map((hex) => hex.replace(proof.entries.output.value.slice(-8, -2), '000000'))
	assert.notDeepEqual(lie.proof, proof.proof)
	assert.throws(() => verifyProof(lie, id, hash), /a node is missing/)
	assert.throws(() => verifyProof(proof, id, model.id), /not that of the block/)
	// Of the last finalised block, which may be a later one.
	assert.equal((await api.rpc.inference.proof(id)).toJSON().request.state, 'final')
})

test('what cannot be is refused by name, by node and library', { timeout: 60_000 }, async () => {
	await assert.rejects(quote(node, `0x${'00'.repeat(32)}`, chat('Hello')), /UnknownModel/)
	await assert.rejects(quote(node, model.id, chat('Hello', 4096)), /OutputTooLarge/)
	await assert.rejects(request(node, account, model.id, chat('Hello'), { feeLimit: 1n }), { errorName: 'FeeLimitTooLow' })
	await assert.rejects(api.rpc.inference.proof(2n ** 40n), /7003|no request/)
	await assert.rejects(api.rpc.inference.proof(0, `0x${'07'.repeat(32)}`), /7014|knows no block/)
	await assert.rejects(
		api.rpc.inference.watch(2n ** 40n, () => {}),
		/7003|no request/
	)
	await assert.rejects(light('{}'), /export it with --raw/)
	await assert.rejects(light({ genesis: { raw: {} } }), /no peer is named/)
	await assert.rejects(light({ genesis: { raw: {} } }, { bootNodes: ['/ip4/127.0.0.1/tcp/1/ws'] }))
})
