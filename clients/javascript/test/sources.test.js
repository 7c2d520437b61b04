// What runs in browsers names nothing that browsers do not have, and types name all that there is; needs no network.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'

const read = (path) => readFileSync(new URL(`../${path}`, import.meta.url), 'utf8')
const { exports } = JSON.parse(read('package.json'))

test('nothing of the library needs Node', () => {
	// What one of them is made of, too.
	const parts = ['asked', 'channel', 'checking', 'connection', 'faults', 'reading', 'record', 'wallet'].map((name) => `src/${name}.js`)
	for (const source of [...Object.values(exports).map((entry) => entry.default), ...parts]) {
		assert.doesNotMatch(read(source), /\bBuffer\b|\bprocess\.|from 'node:|require\(/, source)
	}
})

test('types and sources export the same names', async () => {
	for (const { types, default: source } of Object.values(exports)) {
		const module = await import(new URL(`../${source}`, import.meta.url))
		const declared = [...read(types).matchAll(/^export (?:declare )?(?:function|const|class) (\w+)/gm)].map(([, name]) => name)
		assert.deepEqual(declared.sort(), Object.keys(module).sort(), types)
	}
})
