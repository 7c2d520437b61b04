//! What runs on the engine, and whose fault it is when the engine goes away.
//!
//! All jobs share one process, so its end says nothing of who ended it. Whoever was at work alone is blamed. Where several were,
//! all are under suspicion, and each is run again with nothing beside it: the innocent ones succeed, the guilty one is alone when
//! it happens again. A job that ran out of its time had the process ended by us: those beside it are not suspected.

use std::collections::HashMap;

use consilience_primitives::ModelId;

use crate::journal::Key;

/// Ends of the process that a job, or a model without a success in between, is blamed for before it is run no more.
pub(crate) const CRASHES: u32 = 3;

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
	/// It was alone, so many times now: the task itself, and its model since its last success.
	Guilty {
		/// The task.
		task: u32,
		/// The model.
		model: u32,
	},
}

/// What runs, and what is known of crashes.
#[derive(Default)]
pub(crate) struct Blaming {
	running: HashMap<Task, Running>,
	/// Tasks that are run alone, with the crashes that they are blamed for.
	suspects: HashMap<Task, u32>,
	crashes: HashMap<ModelId, u32>,
}

impl Blaming {
	/// Whether the task is at work.
	pub(crate) fn runs(&self, task: &Task) -> bool {
		self.running.contains_key(task)
	}

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
		self.suspects.contains_key(task)
	}

	/// Whether a task may begin now.
	pub(crate) fn may_begin(&self, task: &Task) -> bool {
		!self.running.keys().any(|t| self.is_suspect(t))
			&& (self.running.is_empty() || !self.is_suspect(task))
	}

	/// A task begins.
	pub(crate) fn begin(&mut self, task: Task, model: ModelId) {
		let alone = self.running.is_empty();
		for other in self.running.values_mut() {
			other.alone = false;
		}
		self.running.insert(
			task,
			Running {
				model,
				alone,
				excused: false,
			},
		);
	}

	/// A task ended before the engine did anything.
	pub(crate) fn postponed(&mut self, task: &Task) {
		self.running.remove(task);
	}

	/// A task ended with a result, or an error, that the engine gave.
	pub(crate) fn ended(&mut self, task: &Task) {
		self.suspects.remove(task);
		if let Some(running) = self.running.remove(task) {
			self.crashes.remove(&running.model);
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
		let alone = self.suspects.entry(task).or_default();
		if !running.alone {
			return Blame::Suspected;
		}
		*alone += 1;
		let model = self.crashes.entry(running.model).or_default();
		*model += 1;
		Blame::Guilty {
			task: *alone,
			model: *model,
		}
	}

	/// Forgets a model's crashes.
	pub(crate) fn forgive(&mut self, model: ModelId) {
		self.crashes.remove(&model);
		self.suspects.remove(&Task::Check(model));
	}

	/// Forgets suspects of which `keep` does not hold.
	pub(crate) fn retain(&mut self, keep: impl Fn(&Task) -> bool) {
		let running = &self.running;
		self.suspects
			.retain(|task, _| running.contains_key(task) || keep(task));
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
		blaming.begin(task, model);
	}

	#[test]
	fn who_was_alone_is_blamed() {
		let mut blaming = Blaming::default();
		for n in 1..=CRASHES {
			begin(&mut blaming, A);
			assert_eq!(blaming.crashed(A), Blame::Guilty { task: n, model: n });
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
		assert_eq!(blaming.crashed(B), Blame::Guilty { task: 1, model: 1 });
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
		assert_eq!(blaming.too_long(A), Blame::Guilty { task: 1, model: 1 });
	}

	#[test]
	fn a_success_clears_the_model_and_not_another_job_of_it() {
		let model = ModelId::repeat_byte(1);
		let job = |request| {
			Task::Job(Key {
				request,
				kind: crate::journal::Kind::Output,
				seed: Default::default(),
			})
		};
		let mut blaming = Blaming::default();
		for n in 1..=CRASHES {
			blaming.begin(job(1), model);
			assert_eq!(blaming.crashed(job(1)), Blame::Guilty { task: n, model: 1 });
			blaming.begin(job(2), model);
			blaming.ended(&job(2));
		}
	}
}
