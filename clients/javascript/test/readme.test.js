// The README's examples, one after the other, as they stand there. Needs what trustless.test.js needs, and CONSILIENCE_BIN for the receipt.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { before, test } from 'node:test'
import { promisify } from 'node:util'

import { Keyring } from '@polkadot/api'
import { stringToU8a } from '@polkadot/util'

import { connect, models } from '../src/index.js'

const { CONSILIENCE_URL: url = 'ws://127.0.0.1:9944', CONSILIENCE_CHAIN_SPEC: specFile, CONSILIENCE_BIN: binary } = process.env
const AsyncFunction = (async () => {}).constructor
// Another account than the README's: what that one has is counted elsewhere.
const ACCOUNT = '//Bob//readme'
const CSL = 10n ** 12n

const examples = [...readFileSync(new URL('../README.md', import.meta.url), 'utf8').matchAll(/^```js\n([\s\S]*?)^```/gm)].map(
	([, code]) => code
)

/** Runs examples as one program over these values; what it prints. */
async function run(codes, values) {
	const printed = []
	// Modules are found from here by the package's own name.
	const code = codes.join('\n').replace(/^import (\{.*\}) from '(.*)'$/gm, "const $1 = await load('$2')")
	const names = ['load', 'console', ...Object.keys(values)]
	const program = new AsyncFunction(...names, code.replaceAll('//Ferdie', ACCOUNT))
	await program((name) => import(name), { log: (...said) => printed.push(...said) }, ...Object.values(values))
	return printed
}

const program = async (...args) => (await promisify(execFile)(binary, args, { maxBuffer: 256 << 20 })).stdout

before(async () => {
	const api = await connect(url)
	const keys = new Keyring({ type: 'sr25519' })
	const transfer = api.tx.balances.transferKeepAlive(keys.addFromUri(ACCOUNT).address, 200n * CSL)
	await new Promise((resolve, reject) => {
		const look = ({ status, dispatchError }) => {
			if (dispatchError) reject(new Error(dispatchError.toString()))
			else if (status.isFinalized) resolve()
		}
		transfer.signAndSend(keys.addFromUri('//Bob'), look).catch(reject)
	})
	await api.disconnect()
})

test('the README has five examples', () => assert.equal(examples.length, 5))

test('polkadot.js', { timeout: 300_000 }, async () => {
	const printed = await run([examples[0]], { url })
	assert.equal(printed.at(-2), 'Final', printed.join(' '))
	assert.match(printed.at(-1), /\w/)
})

test('without trusting a server', { timeout: 300_000 }, async () => {
	const chainSpec = specFile ? readFileSync(specFile, 'utf8') : await program('export-chain-spec', '--chain', 'local', '--raw')
	const [block, answer, output] = await run([examples[1], examples[2]], { url, chainSpec })
	assert.ok(block.number > 0)
	assert.ok(Buffer.from(output).includes(stringToU8a(answer)), 'what the light client read is what is proven')
})

test('a channel of one’s own', { timeout: 300_000 }, async () => {
	const printed = await run([examples[3]], { url })
	const [status, right, wanted, file] = printed.slice(-4)
	assert.deepEqual([status, right, wanted], ['checked', 2, 2])
	assert.equal(printed.slice(0, -4).join(''), file.answer)
	assert.match(file.answer, /Paris/)
	if (binary) {
		// The chain's own program finds the same in the file, and runs the model again.
		const folder = mkdtempSync(join(tmpdir(), 'receipt-'))
		try {
			writeFileSync(join(folder, 'receipt.json'), JSON.stringify(file))
			const shown = await program('verify', join(folder, 'receipt.json'), '--url', url, '--json').catch((e) => `${e.stdout}${e.stderr}`)
			assert.doesNotMatch(shown, /changed it|is not one|cannot be read/, shown)
		} finally {
			rmSync(folder, { recursive: true })
		}
	}
})

test('a receipt, by the chain', { timeout: 300_000, skip: !binary && 'CONSILIENCE_BIN is not set' }, async () => {
	const api = await connect(url)
	const wallet = mkdtempSync(join(tmpdir(), 'wallet-'))
	try {
		const { id } = (await models(api)).find(({ task, status }) => task === 'TextGeneration' && status === 'Active')
		await program('chat', '--model', id, '--suri', ACCOUNT, '--url', url, '--wallet', wallet, '--json', '--max-tokens', '8', 'Hello')
		const text = await program('channel', 'receipt', '1', '--wallet', wallet)
		const [status, right, wanted, executor, answer] = await run([examples[4]], { api, text })
		assert.deepEqual([status, right, wanted], ['checked', 2, 2])
		const file = JSON.parse(text)
		assert.deepEqual([executor, answer], [file.executor, file.answer])
	} finally {
		await api.disconnect()
		rmSync(wallet, { recursive: true })
	}
})
