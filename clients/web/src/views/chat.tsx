import { batch, signal } from '@preact/signals'
import { useEffect, useRef, useState } from 'preact/hooks'
import { models as modelsOfChain } from '../chain'
import type { Model } from '../decode'
import { GatewayError, advice, chat, models, type ChatModel } from '../gateway'
import { askOwn, own, quoteOwn, readLeft } from '../lane'
import { BEGINNING, follow, laneTrust, type LaneAnswer } from '../lane-status'
import { answerPrice, chatUnits, csl, type Message } from '../money'
import { node } from '../node'
import { apiKey, gateway, payer, to } from '../state'
import { NAME, advance, ladder, sentence, trust, type Mark } from '../status'
import { Long, Money, Notice, Title } from '../ui'
import { chainInput } from '../wallet'
import { OwnChannel } from './channel'
import { LaneFacts, LaneTurn } from './lane-turn'

// The conversation lives as long as the page: it is written nowhere.

interface Turn {
	id: number
	asked: string
	said: string
	marks: Mark[]
	/** Where the page's own channel asked: what came, instead of marks. */
	lane?: LaneAnswer
	finish?: string
	/** Whether anything more can come on this stream. */
	open: boolean
	stopped: boolean
	error?: { message: string; advice: string }
	/** When it was asked, and when the text came and the end, in seconds from then. */
	began: number
	first?: number
	ended?: number
}

const turns = signal<Turn[]>([])
const available = signal<ChatModel[] | undefined>(undefined)
const trouble = signal<{ message: string; advice: string; needsKey: boolean } | undefined>(undefined)
const chosen = signal('')
const draft = signal('')
const system = signal('')
const maxTokens = signal(64)
const temperature = signal(0)
const waitingSince = signal(false)
let abort: { abort(): void } | undefined

/** Checkers that are wanted in the session lane. */
const CHECKS = 2

const MOST_MESSAGES = 16

/** Models that take chats: by the gateway, or, where there is none and a channel of the page's own pays, by the node. */
async function load() {
	const show = (all: ChatModel[]) => {
		const found = all.filter((m) => m.task === 'text-generation' && m.chat)
		batch(() => {
			available.value = found
			trouble.value = undefined
			if (!found.some((m) => m.name === chosen.value)) choose(found[0])
		})
	}
	try {
		show(await models(gateway.value))
	} catch (e) {
		const now = node.peek()
		if (payer.peek() === 'own' && now.phase === 'connected' && e instanceof GatewayError && e.code === 'unreachable') {
			const active = (await modelsOfChain(now.api)).filter(({ status }) => status === 'active')
			return show(active.map(ofChain))
		}
		trouble.value = { ...explain(e), needsKey: e instanceof GatewayError && e.code === 'invalid_api_key' }
	}
}

function ofChain({ serving, policy, ...model }: Model): ChatModel {
	return { ...model, class: policy.class, serving: serving.length, minVerifiers: policy.minVerifiers, advice: {} }
}

function choose(model: ChatModel | undefined) {
	chosen.value = model?.name ?? ''
	if (!model) return
	temperature.value = model.advice.temperature ?? 0
	maxTokens.value = Math.min(maxTokens.value, model.maxOutputUnits)
}

/** Errors of programs begin small and end without a stop. */
function asSentence(text: string): string {
	return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? '' : '.')
}

function explain(e: unknown): { message: string; advice: string } {
	if (e instanceof GatewayError) return { message: asSentence(e.message), advice: advice(e) }
	return { message: e instanceof Error ? e.message : String(e), advice: '' }
}

/** What a model is told: the conversation so far, without answers that failed or never came, the oldest left out where there are too many. */
function conversation(next: string): Message[] {
	const past: Message[] = turns.value
		.filter((t) => t.said && (t.lane ? ['answered', 'checked'].includes(laneTrust(t.lane)) : !['failed', 'none'].includes(trust(t.marks))))
		.flatMap((t) => [
			{ role: 'user' as const, content: t.asked },
			{ role: 'assistant' as const, content: t.said },
		])
	const first: Message[] = system.value.trim() ? [{ role: 'system', content: system.value.trim() }] : []
	const room = MOST_MESSAGES - first.length - 1
	const kept = past.slice(Math.max(0, past.length - (room - (room % 2))))
	return [...first, ...kept, { role: 'user', content: next }]
}

function change(id: number, how: (turn: Turn) => Partial<Turn>) {
	turns.value = turns.value.map((t) => (t.id === id ? { ...t, ...how(t) } : t))
}

let count = 0

async function send() {
	const asked = draft.value.trim()
	if (!asked || !chosen.value || abort || (payer.value === 'own' && own.value.phase !== 'ready')) return
	const messages = conversation(asked)
	const id = ++count
	const began = performance.now()
	const since = () => (performance.now() - began) / 1000
	batch(() => {
		turns.value = [...turns.value, { id, asked, said: '', marks: [], open: true, stopped: false, began }]
		draft.value = ''
		waitingSince.value = true
	})
	if (payer.value === 'own') return sendOwn(id, messages, since)
	const controller = new AbortController()
	abort = controller
	try {
		const ask = { model: chosen.value, messages, maxTokens: maxTokens.value, temperature: temperature.value }
		for await (const said of chat(gateway.value, ask, controller.signal)) {
			if (said.kind === 'text') change(id, (t) => ({ said: t.said + said.text, first: t.first ?? since() }))
			if (said.kind === 'step') change(id, (t) => ({ marks: advance(t.marks, said.step) }))
			if (said.kind === 'finish') change(id, () => ({ finish: said.reason }))
		}
	} catch (e) {
		if (controller.signal.aborted) change(id, () => ({ stopped: true }))
		else {
			change(id, (t) => ({
				error: explain(e),
				marks: e instanceof GatewayError && e.step ? advance(t.marks, e.step) : t.marks,
			}))
			if (e instanceof GatewayError && e.code === 'invalid_api_key') trouble.value = { ...explain(e), needsKey: true }
		}
	}
	over(id, since)
}

function over(id: number, since: () => number) {
	batch(() => {
		change(id, () => ({ open: false, ended: since() }))
		abort = undefined
		waitingSince.value = false
	})
}

/** Asks out of the page's own channel. */
async function sendOwn(id: number, messages: Message[], since: () => number) {
	change(id, () => ({ lane: BEGINNING }))
	try {
		const answer = askOwn(
			questionOf(
				available.value!.find((m) => m.name === chosen.value)!,
				messages
			)
		)
		abort = {
			abort: () => {
				answer.cancel()
				change(id, () => ({ stopped: true }))
			},
		}
		for await (const event of answer) {
			change(id, (t) => {
				const lane = follow(t.lane!, event)
				return { lane, said: lane.said, first: lane.said ? (t.first ?? since()) : undefined }
			})
		}
	} catch (e) {
		change(id, (t) => ({ lane: { ...t.lane!, isOver: true }, error: { message: asSentence((e as Error).message), advice: '' } }))
	}
	over(id, since)
	void readLeft().catch(() => {})
}

function questionOf(model: ChatModel, messages: Message[]) {
	const question = { model: model.id, messages, maxTokens: maxTokens.value, temperature: temperature.value, verifiers: 0 }
	return { model: model.id, input: chainInput(question), checks: CHECKS }
}

function stop() {
	abort?.abort()
}

export function Chat() {
	const isConnected = node.value.phase === 'connected'
	useEffect(() => {
		if (!available.value) void load().catch((e) => (trouble.value = { ...explain(e), needsKey: false }))
	}, [payer.value, isConnected])
	const model = available.value?.find((m) => m.name === chosen.value)
	return (
		<>
			<Title>Chat</Title>
			<Trouble />
			{available.value?.length === 0 && (
				<Notice>
					No model that chats is active. <code>scripts/demo</code> starts a network with one; <a href={to('models')}>all models</a>.
				</Notice>
			)}
			{available.value && available.value.length > 0 && <Settings model={model} />}
			<Payer model={model} />
			<Turns />
			{model && (payer.value !== 'own' || own.value.phase === 'ready') && <Compose model={model} />}
		</>
	)
}

function Trouble() {
	const now = trouble.value
	const isKey = now?.needsKey || apiKey.value !== ''
	if (!now && !isKey) return null
	const submit = (e: Event) => {
		e.preventDefault()
		apiKey.value = (new FormData(e.currentTarget as HTMLFormElement).get('key') as string).trim()
		void load()
	}
	return (
		<>
			{now && (
				<Notice kind="error">
					{now.message} {now.advice}{' '}
					{!now.needsKey && (
						<button type="button" class="small" onClick={load}>
							Try again
						</button>
					)}
				</Notice>
			)}
			{isKey && (
				<form class="row" onSubmit={submit}>
					<label class="grow">
						API key of the gateway
						<input name="key" type="password" autocomplete="off" defaultValue={apiKey.value} />
					</label>
					<button type="submit">Use this key</button>
					<p class="muted full">Kept in this tab until it is closed.</p>
				</form>
			)}
		</>
	)
}

/** Who asks and pays, and who holds what then. */
function Payer({ model }: { model?: ChatModel }) {
	const isOwn = payer.value === 'own'
	const now = own.value
	// Whoever cannot ask yet sees what to do; otherwise it is as it was left.
	const isStuck = isOwn && !['ready', 'reading', 'opening'].includes(now.phase)
	const [isShown, show] = useState(false)
	useEffect(() => {
		if (isStuck) show(true)
	}, [isStuck])
	const choose = (who: string) => () => (payer.value = who)
	return (
		<details class="settings" open={isShown} onToggle={(e) => show(e.currentTarget.open)}>
			<summary>
				Who asks and pays
				<span class="muted">
					{' '}
					· {isOwn ? (now.phase === 'ready' ? `a channel of yours, number ${now.channel}` : 'a channel of yours') : 'this gateway'}
				</span>
			</summary>
			<fieldset class="row" disabled={waitingSince.value}>
				<legend class="hidden">Who asks and pays</legend>
				<label class="choice">
					<input type="radio" name="payer" checked={!isOwn} onChange={choose('gateway')} /> This gateway, on chain
				</label>
				<label class="choice">
					<input type="radio" name="payer" checked={isOwn} onChange={choose('own')} /> A channel of yours, held by this page
				</label>
			</fieldset>
			{isOwn ? (
				model && <OwnChannel model={model.id} />
			) : (
				<p class="muted">
					The gateway asks from its own account and pays; nothing of yours is spent. What it says of an answer is its word: the chain, read
					by a node of your own, shows whether it is true. Question and answer are public on the chain.
				</p>
			)}
		</details>
	)
}

function Settings({ model }: { model?: ChatModel }) {
	const list = available.value ?? []
	return (
		<details class="settings" open={turns.value.length === 0}>
			<summary>
				Model and settings
				{model && (
					<span class="muted">
						{' '}
						· {model.name}, at most {maxTokens.value} tokens, {temperature.value === 0 ? 'greedy' : `temperature ${temperature.value}`}
					</span>
				)}
			</summary>
			<div class="row">
				<label class="grow">
					Model
					<select value={chosen.value} onChange={(e) => choose(list.find((m) => m.name === e.currentTarget.value))}>
						{list.map((m) => (
							<option key={m.id} value={m.name}>
								{m.name}
							</option>
						))}
					</select>
				</label>
				<label>
					Most tokens
					<input
						type="number"
						min={1}
						max={model?.maxOutputUnits}
						value={maxTokens.value}
						required
						onInput={(e) => e.currentTarget.validity.valid && (maxTokens.value = e.currentTarget.valueAsNumber)}
					/>
				</label>
				<label>
					Temperature
					<input
						type="number"
						min={0}
						max={2}
						step={0.05}
						value={temperature.value}
						required
						onInput={(e) => e.currentTarget.validity.valid && (temperature.value = e.currentTarget.valueAsNumber)}
					/>
				</label>
				<label class="full">
					System prompt
					<textarea rows={2} value={system.value} onInput={(e) => (system.value = e.currentTarget.value)} placeholder="None" />
				</label>
			</div>
			{model && (
				<p class="muted">
					{model.class} class, served by {model.serving}, checked by {model.minVerifiers} or more validators where the chain has them
					{model.contextLength ? `, context of ${model.contextLength} tokens` : ''}.
				</p>
			)}
		</details>
	)
}

function Turns() {
	const end = useRef<HTMLDivElement>(null)
	const last = turns.value.at(-1)
	useEffect(() => {
		// Whoever reads further up is left there.
		const below = document.documentElement.scrollHeight - scrollY - innerHeight
		if (last && (last.marks.length === 0 || below < innerHeight / 2)) end.current?.scrollIntoView({ block: 'nearest' })
	}, [last?.id, last?.marks.length, last?.said])
	return (
		<div class="turns">
			{turns.value.map((turn) => (
				<One key={turn.id} turn={turn} />
			))}
			<div ref={end} class="end" />
		</div>
	)
}

const TAG = {
	none: '',
	provisional: 'provisional: nobody has checked this',
	unchecked: 'nobody checked this',
	checked: 'checked',
	final: 'checked, final',
	failed: 'not an answer',
}

function One({ turn: t }: { turn: Turn }) {
	const last = t.marks.at(-1)
	const paid = last && BigInt(last.step.fee.paid) + BigInt(last.step.fee.refunded) > 0n ? last.step.fee : undefined
	return (
		<article class="turn" aria-label={`Question ${t.id}`}>
			<p class="mine">
				<span class="hidden">You asked: </span>
				{t.asked}
			</p>
			{t.lane ? <LaneTurn answer={t.lane} cut={t.stopped} /> : <ChainTurn turn={t} />}
			{t.error && (
				<Notice kind="error">
					{t.error.message} {t.error.advice}
				</Notice>
			)}
			<p class="facts muted">
				{t.lane && <LaneFacts answer={t.lane} />}
				{last && (
					<>
						<a href={to(`requests/${last.step.request}`)}>Request {last.step.request}</a>
						{' · '}
					</>
				)}
				{paid ? (
					<>
						paid {csl(paid.paid)}, {csl(paid.refunded)} returned ·{' '}
					</>
				) : last ? (
					<>{csl(last.step.fee.held)} held · </>
				) : (
					''
				)}
				{t.first !== undefined && (
					<>
						text after {t.first.toFixed(1)} s
						{t.ended !== undefined && !t.stopped && !t.error ? `, ${t.lane ? 'checked' : 'final'} after ${t.ended.toFixed(1)} s` : ''}
					</>
				)}
			</p>
		</article>
	)
}

/** An answer on chain. */
function ChainTurn({ turn: t }: { turn: Turn }) {
	const rely = trust(t.marks)
	const last = t.marks.at(-1)
	const over = !t.open
	const replaced = t.error && t.said && rely !== 'final' && rely !== 'checked'
	const kind = replaced ? 'failed' : rely
	return (
		<>
			{t.said && (
				<div class={`answer ${kind}`}>
					<p class="tag">{replaced ? 'do not rely on this' : TAG[rely]}</p>
					<p class="text" aria-live="polite">
						{t.said}
					</p>
					{t.finish === 'length' && <p class="muted">It ends here because of “most tokens”.</p>}
				</div>
			)}
			<ol class="ladder" aria-label="How far this answer is">
				{ladder(t.marks, over).map(({ stage, mark }, i, all) => {
					const isNow = mark && (i === all.length - 1 || !all[i + 1]!.mark)
					return (
						<li class={`${mark ? 'past' : 'next'}${isNow ? ' now' : ''} ${stage}`} aria-current={isNow ? 'step' : undefined}>
							<span class="name">{NAME[stage]}</span>
							{mark ? (
								<span class="where" title={mark.block.hash}>
									block {mark.block.number}
								</span>
							) : (
								<span class="hidden">(to come)</span>
							)}
						</li>
					)
				})}
			</ol>
			<p class="meaning" role="status">
				{last ? sentence(last) : t.open ? 'Sent to the gateway; not in a block yet.' : ''}{' '}
				{last?.step.executor && ['assigned', 'provisional', 'measured'].includes(last.stage) && (
					<>
						Executor <Long text={last.step.executor} of="validator" />.
					</>
				)}
			</p>
			{t.stopped && (
				<Notice>
					You stopped reading. What is on chain goes on and is paid; the status above is as it was when you stopped.
					{last && (
						<>
							{' '}
							<a href={to(`requests/${last.step.request}`)}>Follow request {last.step.request}.</a>
						</>
					)}
				</Notice>
			)}
		</>
	)
}

/** The chain's quote by the page's node, where it answers. */
const quoted = signal<{ key: string; amount?: bigint; blocks?: number; refusal?: string }>({ key: '' })

/** What `inference_quote` says, as far as it is shown. */
interface Quoted {
	fee: string
	blocks: number
}

function useQuote(model: ChatModel, messages: Message[], most: number) {
	const now = node.value
	const key = JSON.stringify([now.url, model.id, messages, most])
	const provider = now.phase === 'connected' ? now.provider : undefined
	useEffect(() => {
		if (!provider || messages.at(-1)!.content === '') return
		const timer = setTimeout(async () => {
			const input = { messages, max_tokens: most, temperature: temperature.value }
			try {
				const { fee, blocks } = await provider.send<Quoted>('inference_quote', [model.id, input, model.minVerifiers])
				quoted.value = { key, amount: BigInt(fee), blocks }
			} catch (e) {
				// Like polkadot.js's: `code: message: data`.
				const text = e instanceof Error ? e.message : String(e)
				const code = Number(/^-?\d+/.exec(text)?.[0])
				// A method that the node does not have, or another chain's node, says nothing of the request.
				quoted.value = code === -32601 || Number.isNaN(code) ? { key } : { key, refusal: text.replace(/^-?\d+: /, '') }
			}
		}, 250)
		return () => clearTimeout(timer)
	}, [key, provider])
	return quoted.value.key === key ? quoted.value : undefined
}

/** What the page's own channel would pay. */
const quotedOwn = signal<{ key: string; prompt?: bigint; most?: bigint; refusal?: string }>({ key: '' })

function useOwnQuote(model: ChatModel, messages: Message[], most: number, isWanted: boolean) {
	const key = JSON.stringify([own.value.phase, model.id, messages, most])
	const isAsked = isWanted && own.value.phase === 'ready' && messages.at(-1)!.content !== ''
	useEffect(() => {
		if (!isAsked) return
		const timer = setTimeout(async () => {
			try {
				const { prompt, answer, checks } = await quoteOwn(questionOf(model, messages))
				quotedOwn.value = { key, prompt, most: answer + checks }
			} catch (e) {
				quotedOwn.value = { key, refusal: asSentence((e as Error).message) }
			}
		}, 250)
		return () => clearTimeout(timer)
	}, [key, isAsked])
	return quotedOwn.value.key === key ? quotedOwn.value : undefined
}

function Compose({ model }: { model: ChatModel }) {
	const busy = waitingSince.value
	const isOwn = payer.value === 'own'
	/** Whether the whole answer is there: nothing is left to be cut. */
	const isSigned = isOwn && !!turns.value.at(-1)?.lane?.receipt
	const text = draft.value.trim()
	const messages = conversation(text)
	const units = chatUnits(messages)
	const quote = useQuote(model, messages, maxTokens.value)
	const ownQuote = useOwnQuote(model, messages, maxTokens.value, isOwn)
	const submit = (e: Event) => {
		e.preventDefault()
		void send()
	}
	const keys = (e: KeyboardEvent) => {
		if (e.key === 'Enter' && !e.shiftKey && !e.isComposing) submit(e)
	}
	const isLong = units > model.maxInputUnits
	return (
		<form class="compose" onSubmit={submit}>
			<label>
				<span class="hidden">Your message</span>
				<textarea
					rows={2}
					value={draft.value}
					onInput={(e) => (draft.value = e.currentTarget.value)}
					onKeyDown={keys}
					placeholder={`Ask ${model.name}`}
					aria-describedby="price"
				/>
			</label>
			<div class="row">
				<p id="price" class="muted grow">
					{!text ? (
						'Enter sends, Shift+Enter begins a line.'
					) : isLong ? (
						<span class="wrong">
							{units} units are more than the {model.maxInputUnits} that the model takes: shorten it, or clear the conversation.
						</span>
					) : isOwn && ownQuote?.refusal ? (
						<span class="wrong">{ownQuote.refusal}</span>
					) : isOwn && ownQuote?.most !== undefined ? (
						<>
							At most <strong>{csl(ownQuote.most)}</strong> of your channel, {CHECKS} checks included, and more only where a validator fails
							after it was asked. Tokens that do not come are not paid.
						</>
					) : isOwn ? (
						'Asking what it costs …'
					) : quote?.amount !== undefined ? (
						<>
							At most <strong>{csl(quote.amount)}</strong> is held, checks included; what is not used comes back. On chain it is expected to
							be final in {quote.blocks} blocks.
						</>
					) : quote?.refusal ? (
						<span class="wrong">The chain would refuse this now: {quote.refusal}</span>
					) : (
						<>
							At most <Money amount={answerPrice(model.price, units, maxTokens.value)} /> for the answer ({units} units in,{' '}
							{maxTokens.value} tokens out); checks come on top.
						</>
					)}
				</p>
				{turns.value.length > 0 && (
					<button type="button" class="quiet" disabled={busy} onClick={() => (turns.value = [])}>
						Clear the conversation
					</button>
				)}
				{busy ? (
					<button type="button" onClick={stop} disabled={isSigned}>
						{isSigned ? 'Being checked' : isOwn ? 'Stop here' : 'Stop reading'}
					</button>
				) : (
					<button type="submit" disabled={!text || isLong}>
						Send
					</button>
				)}
			</div>
			{busy && (
				<p class="muted">
					{isSigned
						? 'The answer is whole and paid.'
						: isOwn
							? 'Stopping cuts the answer: what came is paid, and no more comes.'
							: 'Stopping ends what you see here. The request on chain goes on and is paid.'}
				</p>
			)}
		</form>
	)
}
