//! What requests of one channel at a time have to share.

use std::{
	collections::{BTreeSet, HashMap},
	sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use consilience_lane::message::{AccountId, Balance};
use tokio::sync::{watch, OwnedMutexGuard};

/// Whose turn it is with each payee. A payee's vouchers rise, and those of two requests must not overtake one another.
#[derive(Default)]
pub(crate) struct Turns(Mutex<HashMap<AccountId, Arc<tokio::sync::Mutex<()>>>>);

/// A turn, over when it is dropped.
pub(crate) type Turn = OwnedMutexGuard<()>;

impl Turns {
	fn of(&self, payee: &AccountId) -> Arc<tokio::sync::Mutex<()>> {
		lock(&self.0).entry(payee.clone()).or_default().clone()
	}

	/// Takes a turn, if nobody has one.
	pub(crate) fn take(&self, payee: &AccountId) -> Option<Turn> {
		self.of(payee).try_lock_owned().ok()
	}

	/// Waits for a turn.
	pub(crate) async fn wait(&self, payee: &AccountId) -> Turn {
		self.of(payee).lock_owned().await
	}
}

/// What of the checkers' pot is promised to checks that are not paid yet.
#[derive(Clone, Default)]
pub(crate) struct Pot(Arc<Mutex<Balance>>);

/// An amount that is set apart, until this is dropped.
pub(crate) struct Promise {
	pot: Pot,
	amount: Balance,
}

impl Pot {
	/// Sets an amount apart, where so much is left beside all that is promised. What is left is asked when nobody else can promise:
	/// a check is paid before its promise is dropped, so that it is counted twice for a moment and never not at all.
	pub(crate) fn promise<E>(
		&self,
		amount: Balance,
		left: impl FnOnce() -> Result<Balance, E>,
	) -> Result<Option<Promise>, E> {
		let mut promised = lock(&self.0);
		let left = left()?;
		let Some(sum) = promised.checked_add(amount).filter(|sum| *sum <= left) else {
			return Ok(None);
		};
		*promised = sum;
		Ok(Some(Promise {
			pot: self.clone(),
			amount,
		}))
	}
}

impl Drop for Promise {
	fn drop(&mut self) {
		let mut promised = lock(&self.pot.0);
		*promised = promised.saturating_sub(self.amount);
	}
}

/// Which numbers may still get a receipt, and whose preimages were shown. A preimage leads to those of all lower numbers: anyone who is
/// shown one knows the checkers of every lower number, and an executor that signs after that could choose an answer that suits them.
#[derive(Clone, Debug)]
pub(crate) struct Numbers(watch::Sender<Known>);

#[derive(Debug)]
struct Known {
	/// Numbers whose answers are under way.
	open: BTreeSet<u32>,
	/// The highest number whose preimage was shown; 0 before the first.
	shown: u32,
}

/// A number that may get a receipt, until this is dropped.
#[derive(Debug)]
pub(crate) struct Open {
	numbers: Numbers,
	number: u32,
}

impl Numbers {
	pub(crate) fn new(shown: u32) -> Self {
		Self(watch::Sender::new(Known {
			open: BTreeSet::new(),
			shown,
		}))
	}

	/// Opens a number; `None` where it is open already, or a preimage was shown that leads to its own.
	pub(crate) fn open(&self, number: u32) -> Option<Open> {
		let mut opened = false;
		self.0.send_if_modified(|known| {
			opened = number > known.shown && known.open.insert(number);
			false
		});
		opened.then(|| Open {
			numbers: self.clone(),
			number,
		})
	}

	/// Waits until no lower number is open, and opens neither those nor this one from then on.
	pub(crate) async fn show(&self, number: u32) {
		let mut known = self.0.subscribe();
		loop {
			let mut free = false;
			self.0.send_if_modified(|known| {
				free = known.open.range(..=number).next().is_none();
				if free {
					known.shown = known.shown.max(number);
				}
				false
			});
			// It holds a sender itself.
			if free || known.changed().await.is_err() {
				return;
			}
		}
	}
}

impl Drop for Open {
	fn drop(&mut self) {
		let number = self.number;
		self.numbers.0.send_modify(|known| {
			known.open.remove(&number);
		});
	}
}

/// What is behind these is whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
	mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
