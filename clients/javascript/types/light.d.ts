import type { PolkadotClient } from 'polkadot-api'

export interface LightOptions {
	/** Peers besides those in the specification, by WebSocket: `/ip4/127.0.0.1/tcp/30343/ws/p2p/12D3KooW…`. */
	bootNodes?: string[]
	log?: (level: number, target: string, message: string) => void
	/** 1 for errors, to 5. */
	logLevel?: 1 | 2 | 3 | 4 | 5
}

export declare function light(
	chainSpec: string | object,
	options?: LightOptions
): Promise<{ client: PolkadotClient; stop: () => Promise<void> }>
export declare function addressesOf(client: PolkadotClient): Promise<string[]>
