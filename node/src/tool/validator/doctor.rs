//! `consilience validator doctor`: what a validator's operator wants to know of a running node.

use std::time::{SystemTime, UNIX_EPOCH};

use consilience_rpc::{EngineStatus, LocalModel};
use consilience_runtime::AccountId;
use consilience_worker::ServingState;
use jsonrpsee::rpc_params;
use serde::Deserialize;
use serde_json::{json, Value};

use crate::tool::{
	chain::{address, Chain},
	Format, NodeAddress, Result,
};

/// Seconds without a block after which something is wrong: ten slots.
const SILENCE: i64 = 30;
/// Seconds by which this machine's clock may be behind the newest block's.
const AHEAD: i64 = 1;
/// Blocks that are not final after which something is wrong.
const LAG: u32 = 10;
/// Peers with which a network is hardly seen.
const FEW_PEERS: u64 = 2;

/// Looks at a running node, says what keeps its validator from its work, and fails if something does.
pub(super) async fn run(node: &NodeAddress, format: Format) -> Result<()> {
	let chain = Chain::connect(&node.url).await?;
	let findings = examine(&chain).await?;
	for finding in &findings {
		format.print(&finding.json(), || finding.line());
	}
	match findings.iter().filter(|f| f.how == How::Wrong).count() {
		0 => Ok(()),
		count => Err(format!("{count} of these keep the validator from its work")),
	}
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
	Well,
	/// It may be as it is meant, or get worse.
	Odd,
	/// The validator does not do its work.
	Wrong,
}

/// What was found of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
	what: &'static str,
	how: How,
	says: String,
}

impl Finding {
	fn new(what: &'static str, how: How, says: impl Into<String>) -> Self {
		Self {
			what,
			how,
			says: says.into(),
		}
	}

	const fn word(&self) -> &'static str {
		match self.how {
			How::Well => "ok",
			How::Odd => "odd",
			How::Wrong => "wrong",
		}
	}

	fn json(&self) -> Value {
		json!({ "what": self.what, "how": self.word(), "says": self.says })
	}

	fn line(&self) -> String {
		format!("{:<6} {:<13} {}", self.word(), self.what, self.says)
	}
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Health {
	peers: u64,
	is_syncing: bool,
	should_have_peers: bool,
}

async fn examine(chain: &Chain) -> Result<Vec<Finding>> {
	let health: Health = chain.call("system_health", rpc_params![]).await?;
	let roles: Vec<String> = chain.call("system_nodeRoles", rpc_params![]).await?;
	let engine: EngineStatus = chain.call("inference_engine", rpc_params![]).await?;
	let models: Vec<LocalModel> = chain.call("models_local", rpc_params![]).await?;
	let best = chain.best().await?;
	let finalized = chain.finalized().await?;
	let stamp: Option<u64> = chain.stored("Timestamp", "Now", best.hash).await?;
	// Here the clock itself is asked about.
	#[allow(clippy::disallowed_methods)]
	let now = SystemTime::now().duration_since(UNIX_EPOCH);
	let now = now.map_or(0, |now| now.as_millis() as i64);
	let age = stamp.map(|stamp| (now - stamp as i64) / 1_000);

	let mut findings = vec![
		network(&health),
		clock(age, health.is_syncing),
		finality(best.number.saturating_sub(finalized.number)),
		keys(
			roles.iter().any(|role| role == "Authority"),
			&engine.validator,
		),
		runs(&engine),
	];
	findings.extend(served(&models));
	if let Some(me) = &engine.validator {
		findings.extend(lane(chain, me, &models).await?);
	}
	Ok(findings)
}

fn network(health: &Health) -> Finding {
	let peers = health.peers;
	let (how, says) = match (health.is_syncing, health.should_have_peers) {
		(true, _) => (
			How::Wrong,
			format!("it is catching up with the network, {peers} peers: wait until it is there"),
		),
		(_, true) if peers == 0 => (
			How::Wrong,
			"no peers: is the P2P port (30333) open, and are --bootnodes of this chain given?"
				.into(),
		),
		(_, true) if peers < FEW_PEERS => (
			How::Odd,
			format!("{peers} peer: where that one goes, so does the network"),
		),
		_ => (How::Well, format!("{peers} peers")),
	};
	Finding::new("network", how, says)
}

/// `age` is how many seconds ago the newest block was made, by its own clock.
fn clock(age: Option<i64>, syncing: bool) -> Finding {
	let (how, says) = match age {
		None => (How::Odd, "the newest block says no time".into()),
		Some(age) if age < -AHEAD => (
			How::Wrong,
			format!(
				"this machine's clock is {} s behind the newest block's: keep it by NTP (timedatectl set-ntp true)",
				-age
			),
		),
		Some(age) if age > SILENCE && !syncing => (
			How::Wrong,
			format!("the newest block is {age} s old: no blocks come, or this machine's clock is ahead"),
		),
		Some(age) => (How::Well, format!("the newest block is {} s old", age.max(0))),
	};
	Finding::new("clock", how, says)
}

fn finality(lag: u32) -> Finding {
	if lag > LAG {
		let says = format!(
			"{lag} blocks are not final: a third of the validators or more cannot be reached, or this node hears no votes"
		);
		return Finding::new("finality", How::Wrong, says);
	}
	Finding::new(
		"finality",
		How::Well,
		format!("{lag} blocks behind the best"),
	)
}

fn keys(authority: bool, validator: &Option<AccountId>) -> Finding {
	match (authority, validator) {
		(_, Some(who)) => Finding::new("keys", How::Well, format!("in the session as {}", address(who))),
		(false, None) => Finding::new(
			"keys",
			How::Wrong,
			"the node does not validate: start it with --validator",
		),
		(true, None) => Finding::new(
			"keys",
			How::Wrong,
			"no key of this node is in the session: `consilience validator setup` makes keys, puts them on chain, bonds and validates, or says which of that is \
			 done already; it counts from the session after the next election",
		),
	}
}

fn runs(engine: &EngineStatus) -> Finding {
	let (how, says) = match (&engine.unavailable, engine.pid) {
		(Some(why), _) => (How::Wrong, why.clone()),
		(None, Some(pid)) => (
			How::Well,
			format!(
				"process {pid}, {} jobs run and {} wait, started again {} times",
				engine.running, engine.waiting, engine.restarts
			),
		),
		(None, None) => (How::Well, "not running: nothing is to be computed".into()),
	};
	Finding::new("engine", how, says)
}

fn served(models: &[LocalModel]) -> Vec<Finding> {
	if models.is_empty() {
		let says =
			"no model is stored: consilience model serve MODEL fetches one that is on chain and serves it";
		return vec![Finding::new("model", How::Wrong, says)];
	}
	let of = |model: &LocalModel| {
		let name = model.name.clone();
		let name = name.unwrap_or_else(|| format!("{:?}", model.id));
		let (how, says) = match &model.state {
			ServingState::Serving => (How::Well, "served".into()),
			ServingState::Stored => (
				How::Odd,
				"stored and not served: consilience model serve MODEL".into(),
			),
			ServingState::Waiting => (How::Odd, "is not registered on chain yet".into()),
			ServingState::Fetching => (How::Odd, "on its way from other nodes".into()),
			ServingState::Checking => (How::Odd, "its reference is being computed".into()),
			ServingState::Announced => (How::Odd, "is announced, and not on chain yet".into()),
			ServingState::Refused(why) => (How::Wrong, why.clone()),
		};
		Finding::new("model", how, format!("{name}: {says}"))
	};
	models.iter().map(of).collect()
}

/// Whether the session lane is taken part in, where a text model is served.
async fn lane(chain: &Chain, me: &AccountId, models: &[LocalModel]) -> Result<Option<Finding>> {
	use consilience_primitives::{model::Task, session::LaneView};
	let text = models.iter().find(|model| {
		model.state == ServingState::Serving && model.task == Some(Task::TextGeneration)
	});
	let Some(model) = text else { return Ok(None) };
	let lanes: Vec<LaneView<AccountId>> =
		chain.runtime("SessionsApi_lanes", model.id, None).await?;
	let own = lanes.iter().find(|lane| lane.validator == *me);
	Ok(Some(match own {
		Some(lane) => {
			let place = String::from_utf8_lossy(&lane.endpoint).into_owned();
			Finding::new("session lane", How::Well, place)
		}
		None => Finding::new(
			"session lane",
			How::Odd,
			"text models are served on chain only: --session-listen ADDRESS takes part (docs/operators/sessions.md)",
		),
	}))
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn what_keeps_a_validator_from_its_work_is_wrong() {
		let health = |peers, is_syncing| Health {
			peers,
			is_syncing,
			should_have_peers: true,
		};
		let of = |finding: Finding| finding.how;
		assert_eq!(of(network(&health(0, false))), How::Wrong);
		assert_eq!(of(network(&health(1, false))), How::Odd);
		assert_eq!(of(network(&health(9, true))), How::Wrong);
		assert_eq!(of(network(&health(9, false))), How::Well);
		let alone = Health {
			should_have_peers: false,
			..health(0, false)
		};
		assert_eq!(of(network(&alone)), How::Well);
		for (age, syncing, how) in [
			(Some(3), false, How::Well),
			(Some(-1), false, How::Well),
			(Some(-60), false, How::Wrong),
			(Some(60), false, How::Wrong),
			(Some(60), true, How::Well),
			(None, false, How::Odd),
		] {
			assert_eq!(of(clock(age, syncing)), how, "{age:?}");
		}
		assert_eq!(
			[2, 11].map(|lag| of(finality(lag))),
			[How::Well, How::Wrong]
		);
		let me = Some(AccountId::new([1; 32]));
		assert_eq!(of(keys(true, &me)), How::Well);
		assert_eq!(
			[true, false].map(|role| of(keys(role, &None))),
			[How::Wrong; 2]
		);
		assert_eq!(of(served(&[]).remove(0)), How::Wrong);
	}
}
