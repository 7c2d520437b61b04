// A channel that this page holds: how it is opened, what is left of it, how it ends; and who can do what with it.

import { useEffect, useState } from 'preact/hooks'
import type { ApiPromise } from '@polkadot/api'
import { channelsElsewhere, closeElsewhere, closeOwn, forgetOwn, loadOwn, openOwn, own, readLeft, withdrawOwn } from '../lane'
import { csl, parseCsl, shortCsl } from '../money'
import { Long, Notice, OfNode } from '../ui'
import { admitsDevelopmentKeys, type Account } from '../wallet'
import { Accounts } from './accounts'

/** Who holds what, said where it is chosen. */
export function WhoHolds() {
	return (
		<p class="muted">
			You hold the channel: its signing key is made in this browser and stays in its storage, and your account signs once. This page pays,
			and verifies what validators sign by the keys that the node below says are theirs. The gateway passes bytes on to validators that have
			no certificate for browsers: it can read those and cut them off, and can neither sign nor change nor pay anything. Executor and
			checkers read your question too, and now and then a receipt is opened on chain for everybody. This page’s program itself came from the
			gateway: who does not trust it with that serves the page from elsewhere.
		</p>
	)
}

export function OwnChannel({ model }: { model: string }) {
	return <OfNode>{({ api, chainType }) => <Channel api={api} model={model} isDevelopment={admitsDevelopmentKeys(chainType)} />}</OfNode>
}

function Channel({ api, model, isDevelopment }: { api: ApiPromise; model: string; isDevelopment: boolean }) {
	useEffect(() => {
		void loadOwn(api)
	}, [api])
	const now = own.value
	switch (now.phase) {
		case 'reading':
			return <p role="status">Looking for a channel in this browser …</p>
		case 'unable':
			return <Notice>{now.why}</Notice>
		case 'opening':
			return <p role="status">{now.step}</p>
		case 'wrong':
			return (
				<Notice kind="error">
					{now.why}{' '}
					<button type="button" class="small" onClick={() => void loadOwn(api)}>
						Try again
					</button>
				</Notice>
			)
		case 'none':
			return <Open api={api} model={model} isDevelopment={isDevelopment} />
		case 'ready':
			return <Ready api={api} isDevelopment={isDevelopment} />
		case 'closing':
			return <Closing api={api} isDevelopment={isDevelopment} />
	}
}

function Open({ api, model, isDevelopment }: { api: ApiPromise; model: string; isDevelopment: boolean }) {
	const [account, setAccount] = useState<Account>()
	const [deposit, setDeposit] = useState('10')
	const amount = parseCsl(deposit)
	const submit = (e: Event) => {
		e.preventDefault()
		if (account && amount) void openOwn(api, account, model, amount)
	}
	return (
		<>
			<p>
				A channel sets money apart for the validators that answer for this model, and for checkers. You open it once; then answers come
				straight from validators, paid piece by piece as they come, and checked within seconds. What is not used comes back when you close
				it: 30 hours later, in which validators claim what they are owed.
			</p>
			<Accounts isDevelopment={isDevelopment} account={account} onChoose={setAccount} />
			<form class="row" onSubmit={submit}>
				<label>
					Deposit in CSL
					<input inputMode="decimal" value={deposit} onInput={(e) => setDeposit(e.currentTarget.value)} required />
				</label>
				<button type="submit" disabled={!account || !amount}>
					Sign and open a channel
				</button>
				<p class="muted full">
					{amount
						? `${csl(amount)} is held from the account: a quarter for checkers, the rest in equal parts for up to 16 validators.`
						: 'A deposit is a number of CSL, such as 10.'}
				</p>
			</form>
			{account && <Elsewhere key={account.address} api={api} account={account} />}
			<WhoHolds />
		</>
	)
}

/** Channels whose keys are lost, or with another program: the account can close them all the same. */
function Elsewhere({ api, account }: { api: ApiPromise; account: Account }) {
	const [channels, setChannels] = useState<number[]>([])
	const [state, setState] = useState<{ closing?: number; why?: string }>({})
	const read = () => channelsElsewhere(api, account).then(setChannels)
	useEffect(() => {
		read().catch(() => {})
	}, [api])
	if (channels.length === 0) return null
	const close = async (channel: number) => {
		setState({ closing: channel })
		try {
			await closeElsewhere(api, channel, account)
			await read()
			setState({})
		} catch (e) {
			setState({ why: (e as Error).message })
		}
	}
	return (
		<details>
			<summary>
				This account has {channels.length === 1 ? 'another channel' : `${channels.length} other channels`} whose keys are not in this
				browser
			</summary>
			<p>Another program or browser may ask from them: close one only if its keys are lost, or nobody needs it any more.</p>
			<ul class="bare checkers">
				{channels.map((channel) => (
					<li>
						Channel {channel}{' '}
						<button type="button" class="small" disabled={state.closing !== undefined} onClick={() => void close(channel)}>
							{state.closing === channel ? 'Waiting for its block …' : `Close channel ${channel}`}
						</button>
					</li>
				))}
			</ul>
			{state.why && <Notice kind="error">{state.why}</Notice>}
		</details>
	)
}

function Ready({ api, isDevelopment }: { api: ApiPromise; isDevelopment: boolean }) {
	const now = own.value
	useEffect(() => {
		void readLeft()
	}, [])
	if (now.phase !== 'ready') return null
	return (
		<>
			<p role="status">
				Channel {now.channel} of <Long text={now.owner} of="account" />
				{now.left && (
					<>
						: {shortCsl(now.left.answers, 'down')} left for answers of all its validators, {shortCsl(now.left.checks, 'down')} for checks
					</>
				)}
				.
			</p>
			<WhoHolds />
			<Signed
				name="Close the channel"
				isDevelopment={isDevelopment}
				act={(account) => closeOwn(api, account)}
				says="No question goes out of it any more. Validators have 30 hours to claim what they are owed; then the rest can be taken back."
			/>
		</>
	)
}

function Closing({ api, isDevelopment }: { api: ApiPromise; isDevelopment: boolean }) {
	const now = own.value
	if (now.phase !== 'closing') return null
	return (
		<>
			<p role="status">
				Channel {now.channel} {now.gone ? 'is over: everything in it was paid or returned.' : 'is closing and takes no questions.'}
			</p>
			{!now.gone && (
				<Signed
					name="Take back what is left"
					isDevelopment={isDevelopment}
					act={(account) => withdrawOwn(api, account)}
					says="30 hours after it was closed. The account that opened it signs."
				/>
			)}
			<p>
				<button type="button" class="quiet" onClick={() => void forgetOwn()}>
					Forget its keys and receipts, to open another
				</button>
			</p>
		</>
	)
}

/** Something that the account signs which opened the channel. */
function Signed({
	name,
	says,
	isDevelopment,
	act,
}: {
	name: string
	says: string
	isDevelopment: boolean
	act: (account: Account) => Promise<void>
}) {
	const [account, setAccount] = useState<Account>()
	const [state, setState] = useState({ busy: false, why: '' })
	const go = async () => {
		setState({ busy: true, why: '' })
		try {
			await act(account!)
			setState({ busy: false, why: '' })
		} catch (e) {
			setState({ busy: false, why: (e as Error).message })
		}
	}
	return (
		<details>
			<summary>{name}</summary>
			<p>{says}</p>
			<Accounts isDevelopment={isDevelopment} account={account} onChoose={setAccount} />
			{state.why && <Notice kind="error">{state.why}</Notice>}
			<button type="button" disabled={!account || state.busy} onClick={() => void go()}>
				{state.busy ? 'Waiting for its block …' : name}
			</button>
		</details>
	)
}
