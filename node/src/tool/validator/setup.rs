//! `consilience validator setup`: does of a validator's first steps what is missing and can be done, and says what is left.
//!
//! Every step looks first whether it was done, so that the command can be given again: after the node was started, after the account got
//! its money, after a failure.

use std::path::PathBuf;

use codec::Encode;
use consilience_runtime::{AccountId, Balance, Runtime, RuntimeCall};
use jsonrpsee::rpc_params;
use polkadot_sdk::{
	pallet_session, pallet_staking,
	sc_cli::SubstrateCli,
	sp_core::{bytes::to_hex, Pair},
	sp_runtime::Perbill,
};
use serde_json::{json, Value};

use super::{
	account::{existential_deposit, key_deposit, Account, Keys, Payee},
	keys::{speaks_for_nobody_else, Folder, SessionKeysOf},
};
use crate::{
	cli::Cli,
	tool::{
		chain::{self, address, Chain},
		csl, parse_csl, Format, NodeAddress, Result,
	},
};

/// What is kept back for fees: some hundred transactions.
const FEES: Balance = consilience_runtime::UNIT;

/// The commission of a validator that says nothing of it.
const COMMISSION: Perbill = Perbill::from_percent(5);

/// Makes keys and a validator of an account.
#[derive(Debug, clap::Args)]
pub(crate) struct SetupCommand {
	/// Chain of the node on this machine: a name or a file, as the node is given it. Without it the node key is not looked at.
	#[arg(long, value_name = "CHAIN")]
	chain: Option<String>,
	/// Base path of the node on this machine [default: the node's].
	#[arg(long, value_name = "PATH", requires = "chain")]
	base_path: Option<PathBuf>,
	/// Secret of the account whose stake the validator has, which signs and pays: a phrase, a seed in hexadecimal, or `-` to read it from
	/// standard input.
	#[arg(long, conflicts_with = "stash")]
	suri: Option<String>,
	/// The account's address, where its secret is kept elsewhere: the calls are printed, to be signed there.
	#[arg(long, value_name = "ADDRESS")]
	stash: Option<AccountId>,
	/// What is to be at stake, in CSL. What is missing of it is bonded.
	#[arg(long, value_name = "AMOUNT", value_parser = parse_csl)]
	bond: Option<Balance>,
	/// What the validator keeps of its nominators' rewards, in per cent [default: 5, or what the chain has].
	#[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=100))]
	commission: Option<u32>,
	/// Account that gets rewards [default: they are added to what is at stake].
	#[arg(long, value_name = "ADDRESS")]
	rewards: Option<AccountId>,
	#[command(flatten)]
	node: NodeAddress,
	#[command(flatten)]
	format: Format,
}

/// How a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
	/// This command did it.
	Done,
	/// It was done before.
	Had,
	/// The chain does it in its own time.
	Waits,
	/// Somebody has to do it.
	Left,
}

/// What is said of the steps, as they are taken.
struct Told {
	format: Format,
	left: Vec<&'static str>,
	done: Vec<&'static str>,
}

impl Told {
	fn say(&mut self, step: &'static str, how: How, says: impl AsRef<str>) {
		let says = says.as_ref();
		let word = match how {
			How::Done => "done",
			How::Had => "had",
			How::Waits => "waits",
			How::Left => "left",
		};
		match how {
			How::Left => self.left.push(step),
			How::Done => self.done.push(step),
			How::Had | How::Waits => (),
		}
		let value = json!({ "step": step, "how": word, "says": says });
		self.format
			.print(&value, || format!("{word:<6} {step:<13} {says}"));
	}
}

/// What is wanted of the account.
#[derive(Clone, Debug, Default)]
struct Wanted {
	bond: Option<Balance>,
	commission: Option<Perbill>,
	rewards: Option<AccountId>,
}

/// A transaction that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Todo {
	Bond(Balance),
	BondMore(Balance),
	Payee(AccountId),
	SetKeys,
	Validate(Perbill),
}

impl Todo {
	const fn step(&self) -> &'static str {
		match self {
			Self::Bond(_) | Self::BondMore(_) => "stake",
			Self::Payee(_) => "rewards",
			Self::SetKeys => "session keys",
			Self::Validate(_) => "validate",
		}
	}

	fn call(&self, wanted: &Wanted, made: Option<&SessionKeysOf>) -> Result<RuntimeCall> {
		use pallet_staking::{Call as Staking, ValidatorPrefs};
		Ok(match self {
			Self::Bond(value) => Staking::<Runtime>::bond {
				value: *value,
				payee: wanted.rewards.clone().map_or(Payee::Staked, Payee::Account),
			}
			.into(),
			Self::BondMore(value) => Staking::<Runtime>::bond_extra {
				max_additional: *value,
			}
			.into(),
			Self::Payee(who) => Staking::<Runtime>::set_payee {
				payee: Payee::Account(who.clone()),
			}
			.into(),
			Self::SetKeys => {
				let made = made.ok_or("no session keys were made")?;
				pallet_session::Call::<Runtime>::set_keys {
					keys: made.keys.clone(),
					proof: made.proof.clone(),
				}
				.into()
			}
			Self::Validate(commission) => Staking::<Runtime>::validate {
				prefs: ValidatorPrefs {
					commission: *commission,
					blocked: false,
				},
			}
			.into(),
		})
	}

	fn says(&self, made: Option<&SessionKeysOf>) -> String {
		match self {
			Self::Bond(value) => format!("{} bonded", csl(*value)),
			Self::BondMore(value) => format!("{} more bonded", csl(*value)),
			Self::Payee(who) => format!("go to {}", address(who)),
			Self::SetKeys => format!(
				"made by the node, and on chain: {}",
				made.map(SessionKeysOf::hex).unwrap_or_default()
			),
			Self::Validate(commission) => format!("wanted, with a commission of {commission:?}"),
		}
	}
}

/// The transactions that are missing, in their order. Fails where something would do harm or cannot be.
fn missing(found: &Account, wanted: &Wanted) -> Result<Vec<Todo>> {
	if let Keys::Elsewhere(_) = found.keys {
		return Err(
			"the chain has session keys of this account that this node does not hold: another node validates with them, and goes on to. Two \
			 nodes for one validator is how stake is lost. To move the validator to this node, or if those keys are lost: `consilience validator \
			 rotate-keys`, and leave the other node running until the new keys count (docs/operators/validator.md)"
				.into(),
		);
	}
	let (mut todo, mut needs) = (Vec::new(), 0);
	match (found.bonded, wanted.bond) {
		(None, None) => {
			return Err(format!(
				"nothing is at stake yet: say with --bond how much is to be, at least {}",
				csl(found.least_bond.max(existential_deposit()))
			))
		}
		(None, Some(bond)) => {
			todo.push(Todo::Bond(bond));
			needs += bond;
		}
		(Some(active), Some(bond)) if bond > active => {
			todo.push(Todo::BondMore(bond - active));
			needs += bond - active;
		}
		(Some(_), _) => (),
	}
	let staked = found
		.bonded
		.unwrap_or_default()
		.max(wanted.bond.unwrap_or_default());
	if staked < found.least_bond.max(existential_deposit()) {
		return Err(format!(
			"{} at stake is less than a validator needs, which is {}: say with --bond how much is to be",
			csl(staked),
			csl(found.least_bond.max(existential_deposit()))
		));
	}
	if let Some(who) = wanted.rewards.clone().filter(|_| found.bonded.is_some()) {
		if found.payee != Some(Payee::Account(who.clone())) {
			todo.push(Todo::Payee(who));
		}
	}
	if found.keys == Keys::Unset {
		todo.push(Todo::SetKeys);
		needs += key_deposit();
	}
	match (found.commission, wanted.commission) {
		(None, commission) => todo.push(Todo::Validate(commission.unwrap_or(COMMISSION))),
		(Some(is), Some(commission)) if is != commission => todo.push(Todo::Validate(commission)),
		(Some(_), _) => (),
	}
	if todo.is_empty() {
		return Ok(todo);
	}
	needs += FEES + existential_deposit();
	if found.free < needs {
		return Err(format!(
			"the account has {} and needs {}: what is to be at stake, {} that are held while it has session keys, and {} for fees",
			csl(found.free),
			csl(needs),
			csl(if found.keys == Keys::Unset { key_deposit() } else { 0 }),
			csl(FEES),
		));
	}
	Ok(todo)
}

impl SetupCommand {
	/// Takes the steps. `cli` knows chains by their names.
	pub(super) async fn run(&self, cli: &Cli) -> Result<()> {
		let mut told = Told {
			format: self.format,
			left: Vec::new(),
			done: Vec::new(),
		};
		let mut result = json!({});
		let outcome = self.steps(cli, &mut told, &mut result).await;
		// What was done stands there even where the next step failed.
		outcome?;
		result["complete"] = json!(told.left.is_empty());
		result["left"] = json!(told.left);
		result["done"] = json!(told.done);
		self.format.print(&result, || match told.left.is_empty() {
			true => "Nothing is left to do here. `consilience validator doctor` says how the validator does; `consilience model serve MODEL` earns.".into(),
			false => format!("Left: {}. Give this command again afterwards.", told.left.join(", ")),
		});
		Ok(())
	}

	async fn steps(&self, cli: &Cli, told: &mut Told, result: &mut Value) -> Result<()> {
		let spec = match &self.chain {
			Some(chain) => Some(cli.load_spec(chain)?),
			None => None,
		};
		let folder = spec
			.as_ref()
			.map(|spec| Folder::of(self.base_path.as_deref(), spec.id()));
		let folder = folder.transpose()?;
		let mut peer = None;
		if let Some(folder) = &folder {
			let (id, made) = folder.peer()?;
			let file = folder.node_key();
			let how = if made { How::Done } else { How::Had };
			told.say("node key", how, format!("{id}, in {}", file.display()));
			result["peer"] = json!(id);
			result["keep"] = json!([file]);
			result["never_restore"] = json!([
				folder.join("keystore"),
				folder.join("inference"),
				folder.join("sessions")
			]);
			peer = Some(id);
		}

		let chain = match Chain::connect(&self.node.url).await {
			Ok(chain) => chain,
			// One that runs something else, or is unreachable: it says which.
			Err(why) => {
				told.say(
					"node",
					How::Left,
					format!("start it with --validator: {why}"),
				);
				return Ok(());
			}
		};
		if let Some(spec) = &spec {
			let name: String = chain.call("system_chain", rpc_params![]).await?;
			if name != spec.name() {
				return Err(format!(
					"the node at {} is of the chain {name:?}, and --chain is {:?}",
					self.node.url,
					spec.name()
				));
			}
		}
		if let Some(peer) = &peer {
			let runs: String = chain.call("system_localPeerId", rpc_params![]).await?;
			if runs != *peer {
				return Err(format!(
					"the node at {} is {runs}, and the node key on this machine is {peer}'s: it is another node, or was started with another \
					 --base-path or --node-key-file",
					self.node.url
				));
			}
		}
		if !self.node_is_ready(&chain, told).await? {
			return Ok(());
		}

		let pair = self.suri.as_deref().map(chain::pair).transpose()?;
		let stash = match (&pair, &self.stash) {
			(Some(pair), _) => AccountId::from(pair.public()),
			(None, Some(stash)) => stash.clone(),
			(None, None) => {
				let says = "say with --suri or --stash whose stake the validator has";
				told.say("account", How::Left, says);
				return Ok(());
			}
		};
		result["validator"] = json!(address(&stash));
		let found = Account::read(&chain, &stash).await?;
		let wanted = Wanted {
			bond: self.bond,
			commission: self.commission.map(Perbill::from_percent),
			rewards: self.rewards.clone(),
		};
		let todo = missing(&found, &wanted)?;
		self.say_what_is_there(&found, &todo, told);

		if let (Keys::Here(_), Some(folder)) = (&found.keys, &folder) {
			folder.forget()?;
		}
		let made = match todo.contains(&Todo::SetKeys) {
			true => Some(session_keys(&chain, folder.as_ref(), &stash).await?),
			false => None,
		};
		for step in &todo {
			let call = step.call(&wanted, made.as_ref())?;
			match &pair {
				Some(pair) => {
					chain
						.submit(pair, call)
						.await
						.map_err(|e| format!("{}: {e}", step.step()))?;
					if let (Todo::SetKeys, Some(folder)) = (step, &folder) {
						folder.forget()?;
					}
					told.say(step.step(), How::Done, step.says(made.as_ref()));
				}
				None => {
					let bytes = to_hex(&call.encode(), false);
					told.say(
						step.step(),
						How::Left,
						format!("sign and send as {}: {bytes}", address(&stash)),
					);
				}
			}
		}
		let keys = match (&made, &found.keys) {
			(Some(made), _) => Some(made.hex()),
			(None, Keys::Here(keys)) => Some(to_hex(&keys.encode(), false)),
			(None, _) => None,
		};
		result["session_keys"] = json!(keys);
		if pair.is_some() || todo.is_empty() {
			match found.in_session {
				true => told.say("session", How::Had, "it validates"),
				false => told.say(
					"session",
					How::Waits,
					"it validates once it is elected: each era's election counts from the era after it, an hour and more from now",
				),
			}
		}
		Ok(())
	}

	/// Whether the node can be asked for keys, and the chain that it knows for accounts.
	async fn node_is_ready(&self, chain: &Chain, told: &mut Told) -> Result<bool> {
		let health: Value = chain.call("system_health", rpc_params![]).await?;
		let roles: Vec<String> = chain.call("system_nodeRoles", rpc_params![]).await?;
		let authority = roles.iter().any(|role| role == "Authority");
		let syncing = health["isSyncing"] == json!(true);
		let alone = health["shouldHavePeers"] == json!(true) && health["peers"] == json!(0);
		let url = &self.node.url;
		match (authority, syncing, alone) {
			(false, ..) => told.say(
				"node",
				How::Left,
				format!("the one at {url} does not validate: start it with --validator"),
			),
			(_, true, _) => told.say(
				"node",
				How::Left,
				format!("the one at {url} catches up with the network: wait until it is there"),
			),
			(.., true) => told.say(
				"node",
				How::Left,
				format!("the one at {url} has no peers: what it says of the chain may be old"),
			),
			_ => told.say(
				"node",
				How::Had,
				format!("the one at {url} runs with --validator"),
			),
		}
		Ok(authority && !syncing && !alone)
	}

	fn say_what_is_there(&self, found: &Account, todo: &[Todo], told: &mut Told) {
		let misses = |step: &str| todo.iter().any(|one| one.step() == step);
		if let Some(active) = found.bonded.filter(|_| !misses("stake")) {
			told.say("stake", How::Had, csl(active));
		}
		if !misses("session keys") {
			told.say(
				"session keys",
				How::Had,
				"the node holds those that the chain has",
			);
		}
		if let Some(commission) = found.commission.filter(|_| !misses("validate")) {
			told.say(
				"validate",
				How::Had,
				format!("wanted, with a commission of {commission:?}"),
			);
		}
	}
}

/// Keys that were made before and did not get onto the chain, or new ones.
async fn session_keys(
	chain: &Chain,
	folder: Option<&Folder>,
	stash: &AccountId,
) -> Result<SessionKeysOf> {
	speaks_for_nobody_else(chain, stash).await?;
	let before = match folder {
		Some(folder) => folder.recall(chain, stash).await?,
		None => None,
	};
	if let Some(made) = before {
		return Ok(made);
	}
	let made = SessionKeysOf::make(chain, stash).await?;
	if let Some(folder) = folder {
		folder.remember(stash, &made)?;
	}
	Ok(made)
}

#[cfg(test)]
mod tests {
	#![allow(clippy::unwrap_used)]

	use consilience_runtime::{SessionKeys, UNIT};
	use polkadot_sdk::sp_keyring::{Ed25519Keyring, Sr25519Keyring};

	use super::*;

	fn keys() -> SessionKeys {
		let alice = Sr25519Keyring::Alice.public();
		SessionKeys {
			babe: alice.into(),
			grandpa: Ed25519Keyring::Alice.public().into(),
			authority_discovery: alice.into(),
			inference: alice.into(),
		}
	}

	fn fresh(free: Balance) -> Account {
		Account {
			free,
			bonded: None,
			unlocking: Vec::new(),
			payee: None,
			commission: None,
			keys: Keys::Unset,
			in_session: false,
			in_next_session: false,
			era: 0,
			least_bond: 10 * UNIT,
			slashing_spans: 0,
		}
	}

	fn wanted(bond: u128) -> Wanted {
		Wanted {
			bond: (bond > 0).then_some(bond * UNIT),
			..Default::default()
		}
	}

	#[test]
	fn only_what_is_missing_is_done() {
		let new = fresh(1_000 * UNIT);
		let all = [
			Todo::Bond(100 * UNIT),
			Todo::SetKeys,
			Todo::Validate(COMMISSION),
		];
		assert_eq!(missing(&new, &wanted(100)).unwrap(), all);
		let bonded = Account {
			bonded: Some(100 * UNIT),
			..new.clone()
		};
		assert_eq!(missing(&bonded, &wanted(0)).unwrap(), all[1..]);
		let with_keys = Account {
			keys: Keys::Here(keys()),
			..bonded
		};
		assert_eq!(missing(&with_keys, &wanted(100)).unwrap(), all[2..]);
		let more = missing(&with_keys, &wanted(150)).unwrap();
		assert_eq!(more[0], Todo::BondMore(50 * UNIT));
		let validates = Account {
			commission: Some(Perbill::from_percent(20)),
			..with_keys
		};
		assert_eq!(missing(&validates, &wanted(100)).unwrap(), []);
		// What the chain has stays where nothing else is said.
		let other = Wanted {
			commission: Some(Perbill::from_percent(1)),
			..wanted(100)
		};
		assert_eq!(
			missing(&validates, &other).unwrap(),
			[Todo::Validate(Perbill::from_percent(1))]
		);
		// Where rewards go can be said later, too.
		let cold = AccountId::new([7; 32]);
		let elsewhere = Wanted {
			rewards: Some(cold.clone()),
			..wanted(100)
		};
		assert_eq!(
			missing(&validates, &elsewhere).unwrap(),
			[Todo::Payee(cold.clone())]
		);
		let paid = Account {
			payee: Some(Payee::Account(cold)),
			..validates.clone()
		};
		assert_eq!(missing(&paid, &elsewhere).unwrap(), []);
		// An account that needs nothing need not be rich.
		assert_eq!(
			missing(
				&Account {
					free: 0,
					..validates
				},
				&wanted(0)
			)
			.unwrap(),
			[]
		);
	}

	#[test]
	fn what_would_do_harm_or_cannot_be_is_refused() {
		let says = |account: &Account, wanted: &Wanted| missing(account, wanted).unwrap_err();
		let new = fresh(1_000 * UNIT);
		assert!(says(&new, &wanted(0)).contains("--bond"));
		assert!(says(&new, &wanted(9)).contains("10 CSL"));
		// It must not be left without a fee.
		assert!(says(&new, &wanted(999)).contains("has 1000 CSL and needs 1001.001 CSL"));
		let elsewhere = Account {
			keys: Keys::Elsewhere(keys()),
			bonded: Some(100 * UNIT),
			commission: Some(COMMISSION),
			..new
		};
		assert!(says(&elsewhere, &wanted(0)).contains("rotate-keys"));
	}
}
