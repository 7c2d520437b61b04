// Chat through a gateway on its double. There is no node: the page says so, and the chat goes on without.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { browser, freePort, gateway, open } from './harness.mjs'

let chromium
let served
let nowhere
before(async () => {
	chromium = await browser()
	nowhere = `ws://127.0.0.1:${await freePort()}`
	served = await gateway({ node: nowhere })
})
after(async () => {
	await served?.stop()
	await chromium?.close()
})

const message = (page) => page.getByLabel('Your message')
const last = (page) => page.getByRole('article').last()

async function ask(page, text) {
	await message(page).fill(text)
	await page.getByRole('button', { name: 'Send' }).click()
}

/** Writes down what an answer is called, in the order in which it is. */
function record(page) {
	return page.evaluate(() => {
		const seen = (window.seen = [])
		const look = () => {
			const turn = [...document.querySelectorAll('.turn')].at(-1)
			const tag = turn?.querySelector('.answer .tag')?.textContent
			if (!tag) return
			const said = `${tag}: ${turn.querySelector('.meaning').textContent.split('.')[0]}`
			if (said !== seen.at(-1)) seen.push(said)
		}
		new MutationObserver(look).observe(document.body, { childList: true, subtree: true, characterData: true })
	})
}

test('an answer grows from asked to final, and is called checked only when it is', async () => {
	// Long enough for every stage to be seen, also where the machine is busy.
	const slow = await gateway({ node: nowhere, block: 1_500 })
	const { page, errors, close } = await open(chromium, slow.url, { quiet: true })
	await record(page)
	await message(page).fill('What is the capital of France?')
	await page.getByText('At most', { exact: false }).and(page.locator('#price')).waitFor()
	// The double's price: 10 a request, 1 a unit, 20 a token, and 64 tokens.
	assert.match(
		await page.locator('#price').textContent(),
		/At most 0\.00000000\d+ CSL for the answer \(62 units in, 64 tokens out\); checks come on top/
	)
	await message(page).press('Enter')
	await last(page).getByText('2 of 2 validators measured it and agree, and the block is finalised.').waitFor()
	assert.deepEqual(await page.evaluate(() => window.seen), [
		'provisional: nobody has checked this: One validator says so; nobody has checked it',
		'provisional: nobody has checked this: 2 validators were drawn to measure it',
		'checked: 2 of 2 validators measured it and agree',
		'checked, final: 2 of 2 validators measured it and agree, and the block is finalised',
	])
	const stages = await last(page).locator('.ladder li').allTextContents()
	assert.deepEqual(
		stages.map((s) => s.replace(/block \d+/, ' in a block')),
		['asked', 'assigned', 'provisional', 'being checked', 'checked', 'final'].map((s) => `${s} in a block`)
	)
	assert.match(await last(page).textContent(), /paid 0\.0000000006 CSL, 0\.0000000004 CSL returned/)
	assert.equal(await last(page).locator('.text').getAttribute('aria-live'), 'polite')
	// Streamed text and the status are told to screen readers; what came before is part of the next question.
	await ask(page, 'And of Spain?')
	await last(page).getByText('block is finalised').waitFor()
	await page.getByRole('button', { name: 'Clear the conversation' }).click()
	assert.equal(await page.getByRole('article').count(), 0)
	assert.deepEqual(errors, [])
	await close()
	await slow.stop()
})

test('the page says that the node does not answer, and what to do', async () => {
	const { page, close } = await open(chromium, `${served.url}#/requests`, { quiet: true })
	await page.getByText('does not answer').first().waitFor()
	await page.getByRole('link', { name: 'Choose another node' }).waitFor()
	assert.match(await page.locator('footer').textContent(), new RegExp(nowhere))
	await close()
})

test('what goes wrong is said where it happens', async () => {
	const { page, close } = await open(chromium, served.url, { quiet: true })
	for (const [text, says] of [
		['busy', /Nothing was sent\. Try again in 7 s\./],
		['expire', /^Request \d+ was not answered and checked in time.*\. Nothing was paid/],
		['unanswerable', /cannot be answered/],
	]) {
		await ask(page, text)
		const alert = last(page).getByRole('alert')
		await alert.waitFor()
		assert.match(await alert.textContent(), says)
		assert.equal(await last(page).locator('.answer').count(), 0)
	}
	await ask(page, 'reject')
	await last(page).getByRole('alert').waitFor()
	assert.match(await last(page).getByRole('alert').textContent(), /jury found it wrong/)
	// Text that was shown while it was provisional is not left standing as an answer.
	assert.equal(await last(page).locator('.answer .tag').textContent(), 'do not rely on this')
	await close()
})

test('stopping says that what is on chain goes on', async () => {
	const slow = await gateway({ node: nowhere, block: 60_000 })
	const { page, close } = await open(chromium, slow.url, { quiet: true })
	await ask(page, 'a')
	await last(page).getByText('The request is in a block').waitFor()
	await page.getByRole('button', { name: 'Stop reading' }).click()
	await last(page).getByText('What is on chain goes on and is paid').waitFor()
	assert.equal(
		await last(page)
			.getByRole('link', { name: /^Follow request/ })
			.getAttribute('href'),
		'#/requests/1'
	)
	await page.getByRole('button', { name: 'Send' }).waitFor()
	await close()
	await slow.stop()
})

test('a stream that breaks off is no answer', async () => {
	const doomed = await gateway({ node: nowhere, block: 5_000 })
	const { page, close } = await open(chromium, doomed.url, { quiet: true })
	await ask(page, 'a')
	await last(page).locator('.answer.provisional').waitFor()
	await doomed.stop()
	// It says that it stops, or it is gone: either way this is no answer.
	const alert = last(page).getByRole('alert')
	await alert.waitFor()
	const tag = await last(page).locator('.answer .tag').textContent()
	if (!/stopping/.test(await alert.textContent())) assert.match(await alert.textContent(), /broken off/)
	assert.equal(tag, 'do not rely on this')
	await ask(page, 'b')
	await last(page).getByText('The gateway does not answer.').waitFor()
	await close()
})

test('a key is asked for where one is needed, and forgotten with the tab', async () => {
	const folder = mkdtempSync(path.join(tmpdir(), 'consilience-web-keys-'))
	const keys = path.join(folder, 'keys.toml')
	// SHA-256 of `alice`.
	writeFileSync(keys, '[[keys]]\nname = "alice"\nsha256 = "2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90"\n')
	const locked = await gateway({ node: nowhere, keys })
	const { page, close } = await open(chromium, locked.url, { quiet: true })
	const key = page.getByLabel('API key of the gateway')
	await key.fill('mallory')
	await page.getByRole('button', { name: 'Use this key' }).click()
	await page.getByRole('alert').waitFor()
	await key.fill('alice')
	await key.press('Enter')
	await ask(page, 'a')
	await last(page).getByText('block is finalised').waitFor()
	const kept = await page.evaluate(() => [sessionStorage.getItem('consilience-key'), JSON.stringify(localStorage)])
	assert.deepEqual(kept, ['alice', '{}'])
	await close()
	await locked.stop()
	rmSync(folder, { recursive: true })
})

test('the keyboard is enough', async () => {
	const { page, close } = await open(chromium, served.url, { quiet: true })
	await message(page).waitFor()
	const focused = () => page.evaluate(() => document.activeElement.textContent)
	const order = []
	for (let i = 0; i < 7; i++) {
		await page.keyboard.press('Tab')
		order.push(await focused())
	}
	assert.deepEqual(order, ['Skip to the content', 'Consilience', 'Chat', 'Models', 'Requests', 'Network', 'Wallet'])
	await page.getByRole('link', { name: 'Network' }).focus()
	assert.match(await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle), /solid/)
	await page.keyboard.press('Enter')
	await page.getByRole('heading', { level: 1, name: 'Network' }).waitFor()
	assert.equal(await focused(), 'Network')
	assert.equal(await page.title(), 'Network – Consilience')
	await close()
})

test('colours follow the system, and a choice is kept', async () => {
	const ground = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor)
	const { page, close } = await open(chromium, served.url, { scheme: 'dark', quiet: true })
	const dark = await ground(page)
	await page.getByLabel('Colours').selectOption('light')
	const light = await ground(page)
	assert.notEqual(dark, light)
	await page.reload()
	await message(page).waitFor()
	assert.equal(await ground(page), light)
	await close()
})
