// What is read of a chain, on a developer's node: asked by wallet, followed to its end, seen in every view, with the node going away between.

import assert from 'node:assert/strict'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { browser, developersNode, gateway, open } from './harness.mjs'

const model = process.env.CONSILIENCE_MODELS && path.join(process.env.CONSILIENCE_MODELS, 'smollm2-135m-instruct-int8')
const skip = process.env.CONSILIENCE_BIN && model ? false : 'CONSILIENCE_BIN and CONSILIENCE_MODELS name no node and no models'

let chromium
let node
let served
before(async () => {
	if (skip) return
	chromium = await browser()
	node = await developersNode([model])
	served = await gateway({ node: node.url })
})
after(async () => {
	await served?.stop()
	await node?.stop()
	await chromium?.close()
})

test('a request by a development key is asked, answered and followed', { skip }, async () => {
	const { page, errors, close } = await open(chromium, `${served.url}#/ask`)
	const account = page.getByLabel('Or a development key')
	// The model is registered and served some blocks after the start.
	await account.selectOption('Bob')
	await page.getByText('Asks and pays: //Bob').waitFor()
	await page.getByLabel('Most tokens').fill('12')
	await page.getByLabel('Text').fill('What is the capital of France?')
	await page.getByText('does not come back. The account has').waitFor()
	assert.match(await page.locator('form').last().textContent(), /At most 0\.\d+ CSL is held, checks included.*fee is 0\.\d+ CSL/)
	await page.getByRole('button', { name: 'Sign and ask' }).click()
	await page.getByRole('heading', { level: 1, name: 'Request 0' }).waitFor()
	await page.getByText('final, unchecked').waitFor()
	const text = await page.locator('main').textContent()
	assert.match(text, /Nobody but the executor measured it\. Its block is finalised\./)
	assert.match(text, /The capital of France is Paris\./)
	assert.match(text, /nobody checked this/)
	assert.match(text, /executor 5\w+…\w+ drawn, to answer by block \d+/)
	assert.match(text, /to the treasury/)
	assert.match(text, /consilience verify 0 --url ws:/)
	assert.deepEqual(errors, [])
	await close()
})

test('models, requests and the network are those of the chain, and new blocks are followed', { skip }, async () => {
	const { page, errors, close } = await open(chromium, `${served.url}#/models`)
	await page.getByRole('heading', { name: /smollm2-135m-instruct-int8/ }).waitFor()
	assert.match(
		await page.locator('.card').filter({ hasText: 'smollm2' }).textContent(),
		/exact class.*0\.01 CSL a request.*all thresholds are zero.*curl/s
	)
	await page.getByRole('link', { name: 'Requests' }).click()
	await page.getByRole('link', { name: /smollm2/ }).click()
	await page.getByRole('heading', { level: 1, name: 'Request 0' }).waitFor()
	await page.getByRole('link', { name: 'Network' }).click()
	await page.getByText('Validators of this session: 1').waitFor()
	await page.getByText(/^serves .*smollm2-135m-instruct-int8/).waitFor()
	await page.getByText('final, unchecked').waitFor()
	const best = async () => Number(await page.locator('.figures strong').nth(1).textContent())
	const before = await best()
	await page.waitForFunction((n) => Number(document.querySelectorAll('.figures strong')[1].textContent) > n, before)
	assert.deepEqual(errors, [])
	await close()
})

test('a request that the chain does not know is said to be none', { skip }, async () => {
	const { page, close } = await open(chromium, `${served.url}#/requests`)
	await page.getByLabel('Number of a request').fill('4711')
	await page.getByRole('button', { name: 'Show its life' }).click()
	await page.getByText('This chain does not know request 4711').waitFor()
	await close()
})

test('the chat shows what the chain would hold', { skip }, async () => {
	// The double's models are none of this chain: the node says so, and the page does not hide it.
	const { page, close } = await open(chromium, served.url)
	await page.waitForFunction(() => /finalised \d+/.test(document.querySelector('#node-state').textContent))
	await page.getByLabel('Your message').fill('a')
	await page.getByText('The chain would refuse this now').waitFor()
	await close()
})

test('another node can be chosen, and a wrong address is refused', { skip }, async () => {
	const { page, close } = await open(chromium, `${served.url}#/node`, { quiet: true })
	const address = page.getByLabel('Address of the node')
	await address.fill('http://127.0.0.1')
	await page.getByRole('button', { name: 'Read this node' }).click()
	await page.getByText('A node is reached by ws:// or wss://.').waitFor()
	await address.fill('ws://127.0.0.1:1')
	await page.getByRole('button', { name: 'Read this node' }).click()
	await page.getByText('does not answer').first().waitFor()
	await page.getByRole('link', { name: 'Models' }).click()
	assert.match(page.url(), /#\/models\?node=ws%3A%2F%2F127\.0\.0\.1%3A1$/)
	await page.getByRole('link', { name: 'Change the node' }).click()
	await page.getByRole('link', { name: 'The usual one' }).click()
	await page.getByText('Connected to').waitFor()
	await close()
})

test('a node that goes away is said, and reconnected to', { skip }, async () => {
	const { page, close } = await open(chromium, `${served.url}#/requests`, { quiet: true })
	await page.getByRole('link', { name: /smollm2/ }).waitFor()
	await node.halt()
	await page.getByText('does not answer since block').waitFor()
	// What was read stays.
	assert.equal(await page.getByRole('link', { name: /smollm2/ }).count(), 1)
	await node.again()
	await page.getByText('does not answer since block').waitFor({ state: 'detached' })
	await page.waitForFunction(() => /finalised \d+/.test(document.querySelector('#node-state').textContent))
	await close()
})
