// A channel that the page holds, on a network whose validators take part in the session lane: CONSILIENCE_URL names a node of it, and
// CONSILIENCE_BIN the program whose gateway serves the page and passes bytes on.

import assert from 'node:assert/strict'
import { mkdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { browser, elsewhere, look, open, realGateway } from './harness.mjs'

const { CONSILIENCE_URL: node, CONSILIENCE_BIN: program } = process.env
const skip = (!node || !program) && 'CONSILIENCE_URL and CONSILIENCE_BIN name no network and no program'
const SCREENSHOTS = fileURLToPath(new URL('./screenshots/', import.meta.url))

let chromium
let served
before(async () => {
	if (skip) return
	mkdirSync(SCREENSHOTS, { recursive: true })
	chromium = await browser()
	served = await realGateway(program, node)
})
after(async () => {
	await served?.stop()
	await chromium?.close()
})

const payer = (page) => page.locator('summary', { hasText: 'Who asks and pays' })
const last = (page) => page.getByRole('article').last()
const picture = (page, name) => look(page, path.join(SCREENSHOTS, `channel-${name}.png`))

async function ask(page, text) {
	await page.getByLabel('Your message').fill(text)
	await page.getByText('of your channel, 2 checks included').waitFor()
	await page.getByLabel('Your message').press('Enter')
}

/** Writes down what the last answer is called, in the order in which it is. */
function record(page) {
	return page.evaluate(() => {
		const seen = (window.seen = [])
		new MutationObserver(() => {
			const tag = [...document.querySelectorAll('.turn')].at(-1)?.querySelector('.answer .tag')?.textContent
			if (tag && tag !== seen.at(-1)) seen.push(tag)
		}).observe(document.body, { childList: true, subtree: true, characterData: true })
	})
}

test('a channel is opened with one signature, answers come and are checked, and it is there after a reload', { skip }, async () => {
	const { page, errors, close } = await open(chromium, served.url)
	const sockets = []
	page.on('websocket', (socket) => sockets.push(new URL(socket.url())))
	const calls = []
	page.on('request', (request) => calls.push(new URL(request.url()).pathname))
	await payer(page).click()
	await page.getByText('The gateway asks from its own account and pays').waitFor()
	await page.getByLabel('A channel of yours, held by this page').check()
	await page.getByText('You hold the channel').waitFor()
	assert.equal(await page.getByLabel('Your message').count(), 0, 'nothing can be asked before there is a channel')
	await page.getByLabel('Or a development key').selectOption('Ferdie')
	await page.getByText('Asks and pays: //Ferdie').waitFor()
	await picture(page, 'none-desk-light')
	await page.getByLabel('Deposit in CSL').fill('4')
	await page.getByText('4 CSL is held from the account').waitFor()
	await page.getByRole('button', { name: 'Sign and open a channel' }).click()
	await page.getByText('3 CSL left for answers of all its validators, 1 CSL for checks').waitFor()

	await record(page)
	await ask(page, 'What is the capital of France?')
	await last(page).getByText('checked (2 of 2)', { exact: true }).waitFor()
	const seen = await page.evaluate(() => window.seen)
	assert.deepEqual(seen.slice(-1), ['checked (2 of 2)'])
	const before = ['coming: nobody has checked this', 'signed by one validator: being checked']
	assert.ok(seen.length > 1 && seen.slice(0, -1).every((tag) => before.includes(tag)), seen.join(' | '))
	assert.match(await last(page).locator('.text').textContent(), /Paris/)
	assert.match(await last(page).textContent(), /Question 1 of your channel · 0\.\d+ CSL signed away, checks included/)
	assert.equal(await last(page).locator('.checkers .badge.good').count(), 2)
	await page.getByText(/2\.98\d* CSL left for answers/).waitFor()
	await picture(page, 'checked-desk-light')

	// What is saved says the same, and holds the signatures.
	const download = page.waitForEvent('download')
	await last(page).getByRole('button', { name: 'Save the receipt' }).click()
	const file = JSON.parse(readFileSync(await (await download).path(), 'utf8'))
	assert.equal(file.number, 1)
	assert.equal(file.checks.filter(({ verdict }) => verdict === 'right').length, 2)

	// Nobody but the gateway and the node was spoken to, and the gateway was not asked to answer.
	const gateway = new URL(served.url).host
	assert.ok(sockets.some(({ host, pathname }) => host === gateway && pathname.startsWith('/v1/lane/0x')))
	for (const { host } of sockets) assert.ok([gateway, new URL(node).host].includes(host), host)
	assert.ok(!calls.some((call) => call.includes('/v1/chat')))

	// A second page of this browser does not sign with the same key.
	const second = await page.context().newPage()
	await second.goto(served.url)
	await payer(second).waitFor()
	await second.getByText('Another tab of this browser holds the channel').waitFor()
	await second.close()

	await page.reload()
	await payer(page)
		.getByText(/a channel of yours, number \d+/)
		.waitFor()
	await payer(page).click()
	await page.getByText(/2\.98\d* CSL left for answers/).waitFor()
	await page.getByRole('spinbutton', { name: 'Most tokens' }).fill('400')
	await ask(page, 'Tell me a long story about the sea.')
	await last(page).locator('.answer.provisional').waitFor()
	await page.getByRole('button', { name: 'Stop here' }).click()
	await last(page).getByText('checked (2 of 2)', { exact: true }).waitFor()
	await last(page).getByText('You stopped it here.').waitFor()
	assert.match(await last(page).textContent(), /Question 2 of your channel/)
	await page.setViewportSize({ width: 360, height: 740 })
	await page.emulateMedia({ colorScheme: 'dark' })
	await picture(page, 'stopped-telephone-dark')

	// What is left comes back when it is closed; the keys go only when they are told to.
	await page.getByText('Close the channel').first().click()
	await page.getByLabel('Or a development key').selectOption('Ferdie')
	await page.getByRole('button', { name: 'Close the channel' }).click()
	await page.getByText(/Channel \d+ is closing and takes no questions/).waitFor()
	assert.equal(await page.getByLabel('Your message').count(), 0)
	await page.getByRole('button', { name: 'Forget its keys and receipts' }).click()
	await page.getByText('A channel sets money apart').waitFor()
	assert.deepEqual(errors, [])
	await close()
})

test('a page from elsewhere asks out of its channel without a gateway of its own, and one lets it pass', { skip }, async () => {
	const config = { node }
	const files = await elsewhere(() => config)
	const relay = await realGateway(program, node, '--cors', files.url)
	config.relay = `${relay.url}v1/lane`
	// There is no gateway beside it: the browser reports that.
	const { page, close } = await open(chromium, `${files.url}/`, { quiet: true })
	await payer(page).click()
	await page.getByLabel('A channel of yours, held by this page').check()
	await page.getByLabel('Or a development key').selectOption('Ferdie')
	await page.getByLabel('Deposit in CSL').fill('2')
	await page.getByRole('button', { name: 'Sign and open a channel' }).click()
	await page.getByText('1.5 CSL left for answers of all its validators').waitFor()
	await ask(page, 'What is the capital of France?')
	await last(page).getByText('checked (2 of 2)', { exact: true }).waitFor()
	await close()
	await relay.stop()
	files.stop()
})
