//! Validators that lie, to test that nobody gains by it. Only with the feature `liars`, which no shipped binary has.
//!
//! A liar is an honest worker between two liars: [`LyingRunner`] stands in the engine's place and falsifies what was computed,
//! [`LyingChain`] stands in the chain's and hides what is due or changes what is said. Journal, queue and reports are those of
//! everybody else, so that a lie is tested against what validators really run.

mod chain;
mod lane;
mod runner;
#[cfg(test)]
mod tests;

use std::{
	collections::HashSet,
	sync::{Arc, Mutex},
};

use consilience_primitives::{
	evidence::Fingerprint,
	model::{NumericClass, VerificationPolicy},
	view::RequestView,
	List, ModelId, RequestId,
};
use polkadot_sdk::sp_core::H256;
use tokio::sync::mpsc;

use crate::{
	chain::{AccountId, Balance, BlockNumber, Chain},
	follow::Command,
	runner::{Library, Runner},
	LOG_TARGET,
};
pub use chain::LyingChain;
use chain::Shop;
pub use lane::{corrupt_lane, LyingLane};
pub use runner::LyingRunner;

/// A way to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
	/// As executor: answers another question, and claims that the answer is right.
	WrongAnswer,
	/// Answers and measures with a cheaper model.
	CheapModel,
	/// Answers with a cheaper model, and measures that with the true one to have its evidence.
	PrefillAttack,
	/// Invents evidence and runs nothing.
	LazyVerifier,
	/// Copies another member's commitment, and its evidence once it is shown.
	Copycat,
	/// As executor: says nothing.
	SilentExecutor,
	/// As verifier: says nothing.
	SilentVerifier,
	/// Ends the node once its answer is on chain.
	CrashAfterAnswer,
	/// Commits and never reveals.
	WithholdReveal,
	/// As executor: gives an answer that it gave before.
	Replay,
	/// Answers wrongly, and vouches for every answer: two of them vouch for each other.
	Collude,
	/// Answers wrongly, and looks who checks that: where a stranger does, its committee hears nothing more of it. It vouches for its
	/// accomplices.
	SilentWhenWatched,
	/// Answers wrongly. As verifier of an accomplice's answer it commits to vouch for it, waits for what strangers show, and shows
	/// nothing where one of them calls the answer wrong.
	WithholdForFriend,
	/// Answers wrongly, and leaves its own slot empty where its block would draw strangers to check that.
	BlockHolder,
	/// Answers wrongly and serves nothing any more.
	Leaver,
	/// Is honest, and serves its models only while some request waits for a draw.
	JustInTime,
	/// As executor: claims that nobody can answer.
	Poisoner,
	/// In the session lane: takes what pays a question's beginning, tells the client that its engine failed, and claims an answer that
	/// nobody ran.
	Unserved,
	/// In the session lane: answers, claims, and opens no receipt that is drawn.
	WithholdOpening,
	/// In the session lane: signs for more tokens than it has sent.
	WrongUnits,
	/// In the session lane: once a claim is taken, claims with its voucher again, of another channel, for another payee, and as a check's.
	ReuseVoucher,
	/// In the session lane: looks who is drawn to check an answer, and signs that it is right without measuring where it is the first.
	Unmeasured,
}

impl Lie {
	/// All of them.
	pub const ALL: [Self; 22] = [
		Self::WrongAnswer,
		Self::CheapModel,
		Self::PrefillAttack,
		Self::LazyVerifier,
		Self::Copycat,
		Self::SilentExecutor,
		Self::SilentVerifier,
		Self::CrashAfterAnswer,
		Self::WithholdReveal,
		Self::Replay,
		Self::Collude,
		Self::SilentWhenWatched,
		Self::WithholdForFriend,
		Self::BlockHolder,
		Self::Leaver,
		Self::JustInTime,
		Self::Poisoner,
		Self::Unserved,
		Self::WithholdOpening,
		Self::WrongUnits,
		Self::ReuseVoucher,
		Self::Unmeasured,
	];

	/// Its name on the command line.
	pub const fn name(self) -> &'static str {
		match self {
			Self::WrongAnswer => "wrong-answer",
			Self::CheapModel => "cheap-model",
			Self::PrefillAttack => "prefill-attack",
			Self::LazyVerifier => "lazy-verifier",
			Self::Copycat => "copycat",
			Self::SilentExecutor => "silent-executor",
			Self::SilentVerifier => "silent-verifier",
			Self::CrashAfterAnswer => "crash-after-answer",
			Self::WithholdReveal => "withhold-reveal",
			Self::Replay => "replay",
			Self::Collude => "collude",
			Self::SilentWhenWatched => "silent-when-watched",
			Self::WithholdForFriend => "withhold-for-friend",
			Self::BlockHolder => "block-holder",
			Self::Leaver => "leaver",
			Self::JustInTime => "just-in-time",
			Self::Poisoner => "poisoner",
			Self::Unserved => "unserved-receipt",
			Self::WithholdOpening => "withhold-opening",
			Self::WrongUnits => "wrong-units",
			Self::ReuseVoucher => "reuse-voucher",
			Self::Unmeasured => "unmeasured-check",
		}
	}

	/// Whether it needs a cheaper model.
	pub const fn needs_model(self) -> bool {
		matches!(self, Self::CheapModel | Self::PrefillAttack)
	}

	/// Whether it looks whose answer it measures, and vouches for its own and its accomplices'.
	const fn looks(self) -> bool {
		matches!(
			self,
			Self::SilentWhenWatched | Self::WithholdForFriend | Self::BlockHolder | Self::Leaver
		)
	}
}

impl std::fmt::Display for Lie {
	fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
		f.write_str(self.name())
	}
}

impl std::str::FromStr for Lie {
	type Err = String;

	fn from_str(text: &str) -> Result<Self, String> {
		let found = Self::ALL.into_iter().find(|lie| lie.name() == text);
		found.ok_or_else(|| {
			let names = Self::ALL.map(Self::name);
			format!("{text:?} is no lie; there are {}", names.join(", "))
		})
	}
}

/// Reads a value of the chain's storage at a block, as any node can.
pub type Storage = Arc<dyn Fn(H256, &[u8]) -> Option<Vec<u8>> + Send + Sync>;

/// Reads a request at a block, as any client can.
pub type Requests = Arc<
	dyn Fn(H256, RequestId) -> Option<RequestView<AccountId, BlockNumber, Balance>> + Send + Sync,
>;

/// A liar.
#[derive(Clone)]
pub struct Liar {
	/// How it lies; not at all where there is none.
	pub lie: Option<Lie>,
	/// The cheaper model.
	pub model: Option<ModelId>,
	/// Whom it works with.
	pub accomplices: Vec<AccountId>,
	/// Where it sees what others said.
	pub storage: Storage,
	/// Where it sees what became of requests.
	pub requests: Requests,
	/// Ends the node.
	pub crash: Arc<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for Liar {
	fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
		f.debug_struct("Liar")
			.field("lie", &self.lie)
			.field("model", &self.model)
			.field("accomplices", &self.accomplices)
			.finish_non_exhaustive()
	}
}

impl Liar {
	/// Whether somebody is neither itself nor an accomplice.
	fn is_stranger(&self, own: &AccountId, who: &AccountId) -> bool {
		who != own && !self.accomplices.contains(who)
	}

	/// Whether it writes no block on this one, because that would draw these for these requests: strangers, for its own answer.
	pub fn holds_back(
		&self,
		own: &AccountId,
		parent: H256,
		drawn: &[(RequestId, Vec<AccountId>)],
	) -> bool {
		if self.lie != Some(Lie::BlockHolder) {
			return false;
		}
		drawn.iter().any(|(request, who)| {
			let answered = (self.requests)(parent, *request).and_then(|r| r.executor);
			answered.as_ref() == Some(own) && who.iter().any(|w| self.is_stranger(own, w))
		})
	}
}

/// Seeds of the requests for whose answers a liar vouches: an engine does not know whose answer it measures.
type Vouched = Arc<Mutex<HashSet<H256>>>;

/// Puts a liar around a chain and an engine. Through `orders` it has its models served or not, as an operator does.
pub(crate) fn corrupt<C, R, L>(
	liar: Liar,
	chain: Arc<C>,
	runner: Arc<R>,
	library: Arc<L>,
	orders: mpsc::Sender<Command>,
) -> (Arc<LyingChain<C>>, Arc<LyingRunner<R, L>>)
where
	C: Chain,
	R: Runner,
	L: Library,
{
	match liar.lie {
		Some(lie) => tracing::error!(
			target: LOG_TARGET,
			"THIS VALIDATOR LIES ({lie}). It loses its stake wherever that is worth anything"
		),
		None => tracing::warn!(
			target: LOG_TARGET,
			"this program can lie, and is for tests: build it without the feature `liars`"
		),
	}
	let vouched = Vouched::default();
	let models = library.clone();
	let shop = Shop::new(orders, move || models.list());
	(
		Arc::new(LyingChain::new(liar.clone(), chain, vouched.clone(), shop)),
		Arc::new(LyingRunner::new(liar, runner, library, vouched)),
	)
}

/// A fingerprint of a computation that did not happen.
fn made_up(policy: &VerificationPolicy, challenge: H256) -> Fingerprint {
	let mut digest = [0; 16];
	digest.copy_from_slice(&challenge.as_bytes()[..16]);
	match policy.class {
		NumericClass::Exact => Fingerprint::Digest(digest),
		NumericClass::Tolerant => Fingerprint::Values {
			tag: 0,
			values: List::truncate_from(vec![
				0;
				usize::from(policy.positions)
					* usize::from(policy.entries.max(1))
			]),
		},
	}
}
