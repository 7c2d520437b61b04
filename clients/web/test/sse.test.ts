import { describe, expect, it } from 'vitest'
import { EventParser, events } from '../src/sse'
import { GatewayError, chat, read } from '../src/gateway'

const all = (text: string, size: number) => {
	const parser = new EventParser()
	const found = []
	for (let i = 0; i < text.length; i += size) found.push(...parser.push(text.slice(i, i + size)))
	return found
}

function body(...pieces: string[]): ReadableStream<Uint8Array> {
	return new ReadableStream({
		start(controller) {
			for (const piece of pieces) controller.enqueue(new TextEncoder().encode(piece))
			controller.close()
		},
	})
}

describe('the parser of server-sent events', () => {
	const text = ': waiting\n\ndata: {"a":1}\n\nevent: ping\ndata: {}\n\ndata: x\ndata: y\n\n'

	it.each([1, 2, 3, 7, 1000])('finds the same events in pieces of %i', (size) => {
		expect(all(text, size)).toEqual([
			{ name: 'ping', data: 'waiting' },
			{ name: 'message', data: '{"a":1}' },
			{ name: 'ping', data: '{}' },
			{ name: 'message', data: 'x\ny' },
		])
	})

	it.each(['\n', '\r\n', '\r'])('knows lines that end with %j', (end) => {
		// A lone carriage return may be half of a line's end: what follows decides.
		expect(all(`data: a${end}${end}data: b${end}${end}:`, 1).map((e) => e.data)).toEqual(['a', 'b'])
	})

	it('gives nothing for what was not ended, for empty events and for other fields', () => {
		expect(all('data: half', 4)).toEqual([])
		expect(all('event: empty\n\nid: 3\nretry: 4\n\n', 1)).toEqual([])
		expect(all('data\n\n', 1)).toEqual([{ name: 'message', data: '' }])
		expect(all('data:  two spaces\n\n', 1)).toEqual([{ name: 'message', data: ' two spaces' }])
	})

	it('puts characters together that were cut in the middle', async () => {
		const bytes = new TextEncoder().encode('data: größer 😀\n\n')
		const stream = new ReadableStream<Uint8Array>({
			start(controller) {
				for (const byte of bytes) controller.enqueue(Uint8Array.of(byte))
				controller.close()
			},
		})
		const found = []
		for await (const event of events(stream)) found.push(event.data)
		expect(found).toEqual(['größer 😀'])
	})
})

describe('a chat’s stream', () => {
	const text =
		'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n: waiting\n\ndata: {"choices":[{"delta":{"content":"Paris"}}],"consilience":{"status":"provisional"}}\n\n'
	const end = 'data: {"choices":[{"delta":{},"finish_reason":"stop"}],"consilience":{"status":"final"}}\n\ndata: [DONE]\n\n'
	const ask = { model: 'm', messages: [], maxTokens: 1, temperature: 0 }

	async function told(reply: Response, key = ''): Promise<{ kinds: string[]; error?: GatewayError; sent: RequestInit }> {
		const kinds: string[] = []
		let sent: RequestInit = {}
		globalThis.fetch = async (_, init) => {
			sent = init!
			return reply
		}
		try {
			for await (const said of chat({ base: 'http://gateway/', key }, ask, new AbortController().signal)) kinds.push(said.kind)
		} catch (error) {
			return { kinds, error: error as GatewayError, sent }
		}
		return { kinds, sent }
	}

	it('ends with [DONE] and with nothing else', async () => {
		expect(await told(new Response(body(text, end)))).toMatchObject({ kinds: ['alive', 'text', 'step', 'step', 'finish', 'done'] })
		const { error } = await told(new Response(body(text)))
		expect(error).toMatchObject({ code: 'broken_off' })
		const without = await told(new Response(body(text, end.replace('data: [DONE]\n\n', ''))))
		expect(without.error).toMatchObject({ code: 'broken_off' })
	})

	it('fails with the error that comes in it', async () => {
		const { kinds, error } = await told(
			new Response(body(text, 'data: {"error":{"message":"gone","code":"upstream_gone"}}\n\ndata: [DONE]\n\n'))
		)
		expect(kinds).toEqual(['alive', 'text', 'step'])
		expect(error).toMatchObject({ message: 'gone', code: 'upstream_gone' })
	})

	it('fails with the error that comes instead of it', async () => {
		const reply = Response.json(
			{ error: { message: 'full', code: 'rate_limit_exceeded' } },
			{ status: 429, headers: { 'retry-after': '7' } }
		)
		expect((await told(reply)).error).toMatchObject({ code: 'rate_limit_exceeded', retryAfter: 7 })
		expect((await told(new Response('<html>', { status: 502 }))).error).toMatchObject({ code: 'unreachable' })
	})

	it('sends the key, waits for what is final, and asks for every step', async () => {
		const { sent } = await told(new Response(body(text, end)), 'secret')
		expect(new Headers(sent.headers).get('authorization')).toBe('Bearer secret')
		expect(JSON.parse(sent.body as string)).toMatchObject({ stream: true, consilience: { wait: 'final', steps: true } })
	})

	it('says nothing of chunks without news', () => {
		expect([...read('message', '{"choices":[]}')]).toEqual([])
	})
})
