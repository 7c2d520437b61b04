//! What runs on the engine, and whose fault it is when the engine goes away.
//!
//! All jobs share one process, so its end says nothing of who ended it. Whoever was at work alone is blamed. Where several were,
//! all are under suspicion, and each is run again with nothing beside it: the innocent ones succeed, the guilty one is alone when
//! it happens again. A job that ran out of its time had the process ended by us: those beside it are not suspected.
//!
//! An input is blamed before its model. Whoever asks chooses the input, and may ask the same again: it counts once, however many
//! requests bring it. A model is blamed when several inputs that differ have ended the process and none has succeeded in between,
//! or when its reference inference has, which nobody but its owner chose.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use consilience_primitives::ModelId;
use polkadot_sdk::sp_core::H256;

use crate::journal::Key;

/// Ends of the process that an input, or a model's reference inference, is blamed for before it is run no more.
pub(crate) const CRASHES: u32 = 3;
/// Inputs of a model that have ended the process, each alone, before the model is run no more.
pub(crate) const INPUTS: usize = 3;
/// Inputs that are remembered. Each has ended the process, which takes longer than forgetting it does harm.
const REMEMBERED: usize = 1_024;

/// Something that the engine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Task {
	/// A duty's job.
	Job(Key),
	/// The check of a model that is to be served.
	Check(ModelId),
}

struct Running {
	model: ModelId,
	/// Hash of what the model is given.
	input: H256,
	/// Nothing else was at work since it began.
	alone: bool,
	/// The process is being ended for another's sake.
	excused: bool,
}

/// What follows from the process's end for one that was at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
	/// Nothing: it is done again.
	None,
	/// It is done again, alone.
	Suspected,
	/// It was alone.
	Guilty {
		/// So many times now, this input.
		times: u32,
		/// Inputs of its model that have been, since one has succeeded.
		inputs: usize,
	},
}

/// What runs, and what is known of crashes.
#[derive(Default)]
pub(crate) struct Blaming {
	running: HashMap<Task, Running>,
	/// Tasks that are run alone.
	suspects: HashSet<Task>,
	/// Inputs that have ended the process alone, and how often; the last one last.
	inputs: VecDeque<(H256, u32)>,
	/// Inputs that have, by model, since one has succeeded.
	models: HashMap<ModelId, BTreeSet<H256>>,
}

impl Blaming {
	/// Jobs at work.
	pub(crate) fn jobs(&self) -> usize {
		let job = |t: &&Task| matches!(t, Task::Job(_));
		self.running.keys().filter(job).count()
	}

	/// Whether a model is being checked.
	pub(crate) fn checks(&self) -> bool {
		self.running.keys().any(|t| matches!(t, Task::Check(_)))
	}

	/// Whether a task is run with nothing beside it.
	pub(crate) fn is_suspect(&self, task: &Task) -> bool {
		self.suspects.contains(task)
	}

	/// Whether any is.
	pub(crate) fn suspects(&self) -> bool {
		!self.suspects.is_empty()
	}

	/// Whether an input has ended the process so often that it is run no more.
	pub(crate) fn is_poison(&self, input: &H256) -> bool {
		let known = self.inputs.iter().find(|(i, _)| i == input);
		known.is_some_and(|(_, times)| *times >= CRASHES)
	}

	/// Whether a task may begin now.
	pub(crate) fn may_begin(&self, task: &Task) -> bool {
		if self.suspects.is_empty() || self.running.is_empty() {
			return true;
		}
		!self.is_suspect(task) && !self.running.keys().any(|t| self.is_suspect(t))
	}

	/// A task begins.
	pub(crate) fn begin(&mut self, task: Task, model: ModelId, input: H256) {
		let alone = self.running.is_empty();
		for other in self.running.values_mut() {
			other.alone = false;
		}
		self.running.insert(
			task,
			Running {
				model,
				input,
				alone,
				excused: false,
			},
		);
	}

	/// A task ended before the engine did anything, or nobody waits for it any more.
	pub(crate) fn postponed(&mut self, task: &Task) {
		self.running.remove(task);
	}

	/// A task ended with a result, or an error, that the engine gave.
	pub(crate) fn ended(&mut self, task: &Task) {
		self.suspects.remove(task);
		if let Some(running) = self.running.remove(task) {
			self.models.remove(&running.model);
			self.inputs.retain(|(input, _)| *input != running.input);
		}
	}

	/// A task ran out of its time, and the process is to be ended.
	pub(crate) fn too_long(&mut self, task: Task) -> Blame {
		let blame = self.crashed(task);
		for other in self.running.values_mut() {
			other.excused = true;
		}
		blame
	}

	/// The process went away while a task was at work.
	pub(crate) fn crashed(&mut self, task: Task) -> Blame {
		let Some(running) = self.running.remove(&task) else {
			return Blame::None;
		};
		if running.excused {
			return Blame::None;
		}
		self.suspects.insert(task);
		if !running.alone {
			return Blame::Suspected;
		}
		let place = self.inputs.iter().position(|(i, _)| *i == running.input);
		let before = place.and_then(|p| self.inputs.remove(p));
		let times = before.map_or(0, |(_, times)| times).saturating_add(1);
		self.inputs.push_back((running.input, times));
		if self.inputs.len() > REMEMBERED {
			self.inputs.pop_front();
		}
		let inputs = self.models.entry(running.model).or_default();
		if inputs.len() < INPUTS {
			inputs.insert(running.input);
		}
		Blame::Guilty {
			times,
			inputs: inputs.len(),
		}
	}

	/// Forgets what a model and its inputs are blamed for.
	pub(crate) fn forgive(&mut self, model: ModelId) {
		for input in self.models.remove(&model).unwrap_or_default() {
			self.inputs.retain(|(i, _)| *i != input);
		}
		self.suspects.remove(&Task::Check(model));
	}

	/// Forgets suspects of which `keep` does not hold.
	pub(crate) fn retain(&mut self, keep: impl Fn(&Task) -> bool) {
		let running = &self.running;
		self.suspects
			.retain(|task| running.contains_key(task) || keep(task));
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	const A: Task = Task::Check(ModelId::repeat_byte(1));
	const B: Task = Task::Check(ModelId::repeat_byte(2));
	const C: Task = Task::Check(ModelId::repeat_byte(3));

	fn begin(blaming: &mut Blaming, task: Task) {
		let Task::Check(model) = task else {
			unreachable!("the tests' tasks are checks")
		};
		blaming.begin(task, model, model);
	}

	#[test]
	fn who_was_alone_is_blamed() {
		let mut blaming = Blaming::default();
		for n in 1..=CRASHES {
			begin(&mut blaming, A);
			assert_eq!(
				blaming.crashed(A),
				Blame::Guilty {
					times: n,
					inputs: 1
				}
			);
		}
	}

	#[test]
	fn who_was_beside_another_is_run_alone_first() {
		let mut blaming = Blaming::default();
		begin(&mut blaming, A);
		begin(&mut blaming, B);
		assert_eq!(blaming.crashed(A), Blame::Suspected);
		assert_eq!(blaming.crashed(B), Blame::Suspected);
		assert!(blaming.may_begin(&A));
		begin(&mut blaming, A);
		assert!(!blaming.may_begin(&B) && !blaming.may_begin(&C));
		blaming.ended(&A);
		begin(&mut blaming, B);
		assert!(!blaming.may_begin(&A), "the other suspect is at work");
		assert_eq!(
			blaming.crashed(B),
			Blame::Guilty {
				times: 1,
				inputs: 1
			}
		);
		assert!(blaming.is_suspect(&B) && !blaming.is_suspect(&A));
	}

	#[test]
	fn a_suspect_waits_until_the_others_are_done() {
		let mut blaming = Blaming::default();
		begin(&mut blaming, A);
		begin(&mut blaming, B);
		assert_eq!(blaming.crashed(A), Blame::Suspected);
		assert!(!blaming.may_begin(&A));
		assert!(blaming.may_begin(&C));
		blaming.ended(&B);
		assert!(blaming.may_begin(&A));
	}

	#[test]
	fn one_that_ended_meanwhile_was_beside_all_the_same() {
		let mut blaming = Blaming::default();
		begin(&mut blaming, A);
		begin(&mut blaming, B);
		blaming.ended(&B);
		assert_eq!(blaming.crashed(A), Blame::Suspected);
	}

	#[test]
	fn whoever_was_beside_one_that_took_too_long_is_not_suspected() {
		let mut blaming = Blaming::default();
		begin(&mut blaming, A);
		begin(&mut blaming, B);
		assert_eq!(blaming.too_long(A), Blame::Suspected);
		assert_eq!(blaming.crashed(B), Blame::None);
		assert!(!blaming.is_suspect(&B));
		begin(&mut blaming, A);
		assert_eq!(
			blaming.too_long(A),
			Blame::Guilty {
				times: 1,
				inputs: 1
			}
		);
	}

	fn job(request: u64) -> Task {
		Task::Job(Key {
			request,
			kind: crate::journal::Kind::Output,
			seed: Default::default(),
		})
	}

	/// A request brings an input of the first model, and ends the process alone.
	fn crash(blaming: &mut Blaming, request: u64, input: u8) -> Blame {
		let model = ModelId::repeat_byte(1);
		blaming.begin(job(request), model, H256::repeat_byte(input));
		blaming.crashed(job(request))
	}

	#[test]
	fn an_input_is_blamed_whoever_brings_it_and_its_model_only_with_others() {
		let mut blaming = Blaming::default();
		for n in 1..=CRASHES {
			assert!(!blaming.is_poison(&H256::repeat_byte(7)));
			let blame = crash(&mut blaming, n.into(), 7);
			assert_eq!(
				blame,
				Blame::Guilty {
					times: n,
					inputs: 1
				}
			);
		}
		assert!(blaming.is_poison(&H256::repeat_byte(7)));
		let blame = crash(&mut blaming, 10, 8);
		assert_eq!(
			blame,
			Blame::Guilty {
				times: 1,
				inputs: 2
			}
		);
		let blame = crash(&mut blaming, 11, 9);
		assert_eq!(
			blame,
			Blame::Guilty {
				times: 1,
				inputs: INPUTS
			}
		);
		blaming.forgive(ModelId::repeat_byte(1));
		assert!(!blaming.is_poison(&H256::repeat_byte(7)));
	}

	#[test]
	fn a_success_clears_the_model_and_not_another_input_of_it() {
		let model = ModelId::repeat_byte(1);
		let mut blaming = Blaming::default();
		for n in 1..=CRASHES {
			let blame = crash(&mut blaming, 1, 7);
			assert_eq!(
				blame,
				Blame::Guilty {
					times: n,
					inputs: 1
				}
			);
			blaming.begin(job(2), model, H256::repeat_byte(8));
			blaming.ended(&job(2));
		}
		assert!(blaming.is_poison(&H256::repeat_byte(7)));
		blaming.begin(job(1), model, H256::repeat_byte(7));
		blaming.ended(&job(1));
		assert!(!blaming.is_poison(&H256::repeat_byte(7)));
	}

	#[test]
	fn what_is_remembered_is_bounded() {
		let mut blaming = Blaming::default();
		let model = ModelId::repeat_byte(1);
		for n in 0..2 * REMEMBERED as u64 {
			let task = job(n);
			blaming.begin(task, model, H256::from_low_u64_be(n));
			blaming.crashed(task);
			blaming.retain(|_| false);
		}
		assert_eq!(blaming.inputs.len(), REMEMBERED);
	}
}
