//! Until when somebody waits for a command, and what is inside ONNX Runtime now.
//!
//! A command's [`Ticket`] is that of the thread that carries it out. Whatever has steps looks at it between two of them: a text
//! between pieces and tokens, a graph of tensors before its run. A run itself is asked to end, which ONNX Runtime does between
//! two nodes, inside loops too. Only a single node that does not come to an end leaves nothing but to end the process.

use std::{
	cell::RefCell,
	collections::BTreeMap,
	sync::{
		atomic::{AtomicBool, Ordering},
		Arc, Mutex, MutexGuard,
	},
	time::{Duration, Instant},
};

use ort::session::{NoSelectedOutputs, RunOptions};

use crate::EngineError;

/// How long somebody waits for a command. Clones are of the same command.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ticket(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
	deadline: Option<Instant>,
	cancelled: AtomicBool,
}

thread_local! {
	static CURRENT: RefCell<Ticket> = RefCell::default();
}

impl Ticket {
	/// Of a command for which somebody waits until then, or for ever.
	pub(crate) fn until(deadline: Option<Instant>) -> Self {
		Self(Arc::new(Inner {
			deadline,
			cancelled: AtomicBool::new(false),
		}))
	}

	/// Of the command that this thread carries out; nobody's time is ever over where there is none.
	pub(crate) fn current() -> Self {
		CURRENT.with_borrow(Clone::clone)
	}

	/// Has this thread carry out the command meanwhile.
	pub(crate) fn during<R>(&self, work: impl FnOnce() -> R) -> R {
		/// Puts back what was there, after a panic too.
		struct Before(Ticket);
		impl Drop for Before {
			fn drop(&mut self) {
				CURRENT.set(std::mem::take(&mut self.0));
			}
		}
		let _before = Before(CURRENT.replace(self.clone()));
		work()
	}

	/// Nobody waits any more.
	pub(crate) fn cancel(&self) {
		self.0.cancelled.store(true, Ordering::Relaxed);
	}

	/// Whether nobody waits any more.
	pub(crate) fn is_over(&self) -> bool {
		self.0.cancelled.load(Ordering::Relaxed)
			|| self.0.deadline.is_some_and(|at| at <= Instant::now())
	}

	/// Fails if nobody waits any more.
	pub(crate) fn check(&self) -> Result<(), EngineError> {
		if self.is_over() {
			return Err(EngineError::Cancelled);
		}
		Ok(())
	}
}

/// A run of a graph.
struct Run {
	since: Instant,
	ticket: Ticket,
	options: Arc<RunOptions<NoSelectedOutputs>>,
	asked: Option<Asked>,
}

/// A run was asked to end.
#[derive(Clone, Copy)]
struct Asked {
	at: Instant,
	/// Because it took longer than any run may, not for want of somebody who waits.
	late: bool,
}

/// The runs of this process, by number.
struct Runs {
	next: u64,
	open: BTreeMap<u64, Run>,
}

static RUNS: Mutex<Runs> = Mutex::new(Runs {
	next: 0,
	open: BTreeMap::new(),
});

fn runs() -> MutexGuard<'static, Runs> {
	RUNS.lock().unwrap_or_else(|e| e.into_inner())
}

/// A run that [`look`] watches, until it is dropped.
pub(crate) struct Watched {
	number: u64,
	options: Arc<RunOptions<NoSelectedOutputs>>,
}

impl Watched {
	/// A run for this thread's command begins, if somebody still waits for it.
	pub(crate) fn begin() -> Result<Self, EngineError> {
		let ticket = Ticket::current();
		ticket.check()?;
		let options = Arc::new(RunOptions::new()?);
		let mut runs = runs();
		runs.next += 1;
		let run = Run {
			since: Instant::now(),
			ticket,
			options: options.clone(),
			asked: None,
		};
		let number = runs.next;
		runs.open.insert(number, run);
		Ok(Self { number, options })
	}

	/// What it is run with.
	pub(crate) fn options(&self) -> &RunOptions<NoSelectedOutputs> {
		&self.options
	}

	/// What its failure means.
	pub(crate) fn failed(&self, error: ort::Error) -> EngineError {
		match runs().open.get(&self.number).and_then(|run| run.asked) {
			Some(Asked { late: true, .. }) => {
				EngineError::Limit("one run of the graph took longer than it may".into())
			}
			Some(_) => EngineError::Cancelled,
			None => EngineError::of_run(error),
		}
	}

	/// It has ended; what becomes of its outputs is not ONNX Runtime's.
	pub(crate) fn ended(&self) {
		runs().open.remove(&self.number);
	}
}

impl Drop for Watched {
	fn drop(&mut self) {
		self.ended();
	}
}

/// Asks runs to end that have taken longer than `longest`, or for whose command nobody waits. Whether all that were asked more
/// than `grace` ago have done so.
pub(crate) fn look(longest: Duration, grace: Duration) -> bool {
	let now = Instant::now();
	let mut well = true;
	for run in runs().open.values_mut() {
		match run.asked {
			Some(asked) => well &= asked.at + grace > now,
			None => {
				let late = run.since + longest <= now;
				if late || run.ticket.is_over() {
					run.asked = Some(Asked { at: now, late });
					// Whoever cannot be told is found to hang.
					let _ = run.options.terminate();
				}
			}
		}
	}
	well
}
