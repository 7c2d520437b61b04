// Server-sent events out of a reply's body, as fetch gives it.

export interface ServerEvent {
	/** `message` where the server names none; `ping` for a comment, which only says that it is alive. */
	name: string
	data: string
}

/** Puts pieces of text together to events. What is not ended by an empty line is no event yet. */
export class EventParser {
	#held = ''
	#name = ''
	#data: string[] = []

	push(piece: string): ServerEvent[] {
		const events: ServerEvent[] = []
		this.#held += piece
		for (;;) {
			const end = this.#held.search(/\r\n|\n|\r/)
			if (end < 0) break
			// The other half of a line's end may still come.
			if (this.#held[end] === '\r' && end + 1 === this.#held.length) break
			const line = this.#held.slice(0, end)
			this.#held = this.#held.slice(end + (this.#held.startsWith('\r\n', end) ? 2 : 1))
			const event = this.#line(line)
			if (event) events.push(event)
		}
		return events
	}

	#line(line: string): ServerEvent | undefined {
		if (line === '') {
			const event = { name: this.#name || 'message', data: this.#data.join('\n') }
			const said = this.#data.length > 0
			this.#name = ''
			this.#data = []
			return said ? event : undefined
		}
		const colon = line.indexOf(':')
		if (colon === 0) return { name: 'ping', data: line.slice(1).trim() }
		const field = colon < 0 ? line : line.slice(0, colon)
		const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '')
		if (field === 'data') this.#data.push(value)
		if (field === 'event') this.#name = value
		return undefined
	}
}

/** The events of a body. It may end anywhere: whether it was the end is for the reader to know. */
export async function* events(body: ReadableStream<Uint8Array>): AsyncGenerator<ServerEvent> {
	const parser = new EventParser()
	const reader = body.getReader()
	const decoder = new TextDecoder()
	try {
		for (;;) {
			const { done, value } = await reader.read()
			if (done) return
			yield* parser.push(decoder.decode(value, { stream: true }))
		}
	} finally {
		// Whoever stops reading hangs up.
		await reader.cancel().catch(() => {})
	}
}
