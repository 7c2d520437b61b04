//! Which models this validator wants to serve, and whether it can.
//!
//! The list is a file, so that it outlives the node. A model is announced only after every hash of its files was checked, the
//! chain's description was found equal to the manifest's, and this machine reproduced the reference evidence within the model's
//! policy. Whoever cannot says why in the log, and validates on.
//!
//! A model over which the engine went away again and again is in quarantine: it is not run, and is withdrawn on chain. That stands
//! in the file too, with the reason, so that a restart does not begin the same again; `consilience model serve` lifts it.

use std::{
	collections::{BTreeMap, BTreeSet, HashMap, HashSet},
	path::PathBuf,
	time::{Duration, Instant},
};

use consilience_primitives::{
	comparison::reproduces,
	evidence::Evidence,
	model::{ModelSpec, NumericClass, Speed, TimeLimit},
	ModelId,
};
use serde::{Deserialize, Serialize};

use crate::{
	duty::{in_time, on_engine, JobError},
	follow::Limits,
	runner::{Library, Runner},
	LOG_TARGET,
};

/// A machine that needs longer for the reference inference of a model is too slow to serve it.
const REFERENCE: Duration = Duration::from_secs(600);

/// A reference inference that takes longer, loading included, is not run again to be timed.
const AGAIN: Duration = Duration::from_secs(30);

/// Inferences at once when the machine is timed.
const TOGETHER: u32 = 4;

/// Calls of the runtime that a duty comes to: its question, the report that says its answer, and its part of what is due.
const CALLS: u64 = 4;

/// Where a model stands with this validator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "state", content = "reason")]
pub enum ServingState {
	/// Stored, and not to be served.
	Stored,
	/// To be served once it is registered on chain, and this node has looked at a block.
	Waiting,
	/// Its files come from other nodes: `models_local` says how far they are.
	Fetching,
	/// Files and reference evidence are being checked.
	Checking,
	/// The reference was reproduced; the announcement is not on chain yet.
	Announced,
	/// On chain.
	Serving,
	/// Not served; why.
	Refused(String),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct List {
	/// All stored models that are registered.
	#[serde(default)]
	all: bool,
	#[serde(default)]
	models: BTreeSet<ModelId>,
	/// Exceptions from `all`.
	#[serde(default)]
	withdrawn: BTreeSet<ModelId>,
	/// Models that are not run, and why.
	#[serde(default)]
	quarantined: BTreeMap<ModelId, String>,
}

/// What a validator says of a model and its machine.
pub(crate) type Attestation = (Evidence, Speed);

/// The list and what was found out about its models.
pub(crate) struct Serving {
	path: PathBuf,
	list: List,
	checked: HashMap<ModelId, Result<Attestation, String>>,
	/// What this machine computes for the reference inputs of models that it cannot serve for that reason.
	differing: HashMap<ModelId, Evidence>,
	checking: HashSet<ModelId>,
}

impl Serving {
	/// Reads the list; there is none at first.
	pub(crate) fn open(path: PathBuf) -> Result<Self, String> {
		let list = match std::fs::read(&path) {
			Ok(bytes) => serde_json::from_slice(&bytes)
				.map_err(|e| format!("{}: {e}. Mend or remove the file", path.display()))?,
			Err(e) if e.kind() == std::io::ErrorKind::NotFound => List::default(),
			Err(e) => return Err(format!("{}: {e}", path.display())),
		};
		Ok(Self {
			path,
			list,
			checked: HashMap::new(),
			differing: HashMap::new(),
			checking: HashSet::new(),
		})
	}

	fn save(&self) -> Result<(), String> {
		let error = |e: &dyn std::fmt::Display| format!("{}: {e}", self.path.display());
		let bytes = serde_json::to_vec_pretty(&self.list).map_err(|e| error(&e))?;
		if let Some(folder) = self.path.parent() {
			std::fs::create_dir_all(folder).map_err(|e| error(&e))?;
		}
		// Renamed into place: a kill leaves the old list or the new one.
		let scratch = self.path.with_extension("json.new");
		std::fs::write(&scratch, bytes).map_err(|e| error(&e))?;
		std::fs::rename(&scratch, &self.path).map_err(|e| error(&e))
	}

	/// Serves every model that is stored and registered, now and later.
	pub(crate) fn want_all(&mut self) -> Result<(), String> {
		self.list.all = true;
		self.save()
	}

	/// Adds a model. One in quarantine stays there.
	pub(crate) fn want(&mut self, model: ModelId) -> Result<(), String> {
		self.list.models.insert(model);
		self.list.withdrawn.remove(&model);
		self.save()
	}

	/// Runs a model no more, and remembers it.
	pub(crate) fn quarantine(&mut self, model: ModelId, why: String) -> Result<(), String> {
		self.checking.remove(&model);
		self.list.quarantined.insert(model, why);
		self.save()
	}

	/// Forgets why a model was refused or in quarantine.
	pub(crate) fn forgive(&mut self, model: ModelId) -> Result<(), String> {
		self.list.quarantined.remove(&model);
		if matches!(self.checked.get(&model), Some(Err(_))) {
			self.checked.remove(&model);
		}
		self.save()
	}

	/// Removes a model. Whether it was on the list.
	pub(crate) fn unwant(&mut self, model: ModelId) -> Result<bool, String> {
		let wanted = self.list.models.remove(&model) || self.list.all;
		if self.list.all {
			self.list.withdrawn.insert(model);
		}
		self.checked.remove(&model);
		self.save()?;
		Ok(wanted)
	}

	/// Models to serve.
	pub(crate) fn wanted(&self, library: &impl Library) -> BTreeSet<ModelId> {
		let mut wanted = self.list.models.clone();
		if self.list.all {
			wanted.extend(library.list());
			wanted.retain(|m| !self.list.withdrawn.contains(m));
		}
		wanted
	}

	/// Whether nothing is known of the model yet; it counts as being checked from here on.
	pub(crate) fn begin_check(&mut self, model: ModelId) -> bool {
		self.is_unknown(&model) && self.checking.insert(model)
	}

	/// Whether the check of a model has neither ended nor begun.
	pub(crate) fn is_unknown(&self, model: &ModelId) -> bool {
		!self.checked.contains_key(model)
			&& !self.checking.contains(model)
			&& !self.list.quarantined.contains_key(model)
	}

	/// The check did not come to a result and is to be made again.
	pub(crate) fn retry(&mut self, model: ModelId) {
		self.checking.remove(&model);
	}

	/// Has a model checked again.
	pub(crate) fn forget_check(&mut self, model: ModelId) {
		self.checked.remove(&model);
	}

	/// What the check found.
	pub(crate) fn checked(&mut self, model: ModelId, result: Result<Attestation, String>) {
		self.checking.remove(&model);
		self.differing.remove(&model);
		self.checked.insert(model, result);
	}

	/// The check found that this machine computes something else for the model's reference input.
	pub(crate) fn differs(&mut self, model: ModelId, evidence: Evidence, why: String) {
		self.checked(model, Err(why));
		self.differing.insert(model, evidence);
	}

	/// What this machine computes for the model's reference input, where that is something else.
	pub(crate) fn differing(&self, model: &ModelId) -> Option<&Evidence> {
		let refused = matches!(self.checked.get(model), Some(Err(_)));
		self.differing.get(model).filter(|_| refused)
	}

	/// With what the model can be announced.
	pub(crate) fn attestation(&self, model: &ModelId) -> Option<&Attestation> {
		let quarantined = self.list.quarantined.contains_key(model);
		let checked = self.checked.get(model).and_then(|r| r.as_ref().ok());
		checked.filter(|_| !quarantined)
	}

	/// Why the model is not served, if that is known.
	pub(crate) fn refusal(&self, model: &ModelId) -> Option<&String> {
		let checked = self.checked.get(model).and_then(|r| r.as_ref().err());
		self.list.quarantined.get(model).or(checked)
	}

	/// Where the model stands, given what the chain says.
	pub(crate) fn state(
		&self,
		model: &ModelId,
		wanted: bool,
		serving_on_chain: bool,
	) -> ServingState {
		if let Some(reason) = self.refusal(model) {
			return ServingState::Refused(reason.clone());
		}
		match (wanted, serving_on_chain) {
			(_, true) => ServingState::Serving,
			(false, false) => ServingState::Stored,
			(true, false) if self.checking.contains(model) => ServingState::Checking,
			(true, false) if self.attestation(model).is_some() => ServingState::Announced,
			(true, false) => ServingState::Waiting,
		}
	}
}

/// Checks whether this machine can serve a model that the chain describes so, and how fast it is. `call` is how long the node needs to
/// answer one question of its runtime.
pub(crate) async fn check(
	model: ModelId,
	spec: &ModelSpec,
	runner: &impl Runner,
	library: &std::sync::Arc<impl Library>,
	limits: &Limits,
	call: Duration,
) -> Result<Attestation, JobError> {
	if let Some(why) = runner.unavailable() {
		return Err(JobError::Library(why));
	}
	on_engine(runner, library, model, async |runner, local| {
		let own = local
			.manifest
			.spec()
			.map_err(|e| JobError::Library(e.to_string()))?;
		if own != *spec {
			return Err(JobError::Library(
				"what is registered on chain is not what the manifest says: its owner has to register it again".into(),
			));
		}
		let begun = Instant::now();
		let until = begun + REFERENCE;
		let reference = in_time(until + limits.patience, runner.reference(model, until));
		let (output, evidence) = reference.await?;
		tracing::debug!(target: LOG_TARGET, "{model:?}: reference evidence {evidence:?}");
		reproduced(spec, &evidence).map_err(|why| JobError::Differs(evidence.clone(), why))?;
		// The first one has loaded the model, and an engine does several things at once as fast as it can only when there are several.
		let mut each = begun.elapsed();
		if each < AGAIN {
			let begun = Instant::now();
			let again = (0..TOGETHER).map(|_| runner.reference(model, until));
			let again = futures::future::try_join_all(again);
			in_time(until + limits.patience, again).await?;
			each = begun.elapsed() / TOGETHER;
		}
		let pace = pace(spec, output.units(), each, limits.block);
		let speed = speed(pace, call, limits.block);
		tracing::info!(
			target: LOG_TARGET,
			"{model:?}: the reference takes {each:.1?} of this machine, {TOGETHER} at once; pace {} of 1,000, duties {} thousandths of \
			 a block",
			speed.pace,
			speed.duty
		);
		let longest = spec.limits.max_output_units;
		let given = u64::from(spec.time.answer_blocks(longest));
		let needed = u64::from(spec.time.work(longest)).saturating_mul(pace) / 1_000_000;
		if needed > given {
			// The machine may only be busy now, and most answers are shorter: whether it serves is its operator's decision.
			tracing::warn!(
				target: LOG_TARGET,
				"{model:?}: at this speed the longest answer takes this machine {needed} blocks, and it has {given}: it will be late with it, \
				 and lateness costs stake. If the machine is not only busy at present, `consilience model withdraw` ends serving"
			);
		}
		Ok((evidence, speed))
	})
	.await
}

/// So long a time in parts of a block.
fn parts(time: Duration, block: Duration, of: u64) -> u64 {
	let parts = time.as_nanos().saturating_mul(u128::from(of)) / block.as_nanos().max(1);
	u64::try_from(parts).unwrap_or(u64::MAX)
}

/// Pace of a machine that needs so long for the reference inference and its measurement, with `units` of output: in thousandths of
/// what the description gives for them.
fn pace(spec: &ModelSpec, units: u32, each: Duration, block: Duration) -> u64 {
	let work = spec.time.work(units);
	let described = work.saturating_add(TimeLimit::measuring(work));
	parts(each, block, 1_000_000) / u64::from(described.max(1))
}

/// What the chain is told, as far as it takes it: short answers have much more time than their work, so that a machine can be slower
/// than the chain counts and not be late.
fn speed(pace: u64, call: Duration, block: Duration) -> Speed {
	let within =
		|n: u64, least: u32, most: u32| u32::try_from(n).unwrap_or(u32::MAX).clamp(least, most);
	let calls = parts(call, block, 1_000).saturating_mul(CALLS);
	Speed {
		pace: within(pace, Speed::LEAST_PACE, Speed::MOST_PACE),
		duty: within(calls, 1, Speed::MOST_DUTY),
	}
}

/// Asks what the runtime will ask, before it does; why it would refuse.
fn reproduced(spec: &ModelSpec, evidence: &Evidence) -> Result<(), String> {
	if reproduces(spec, evidence) {
		return Ok(());
	}
	Err(match spec.policy.class {
		NumericClass::Exact => "this machine does not reproduce the reference digest of a model of the exact class: its CPU or its ONNX \
		                        Runtime computes other bits. It cannot serve this model"
			.into(),
		NumericClass::Tolerant => "this machine's evidence for the reference input is farther from the registered one than the model's \
		                           policy accepts. It cannot serve this model"
			.into(),
	})
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::tests::manifest;

	/// A description of four units a block, in blocks of three seconds.
	fn measured(each: u64, call: u64) -> (u64, Speed) {
		let spec = manifest().spec().unwrap();
		assert_eq!(spec.time.output_units_per_block, 4);
		let (each, call) = (Duration::from_millis(each), Duration::from_millis(call));
		let block = Duration::from_secs(3);
		let pace = pace(&spec, 4, each, block);
		(pace, speed(pace, call, block))
	}

	#[test]
	fn a_machine_as_fast_as_the_description_has_a_pace_of_a_thousand() {
		// Four units are a block, and measuring them is a quarter of that.
		let (_, usual) = measured(3_750, 3);
		assert_eq!((usual.pace, u64::from(usual.duty)), (1_000, CALLS));
		assert_eq!(measured(1_875, 3).1.pace, 500);
		assert_eq!(measured(7_500, 3).1.pace, 2_000);
	}

	#[test]
	fn what_the_chain_would_not_take_is_not_said() {
		let (_, fast) = measured(0, 0);
		assert_eq!((fast.pace, fast.duty), (Speed::LEAST_PACE, 1));
		let (pace, slow) = measured(60_000, 60_000);
		assert_eq!(pace, 16_000);
		assert_eq!((slow.pace, slow.duty), (Speed::MOST_PACE, Speed::MOST_DUTY));
		assert!(fast.is_valid() && slow.is_valid());
	}
}
