//! `consilience channel`.

use std::{
	collections::{BTreeMap, BTreeSet},
	path::{Path, PathBuf},
	time::Duration,
};

use consilience_lane::message::Refusal;
use consilience_primitives::{
	session::{ChannelId, MAX_ALLOCATIONS},
	List, ModelId,
};
use consilience_runtime::{AccountId, Balance, Runtime};
use consilience_session::{chain::Channel, release, Fault, Wallet};
use pallet_sessions::Part;
use polkadot_sdk::{
	sc_cli,
	sp_core::{sr25519, Pair},
};
use serde_json::{json, Value};

use super::network::Network;
use crate::tool::{
	block_on,
	chain::{address, pair},
	csl, parse_csl, Format, NodeAddress, Result, Signer,
};

/// Finalised blocks for which a transaction that was in a block is waited for.
const OPENING: u32 = 40;

/// Part of a deposit that pays checkers, in hundredths.
const POT_PERCENT: u128 = 25;
/// Final blocks in which executors of a channel that is closed have claimed what they are owed, as a rule.
const RELEASE_BLOCKS: u32 = 30;
/// How long an executor has to let go.
const RELEASE_PATIENCE: Duration = Duration::from_secs(10);

/// Channels of the session lane: deposits that pay validators directly.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ChannelCommand {
	/// Open a channel, and make the wallet that signs for it.
	Open {
		/// The model that is to be asked: the deposit is divided among those who answer for it now.
		#[arg(long)]
		model: String,
		/// CSL to be held; a quarter of it is for checkers. What is not used is returned when the channel is closed.
		#[arg(long, value_parser = parse_csl, default_value = "10")]
		deposit: u128,
		/// Pay this validator, and no other that is not named so too [default: up to 16 of those who answer].
		#[arg(long = "executor", value_name = "ACCOUNT")]
		executors: Vec<AccountId>,
		#[command(flatten)]
		wallet: WalletFolder,
		#[command(flatten)]
		signer: Signer,
		#[command(flatten)]
		node: NodeAddress,
		#[command(flatten)]
		format: Format,
	},
	/// Add to what a channel has set apart.
	Raise {
		/// Number of the channel.
		channel: ChannelId,
		/// For this validator [default: for checkers].
		#[arg(long)]
		payee: Option<AccountId>,
		/// CSL to be held besides.
		#[arg(long, value_parser = parse_csl)]
		amount: u128,
		#[command(flatten)]
		signer: Signer,
		#[command(flatten)]
		node: NodeAddress,
		#[command(flatten)]
		format: Format,
	},
	/// Close a channel: payees have 30 hours to claim what they are owed, then `withdraw` returns the rest.
	Close {
		/// Number of the channel.
		channel: ChannelId,
		/// Ask executors to let go of what they have not earned, once they have claimed what they have: that comes back within some blocks.
		/// What is set apart for checkers comes back after the notice.
		#[arg(long)]
		now: bool,
		#[command(flatten)]
		signer: Signer,
		#[command(flatten)]
		node: NodeAddress,
		#[command(flatten)]
		format: Format,
	},
	/// Take back what is left of a closed channel.
	Withdraw {
		/// Number of the channel.
		channel: ChannelId,
		#[command(flatten)]
		signer: Signer,
		#[command(flatten)]
		node: NodeAddress,
		#[command(flatten)]
		format: Format,
	},
	/// Write a receipt of the wallet as JSON, for `consilience verify` and for whoever else is to check it; without a number, list them.
	Receipt {
		/// Number of the request.
		number: Option<u32>,
		#[command(flatten)]
		wallet: WalletFolder,
		#[command(flatten)]
		format: Format,
	},
	/// Show a channel as it stands in finalised state.
	Show {
		/// Number of the channel.
		channel: ChannelId,
		#[command(flatten)]
		node: NodeAddress,
		#[command(flatten)]
		format: Format,
	},
}

/// Where a channel's wallet is.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct WalletFolder {
	/// Folder of the channel's wallet: its keys, vouchers and receipts [default: `session` in the default base path].
	#[arg(long, value_name = "PATH")]
	wallet: Option<PathBuf>,
}

impl WalletFolder {
	/// The folder.
	pub(super) fn path(&self) -> PathBuf {
		self.wallet.clone().unwrap_or_else(|| {
			let name = <crate::cli::Cli as sc_cli::SubstrateCli>::executable_name();
			polkadot_sdk::sc_service::BasePath::from_project("", "", &name)
				.path()
				.join("session")
		})
	}
}

impl ChannelCommand {
	/// Does what the command says.
	pub(crate) fn run(&self) -> sc_cli::Result<()> {
		block_on(self.act())
	}

	async fn act(&self) -> Result<()> {
		match self {
			Self::Open {
				model,
				deposit,
				executors,
				wallet,
				signer,
				node,
				format,
			} => {
				let network = Network::connect(&node.url).await?;
				let model = network.0.find_model(model).await?;
				let pair = pair(&signer.suri)?;
				let folder = wallet.path();
				let wallet = self::wallet(&folder)?;
				if let Ok(bound) = wallet.bound() {
					return Err(format!(
						"{} is the wallet of channel {}: name another folder with --wallet",
						folder.display(),
						bound.channel
					));
				}
				let channel = match find(&network, &wallet, &pair).await? {
					Some(channel) => channel,
					None => open(&network, &wallet, &pair, model.id, *deposit, executors).await?,
				};
				let view = usable(&network, channel).await?;
				format.print(&json(&view), || describe(&view));
				Ok(())
			}
			Self::Raise {
				channel,
				payee,
				amount,
				signer,
				node,
				format,
			} => {
				let call = pallet_sessions::Call::raise {
					channel: *channel,
					part: payee.clone().map_or(Part::Pot, Part::Payee),
					amount: *amount,
				};
				change(*channel, call, signer, node, *format).await
			}
			Self::Close {
				channel,
				now: false,
				signer,
				node,
				format,
			} => {
				let call = pallet_sessions::Call::close { channel: *channel };
				change(*channel, call, signer, node, *format).await
			}
			Self::Close {
				channel,
				now: true,
				signer,
				node,
				format,
			} => {
				let network = Network::connect(&node.url).await?;
				close_now(&network, *channel, &pair(&signer.suri)?, *format).await
			}
			Self::Withdraw {
				channel,
				signer,
				node,
				format,
			} => {
				let call = pallet_sessions::Call::withdraw { channel: *channel };
				change(*channel, call, signer, node, *format).await
			}
			Self::Receipt {
				number,
				wallet,
				format,
			} => {
				let wallet = Wallet::open(&wallet.path()).map_err(|e| e.to_string())?;
				receipts(&wallet, *number, *format)
			}
			Self::Show {
				channel,
				node,
				format,
			} => {
				let network = Network::connect(&node.url).await?;
				let view = network.view(*channel).await?;
				let view = view.ok_or_else(|| {
					format!("there is no channel {channel} in finalised state: it was never opened, or everything in it is paid and returned")
				})?;
				format.print(&json(&view), || describe(&view));
				Ok(())
			}
		}
	}
}

/// Prints what the wallet holds of one request, or a line about each.
fn receipts(wallet: &Wallet, number: Option<u32>, format: Format) -> Result<()> {
	let read = |number| {
		let record = wallet.record(number).map_err(|e| e.to_string())?;
		record.ok_or_else(|| format!("the wallet holds nothing of a request {number}"))
	};
	if let Some(number) = number {
		println!("{}", read(number)?.to_json());
		return Ok(());
	}
	for number in wallet.records().map_err(|e| e.to_string())? {
		let record = read(number)?;
		let standing = match record.status() {
			Ok(standing) => standing.to_string(),
			Err(flaw) => flaw.to_string(),
		};
		let executor = address(&record.ask.payee);
		let value = json!({ "number": number, "status": standing, "executor": executor, "paid": record.paid.to_string() });
		format.print(&value, || {
			format!("{number:>6}  {standing}, {}, {executor}", csl(record.paid))
		});
	}
	Ok(())
}

/// Sends a call about a channel, and says in which block it is.
async fn change(
	channel: ChannelId,
	call: pallet_sessions::Call<Runtime>,
	signer: &Signer,
	node: &NodeAddress,
	format: Format,
) -> Result<()> {
	let pair = pair(&signer.suri)?;
	let network = Network::connect(&node.url).await?;
	let (block, _) = network.0.submit(&pair, call.into()).await?;
	let value = json!({ "channel": channel, "block": block.number });
	format.print(&value, || {
		format!("channel {channel}: done in block {}", block.number)
	});
	Ok(())
}

/// Closes a channel, unless it is closing, and takes back what executors let go of.
async fn close_now(
	network: &Network,
	id: ChannelId,
	pair: &sr25519::Pair,
	format: Format,
) -> Result<()> {
	let view = network.best_view(id).await?;
	let view = view.ok_or_else(|| format!("there is no channel {id}"))?;
	let mut block = None;
	if view.closes_at.is_none() {
		let call = pallet_sessions::Call::close { channel: id };
		let (closed, _) = network.0.submit(pair, call.into()).await?;
		block = Some(closed.number);
	}
	let mut lanes = BTreeMap::new();
	for model in network.0.models().await? {
		for lane in network.lane_views(model.id).await? {
			lanes.insert(lane.validator.clone(), lane);
		}
	}
	let mut heads = network.0.heads(true).await?;
	let mut returned: Balance = 0;
	let (mut done, mut kept) = (BTreeSet::new(), BTreeMap::new());
	for _ in 0..RELEASE_BLOCKS {
		heads
			.next()
			.await
			.ok_or("the node went away")?
			.map_err(|e| e.to_string())?;
		let Some(view) = network.view(id).await? else {
			break;
		};
		if view.closes_at.is_none() {
			continue;
		}
		kept.clear();
		for allocation in &view.allocations {
			let (payee, allotment) = (&allocation.payee, &allocation.allotment);
			let left = allotment.amount.saturating_sub(allotment.claimed);
			if left == 0 || done.contains(payee) {
				continue;
			}
			let release = match lanes.get(payee) {
				Some(lane) => release(network, lane, id, RELEASE_PATIENCE).await,
				None => Err(Fault::NoLane),
			};
			match release {
				Ok(release) => {
					let call = pallet_sessions::Call::lower {
						channel: id,
						part: Part::Payee(payee.clone()),
						by: 0,
						release: Some(release),
					};
					network.0.submit(pair, call.into()).await?;
					done.insert(payee.clone());
					returned += left;
				}
				Err(why) => drop(kept.insert(payee.clone(), (left, why))),
			}
		}
		// Those who have to claim first do so within some blocks; the others will not have changed their mind.
		let soon = |why: &Fault| matches!(why, Fault::Refused(Refusal::Busy, _));
		if !kept.values().any(|(_, why)| soon(why)) {
			break;
		}
	}
	let left: Vec<_> = kept
		.iter()
		.map(|(payee, (amount, why))| {
			json!({ "payee": address(payee), "amount": amount.to_string(), "why": why.to_string() })
		})
		.collect();
	let value =
		json!({ "channel": id, "block": block, "returned": returned.to_string(), "left": left });
	format.print(&value, || {
		let mut lines = vec![format!("channel {id}: {} came back", csl(returned))];
		for (payee, (amount, why)) in &kept {
			lines.push(format!("  {} stays with {}: {why}", csl(*amount), address(payee)));
		}
		lines.push(format!(
			"what is set apart for checkers, and what stays, comes back after the notice: consilience channel withdraw {id}"
		));
		lines.join("\n")
	});
	Ok(())
}

/// Divides a deposit: a quarter for checkers, the rest evenly among executors, as many as a channel pays.
fn divide(
	mut payees: Vec<AccountId>,
	deposit: Balance,
) -> (List<(AccountId, Balance), MAX_ALLOCATIONS>, Balance) {
	payees.truncate(MAX_ALLOCATIONS as usize);
	let pot = deposit / 100 * POT_PERCENT;
	let each = (deposit - pot) / (payees.len() as u128).max(1);
	let allocations = payees.into_iter().map(|payee| (payee, each)).collect();
	(List::truncate_from(allocations), pot)
}

/// Opens a channel that pays these, and binds the wallet to it.
pub(in crate::tool) async fn open_for(
	network: &Network,
	wallet: &Wallet,
	pair: &sr25519::Pair,
	payees: Vec<AccountId>,
	deposit: Balance,
) -> Result<ChannelId> {
	let (allocations, pot) = divide(payees, deposit);
	let call = pallet_sessions::Call::open {
		key: wallet.key(),
		chain: wallet.tip(),
		allocations,
		pot,
	};
	network.0.submit(pair, call.into()).await?;
	await_own(network, wallet, &pair.public().into()).await
}

/// Opens a channel that pays those who answer for a model, or `only` some of them where any are named, and binds the wallet to it.
pub(super) async fn open(
	network: &Network,
	wallet: &Wallet,
	pair: &sr25519::Pair,
	model: ModelId,
	deposit: Balance,
	only: &[AccountId],
) -> Result<ChannelId> {
	let mut lanes = network.lane_views(model).await?;
	let answers = |who: &&AccountId| lanes.iter().any(|lane| lane.validator == **who);
	if let Some(stranger) = only.iter().find(|who| !answers(who)) {
		return Err(format!(
			"{} does not answer for the model in the session lane",
			address(stranger)
		));
	}
	if !only.is_empty() {
		lanes.retain(|lane| only.contains(&lane.validator));
	}
	if lanes.is_empty() {
		return Err(
			"no validator that serves the model answers in the session lane: they do where they run with --session-listen. \
			 `consilience infer` asks on chain"
				.into(),
		);
	}
	let payees = lanes.into_iter().map(|lane| lane.validator).collect();
	open_for(network, wallet, pair, payees, deposit).await
}

fn bind(network: &Network, wallet: &Wallet, channel: ChannelId) -> Result<()> {
	wallet
		.bind(network.0.genesis(), channel)
		.map_err(|e| e.to_string())
}

/// Binds a wallet whose channel was opened, if this account has opened one with its key: the program may have ended in between.
pub(in crate::tool) async fn find(
	network: &Network,
	wallet: &Wallet,
	pair: &sr25519::Pair,
) -> Result<Option<ChannelId>> {
	let owner = pair.public().into();
	let views = network.best_views(&owner).await?;
	if !views.iter().any(|view| view.key == wallet.key()) {
		return Ok(None);
	}
	await_own(network, wallet, &owner).await.map(Some)
}

/// Waits until the channel with the wallet's key is in finalised state, and binds the wallet to it. In another fork the same transaction
/// opens a channel of another number, and somebody else's has this one.
async fn await_own(network: &Network, wallet: &Wallet, owner: &AccountId) -> Result<ChannelId> {
	let mut heads = network.0.heads(true).await?;
	for _ in 0..OPENING {
		let views = network.views(owner).await?;
		if let Some(view) = views.iter().find(|view| view.key == wallet.key()) {
			bind(network, wallet, view.id)?;
			return Ok(view.id);
		}
		heads
			.next()
			.await
			.ok_or("the node went away")?
			.map_err(|e| e.to_string())?;
	}
	Err("the block that opened the channel is not in the chain any more, and no other has opened it since: open it again".into())
}

/// Waits until a channel is in finalised state and has its seed. Fails where there is no such channel.
pub(in crate::tool) async fn usable(network: &Network, channel: ChannelId) -> Result<Channel> {
	let mut heads = network.0.heads(true).await?;
	loop {
		if let Some(view) = network.view(channel).await? {
			if view.seed.is_some() {
				return Ok(view);
			}
		} else if network.best_view(channel).await?.is_none() {
			return Err(format!(
				"there is no channel {channel} any more: everything in it was returned, or the chain is another. Name another folder for its wallet to open one"
			));
		}
		heads
			.next()
			.await
			.ok_or("the node went away")?
			.map_err(|e| e.to_string())?;
	}
}

fn json(view: &Channel) -> Value {
	json!({
		"channel": view.id,
		"owner": address(&view.owner),
		"usable": view.seed.is_some(),
		"closes_at": view.closes_at,
		"pot": { "amount": view.pot.amount.to_string(), "claimed": view.pot.claimed.to_string() },
		"allocations": view.allocations.iter().map(|allocation| json!({
			"payee": address(&allocation.payee),
			"amount": allocation.allotment.amount.to_string(),
			"claimed": allocation.allotment.claimed.to_string(),
		})).collect::<Vec<_>>(),
		"pending": view.pending.to_string(),
	})
}

fn describe(view: &Channel) -> String {
	let mut lines = vec![format!(
		"channel {}{}",
		view.id,
		match view.closes_at {
			Some(block) => format!(", closes in block {block}"),
			None if view.seed.is_none() => ", its seed is not drawn yet".into(),
			None => String::new(),
		}
	)];
	for allocation in &view.allocations {
		lines.push(format!(
			"  {}  {} of {} claimed",
			address(&allocation.payee),
			csl(allocation.allotment.claimed),
			csl(allocation.allotment.amount)
		));
	}
	lines.push(format!(
		"  checkers  {} of {} claimed",
		csl(view.pot.claimed),
		csl(view.pot.amount)
	));
	if view.pending > 0 {
		lines.push(format!(
			"  {} claimed and not paid out yet",
			csl(view.pending)
		));
	}
	lines.join("\n")
}

/// Opens the wallet in a folder, or makes one where there is none.
pub(super) fn wallet(folder: &Path) -> Result<Wallet> {
	let wallet = if folder.join("wallet.redb").exists() {
		Wallet::open(folder)
	} else {
		Wallet::create(folder)
	};
	wallet.map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn a_deposit_is_divided_and_nothing_is_made_of_nothing() {
		let payees = |count: u8| (0..count).map(|n| [n; 32].into()).collect();
		for (count, deposit) in [
			(1, 100),
			(3, 1_000_000),
			(16, 10_000_000_000_000),
			(40, 10_000_000_000_000),
		] {
			let (allocations, pot) = divide(payees(count), deposit);
			assert_eq!(allocations.len(), usize::from(count.min(16)));
			assert_eq!(pot, deposit / 4);
			let given: u128 = allocations.iter().map(|(_, amount)| amount).sum();
			assert!(given + pot <= deposit && deposit - given - pot < 16);
		}
	}
}
