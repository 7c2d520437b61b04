import { useState } from 'preact/hooks'
import { DEVELOPMENT, developmentAccount, extensionAccounts, type Account } from '../wallet'
import { Long, Notice } from '../ui'

/** Chooses who signs: an account of an extension, or on a development chain one whose key everybody knows. */
export function Accounts({
	isDevelopment,
	account,
	onChoose,
}: {
	isDevelopment: boolean
	account?: Account
	onChoose: (account: Account) => void
}) {
	const [found, setFound] = useState<Account[]>([])
	const [wrong, setWrong] = useState('')
	const [uri, setUri] = useState('')
	const attempt = async (what: () => Promise<void>) => {
		setWrong('')
		try {
			await what()
		} catch (e) {
			setWrong((e as Error).message)
		}
	}
	const connect = () =>
		attempt(async () => {
			const accounts = await extensionAccounts()
			setFound(accounts)
			onChoose(accounts[0]!)
		})
	const develop = (uri: string) =>
		attempt(async () => {
			if (uri) onChoose(await developmentAccount(uri.startsWith('//') ? uri : `//${uri}`))
		})
	return (
		<section aria-labelledby="account">
			<h2 id="account">Account</h2>
			<div class="row">
				<button type="button" onClick={connect}>
					Connect a wallet extension
				</button>
				{found.length > 0 && (
					<label class="grow">
						Its accounts
						<select value={account?.address} onChange={(e) => onChoose(found.find((a) => a.address === e.currentTarget.value)!)}>
							{found.map((a) => (
								<option value={a.address}>{a.name}</option>
							))}
						</select>
					</label>
				)}
			</div>
			{isDevelopment && (
				<form
					class="row"
					onSubmit={(e) => {
						e.preventDefault()
						void develop(uri)
					}}
				>
					<label>
						Or a development key
						<select value={account?.name.slice(2) ?? ''} onChange={(e) => void develop(e.currentTarget.value)}>
							<option value="">none</option>
							{DEVELOPMENT.map((name) => (
								<option value={name}>//{name}</option>
							))}
						</select>
					</label>
					<label>
						or another path
						<input
							value={uri}
							onInput={(e) => setUri(e.currentTarget.value.trim())}
							placeholder="//Alice//stash"
							pattern="//.+"
							spellcheck={false}
							autocapitalize="off"
						/>
					</label>
					<button type="submit" class="quiet" disabled={!uri}>
						Use it
					</button>
					<p class="muted full">Everybody knows these keys: they are offered on development chains alone.</p>
				</form>
			)}
			{wrong && <Notice kind="error">{wrong}</Notice>}
			<p role="status">
				{account ? (
					<>
						Asks and pays: <strong>{account.name}</strong> <Long text={account.address} of="account" />
					</>
				) : (
					'No account is chosen.'
				)}
			</p>
		</section>
	)
}
