// Storage proofs: what a state holds, shown to whoever knows nothing but a block's hash. Runs in browsers, and needs no node.

import { hexToU8a, u8aConcat, u8aEq, u8aToHex } from '@polkadot/util'
import { blake2AsU8a, xxhashAsU8a } from '@polkadot/util-crypto'

/** The maps of `pallet-inference` that `inference_proof` proves, by its names for them. */
const MAPS = { request: 'Requests', input: 'Inputs', output: 'Outputs' }

/** Key of a request's entry in one of the maps `request`, `input` and `output`, as hexadecimal. */
export function storageKey(entry, request) {
	const number = new Uint8Array(8)
	new DataView(number.buffer).setBigUint64(0, BigInt(request), true)
	return u8aToHex(u8aConcat(xxhashAsU8a('Inference', 128), xxhashAsU8a(MAPS[entry], 128), xxhashAsU8a(number, 64), number))
}

/**
 * Verifies what the JSON-RPC method `inference_proof` returned about a request, against the hash of a block that the caller knows to be
 * finalised: from a light client, say (`consilience-client/light`). Nothing else in it is trusted. Returns
 * `{ block, stateRoot, request, input, output }`: the block as `{ number, hash }`, and the three entries' values as SCALE-encoded bytes,
 * or `null` where the state has none. Throws, where anything does not fit, with what it is.
 */
export function verifyProof(proof, request, blockHash) {
	const header = hexToU8a(proof.header)
	if (u8aToHex(blake2AsU8a(header)) !== u8aToHex(hexToU8a(blockHash))) throw new Error('the header is not that of the block that you trust')
	const { number, stateRoot } = readHeader(header)
	const trie = new Trie(proof.proof)
	const values = Object.keys(MAPS).map((entry) => [entry, trie.get(stateRoot, hexToU8a(storageKey(entry, request)))])
	return { block: { number, hash: blockHash }, stateRoot: u8aToHex(stateRoot), ...Object.fromEntries(values) }
}

/**
 * The value of a key in the state with this root, by the nodes of a proof as `state_getReadProof` returns them; `null` where the state
 * has none. Everything but the root may come from a liar: throws where a node is missing or malformed.
 */
export function readProof(stateRoot, nodes, key) {
	return new Trie(nodes).get(hexToU8a(stateRoot), hexToU8a(key))
}

/** Number and state root of a SCALE-encoded header. */
function readHeader(bytes) {
	const reader = new Reader(bytes)
	reader.take(32)
	const number = reader.compact()
	return { number, stateRoot: reader.take(32) }
}

/** Reads bytes from the front, and throws where there are too few. */
class Reader {
	constructor(bytes) {
		this.bytes = bytes
		this.at = 0
	}

	take(length) {
		if (this.at + length > this.bytes.length) throw new Error('a part of the proof ends too early')
		return this.bytes.subarray(this.at, (this.at += length))
	}

	byte() {
		return this.take(1)[0]
	}

	/** SCALE's compact encoding of a number below 2³⁰. */
	compact() {
		const first = this.byte()
		const mode = first & 3
		if (mode === 0) return first >> 2
		if (mode === 1) return (first >> 2) | (this.byte() << 6)
		if (mode === 2) {
			const [b, c, d] = this.take(3)
			return ((first >> 2) | (b << 6) | (c << 14) | (d << 22)) >>> 0
		}
		throw new Error('a part of the proof has an impossible length')
	}

	/** Bytes behind their length. */
	bytesWithLength() {
		return this.take(this.compact())
	}
}

/** Kinds of nodes, by the first bits of their first byte. */
const KINDS = [
	{ mask: 0b1100_0000, is: 0b0100_0000, branch: false, value: 'inline' },
	{ mask: 0b1100_0000, is: 0b1000_0000, branch: true, value: null },
	{ mask: 0b1100_0000, is: 0b1100_0000, branch: true, value: 'inline' },
	{ mask: 0b1110_0000, is: 0b0010_0000, branch: false, value: 'hashed' },
	{ mask: 0b1111_0000, is: 0b0001_0000, branch: true, value: 'hashed' },
]

/** The nodes of a Patricia-Merkle trie of radix 16 in Substrate's encoding (state versions 0 and 1), by their hash. */
class Trie {
	constructor(nodes) {
		this.nodes = new Map(nodes.map((node) => [u8aToHex(blake2AsU8a(hexToU8a(node))), hexToU8a(node)]))
	}

	node(hash) {
		const found = this.nodes.get(u8aToHex(hash))
		if (!found) throw new Error('the proof does not lead from the state to what it is about: a node is missing')
		return found
	}

	/** The value of a key below the node with this hash. */
	get(root, key) {
		const nibbles = [...key].flatMap((byte) => [byte >> 4, byte & 15])
		let encoded = this.node(root)
		for (let at = 0; ; at++) {
			const node = readNode(encoded)
			if (!node || !node.partial.every((nibble, i) => nibbles[at + i] === nibble)) return null
			at += node.partial.length
			if (at === nibbles.length) return this.value(node)
			const child = node.children[nibbles[at]]
			if (!child) return null
			// A node shorter than a hash stands in its parent.
			encoded = child.length === 32 ? this.node(child) : child
		}
	}

	value({ value, kind }) {
		if (kind.value === null) return null
		return kind.value === 'hashed' ? this.node(value) : value
	}
}

/** A node: its part of the key, its value or the hash of that, its children. `null` for an empty trie. */
function readNode(encoded) {
	if (u8aEq(encoded, [0])) return null
	const reader = new Reader(encoded)
	const first = reader.byte()
	const kind = KINDS.find(({ mask, is }) => (first & mask) === is)
	if (!kind) throw new Error('a node of the proof is of no kind that there is')
	const most = 0xff & ~kind.mask
	let length = first & most
	if (length === most) {
		for (let more = 255; more === 255;) length += more = reader.byte()
	}
	const packed = reader.take((length + 1) >> 1)
	const partial = [...packed].flatMap((byte) => [byte >> 4, byte & 15]).slice(length & 1)
	const bitmap = kind.branch ? reader.byte() | (reader.byte() << 8) : 0
	const value = kind.value === 'inline' ? reader.bytesWithLength() : kind.value === 'hashed' ? reader.take(32) : null
	const children = Array.from({ length: 16 }, (_, i) => (bitmap & (1 << i) ? reader.bytesWithLength() : null))
	return { kind, partial, value, children }
}
