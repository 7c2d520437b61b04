// Accounts that sign, and the request they sign.

import type { ApiPromise } from '@polkadot/api'
import { toHex } from './decode'
import type { Message } from './money'

type Any = any

export interface Account {
	address: string
	name: string
	/** What polkadot.js signs with: a key pair, or an address with the extension's signer. */
	sign: Any
	signer?: Any
}

/** Development accounts, whose keys everybody knows. */
export const DEVELOPMENT = ['Alice', 'Bob', 'Charlie', 'Dave', 'Eve', 'Ferdie']

/** Whether keys that everybody knows are worth nothing on a chain of this type. */
export function admitsDevelopmentKeys(chainType: string): boolean {
	return chainType === 'Development' || chainType === 'Local'
}

export async function developmentAccount(uri: string): Promise<Account> {
	const [{ Keyring }, { cryptoWaitReady }] = await Promise.all([import('@polkadot/api'), import('@polkadot/util-crypto')])
	await cryptoWaitReady()
	const pair = new Keyring({ type: 'sr25519' }).addFromUri(uri)
	return { address: pair.address, name: uri, sign: pair }
}

/** Accounts of the browser's extensions, which ask their owner first. */
export async function extensionAccounts(): Promise<Account[]> {
	const { web3Accounts, web3Enable, web3FromSource } = await import('@polkadot/extension-dapp')
	const extensions = await web3Enable('Consilience')
	if (extensions.length === 0) throw new Error('No wallet extension answers. Install one, such as polkadot{.js}, and let it see this page.')
	const accounts = await web3Accounts()
	if (accounts.length === 0) throw new Error('The extension shows no account to this page: let it in the extension.')
	return Promise.all(
		accounts.map(async ({ address, meta }) => {
			const { signer } = await web3FromSource(meta.source)
			return { address, name: meta.name ?? 'account', sign: address, signer }
		})
	)
}

export interface Question {
	model: string
	messages: Message[]
	maxTokens: number
	temperature: number
	verifiers: number
}

const ROLE = { system: 'System', user: 'User', assistant: 'Assistant' }

/** The input as the chain takes it. */
export function chainInput({ messages, maxTokens, temperature }: Question) {
	return {
		TextGeneration: {
			prompt: { Chat: messages.map((m) => ({ role: ROLE[m.role], content: toHex(m.content) })) },
			sampling: { maxTokens, temperature: Math.round(temperature * 1000), topP: 1000, stop: [], processing: null },
		},
	}
}

/** The input as a parameter takes it: with large inputs in transactions a quote asks for what is stored, which says that it is inline. */
function fitting(api: ApiPromise, type: string, input: object): object {
	try {
		api.createType(type as 'u8', input)
		return input
	} catch {
		return { Inline: input }
	}
}

export interface Price {
	/** What is held at most. */
	held: bigint
	/** Of it, what is burned because those who serve the model are more than half taken. */
	surcharge: bigint
	/** Blocks after which the answer is expected to be final. */
	blocks: number
	/** The chain's fee for the transaction, which is not returned. */
	fee: bigint
	free: bigint
	error?: string
}

/** What a question costs, or throws the reason for which the chain would refuse it. */
export async function quote(api: ApiPromise, question: Question, address: string): Promise<Price> {
	const inference: Any = api.call.inferenceApi
	const input = fitting(api, inference.quote.meta.params[1].type, chainInput(question))
	const answer = await inference.quote(question.model, input, { Committee: question.verifiers })
	if (answer.isErr) throw new Error(refusal(answer.asErr.toJSON()))
	const said = answer.asOk
	const held: bigint = said.fee.toBigInt()
	const parts: Any[] = [said.wait.queue, said.wait.work, said.wait.draws, said.wait.rounds]
	const blocks: number = parts.reduce((sum, part) => sum + part.toNumber(), 0)
	const [info, account]: Any[] = await Promise.all([call(api, question, held).paymentInfo(address), api.query.system!.account!(address)])
	return { held, surcharge: said.surcharge.toBigInt(), blocks, fee: info.partialFee.toBigInt(), free: account.data.free.toBigInt() }
}

const REFUSALS: Record<string, string> = {
	UnknownModel: 'There is no such model.',
	ModelNotActive: 'The model takes no requests now.',
	BadAssurance: 'The number of verifiers is below the model’s minimum, or above the chain’s maximum.',
	Overflow: 'The price does not fit the chain’s numbers.',
	TooFewServe: 'Too few validators serve the model for so many verifiers. Ask for fewer, or wait until more serve it.',
	NoCapacity: 'Those who serve the model have more to do already than they can do in time. Try again in a minute.',
	InputTooLarge: 'The text has more units than the model takes.',
	OutputTooLarge: 'More tokens are asked for than the model gives.',
	BadSampling: 'The temperature is out of its range: 0 to 2.',
	NoChat: 'The model has no chat template.',
	Empty: 'There is no text.',
}

export function refusal(json: Any): string {
	const room: number | undefined = json?.noCapacity?.blocks
	if (room !== undefined) {
		return `Those who serve the model have more to do already than they can do in time. Room is expected in ${room} blocks.`
	}
	const word: string = typeof json === 'string' ? json : (json?.input ?? Object.keys(json ?? {})[0] ?? 'unknown')
	return REFUSALS[word] ?? `The chain would refuse it: ${word}.`
}

function call(api: ApiPromise, q: Question, held: bigint): Any {
	const request: Any = api.tx.inference!.request!
	const input = fitting(api, request.meta.args[1].type.toString(), chainInput(q))
	return request(q.model, input, { Committee: q.verifiers }, held, 0)
}

/** Signs and sends. Resolves with the request's number once it is in a block. */
export function submit(api: ApiPromise, q: Question, held: bigint, { sign, signer }: Account): Promise<number> {
	return new Promise((resolve, reject) => {
		let stop = () => {}
		const done = (end: () => void) => {
			stop()
			end()
		}
		call(api, q, held)
			.signAndSend(sign, { signer, withSignedTransaction: true }, ({ status, events, dispatchError, isError }: Any) => {
				if (isError) return done(() => reject(new Error(`The transaction was dropped (${status.type.toLowerCase()}). Nothing was asked.`)))
				if (!status.isInBlock) return
				if (dispatchError) return done(() => reject(new Error(describe(api, dispatchError))))
				const made = events.find(({ event }: Any) => event.section === 'inference' && event.method === 'RequestSubmitted')
				done(() => resolve(Number(made.event.data.request)))
			})
			.then((unsubscribe: () => void) => (stop = unsubscribe))
			.catch((e: Error) =>
				reject(new Error(/Cancelled|Rejected/i.test(e.message) ? 'You did not sign. Nothing was sent.' : `It was not sent: ${e.message}`))
			)
	})
}

function describe(api: ApiPromise, error: Any): string {
	if (!error.isModule) return `The chain refused it: ${error.toString()}`
	const { section, name, docs } = api.registry.findMetaError(error.asModule)
	return `The chain refused it: ${section}.${name}. ${docs.join(' ')} The transaction’s fee was paid.`
}
