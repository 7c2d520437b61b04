import { render } from 'preact'
import { useEffect } from 'preact/hooks'
import { connectNodes, node } from './node'
import { gatewayBase, loadServed, payer, place, theme, to } from './state'
import { Ask } from './views/ask'
import { Chat } from './views/chat'
import { Models } from './views/models'
import { Network } from './views/network'
import { ChooseNode } from './views/node'
import { OneRequest } from './views/request'
import { Requests } from './views/requests'
import { Title } from './ui'
import './style.css'

const VIEWS = [
	{ view: 'chat', name: 'Chat' },
	{ view: 'models', name: 'Models' },
	{ view: 'requests', name: 'Requests' },
	{ view: 'network', name: 'Network' },
	{ view: 'ask', name: 'Wallet' },
]

function View() {
	const { view, rest } = place.value
	const id = rest[0]
	useEffect(() => {
		const name = VIEWS.find((v) => v.view === view)?.name ?? (view === 'node' ? 'Node' : 'Not found')
		document.title = `${view === 'requests' && id ? `Request ${id}` : name} – Consilience`
	}, [view, id])
	switch (view) {
		case 'chat':
			return <Chat />
		case 'models':
			return <Models />
		case 'requests':
			return id && /^\d+$/.test(id) ? <OneRequest key={id} id={Number(id)} /> : <Requests />
		case 'network':
			return <Network />
		case 'ask':
			return <Ask />
		case 'node':
			return <ChooseNode />
		default:
			return (
				<>
					<Title>There is nothing here</Title>
					<p>
						<a href={to('chat')}>Go to the chat.</a>
					</p>
				</>
			)
	}
}

function Sources() {
	const now = node.value
	const state = {
		connecting: 'connecting …',
		unreachable: 'does not answer',
		other: 'is of another chain',
		connected: now.phase === 'connected' ? `${now.chain}, block ${now.best.number}, finalised ${now.finalized.number}` : '',
	}[now.phase]
	return (
		<footer>
			<p>
				{payer.value === 'own' ? (
					<>
						Chat: a channel of yours; the gateway <code>{gatewayBase}</code> passes bytes on.
					</>
				) : (
					<>
						Chat: gateway <code>{gatewayBase}</code>, which is trusted for what it relays.
					</>
				)}{' '}
				Everything else is read from the node <code>{now.url}</code> <span class={`dot ${now.phase}`} aria-hidden="true" />{' '}
				<span id="node-state">{state}</span>. <a href={to('node')}>Change the node</a>
			</p>
		</footer>
	)
}

function Shell() {
	const skip = (e: Event) => {
		e.preventDefault()
		document.querySelector<HTMLElement>('main h1')?.focus()
	}
	return (
		<>
			<a class="skip" href="#main" onClick={skip}>
				Skip to the content
			</a>
			<header>
				<a class="brand" href={to('chat')}>
					Consilience
				</a>
				<nav aria-label="Views">
					{VIEWS.map(({ view, name }) => (
						<a href={to(view)} aria-current={place.value.view === view ? 'page' : undefined}>
							{name}
						</a>
					))}
				</nav>
				<label class="theme">
					<span class="hidden">Colours</span>
					<select value={theme.value} onChange={(e) => (theme.value = e.currentTarget.value)}>
						<option value="auto">Auto</option>
						<option value="light">Light</option>
						<option value="dark">Dark</option>
					</select>
				</label>
			</header>
			<main id="main">
				<View />
			</main>
			<Sources />
		</>
	)
}

await loadServed()
connectNodes()
render(<Shell />, document.getElementById('app')!)
