import type { ApiPromise } from '@polkadot/api'
import { useEffect, useState } from 'preact/hooks'
import { models as readModels, remember } from '../chain'
import type { Model } from '../decode'
import { csl, shortCsl, type Message } from '../money'
import { to } from '../state'
import { admitsDevelopmentKeys, quote, submit, type Account, type Price, type Question } from '../wallet'
import { Money, Notice, OfNode, Title, useRead } from '../ui'
import { Accounts } from './accounts'

/** Asks over the node alone: the gateway takes no part. */
export function Ask() {
	return (
		<>
			<Title>Ask by wallet</Title>
			<p>
				Your own account asks and pays, over the node that this page reads. No gateway takes part, and the answer is checked like any other.
				Question and answer are public on the chain.
			</p>
			<OfNode>{({ api, chainType, finalized }) => <Form api={api} chainType={chainType} block={finalized.number} />}</OfNode>
		</>
	)
}

function Form({ api, chainType, block }: { api: ApiPromise; chainType: string; block: number }) {
	const isDevelopment = admitsDevelopmentKeys(chainType)
	const { value: all, error } = useRead(async () => {
		const all = await readModels(api)
		remember(all)
		return all.filter((m) => m.task === 'text-generation' && m.chat && m.status === 'active')
	}, [api, block])
	const [account, setAccount] = useState<Account>()
	const [model, setModel] = useState('')
	const [text, setText] = useState('')
	const [maxTokens, setMaxTokens] = useState(48)
	const [temperature, setTemperature] = useState(0)
	const [verifiers, setVerifiers] = useState(0)
	const [price, setPrice] = useState<Price & { key: string }>()
	const [wrong, setWrong] = useState<{ key: string; why: string }>()
	const [busy, setBusy] = useState(false)
	const chosen = all?.find((m) => m.id === model) ?? all?.[0]
	const least = chosen?.policy.minVerifiers ?? 1
	const messages: Message[] = [{ role: 'user', content: text.trim() }]
	const question: Question | undefined =
		chosen && text.trim() ? { model: chosen.id, messages, maxTokens, temperature, verifiers: Math.max(verifiers, least) } : undefined
	const key = JSON.stringify([question, account?.address])

	useEffect(() => {
		if (!question || !account) return
		const timer = setTimeout(() => {
			quote(api, question, account.address).then(
				(p) => {
					setPrice({ ...p, key })
					setWrong(undefined)
				},
				(e: Error) => setWrong({ key, why: e.message })
			)
		}, 250)
		return () => clearTimeout(timer)
	}, [key, api])

	const now = price?.key === key ? price : undefined
	const why = wrong?.key === key ? wrong.why : undefined
	const isPoor = now && now.free < now.held + now.fee
	const send = async (e: Event) => {
		e.preventDefault()
		if (!question || !account || !now) return
		setBusy(true)
		try {
			const id = await submit(api, question, now.held, account)
			location.hash = to(`requests/${id}`)
		} catch (e) {
			setWrong({ key, why: (e as Error).message })
		}
		setBusy(false)
	}
	if (error && !all) return <Notice kind="error">The models could not be read: {error}</Notice>
	if (!all) return <p role="status">Reading …</p>
	if (all.length === 0)
		return (
			<Notice>
				No text model is active on this chain. <a href={to('models')}>All models</a>
			</Notice>
		)
	return (
		<>
			<Accounts isDevelopment={isDevelopment} account={account} onChoose={setAccount} />
			<form onSubmit={send}>
				<h2>Question</h2>
				<div class="row">
					<label class="grow">
						Model
						<select value={chosen?.id} onChange={(e) => setModel(e.currentTarget.value)}>
							{all.map((m: Model) => (
								<option key={m.id} value={m.id}>
									{m.name}, served by {m.serving.length}
								</option>
							))}
						</select>
					</label>
					<Figure name="Most tokens" value={maxTokens} set={setMaxTokens} min={1} max={chosen?.maxOutputUnits} />
					<Figure name="Temperature" value={temperature} set={setTemperature} min={0} max={2} step={0.05} />
					<Figure name="Verifiers" value={Math.max(verifiers, least)} set={setVerifiers} min={least} max={15} />
					<label class="full">
						Text
						<textarea rows={3} required value={text} onInput={(e) => setText(e.currentTarget.value)} />
					</label>
				</div>
				<div aria-live="polite">
					{!account && text.trim() && <p class="muted">Choose an account to see what it costs.</p>}
					{now && (
						<p>
							At most <strong>{csl(now.held)}</strong> is held, checks included; what is not used comes back.{' '}
							{now.surcharge > 0n && <>Of it {csl(now.surcharge)} is burned, because those who serve the model are nearly full. </>}
							An answer is expected in {now.blocks} blocks. The transaction’s fee is{' '}
							<strong>
								<Money amount={now.fee} />
							</strong>{' '}
							and does not come back. The account has {shortCsl(now.free, 'down')}.
						</p>
					)}
					{isPoor && <p class="wrong">The account has too little for this.</p>}
				</div>
				{why && <Notice kind="error">{why}</Notice>}
				<button type="submit" disabled={!question || !account || !now || isPoor || busy}>
					{busy ? 'Waiting for its block …' : 'Sign and ask'}
				</button>
			</form>
		</>
	)
}

interface FigureProps {
	name: string
	value: number
	set: (value: number) => void
	min: number
	max?: number
	step?: number
}

function Figure({ name, value, set, ...bounds }: FigureProps) {
	return (
		<label>
			{name}
			<input
				type="number"
				required
				value={value}
				{...bounds}
				onInput={(e) => e.currentTarget.validity.valid && set(e.currentTarget.valueAsNumber)}
			/>
		</label>
	)
}
