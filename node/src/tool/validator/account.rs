//! A validator's account as the chain has it: stake, intention to validate, session keys, place in the session.

use consilience_runtime::{AccountId, Balance, Runtime, SessionKeys};
use jsonrpsee::rpc_params;
use polkadot_sdk::{
	frame_support::traits::Get,
	frame_system, pallet_balances, pallet_session, pallet_staking,
	sp_core::{Bytes, H256},
	sp_crypto_hashing::{twox_128, twox_64},
	sp_runtime::Perbill,
};

use crate::tool::{chain::Chain, Result};
use codec::Encode;

type AccountData = pallet_balances::AccountData<Balance>;
/// Where rewards go.
pub(super) type Payee = pallet_staking::RewardDestination<AccountId>;
type AccountInfo = frame_system::AccountInfo<consilience_runtime::Nonce, AccountData>;

/// Where the session keys are that the chain has of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Keys {
	/// The chain has none.
	Unset,
	/// In the node that is asked.
	Here(SessionKeys),
	/// In another node, or lost.
	Elsewhere(SessionKeys),
}

/// An account as the best block has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
	/// Balance that it can pay with, or put at stake.
	pub(super) free: Balance,
	/// Stake, if anything was ever bonded.
	pub(super) bonded: Option<Balance>,
	/// Unbonded amounts: the era from which each is free, and how much it is.
	pub(super) unlocking: Vec<(u32, Balance)>,
	/// Account or stake to which its rewards go, if anything was ever bonded.
	pub(super) payee: Option<Payee>,
	/// Commission that it asks of its nominators, if it wants to validate.
	pub(super) commission: Option<Perbill>,
	/// Its session keys.
	pub(super) keys: Keys,
	/// True for one of the session's validators.
	pub(super) in_session: bool,
	/// True for one of the next session's.
	pub(super) in_next_session: bool,
	/// The era of the best block.
	pub(super) era: u32,
	/// Least that a validator has at stake.
	pub(super) least_bond: Balance,
	/// Slashes of the account's stake fall into so many spans.
	pub(super) slashing_spans: u32,
}

/// What the chain holds of an account's session keys while it has any.
pub(super) fn key_deposit() -> Balance {
	<Runtime as pallet_session::Config>::KeyDeposit::get()
}

/// Least that an account has to have.
pub(super) fn existential_deposit() -> Balance {
	<Runtime as pallet_balances::Config>::ExistentialDeposit::get()
}

impl Account {
	/// Reads the account at the best block, and asks the node whether it holds the account's session keys.
	pub(super) async fn read(chain: &Chain, stash: &AccountId) -> Result<Self> {
		let at = chain.best().await?.hash;
		let info: Option<AccountInfo> = chain
			.value(frame_system::Account::<Runtime>::hashed_key_for(stash), at)
			.await?;
		let bonded = pallet_staking::Bonded::<Runtime>::hashed_key_for(stash);
		let controller: Option<AccountId> = chain.value(bonded, at).await?;
		let ledger: Option<pallet_staking::StakingLedger<Runtime>> = match &controller {
			Some(controller) => {
				let key = pallet_staking::Ledger::<Runtime>::hashed_key_for(controller);
				chain.value(key, at).await?
			}
			None => None,
		};
		let payee = pallet_staking::Payee::<Runtime>::hashed_key_for(stash);
		let payee: Option<Payee> = chain.value(payee, at).await?;
		let prefs: Option<pallet_staking::ValidatorPrefs> = chain
			.value(
				pallet_staking::Validators::<Runtime>::hashed_key_for(stash),
				at,
			)
			.await?;
		let keys: Option<SessionKeys> = chain
			.value(
				pallet_session::NextKeys::<Runtime>::hashed_key_for(stash),
				at,
			)
			.await?;
		let keys = match keys {
			None => Keys::Unset,
			Some(keys) if holds(chain, &keys).await? => Keys::Here(keys),
			Some(keys) => Keys::Elsewhere(keys),
		};
		let validators: Vec<AccountId> = chain
			.stored("Session", "Validators", at)
			.await?
			.unwrap_or_default();
		let queued: Option<Vec<(AccountId, SessionKeys)>> =
			chain.stored("Session", "QueuedKeys", at).await?;
		let era: Option<pallet_staking::ActiveEraInfo> =
			chain.stored("Staking", "ActiveEra", at).await?;
		let least_bond: Option<Balance> = chain.stored("Staking", "MinValidatorBond", at).await?;
		let spans: Option<pallet_staking::slashing::SlashingSpans> = chain
			.value(
				pallet_staking::SlashingSpans::<Runtime>::hashed_key_for(stash),
				at,
			)
			.await?;
		Ok(Self {
			free: info.map_or(0, |info| info.data.free),
			bonded: ledger.as_ref().map(|ledger| ledger.active),
			unlocking: ledger.map_or_else(Vec::new, |ledger| {
				ledger
					.unlocking
					.iter()
					.map(|chunk| (chunk.era, chunk.value))
					.collect()
			}),
			payee,
			commission: prefs.map(|prefs| prefs.commission),
			keys,
			in_session: validators.contains(stash),
			in_next_session: queued
				.unwrap_or_default()
				.iter()
				.any(|(who, _)| who == stash),
			era: era.map_or(0, |era| era.index),
			least_bond: least_bond.unwrap_or_default(),
			slashing_spans: spans.map_or(0, |spans| spans.prior.len() as u32 + 1),
		})
	}
}

/// Whether the node has the secrets of all these keys.
pub(super) async fn holds(chain: &Chain, keys: &SessionKeys) -> Result<bool> {
	let keys = Bytes(keys.encode());
	let held = chain.call("author_hasSessionKeys", rpc_params![keys]).await;
	held.map_err(on_the_machine_itself)
}

/// Says where keys can be asked for, if the node refused because somebody asked from elsewhere.
pub(super) fn on_the_machine_itself(error: String) -> String {
	if error.contains("unsafe") {
		return format!("{error}. A node speaks of its keys on its own machine alone: run this command there, with --url ws://127.0.0.1:9944");
	}
	error
}

/// How many entries of a map of maps belong to an account: at most a thousand.
pub(super) async fn entries(
	chain: &Chain,
	pallet: &str,
	item: &str,
	of: &AccountId,
	at: H256,
) -> Result<usize> {
	let who = of.encode();
	let mut prefix = twox_128(pallet.as_bytes()).to_vec();
	prefix.extend(twox_128(item.as_bytes()));
	prefix.extend(twox_64(&who));
	prefix.extend(who);
	let none: Option<Bytes> = None;
	let keys: Vec<Bytes> = chain
		.call(
			"state_getKeysPaged",
			rpc_params![Bytes(prefix), 1_000, none, at],
		)
		.await?;
	Ok(keys.len())
}
