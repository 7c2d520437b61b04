// Small pieces that views share.

import type { ComponentChildren } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import { node, type Node } from './node'
import { shortCsl, csl, type Amount } from './money'
import { to } from './state'

let isFirst = true

/** A heading that has the focus when its view opens, so that a screen reader says where one is. The first view begins at the top. */
export function Title({ children }: { children: ComponentChildren }) {
	const heading = useRef<HTMLHeadingElement>(null)
	useEffect(() => {
		if (!isFirst) heading.current?.focus({ preventScroll: true })
		isFirst = false
	}, [])
	return (
		<h1 ref={heading} tabIndex={-1}>
			{children}
		</h1>
	)
}

export function Notice({ kind = 'info', children }: { kind?: 'info' | 'error'; children: ComponentChildren }) {
	return (
		<div class={`notice ${kind}`} role={kind === 'error' ? 'alert' : undefined}>
			{children}
		</div>
	)
}

export function short(text: string): string {
	return text.length > 16 ? `${text.slice(0, 6)}…${text.slice(-5)}` : text
}

/** An account, a hash or another long word: short, and whole where one points at it or copies it. */
export function Long({ text, of }: { text: string; of: string }) {
	return (
		<code class="long" title={`${of} ${text}`}>
			{short(text)}
		</code>
	)
}

export function Money({ amount }: { amount: Amount }) {
	return (
		<span class="money" title={csl(amount)}>
			{shortCsl(amount)}
		</span>
	)
}

export function Copy({ text, what }: { text: string; what: string }) {
	const [said, say] = useState('')
	const copy = async () => {
		try {
			await navigator.clipboard.writeText(text)
			say('Copied')
		} catch {
			say('Not copied: select it')
		}
	}
	return (
		<div class="copy">
			<pre tabIndex={0} aria-label={what}>
				{text}
			</pre>
			<button type="button" class="small" onClick={copy} onBlur={() => say('')} aria-label={`Copy ${what}`}>
				{said || 'Copy'}
			</button>
			<span class="hidden" role="status">
				{said}
			</span>
		</div>
	)
}

/** What happened to a request of the chain, as a word with a colour. A state is no promise of finality. */
export function State({ state, finalized, checked = true }: { state: string; finalized?: boolean; checked?: boolean }) {
	const kind =
		state === 'Final' ? (checked ? 'good' : 'plain') : ['Rejected', 'Overturned', 'Expired', 'Disputed'].includes(state) ? 'bad' : 'open'
	const word =
		state !== 'Final'
			? state.toLowerCase()
			: checked
				? finalized
					? 'checked, final'
					: 'checked'
				: finalized
					? 'final, unchecked'
					: 'settled, unchecked'
	return <span class={`badge ${kind}`}>{word}</span>
}

/** Shows what is read of the chain, or why it cannot be. What was read stays while the node is away. */
export function OfNode({ children }: { children: (connected: Extract<Node, { phase: 'connected' }>) => ComponentChildren }) {
	const now = node.value
	const last = useRef<Extract<Node, { phase: 'connected' }> | undefined>(undefined)
	if (now.phase === 'connected') last.current = now
	if (last.current && last.current.url !== now.url) last.current = undefined
	return (
		<>
			<NodeTrouble />
			{last.current && children(last.current)}
		</>
	)
}

export function NodeTrouble() {
	const now = node.value
	if (now.phase === 'connecting')
		return (
			<Notice>
				Connecting to the node at <code>{now.url}</code> …
			</Notice>
		)
	if (now.phase === 'other')
		return (
			<Notice kind="error">
				{now.why} <a href={to('node')}>Choose another node.</a>
			</Notice>
		)
	if (now.phase === 'unreachable') {
		return (
			<Notice kind="error">
				The node at <code>{now.url}</code> does not answer
				{now.best ? ` since block ${now.best.number}: what is shown is as it was then` : ''}. The page tries again every two seconds.{' '}
				<a href={to('node')}>Choose another node</a>, or start one: <code>consilience --dev</code>.
			</Notice>
		)
	}
	return null
}

/** Reads something of the chain again with every new block. Of answers that overtake one another the newest counts. */
export function useRead<T>(read: () => Promise<T>, deps: unknown[]): { value?: T; error?: string } {
	const [state, set] = useState<{ value?: T; error?: string }>({})
	const turn = useRef(0)
	const running = useRef(false)
	const again = useRef(false)
	const current = useRef(read)
	current.current = read
	useEffect(() => {
		const go = async () => {
			if (running.current) {
				again.current = true
				return
			}
			running.current = true
			const mine = ++turn.current
			try {
				const value = await current.current()
				if (mine === turn.current) set({ value })
			} catch (e) {
				if (mine === turn.current) set((old) => ({ ...old, error: e instanceof Error ? e.message : String(e) }))
			}
			running.current = false
			if (again.current) {
				again.current = false
				void go()
			}
		}
		void go()
	}, deps)
	useEffect(() => () => void (turn.current = Infinity), [])
	return state
}
