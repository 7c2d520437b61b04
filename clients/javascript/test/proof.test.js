// A proof that a node made of a request (`inference_proof`); needs no network.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'

import { u8aToHex, u8aToString } from '@polkadot/util'

import { readProof, storageKey, verifyProof } from '../src/proof.js'

const proof = JSON.parse(readFileSync(new URL('data/proof.json', import.meta.url), 'utf8'))
const { block, entries, request } = proof

test('a proof leads from a block to what was answered', () => {
	const found = verifyProof(proof, request.id, block.hash)
	assert.deepEqual(found.block, block)
	assert.equal(found.stateRoot, proof.state_root)
	for (const entry of ['request', 'input', 'output']) {
		assert.equal(storageKey(entry, request.id), entries[entry].key)
		assert.equal(u8aToHex(found[entry]), entries[entry].value)
	}
	assert.ok(u8aToString(found.output).includes(request.output.text))
})

test('what the node says beside the proof is not looked at', () => {
	const lies = { ...proof, state_root: block.hash, entries: {}, request: {}, block: { number: 1, hash: '0x00' } }
	assert.deepEqual(verifyProof(lies, request.id, block.hash), verifyProof(proof, request.id, block.hash))
})

test('the order of nodes is nothing, and each of them is needed', () => {
	const turned = { ...proof, proof: [...proof.proof].reverse() }
	assert.deepEqual(verifyProof(turned, request.id, block.hash), verifyProof(proof, request.id, block.hash))
	for (let left = 0; left < proof.proof.length; left++) {
		const fewer = { ...proof, proof: proof.proof.filter((_, i) => i !== left) }
		assert.throws(() => verifyProof(fewer, request.id, block.hash), /a node is missing/)
	}
})

test('no byte can be another', () => {
	const flip = (hex, at) => hex.slice(0, at) + (Number.parseInt(hex[at], 16) ^ 1).toString(16) + hex.slice(at + 1)
	proof.proof.forEach((node, index) => {
		for (let at = 2; at < node.length; at += 7) {
			const nodes = proof.proof.with?.(index, flip(node, at)) ?? proof.proof.map((n, i) => (i === index ? flip(node, at) : n))
			assert.throws(() => verifyProof({ ...proof, proof: nodes }, request.id, block.hash), /missing/)
		}
	})
	for (let at = 2; at < proof.header.length; at += 5) {
		assert.throws(() => verifyProof({ ...proof, header: flip(proof.header, at) }, request.id, block.hash), /not that of the block/)
	}
	assert.throws(() => verifyProof(proof, request.id, flip(block.hash, 9)), /not that of the block/)
})

test('what is not there is proven, too, or said to be unproven', () => {
	// The way to the request's own key parts from that of a key which ends otherwise, where the proof has its last node.
	const other = entries.request.key.slice(0, -1) + (entries.request.key.endsWith('0') ? '1' : '0')
	assert.equal(readProof(proof.state_root, proof.proof, other), null)
	// `:code` lies elsewhere in the trie.
	assert.throws(() => readProof(proof.state_root, proof.proof, '0x3a636f6465'), /a node is missing/)
	assert.throws(() => readProof(proof.state_root, ['0x'], entries.request.key), /a node is missing/)
})
