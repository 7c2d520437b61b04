// Every view, on a telephone and a desk, light and dark: axe finds nothing, nothing is wider than the screen, and a picture is left to look at.

import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { SIZES, browser, developersNode, freePort, gateway, look as lookAt, open } from './harness.mjs'

const SCREENSHOTS = fileURLToPath(new URL('./screenshots/', import.meta.url))

const models = process.env.CONSILIENCE_MODELS
let chromium
let node
let served
/** Takes so long that a provisional answer can be looked at. */
let slow
/** Addresses of nodes: of a network with committees, where one runs, or else of a developer's node, or none at all. */
let source

before(async () => {
	mkdirSync(SCREENSHOTS, { recursive: true })
	chromium = await browser()
	if (process.env.CONSILIENCE_URL) source = process.env.CONSILIENCE_URL
	else if (process.env.CONSILIENCE_BIN && models) {
		node = await developersNode([path.join(models, 'smollm2-135m-instruct-int8')])
		source = node.url
	}
	served = await gateway({ node: source ?? `ws://127.0.0.1:${await freePort()}`, block: 100 })
	slow = await gateway({ node: source ?? `ws://127.0.0.1:${await freePort()}`, block: 5_000 })
})
after(async () => {
	await served?.stop()
	await slow?.stop()
	await node?.stop()
	await chromium?.close()
})

const look = (page, name) => lookAt(page, path.join(SCREENSHOTS, `${name}.png`))

const connected = (page) => page.waitForFunction(() => /finalised \d+/.test(document.querySelector('#node-state').textContent))
const read = async (page) => {
	await connected(page)
	await page.waitForFunction(() => !/Reading …/.test(document.querySelector('main').textContent))
}

const VIEWS = {
	chat: async (page) => {
		await page.getByLabel('Your message').fill('What is the capital of France?')
		await page.getByRole('button', { name: 'Send' }).click()
		await page.getByText('block is finalised').waitFor()
		await page.getByLabel('Your message').fill('reject')
		await page.getByRole('button', { name: 'Send' }).click()
		await page.getByRole('article').last().getByRole('alert').waitFor()
		await page.getByLabel('Your message').fill('And of Spain?')
		await page.locator('summary').first().click()
	},
	'chat-provisional': async (page) => {
		await page.getByLabel('Your message').fill('What is the capital of France?')
		await page.getByRole('button', { name: 'Send' }).click()
		await page.locator('.answer.provisional').waitFor()
	},
	models: read,
	requests: read,
	network: read,
	ask: async (page) => {
		if (!source) return
		await page.getByLabel('Or a development key').selectOption('Ferdie')
		await page.getByLabel('Text').fill('What is a pallet?')
		await page.getByText('does not come back. The account has').waitFor()
	},
	node: async () => {},
}

for (const size of Object.keys(SIZES)) {
	for (const scheme of ['light', 'dark']) {
		for (const [view, prepare] of Object.entries(VIEWS)) {
			const isOfChain = ['models', 'requests', 'network'].includes(view)
			test(`${view} on a ${size}, ${scheme}`, async (t) => {
				if (isOfChain && !source) return t.skip('there is no node')
				const { page, errors, close } = await open(chromium, view === 'chat-provisional' ? slow.url : `${served.url}#/${view}`, {
					size,
					scheme,
					quiet: !source,
				})
				await prepare(page)
				await look(page, `${view}-${size}-${scheme}`)
				assert.deepEqual(errors, [])
				await close()
			})
		}
		test(`a request’s life on a ${size}, ${scheme}`, async (t) => {
			if (!process.env.CONSILIENCE_URL) return t.skip('CONSILIENCE_URL names no network with committees')
			const { page, errors, close } = await open(chromium, `${served.url}#/requests`, { size, scheme })
			await read(page)
			const links = await page.locator('.rows a').evaluateAll((all) => all.map((a) => a.hash))
			assert.ok(links.length > 0, 'the network has requests')
			for (const [i, link] of links.slice(0, 3).entries()) {
				await page.goto(`${served.url}${link}`)
				await page.getByRole('heading', { name: 'Evidence' }).waitFor()
				await page.locator('.members li').nth(2).waitFor()
				await look(page, `request-${i}-${size}-${scheme}`)
			}
			assert.deepEqual(errors, [])
			await close()
		})
	}
}

test('the page says that there is no node, on a telephone', async () => {
	const lost = await gateway({ node: `ws://127.0.0.1:${await freePort()}` })
	const { page, close } = await open(chromium, `${lost.url}#/network`, { size: 'telephone', quiet: true })
	await page.getByText('does not answer').first().waitFor()
	await look(page, 'lost-telephone-light')
	await close()
	await lost.stop()
})
