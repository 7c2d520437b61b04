// The gateway: models and chats over HTTP.

import { events } from './sse'
import type { Message, Price } from './money'
import type { Step } from './status'

export interface ChatModel {
	/** What `model` says in a call. */
	name: string
	id: string
	task: string
	chat: boolean
	class: string
	serving: number
	minVerifiers: number
	contextLength?: number
	maxInputUnits: number
	maxOutputUnits: number
	price: Price
	advice: { temperature?: number }
	license?: string
	source?: string
}

export class GatewayError extends Error {
	constructor(
		message: string,
		/** The word that never changes, where the gateway gave one. */
		readonly code: string,
		readonly retryAfter?: number,
		readonly step?: Step
	) {
		super(message)
	}
}

/** What to do about an error, where there is something. */
export function advice({ code, retryAfter }: GatewayError): string {
	switch (code) {
		case 'invalid_api_key':
			return 'Enter an API key of this gateway above.'
		case 'forbidden':
			return 'Open the page at the gateway’s own address, or have its operator allow this origin (--cors).'
		case 'rate_limit_exceeded':
			return `Nothing was sent. Try again in ${retryAfter ?? 3} s.`
		case 'insufficient_quota':
			return 'The key’s budget of the day is spent; it is renewed at midnight UTC. A smaller “most tokens” costs less.'
		case 'context_length_exceeded':
			return 'Shorten the message, or clear the conversation.'
		case 'model_not_active':
		case 'model_not_found':
			return 'Choose another model.'
		case 'unreachable':
		case 'upstream_unreachable':
		case 'gateway_stopping':
			return 'Nothing was sent. Try again when it is back.'
		case 'upstream_gone':
		case 'reply_timeout':
		case 'broken_off':
			return 'The request may go on and be paid. Look it up under Requests.'
		case 'expired':
		case 'rejected':
			return 'Nothing was paid. Ask again.'
		case 'answer_replaced':
			return 'Do not use the text above. Look the request up under Requests.'
		default:
			return ''
	}
}

type Json = any

export interface Gateway {
	base: string
	key: string
}

async function call(gateway: Gateway, path: string, init: RequestInit = {}): Promise<Response> {
	const headers = new Headers(init.headers)
	if (gateway.key) headers.set('authorization', `Bearer ${gateway.key}`)
	let reply: Response
	try {
		reply = await fetch(new URL(path, gateway.base), { ...init, headers })
	} catch (e) {
		if (init.signal?.aborted) throw e
		throw new GatewayError('The gateway does not answer.', 'unreachable')
	}
	if (reply.ok) return reply
	const text = await reply.text()
	let body: Json
	try {
		body = JSON.parse(text)
	} catch {
		// Something else answers at that address.
		throw new GatewayError(`There is no gateway at this address: it answers ${reply.status}.`, 'unreachable')
	}
	throw failure(body, Number(reply.headers.get('retry-after')) || undefined)
}

function failure(body: Json, retryAfter?: number): GatewayError {
	const { message, code } = body.error ?? {}
	return new GatewayError(message ?? 'The gateway reports an error without saying which.', code ?? 'unknown', retryAfter, body.consilience)
}

/** Models that take requests. */
export async function models(gateway: Gateway): Promise<ChatModel[]> {
	const { data } = await (await call(gateway, 'v1/models')).json()
	return data.map(({ id, consilience: own }: Json) => ({
		name: id,
		id: own.id,
		task: own.task,
		chat: own.chat,
		class: own.class,
		serving: own.serving,
		minVerifiers: own.min_verifiers,
		contextLength: own.context_length ?? undefined,
		maxInputUnits: own.max_input_units,
		maxOutputUnits: own.max_output_units,
		price: {
			perRequest: BigInt(own.price.per_request),
			perInputUnit: BigInt(own.price.per_input_unit),
			perOutputUnit: BigInt(own.price.per_output_unit),
		},
		advice: { temperature: own.sampling?.temperature ?? undefined },
		license: own.license ?? undefined,
		source: own.source ?? undefined,
	}))
}

export interface Ask {
	model: string
	messages: Message[]
	maxTokens: number
	temperature: number
}

export type Said =
	{ kind: 'alive' } | { kind: 'text'; text: string } | { kind: 'step'; step: Step } | { kind: 'finish'; reason: string } | { kind: 'done' }

/** Asks, and tells what comes. Ends after `done`, or throws: a stream that merely stops was broken off. */
export async function* chat(gateway: Gateway, ask: Ask, signal: AbortSignal): AsyncGenerator<Said> {
	const body = JSON.stringify({
		model: ask.model,
		messages: ask.messages,
		max_tokens: ask.maxTokens,
		temperature: ask.temperature,
		stream: true,
		consilience: { wait: 'final', steps: true },
	})
	const headers = { 'content-type': 'application/json' }
	const reply = await call(gateway, 'v1/chat/completions', { method: 'POST', body, headers, signal })
	try {
		for await (const event of events(reply.body!)) {
			for (const said of read(event.name, event.data)) {
				yield said
				if (said.kind === 'done') return
			}
		}
	} catch (e) {
		if (e instanceof GatewayError || signal.aborted) throw e
	}
	throw new GatewayError('The stream was broken off before its end: what is shown is not known to be checked.', 'broken_off')
}

/** What one event says. */
export function* read(name: string, data: string): Generator<Said> {
	if (name === 'ping') return yield { kind: 'alive' }
	if (data === '[DONE]') return yield { kind: 'done' }
	const chunk: Json = JSON.parse(data)
	if (chunk.error) throw failure(chunk)
	const [choice] = chunk.choices ?? []
	if (choice?.delta?.content) yield { kind: 'text', text: choice.delta.content }
	if (chunk.consilience) yield { kind: 'step', step: chunk.consilience }
	if (choice?.finish_reason) yield { kind: 'finish', reason: choice.finish_reason }
}
