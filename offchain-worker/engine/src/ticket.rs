//! Until when somebody waits for a command, how far it may go meanwhile, and what is inside ONNX Runtime now.
//!
//! A command's [`Ticket`] is that of the thread that carries it out. Whatever has steps looks at it between two of them: a text
//! between pieces and tokens, a graph of tensors before its run. A run itself is asked to end, which ONNX Runtime does between
//! two nodes, inside loops too. Only a single node that does not come to an end leaves nothing but to end the process.

use std::{
	cell::RefCell,
	collections::BTreeMap,
	sync::{
		atomic::{AtomicBool, AtomicU32, Ordering},
		Arc, Mutex, MutexGuard,
	},
	time::{Duration, Instant},
};

use ort::session::{NoSelectedOutputs, RunOptions};

use crate::EngineError;

/// How long somebody waits for a command, and how many tokens it may write. Clones are of the same command.
#[derive(Clone, Default)]
pub(crate) struct Ticket(Arc<Inner>);

struct Inner {
	deadline: Option<Instant>,
	cancelled: AtomicBool,
	allowed: AtomicU32,
	/// Called when one of these has changed.
	wake: Mutex<Option<Wake>>,
}

type Wake = Box<dyn Fn() + Send>;

impl Default for Inner {
	fn default() -> Self {
		Self {
			deadline: None,
			cancelled: AtomicBool::new(false),
			allowed: AtomicU32::new(u32::MAX),
			wake: Mutex::default(),
		}
	}
}

/// Somebody hears of changes until this is dropped.
pub(crate) struct Listens(Ticket);

impl Drop for Listens {
	fn drop(&mut self) {
		*self.0.wake() = None;
	}
}

thread_local! {
	static CURRENT: RefCell<Ticket> = RefCell::default();
}

impl Ticket {
	/// Of a command for which somebody waits until then, or for ever.
	pub(crate) fn until(deadline: Option<Instant>) -> Self {
		Self(Arc::new(Inner {
			deadline,
			..Default::default()
		}))
	}

	/// The same, for a command that may write so many tokens to begin with.
	pub(crate) fn allowing(self, tokens: u32) -> Self {
		self.0.allowed.store(tokens, Ordering::Relaxed);
		self
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
		self.changed();
	}

	/// So many tokens may be written in all, or as many as before if those were more.
	pub(crate) fn allow(&self, tokens: u32) {
		self.0.allowed.fetch_max(tokens, Ordering::Relaxed);
		self.changed();
	}

	/// How many tokens may be written in all.
	pub(crate) fn allowed(&self) -> u32 {
		self.0.allowed.load(Ordering::Relaxed)
	}

	/// When nobody waits any more.
	pub(crate) fn deadline(&self) -> Option<Instant> {
		self.0.deadline
	}

	/// Has `wake` called whenever it is cancelled or more is allowed, in place of who was told before. It is called on the thread
	/// that does so.
	pub(crate) fn listen(&self, wake: impl Fn() + Send + 'static) -> Listens {
		*self.wake() = Some(Box::new(wake));
		Listens(self.clone())
	}

	fn wake(&self) -> MutexGuard<'_, Option<Wake>> {
		self.0.wake.lock().unwrap_or_else(|e| e.into_inner())
	}

	fn changed(&self) {
		if let Some(wake) = &*self.wake() {
			wake();
		}
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
