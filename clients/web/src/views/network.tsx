import type { ApiPromise } from '@polkadot/api'
import { useRef } from 'preact/hooks'
import { eventsOf, models, nextRequest, remember, requests, trouble, validators, type Trouble } from '../chain'
import type { Head } from '../node'
import { to } from '../state'
import { Long, Money, Notice, OfNode, Title, useRead } from '../ui'

/** Blocks that are looked through for trouble when the view opens, and requests that are counted. */
const BLOCKS = 60
const REQUESTS = 100
/** Most blocks that are kept in view. */
const MOST_BLOCKS = 400

export function Network() {
	return (
		<>
			<Title>Network</Title>
			<OfNode>
				{({ api, chain, chainType, best, finalized }) => (
					<>
						<ul class="figures">
							<li>
								<strong>{chain}</strong> chain ({chainType.toLowerCase()})
							</li>
							<li>
								<strong>{best.number}</strong> best block
							</li>
							<li>
								<strong>{finalized.number}</strong> finalised block
							</li>
							<li>
								<strong>{Math.max(0, best.number - finalized.number)}</strong> blocks of finality lag
							</li>
						</ul>
						<Now api={api} best={best} finalized={finalized} />
					</>
				)}
			</OfNode>
		</>
	)
}

function Now({ api, best, finalized }: { api: ApiPromise; best: Head; finalized: Head }) {
	const { value, error } = useRead(async () => {
		const all = await models(api)
		remember(all)
		const [who, next] = await Promise.all([validators(api, all), nextRequest(api)])
		return { all, who, next, rows: await requests(api, next, REQUESTS) }
	}, [api, best.hash])
	if (error && !value) return <Notice kind="error">The network could not be read: {error}</Notice>
	if (!value) return <p role="status">Reading …</p>
	const { who, next, rows, all } = value
	const ends = new Map<string, number>()
	for (const row of rows) {
		const end =
			row.settledAt === undefined
				? 'open'
				: row.state === 'Final'
					? row.checked
						? 'final, checked'
						: 'final, unchecked'
					: row.state.toLowerCase()
		ends.set(end, (ends.get(end) ?? 0) + 1)
	}
	return (
		<>
			<section aria-labelledby="validators">
				<h2 id="validators">Validators of this session: {who.length}</h2>
				<ul class="cards small">
					{who.map((v) => (
						<li class="card" key={v.account}>
							<p>
								<Long text={v.account} of="validator" /> {v.suspended && <span class="badge bad">suspended</span>}
								{v.strikes > 0 && <span class="badge plain">{v.strikes === 1 ? 'one absence' : `${v.strikes} absences`}</span>}
							</p>
							<p class="muted">{v.serves.length ? `serves ${v.serves.join(', ')}` : 'serves no model'}</p>
							<p>Load: {v.load === 0 ? 'nothing to do' : `${(v.load / 1000).toFixed(v.load < 10_000 ? 1 : 0)} blocks of work`}</p>
						</li>
					))}
				</ul>
			</section>
			<section aria-labelledby="ends">
				<h2 id="ends">Requests</h2>
				{rows.length === 0 ? (
					<p class="muted">{next === 0 ? 'Nobody has asked anything yet.' : `${next} were made; the chain has forgotten them.`}</p>
				) : (
					<>
						<p>
							{next === 1 ? 'One was made.' : `${next} were made.`}{' '}
							{rows.length === next ? 'By their end:' : `The newest ${rows.length} by their end:`}
						</p>
						<Ends of={ends} total={rows.length} />
						<p>
							<a href={to('requests')}>See them one by one</a>
						</p>
					</>
				)}
				{all.every((m) => m.status !== 'active') && <Notice>No model is active: requests would be refused.</Notice>}
			</section>
			<Troubles api={api} best={best} finalized={finalized} />
		</>
	)
}

function Troubles({ api, best, finalized }: { api: ApiPromise; best: Head; finalized: Head }) {
	const opened = useRef(Math.max(1, best.number - BLOCKS))
	const from = Math.max(opened.current, best.number - MOST_BLOCKS)
	const { value } = useRead(() => eventsOf(api, from, best.number, finalized.number), [api, best.hash])
	const troubles = value?.events.flatMap((e) => trouble(e) ?? []).reverse()
	return (
		<section aria-labelledby="trouble">
			<h2 id="trouble">Lateness, offences and slashes</h2>
			<p class="muted">
				From the events since block {from}; new blocks are added as they come.
				{value && value.missing > 0 && ` The node has not kept ${value.missing} of them.`}
			</p>
			{!troubles ? (
				<p role="status">Reading …</p>
			) : troubles.length === 0 ? (
				<p>None.</p>
			) : (
				<ul class="steps">
					{troubles.map((t, i) => (
						<TroubleRow key={i} of={t} />
					))}
				</ul>
			)}
		</section>
	)
}

const COLOUR: Record<string, string> = { 'final, checked': 'good', 'final, unchecked': 'plain', open: 'open' }

function Ends({ of, total }: { of: Map<string, number>; total: number }) {
	return (
		<ul class="ends">
			{[...of]
				.sort((a, b) => b[1] - a[1])
				.map(([end, count]) => (
					<li>
						<span>{end}</span>
						<span class="track" aria-hidden="true">
							<span class={`fill ${COLOUR[end] ?? 'bad'}`} style={{ width: `${(count / total) * 100}%` }} />
						</span>
						<strong>{count}</strong>
					</li>
				))}
		</ul>
	)
}

function TroubleRow({ of: t }: { of: Trouble }) {
	return (
		<li>
			<span class="number">block {t.block}</span>
			<span>
				<span class={t.costs ? 'wrong' : undefined}>{t.what}</span>
				{t.who && (
					<>
						: <Long text={t.who} of="validator" />
					</>
				)}
				{t.amount !== undefined && (
					<>
						, <Money amount={t.amount} />
					</>
				)}
				{t.request !== undefined && (
					<>
						, <a href={to(`requests/${t.request}`)}>request {t.request}</a>
					</>
				)}
			</span>
		</li>
	)
}
