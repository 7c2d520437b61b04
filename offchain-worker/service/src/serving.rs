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
	comparison::{judge, Judgement},
	evidence::Evidence,
	model::{ModelSpec, NumericClass},
	ModelId,
};
use serde::{Deserialize, Serialize};

use crate::{
	duty::{in_time, on_engine, JobError},
	runner::{Library, Runner},
	LOG_TARGET,
};

/// A machine that needs longer for the reference inference of a model is too slow to serve it.
const REFERENCE: Duration = Duration::from_secs(600);

/// Where a model stands with this validator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "state", content = "reason")]
pub enum ServingState {
	/// Stored, and not to be served.
	Stored,
	/// To be served once it is registered on chain.
	Waiting,
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

/// The list and what was found out about its models.
pub(crate) struct Serving {
	path: PathBuf,
	list: List,
	checked: HashMap<ModelId, Result<Evidence, String>>,
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
	pub(crate) fn checked(&mut self, model: ModelId, result: Result<Evidence, String>) {
		self.checking.remove(&model);
		self.checked.insert(model, result);
	}

	/// Evidence with which the model can be announced.
	pub(crate) fn evidence(&self, model: &ModelId) -> Option<&Evidence> {
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
			(true, false) if self.evidence(model).is_some() => ServingState::Announced,
			(true, false) => ServingState::Waiting,
		}
	}
}

/// Checks whether this machine can serve a model that the chain describes so.
pub(crate) async fn check(
	model: ModelId,
	spec: &ModelSpec,
	runner: &impl Runner,
	library: &std::sync::Arc<impl Library>,
	patience: Duration,
) -> Result<Evidence, JobError> {
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
		let until = Instant::now() + REFERENCE;
		let reference = in_time(until + patience, runner.reference(model, until));
		let (_, evidence) = reference.await?;
		tracing::debug!(target: LOG_TARGET, "{model:?}: reference evidence {evidence:?}");
		reproduces(spec, &evidence).map_err(JobError::Library)?;
		Ok(evidence)
	})
	.await
}

/// Whether evidence is what the model's policy accepts for its reference input: what the runtime will ask, asked before it does.
fn reproduces(spec: &ModelSpec, evidence: &Evidence) -> Result<(), String> {
	let (policy, reference) = (&spec.policy, &spec.reference);
	if policy.class == NumericClass::Exact {
		return if evidence == reference {
			Ok(())
		} else {
			Err("this machine does not reproduce the reference digest of a model of the exact class: its CPU or its ONNX \
			     Runtime computes other bits. It cannot serve this model"
				.into())
		};
	}
	let near = evidence.is_of(policy.class)
		&& judge(policy, &[&reference.fingerprint, &evidence.fingerprint])[1] == Judgement::Accept;
	let right = evidence.verdict.margin_max <= policy.accept.margin_max
		&& evidence.verdict.margin_mean <= policy.accept.margin_mean;
	if near && right {
		Ok(())
	} else {
		Err("this machine's evidence for the reference input is farther from the registered one than the model's policy \
		     accepts. It cannot serve this model"
			.into())
	}
}
