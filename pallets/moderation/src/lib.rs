//! # Moderation
//!
//! Every account may have one public text, and a model judges it before it is stored.
//!
//! ## Overview
//!
//! An account proposes a text ([`Call::propose`]). The pallet asks the model of its [`Policy`] in the same call, at the account's
//! expense, and stores nothing yet. When the answer is Final, validators having measured it, the text is stored or refused as the
//! answer says. Every other end leaves the account's text as it was. Deposits are held for what stands in storage and come back with
//! whatever leaves it; an event says why.
//!
//! ```text
//! propose ─▶ Proposals ─Final: allowed──────────────▶ Notes ─clear, or answer overturned─▶ nothing
//!                      └Final: refused, or no answer─▶ nothing
//! ```
//!
//! ## Low level
//!
//! The pallet is the example of the guide for pallet developers, docs/pallet-developers/README.md, and meant to be used. It is not part of
//! the Consilience runtime, which stays small: what a chain lets people write is that chain's decision. What the guide shows stands
//! between `// docs:` lines, and a test compares.
//!
//! An answer is read in integers ([`types::Reading`]). Both maps have one entry an account at most, and each entry a deposit.

#![cfg_attr(not(feature = "std"), no_std)]
// The pallet macro makes items that carry no documentation of their own.
#![allow(missing_docs)]

extern crate alloc;

pub use pallet::*;
pub use types::*;
pub use weights::WeightInfo;

#[cfg(feature = "runtime-benchmarks")]
mod benchmarking;
#[cfg(test)]
mod mock;
#[cfg(test)]
mod tests;
pub mod types;
pub mod weights;

use alloc::vec::Vec;
use consilience_primitives::{request::Input, RequestId};
// docs: uses
use pallet_inference::{OnSettled, RequestInference, Settled};
// docs: end
use polkadot_sdk::{
	frame_support::{
		self,
		pallet_prelude::*,
		traits::{fungible::MutateHold, tokens::Precision, EnsureOrigin},
	},
	frame_system::{self, pallet_prelude::*},
	sp_runtime::traits::{Saturating, Zero},
};

/// Target of this pallet's log lines.
pub const LOG_TARGET: &str = "runtime::moderation";

#[frame_support::pallet]
pub mod pallet {
	use super::*;

	const STORAGE_VERSION: StorageVersion = StorageVersion::new(1);

	#[pallet::pallet]
	#[pallet::storage_version(STORAGE_VERSION)]
	pub struct Pallet<T>(_);

	/// # Requirements
	///
	/// The runtime names this pallet in `pallet_inference::Config::OnSettled`.
	#[pallet::config]
	pub trait Config: polkadot_sdk::frame_system::Config<RuntimeEvent: From<Event<Self>>> {
		/// Deposits.
		type Currency: MutateHold<Self::AccountId, Reason = Self::RuntimeHoldReason>;

		/// The runtime's reasons to hold money.
		type RuntimeHoldReason: From<HoldReason>;

		// docs: config
		/// The pallet that is asked: `pallet-inference`, and in tests a double of it.
		type Inference: RequestInference<Self::AccountId, Balance = BalanceOf<Self>>;
		// docs: end

		/// May change the [`Policy`].
		type PolicyOrigin: EnsureOrigin<Self::RuntimeOrigin>;

		/// Held for a text, however short.
		#[pallet::constant]
		type DepositBase: Get<BalanceOf<Self>>;

		/// Held for each of its bytes.
		#[pallet::constant]
		type DepositPerByte: Get<BalanceOf<Self>>;

		/// Most bytes of a text.
		#[pallet::constant]
		type MaxLength: Get<u32>;

		/// Weights of calls and of what is done when a question is settled.
		type WeightInfo: WeightInfo;
	}

	/// Why money is held.
	#[pallet::composite_enum]
	pub enum HoldReason {
		/// For a text that is stored, or to be judged.
		Deposit,
	}

	/// What is asked, of which model, and how its answer is read. Nothing can be proposed without one.
	#[pallet::storage]
	#[pallet::storage_prefix = "Policy"]
	pub type CurrentPolicy<T> = StorageValue<_, Policy, OptionQuery>;

	/// Texts that are being judged. Anybody can propose one: a cryptographic hasher.
	#[pallet::storage]
	pub type Proposals<T: Config> =
		StorageMap<_, Blake2_128Concat, T::AccountId, ProposalOf<T>, OptionQuery>;

	/// Texts that were allowed.
	#[pallet::storage]
	pub type Notes<T: Config> =
		StorageMap<_, Blake2_128Concat, T::AccountId, NoteOf<T>, OptionQuery>;

	#[pallet::event]
	#[pallet::generate_deposit(pub(crate) fn deposit_event)]
	pub enum Event<T: Config> {
		/// What is asked was changed; nothing can be proposed where there is no model.
		PolicyChanged { model: Option<ModelId> },
		/// A model was asked about a text.
		Proposed {
			who: T::AccountId,
			request: RequestId,
			deposit: BalanceOf<T>,
		},
		/// The text was allowed, and is the account's now. `released` was held for the one before.
		Stored {
			who: T::AccountId,
			request: RequestId,
			released: BalanceOf<T>,
		},
		/// The text was not allowed: the answer refuses it, or says neither. The account keeps what it had.
		Refused {
			who: T::AccountId,
			request: RequestId,
			verdict: Verdict,
			released: BalanceOf<T>,
		},
		/// There is no answer that counts. The account keeps what it had, and can propose the text again.
		NotJudged {
			who: T::AccountId,
			request: RequestId,
			reason: NotJudged,
			released: BalanceOf<T>,
		},
		/// The answer that had allowed the account's text was found false: the text is gone.
		Withdrawn {
			who: T::AccountId,
			request: RequestId,
			released: BalanceOf<T>,
		},
		/// The account removed its text.
		Cleared {
			who: T::AccountId,
			released: BalanceOf<T>,
		},
	}

	#[pallet::error]
	pub enum Error<T> {
		/// There is no policy: nothing can be proposed until one is set.
		NoPolicy,
		/// The policy can't work: its reading is of another kind of answer than its question asks for, a word to look for is empty or
		/// both are the same, the instructions are empty or no UTF-8, or a parameter of sampling is out of its range.
		BadPolicy,
		/// The text is empty, is no UTF-8, or has a control character other than a line feed.
		BadText,
		/// The account has a text that is being judged: wait for that, or take it back with `inference.cancel` while no executor is drawn.
		AlreadyProposed,
		/// The account has no text.
		NoNote,
	}

	#[pallet::hooks]
	impl<T: Config> Hooks<BlockNumberFor<T>> for Pallet<T> {
		fn integrity_test() {
			assert!(
				(1..=MAX_QUESTION).contains(&T::MaxLength::get()),
				"a text is to have room in a question"
			);
		}

		#[cfg(feature = "try-runtime")]
		fn try_state(
			_n: BlockNumberFor<T>,
		) -> Result<(), polkadot_sdk::sp_runtime::TryRuntimeError> {
			Self::do_try_state()
		}
	}

	#[pallet::call]
	impl<T: Config> Pallet<T> {
		// docs: propose
		/// Proposes a text, and has it judged. It takes the place of the account's present one when it is allowed.
		///
		/// - **Origin**: signed; the account pays for the answer, and a deposit for the text is held from it. - `fee_limit`: the most that
		///   the answer may cost ([`Pallet::get_quote`] says how much that is at least); it is held until the end, and what is not used
		///   is returned.
		/// - **Errors**: `NoPolicy`, `BadText`, `AlreadyProposed`, the currency's when the money is not there, and those of
		///   `inference.request`. **Emits** `Proposed`.
		#[pallet::call_index(0)]
		#[pallet::weight(
			T::WeightInfo::propose(text.len() as u32)
				.saturating_add(Pallet::<T>::asking_weight(text.len() as u32))
		)]
		pub fn propose(
			origin: OriginFor<T>,
			text: BoundedVec<u8, T::MaxLength>,
			fee_limit: BalanceOf<T>,
		) -> DispatchResult {
			let who = ensure_signed(origin)?;
			let (proposal, policy, input) = Self::prepare(&who, text)?;
			let request = T::Inference::request_inference(
				who.clone(),
				policy.model,
				input,
				policy.assurance,
				fee_limit,
				Zero::zero(),
			)?;
			Self::record(
				who,
				ProposalOf::<T> {
					request,
					..proposal
				},
			);
			Ok(())
		}
		// docs: end

		/// Removes the account's text. One that is being judged is not touched.
		///
		/// - **Origin**: signed. - **Errors**: `NoNote`. **Emits** `Cleared`.
		#[pallet::call_index(1)]
		#[pallet::weight(T::WeightInfo::clear())]
		pub fn clear(origin: OriginFor<T>) -> DispatchResult {
			let who = ensure_signed(origin)?;
			let note = Notes::<T>::take(&who).ok_or(Error::<T>::NoNote)?;
			let released = Self::release(&who, note.deposit);
			Self::deposit_event(Event::Cleared { who, released });
			Ok(())
		}

		/// Changes what is asked. Texts that are being judged are judged by what was asked about them.
		///
		/// - **Origin**: [`Config::PolicyOrigin`]. - `policy`: none, and nothing can be proposed. Whether the model is there and does the
		///   task is not looked at: models come and go, and proposals say so.
		/// - **Errors**: `BadPolicy`. **Emits** `PolicyChanged`.
		#[pallet::call_index(2)]
		#[pallet::weight(T::WeightInfo::set_policy())]
		pub fn set_policy(origin: OriginFor<T>, policy: Option<Policy>) -> DispatchResult {
			T::PolicyOrigin::ensure_origin(origin)?;
			ensure!(
				policy.as_ref().is_none_or(Policy::is_valid),
				Error::<T>::BadPolicy
			);
			let model = policy.as_ref().map(|p| p.model);
			CurrentPolicy::<T>::set(policy);
			Self::deposit_event(Event::PolicyChanged { model });
			Ok(())
		}
	}

	#[pallet::view_functions]
	impl<T: Config> Pallet<T> {
		/// The amounts held for a text: the least fee limit, and the deposit. Or why it would not be taken.
		pub fn get_quote(text: Vec<u8>) -> Result<Quote<BalanceOf<T>>, Unquoted> {
			Self::quote(text)
		}
	}
}

impl<T: Config> Pallet<T> {
	/// What is held for a text of so many bytes.
	pub fn deposit_for(bytes: u32) -> BalanceOf<T> {
		T::DepositPerByte::get()
			.saturating_mul(bytes.into())
			.saturating_add(T::DepositBase::get())
	}

	// docs: asking_weight
	/// Most that asking about a text of so many bytes weighs: what `pallet-inference` says of an input of that length.
	pub fn asking_weight(bytes: u32) -> Weight {
		T::Inference::request_inference_weight(bytes.saturating_add(Question::overhead()))
	}
	// docs: end

	// docs: quote
	/// The amounts held for a text: the least fee limit, and the deposit.
	pub fn quote(text: Vec<u8>) -> Result<Quote<BalanceOf<T>>, Unquoted> {
		let text = BoundedVec::<_, T::MaxLength>::try_from(text).map_err(|_| Unquoted::TooLong)?;
		let policy = CurrentPolicy::<T>::get().ok_or(Unquoted::NoPolicy)?;
		let input = Self::question(&policy, &text).ok_or(Unquoted::BadText)?;
		let fee_limit = T::Inference::quote_inference(policy.model, input, policy.assurance)
			.map_err(Unquoted::Inference)?;
		Ok(Quote {
			fee_limit,
			deposit: Self::deposit_for(text.len() as u32),
		})
	}
	// docs: end

	/// What is asked about a text; nothing, if it may not be stored whatever the model says.
	fn question(policy: &Policy, text: &[u8]) -> Option<Input> {
		let shown = core::str::from_utf8(text).ok()?;
		if shown.is_empty() || shown.chars().any(|c| c.is_control() && c != '\n') {
			return None;
		}
		policy.question.input(text)
	}

	/// All of [`Call::propose`] that comes before the question. The proposal has no number yet.
	pub(crate) fn prepare(
		who: &T::AccountId,
		text: BoundedVec<u8, T::MaxLength>,
	) -> Result<(ProposalOf<T>, Policy, Input), DispatchError> {
		let policy = CurrentPolicy::<T>::get().ok_or(Error::<T>::NoPolicy)?;
		ensure!(
			!Proposals::<T>::contains_key(who),
			Error::<T>::AlreadyProposed
		);
		let input = Self::question(&policy, &text).ok_or(Error::<T>::BadText)?;
		let deposit = Self::deposit_for(text.len() as u32);
		T::Currency::hold(&HoldReason::Deposit.into(), who, deposit)?;
		let proposal = Proposal {
			request: RequestId::MAX,
			text,
			deposit,
			reading: policy.reading.clone(),
		};
		Ok((proposal, policy, input))
	}

	/// All that comes after it.
	pub(crate) fn record(who: T::AccountId, proposal: ProposalOf<T>) {
		let (request, deposit) = (proposal.request, proposal.deposit);
		Proposals::<T>::insert(&who, proposal);
		Self::deposit_event(Event::Proposed {
			who,
			request,
			deposit,
		});
	}

	/// An answer is final.
	pub(crate) fn judged(who: &T::AccountId, proposal: ProposalOf<T>, verdict: Verdict) {
		let (who, request) = (who.clone(), proposal.request);
		if verdict == Verdict::Allowed {
			let note = Note {
				text: proposal.text,
				deposit: proposal.deposit,
				request,
				since: frame_system::Pallet::<T>::block_number(),
			};
			let before = Notes::<T>::get(&who);
			Notes::<T>::insert(&who, note);
			let released = before.map_or(Zero::zero(), |note| Self::release(&who, note.deposit));
			Self::deposit_event(Event::Stored {
				who,
				request,
				released,
			});
		} else {
			let released = Self::release(&who, proposal.deposit);
			Self::deposit_event(Event::Refused {
				who,
				request,
				verdict,
				released,
			});
		}
	}

	/// There is none.
	fn not_judged(who: &T::AccountId, proposal: ProposalOf<T>, reason: NotJudged) {
		let released = Self::release(who, proposal.deposit);
		Self::deposit_event(Event::NotJudged {
			who: who.clone(),
			request: proposal.request,
			reason,
			released,
		});
	}

	/// An answer that was final is false: what it had allowed is gone.
	pub(crate) fn withdraw(request: RequestId, who: &T::AccountId) {
		let Some(note) = Notes::<T>::get(who).filter(|note| note.request == request) else {
			// It had refused the text, or the account has another one by now.
			return;
		};
		Notes::<T>::remove(who);
		let released = Self::release(who, note.deposit);
		Self::deposit_event(Event::Withdrawn {
			who: who.clone(),
			request,
			released,
		});
	}

	/// Returns what came back.
	fn release(who: &T::AccountId, amount: BalanceOf<T>) -> BalanceOf<T> {
		let reason = HoldReason::Deposit.into();
		T::Currency::release(&reason, who, amount, Precision::BestEffort).unwrap_or_else(|e| {
			log::error!(target: LOG_TARGET, "deposit of {who:?} not returned: {e:?}");
			Zero::zero()
		})
	}

	/// Whether texts and deposits are what they should be.
	#[cfg(any(feature = "try-runtime", test))]
	pub fn do_try_state() -> Result<(), polkadot_sdk::sp_runtime::TryRuntimeError> {
		use alloc::collections::{BTreeMap, BTreeSet};
		use polkadot_sdk::frame_support::traits::fungible::InspectHold;

		let mut held = BTreeMap::<T::AccountId, BalanceOf<T>>::new();
		let mut requests = BTreeSet::new();
		for (who, proposal) in Proposals::<T>::iter() {
			ensure!(
				requests.insert(proposal.request),
				"two texts wait for one answer"
			);
			held.entry(who)
				.or_default()
				.saturating_accrue(proposal.deposit);
		}
		for (who, note) in Notes::<T>::iter() {
			ensure!(
				requests.insert(note.request),
				"one answer is about two texts"
			);
			held.entry(who).or_default().saturating_accrue(note.deposit);
		}
		for (who, deposits) in held {
			ensure!(
				T::Currency::balance_on_hold(&HoldReason::Deposit.into(), &who) == deposits,
				"what is held is not the deposits"
			);
		}
		ensure!(
			CurrentPolicy::<T>::get().is_none_or(|p| p.is_valid()),
			"the policy is no valid one"
		);
		Ok(())
	}
}

// docs: settled
impl<T: Config> OnSettled<T::AccountId> for Pallet<T> {
	fn on_settled(request: RequestId, who: &T::AccountId, settled: &Settled) -> DispatchResult {
		let proposal = Proposals::<T>::get(who).filter(|p| p.request == request);
		let Some(proposal) = proposal else {
			// Other pallets' requests are told here, too. Of ours that were told before, only this matters.
			if *settled == Settled::Overturned {
				Self::withdraw(request, who);
			}
			return Ok(());
		};
		Proposals::<T>::remove(who);
		match settled {
			Settled::Final(answer) => {
				let verdict = proposal.reading.verdict(answer.get());
				Self::judged(who, proposal, verdict);
			}
			Settled::Unanswerable(code) => {
				Self::not_judged(who, proposal, NotJudged::Unanswerable(*code));
			}
			Settled::Refunded(state) => {
				Self::not_judged(who, proposal, NotJudged::Refunded(*state));
			}
			Settled::Overturned => Self::not_judged(who, proposal, NotJudged::Overturned),
			// Only of answers that were given elsewhere.
			Settled::Stands => Proposals::<T>::insert(who, proposal),
		}
		Ok(())
	}

	fn on_settled_weight() -> Weight {
		T::WeightInfo::judged().max(T::WeightInfo::withdraw())
	}
}
// docs: end
