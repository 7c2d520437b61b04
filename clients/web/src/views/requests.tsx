import { useState } from 'preact/hooks'
import { modelNames, models, nextRequest, remember, requests } from '../chain'
import { Long, Money, Notice, OfNode, State, Title, short, useRead } from '../ui'
import { to } from '../state'

const PAGE = 20

export function Requests() {
	const [number, setNumber] = useState('')
	const go = (e: Event) => {
		e.preventDefault()
		if (/^\d+$/.test(number)) location.hash = to(`requests/${number}`)
	}
	return (
		<>
			<Title>Requests</Title>
			<form onSubmit={go} class="row">
				<label>
					Number of a request
					<input inputMode="numeric" pattern="[0-9]+" required value={number} onInput={(e) => setNumber(e.currentTarget.value.trim())} />
				</label>
				<button type="submit">Show its life</button>
			</form>
			<OfNode>{({ api, best, finalized }) => <Recent api={api} block={best.number} finalized={finalized.number} />}</OfNode>
		</>
	)
}

function Recent({ api, block, finalized }: { api: Parameters<typeof requests>[0]; block: number; finalized: number }) {
	const [most, setMost] = useState(PAGE)
	const { value, error } = useRead(async () => {
		if (modelNames.value.size === 0) remember(await models(api))
		const next = await nextRequest(api)
		return { next, rows: await requests(api, next, most) }
	}, [api, block, most])
	if (error && !value) return <Notice kind="error">The requests could not be read: {error}</Notice>
	if (!value) return <p role="status">Reading …</p>
	const { next, rows } = value
	if (rows.length === 0) {
		return (
			<Notice>
				{next === 0 ? (
					<>
						Nobody has asked anything on this chain yet. <a href={to('chat')}>Ask by the gateway</a> or <a href={to('ask')}>by wallet</a>.
					</>
				) : (
					'All requests are settled and forgotten by the chain.'
				)}
			</Notice>
		)
	}
	return (
		<>
			<ul class="rows">
				{rows.map((row) => (
					<li key={row.id}>
						<a href={to(`requests/${row.id}`)}>
							<span class="number">{row.id}</span>
							<State state={row.state} checked={row.checked} finalized={row.settledAt !== undefined && row.settledAt <= finalized} />
							<span class="grow">{modelNames.value.get(row.model) ?? short(row.model)}</span>
							<span class="muted">
								by <Long text={row.requester} of="account" />
							</span>
							<span class="muted">
								block {row.requestedAt}
								{row.settledAt ? `–${row.settledAt}` : ''}
							</span>
							<span class="amount">
								{row.settledAt ? (
									<>
										<span class="hidden">paid </span>
										<Money amount={row.paid} />
									</>
								) : (
									'open'
								)}
							</span>
						</a>
					</li>
				))}
			</ul>
			{next > most && (
				<button type="button" class="quiet" onClick={() => setMost(most + PAGE)}>
					Older ones
				</button>
			)}
		</>
	)
}
