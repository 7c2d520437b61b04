/** What `inference_proof` returns, as far as it is looked at. */
export interface Proof {
	/** SCALE-encoded, in hexadecimal. */
	header: string
	/** Nodes of the state's trie, in hexadecimal. */
	proof: string[]
}

export interface Proven {
	block: { number: number; hash: string }
	stateRoot: string
	/** `inference.requests`, SCALE-encoded; `null` where the state has none. */
	request: Uint8Array | null
	/** `inference.inputs`. */
	input: Uint8Array | null
	/** `inference.outputs`. */
	output: Uint8Array | null
}

export declare function storageKey(entry: 'request' | 'input' | 'output', request: number | bigint): string
export declare function verifyProof(proof: Proof, request: number | bigint, blockHash: string): Proven
export declare function readProof(stateRoot: string, nodes: string[], key: string): Uint8Array | null
