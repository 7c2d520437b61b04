#!/usr/bin/env node
// Asks an active text-generation model one question: npm run ask -- "What is the capital of France?" [ws://…]

import { Keyring } from '@polkadot/api'

import { answer, chat, connect, models, request, settled } from './index.js'

const [question, url] = process.argv.slice(2)
if (!question) {
	console.error('usage: npm run ask -- QUESTION [URL]')
	process.exit(2)
}
const api = await connect(url)
try {
	const found = await models(api)
	const model = found.find(({ task, status }) => task === 'TextGeneration' && status === 'Active')
	if (!model) throw new Error('no text-generation model is active: run scripts/demo first')
	const account = new Keyring({ type: 'sr25519' }).addFromUri('//Ferdie')
	const { id } = await request(api, account, model.id, chat(question, 48, model.sampling))
	await settled(api, id, (state) => console.error(`request ${id}: ${state}`))
	console.log(await answer(api, id))
} finally {
	await api.disconnect()
}
