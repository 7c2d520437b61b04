import { useState } from 'preact/hooks'
import { node } from '../node'
import { DEFAULT_NODE, nodeAddress, nodeUrl, served, to } from '../state'
import { Notice, NodeTrouble, Title } from '../ui'

/** Which node the page reads: nobody has to believe the one that was named. */
export function ChooseNode() {
	const [text, setText] = useState(nodeUrl.value)
	const [wrong, setWrong] = useState('')
	const now = node.value
	const choose = (e: Event) => {
		e.preventDefault()
		const given = nodeAddress(text, location.protocol === 'https:')
		if ('wrong' in given) return setWrong(given.wrong)
		setWrong('')
		location.hash = to('node', given.url)
	}
	const usual = served.value.node ?? DEFAULT_NODE
	return (
		<>
			<Title>Node</Title>
			<p>
				Models, requests, evidence and the network are read from a node, by WebSocket from this browser. The page believes what that node
				says. Run one of your own, and you trust no server: <code>consilience --chain local</code> with the chain’s specification, or{' '}
				<code>consilience --dev</code> for a chain of one.
			</p>
			<form onSubmit={choose} class="row">
				<label class="grow">
					Address of the node
					<input
						value={text}
						onInput={(e) => setText(e.currentTarget.value)}
						spellcheck={false}
						autocapitalize="off"
						autocomplete="off"
						aria-invalid={wrong ? true : undefined}
						aria-describedby="node-wrong"
					/>
				</label>
				<button type="submit">Read this node</button>
				<a class="button quiet" href="#/node" onClick={() => setText(usual)}>
					The usual one
				</a>
			</form>
			<p id="node-wrong" role="alert" class={wrong ? 'wrong' : undefined}>
				{wrong}
			</p>
			<NodeTrouble />
			{now.phase === 'connected' && (
				<Notice>
					Connected to <code>{now.url}</code>: chain {now.chain} ({now.chainType}), best block {now.best.number}, finalised{' '}
					{now.finalized.number}.
				</Notice>
			)}
			<p class="muted">
				A node lets web pages of localhost read it; for other origins start it with <code>--rpc-cors ORIGIN</code>. The address is part of
				this page’s address, so that a link to it keeps the node.
			</p>
		</>
	)
}
