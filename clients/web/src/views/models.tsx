import { useEffect, useState } from 'preact/hooks'
import { models as readModels, remember } from '../chain'
import type { Model } from '../decode'
import { models as ofGateway, type ChatModel } from '../gateway'
import { gateway } from '../state'
import { Copy, Long, Money, Notice, OfNode, Title, useRead } from '../ui'

export function Models() {
	const [known, setKnown] = useState<ChatModel[]>([])
	// Licence and source are in the manifest, which is not on chain: the gateway's node may have it.
	useEffect(() => {
		ofGateway(gateway.value).then(setKnown, () => setKnown([]))
	}, [])
	return (
		<>
			<Title>Models</Title>
			<p>Who registered a model set its price; validators that have reproduced its reference evidence serve it.</p>
			<OfNode>{({ api, finalized }) => <List api={api} block={finalized.number} known={known} />}</OfNode>
		</>
	)
}

function List({ api, block, known }: { api: Parameters<typeof readModels>[0]; block: number; known: ChatModel[] }) {
	const { value, error } = useRead(async () => {
		const all = await readModels(api)
		remember(all)
		return all
	}, [api, block])
	if (error && !value) return <Notice kind="error">The models could not be read: {error}</Notice>
	if (!value) return <p role="status">Reading …</p>
	if (value.length === 0)
		return (
			<Notice>
				No model is registered on this chain. <code>scripts/demo</code> registers some; <code>consilience model register</code> one of
				yours.
			</Notice>
		)
	const order = [...value].sort((a, b) => Number(b.status === 'active') - Number(a.status === 'active') || a.name.localeCompare(b.name))
	return (
		<ul class="cards">
			{order.map((model) => (
				<Card key={model.id} model={model} known={known.find((k) => k.id === model.id)} />
			))}
		</ul>
	)
}

function megabytes(bytes: number): string {
	return bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`
}

function Card({ model, known }: { model: Model; known?: ChatModel }) {
	const { price, policy } = model
	const units = { 'text-generation': ['byte of text', 'token'], embedding: ['byte of text', 'element'], tensor: ['element', 'element'] }[
		model.task
	]
	const isFree = price.perRequest + price.perInputUnit + price.perOutputUnit === 0n
	return (
		<li class="card">
			<h2>
				{model.name} <span class={`badge ${model.status === 'active' ? 'good' : 'plain'}`}>{model.status}</span>
			</h2>
			<p>
				{model.task}
				{model.task === 'text-generation' && !model.chat ? ', no chat' : ''} · {policy.class} class · {megabytes(model.size)}
			</p>
			<dl>
				<div>
					<dt>Price</dt>
					<dd>
						{isFree ? (
							'free'
						) : (
							<>
								<Money amount={price.perRequest} /> a request, <Money amount={price.perInputUnit} /> an input {units[0]},{' '}
								<Money amount={price.perOutputUnit} /> an output {units[1]}; verifiers on top
							</>
						)}
					</dd>
				</div>
				<div>
					<dt>Limits</dt>
					<dd>
						{model.maxInputUnits} input units, {model.maxOutputUnits} output {units[1]}s
						{known?.contextLength ? `, context of ${known.contextLength} tokens` : ''}
					</dd>
				</div>
				<div>
					<dt>Served by</dt>
					<dd>
						{model.serving.length === 0 ? (
							'nobody'
						) : (
							<>
								{model.serving.length}:{' '}
								{model.serving.map((a, i) => (
									<>
										{i > 0 && ', '}
										<Long text={a} of="validator" />
									</>
								))}
							</>
						)}
					</dd>
				</div>
				<div>
					<dt>Policy</dt>
					<dd>{policyText(model)}</dd>
				</div>
				{model.signature.length > 0 && (
					<div>
						<dt>Inputs</dt>
						<dd>
							{model.signature.map((s) => (
								<code class="block">{s}</code>
							))}
						</dd>
					</div>
				)}
				<div>
					<dt>Licence</dt>
					<dd>
						{known?.license ?? 'not on chain'}
						{known?.source && (
							<>
								{' '}
								·{' '}
								{/^https:\/\//.test(known.source) ? (
									<a href={known.source} rel="noreferrer">
										source
									</a>
								) : (
									known.source
								)}
							</>
						)}
					</dd>
				</div>
				<div>
					<dt>Owner</dt>
					<dd>
						<Long text={model.owner} of="account" />
					</dd>
				</div>
				<div>
					<dt>Id</dt>
					<dd>
						<Long text={model.id} of="manifest" />
					</dd>
				</div>
			</dl>
			{model.status === 'active' && <Copy text={curl(model, known?.name ?? model.name)} what={`the command that asks ${model.name}`} />}
		</li>
	)
}

function policyText({ policy, task }: Model): string {
	const drawn = `${policy.positions} ${task === 'text-generation' ? 'positions' : 'sums'} drawn, ${policy.minVerifiers} verifiers at least`
	if (policy.class === 'exact') return `${drawn}; all thresholds are zero`
	const step = 2 ** -policy.fractionBits
	const of = (b: typeof policy.accept) => `${(b.max * step).toPrecision(2)}`
	return `${drawn}; a value may differ by ${of(policy.accept)} (accept), beyond ${of(policy.fraud)} it is fraud`
}

function curl({ task, signature }: Model, name: string): string {
	const at = gateway.value.base.replace(/\/$/, '')
	const json = (body: unknown) => JSON.stringify(body).replaceAll("'", "'\\''")
	const post = (path: string, body: unknown) => `curl ${at}${path} -d '${json(body)}'`
	switch (task) {
		case 'text-generation':
			return post('/v1/chat/completions', { model: name, messages: [{ role: 'user', content: 'Hello' }] })
		case 'embedding':
			return post('/v1/embeddings', { model: name, input: 'Hello' })
		case 'tensor': {
			const [input = 'x: FP32 [1]'] = signature
			const [tensor, rest = ''] = input.split(': ')
			const [datatype, shape = ''] = rest.split(' [')
			const dims = shape
				.replace(']', '')
				.split(', ')
				.map((d) => (d === '?' ? 1 : Number(d)))
			const count = dims.reduce((a, b) => a * b, 1)
			const body = json({ inputs: [{ name: tensor, datatype, shape: dims, data: count > 8 ? '…' : Array(count).fill(0) }] })
			return `curl ${at}/v2/models/${name}/infer -d '${body.replace('"…"', `[… ${count} elements …]`)}'`
		}
	}
}
