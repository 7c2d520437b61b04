// What the tests of the page in a browser need: a gateway on its double, a node of a developer's chain, a browser.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { createServer as createHttpServer } from 'node:http'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { fileURLToPath } from 'node:url'
import path from 'node:path'
import { chromium } from 'playwright-core'

export const DIST = fileURLToPath(new URL('../dist', import.meta.url))
/** Longest that a step may take: a test that waits longer has failed. */
export const LIMIT = 180_000

const FLAGS = [
	'--headless',
	'--no-sandbox',
	'--disable-gpu',
	'--disable-quic',
	'--no-first-run',
	'--disable-background-networking',
	'--disable-component-update',
	'--disable-sync',
]

export async function browser() {
	return chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS })
}

const running = new Set()
// Whatever a test leaves behind, also one that failed before it could stop anything.
process.on('exit', () => {
	for (const child of running) child.kill('SIGKILL')
})

/** A process, what it prints, and its end. */
function start(program, args) {
	const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
	running.add(child)
	child.once('exit', () => running.delete(child))
	const heard = []
	const waiting = new Set()
	const hear = (line) => {
		heard.push(line)
		for (const wait of waiting) wait(line)
	}
	createInterface(child.stdout).on('line', hear)
	createInterface(child.stderr).on('line', hear)
	const ended = new Promise((resolve) => child.once('exit', resolve))
	return {
		/** The first line that matches. */
		line: (pattern, limit = LIMIT) =>
			new Promise((resolve, reject) => {
				const old = heard.find((line) => pattern.test(line))
				if (old) return resolve(old)
				const timer = setTimeout(() => reject(new Error(`${program} did not say ${pattern}:\n${heard.slice(-20).join('\n')}`)), limit)
				const wait = (line) => {
					if (!pattern.test(line)) return
					waiting.delete(wait)
					clearTimeout(timer)
					resolve(line)
				}
				waiting.add(wait)
				ended.then(() => reject(new Error(`${program} ended:\n${heard.slice(-20).join('\n')}`)))
			}),
		stop: async () => {
			child.kill('SIGTERM')
			await ended
		},
	}
}

export async function freePort() {
	const server = createServer()
	await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
	const { port } = server.address()
	await new Promise((resolve) => server.close(resolve))
	return port
}

/** A gateway on its double, which serves the page. */
export async function gateway({ block = 150, node, keys, listen = '127.0.0.1:0' } = {}) {
	const program = process.env.CONSILIENCE_GATEWAY_DOUBLE
	if (!program) throw new Error('CONSILIENCE_GATEWAY_DOUBLE names no gateway on a double: run scripts/check-web')
	const data = mkdtempSync(path.join(tmpdir(), 'consilience-web-gateway-'))
	const args = ['--listen', listen, '--data', data, '--block', String(block), '--web', DIST]
	if (node) args.push('--web-node', node)
	if (keys) args.push('--keys', keys)
	const process_ = start(program, args)
	const url = await process_.line(/^http:/)
	return {
		url: `${url}/`,
		stop: async () => {
			await process_.stop()
			rmSync(data, { recursive: true, force: true })
		},
	}
}

/** The program's own gateway, on a real node. */
export async function realGateway(program, node, ...more) {
	const data = mkdtempSync(path.join(tmpdir(), 'consilience-web-gateway-'))
	const listen = `127.0.0.1:${await freePort()}`
	const process_ = start(program, ['gateway', '--suri', '//Eve', '--url', node, '--data', data, '--listen', listen, '--web', DIST, ...more])
	await process_.line(/the gateway listens on/)
	return {
		url: `http://${listen}/`,
		stop: async () => {
			await process_.stop()
			rmSync(data, { recursive: true, force: true })
		},
	}
}

/** The page's files at an address of their own, and beside them this `config.json`. */
export async function elsewhere(config) {
	const types = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.json': 'application/json' }
	const server = createHttpServer((request, response) => {
		const name = new URL(request.url, 'http://localhost').pathname.replace(/\/$/, '/index.html')
		try {
			const body = name === '/config.json' ? JSON.stringify(config()) : readFileSync(path.join(DIST, path.normalize(name)))
			response.writeHead(200, { 'content-type': types[path.extname(name)] ?? 'application/octet-stream' }).end(body)
		} catch {
			response.writeHead(404).end()
		}
	})
	await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
	return { url: `http://127.0.0.1:${server.address().port}`, stop: () => server.close() }
}

/** A node of a developer's chain with the models of these folders; nothing where no node was built. */
export async function developersNode(models) {
	const program = process.env.CONSILIENCE_BIN
	if (!program) return undefined
	const base = mkdtempSync(path.join(tmpdir(), 'consilience-web-node-'))
	// Importing hashes the whole model: minutes, where the machine is busy. A store that has it spares that.
	const store = process.env.CONSILIENCE_STORE
	for (const model of store ? [] : models) {
		const importing = start(program, ['model', 'import', model, '--no-measure', '--base-path', base])
		await importing.line(/^0x/, 3 * LIMIT)
	}
	const port = await freePort()
	const begin = () =>
		start(program, [
			'--dev',
			'--base-path',
			base,
			'--rpc-port',
			String(port),
			'--listen-addr',
			'/ip4/127.0.0.1/tcp/0',
			'--no-prometheus',
			'--no-telemetry',
			'--no-mdns',
			'--unsafe-force-node-key-generation',
			...(store ? ['--model-store', store] : []),
			...models.flatMap((model) => ['--serve', path.basename(model)]),
		])
	let node = begin()
	await node.line(/Running JSON-RPC server/, 3 * LIMIT)
	return {
		url: `ws://127.0.0.1:${port}`,
		halt: () => node.stop(),
		again: async () => {
			node = begin()
			await node.line(/Running JSON-RPC server/, 3 * LIMIT)
		},
		stop: async () => {
			await node.stop()
			rmSync(base, { recursive: true, force: true })
		},
	}
}

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

/** Axe finds nothing, nothing is wider than the screen, and a picture is left to look at. */
export async function look(page, picture) {
	// Axe is put in past the page's policy, which lets no other script in.
	await page.evaluate(AXE)
	const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ['violations'] }))
	assert.deepEqual(
		violations.map((v) => `${v.id}: ${v.nodes.map((n) => `${n.html} ${n.failureSummary}`).join('; ')}`),
		[],
		picture
	)
	const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
	assert.ok(over <= 0, `${picture} is ${over} px too wide`)
	await page.screenshot({ path: picture, fullPage: true })
}

export const SIZES = { telephone: { width: 360, height: 740 }, desk: { width: 1280, height: 900 } }

/** A page whose console errors and failures count. */
export async function open(browser_, url, { size = 'desk', scheme = 'light', quiet = false } = {}) {
	const context = await browser_.newContext({ viewport: SIZES[size], colorScheme: scheme, reducedMotion: 'reduce' })
	context.setDefaultTimeout(LIMIT)
	const page = await context.newPage()
	const errors = []
	page.on('pageerror', (e) => errors.push(String(e)))
	page.on('console', (m) => m.type() === 'error' && !quiet && errors.push(m.text()))
	await page.goto(url)
	return { page, errors, close: () => context.close() }
}
