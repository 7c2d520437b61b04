//! Verdicts of checkers, as evidence: who signed of a receipt what a jury finds false of its answer is judged with it.
//!
//! Whoever has a signed verdict may show it, once the receipt is opened or appealed against: the client that asked for it, or the executor
//! that was slandered. `pallet-inference` says of which answers what is heard, and when; here it is only seen who has signed. Showing it
//! is free, and paid by nobody.

use codec::Encode;
use consilience_primitives::session::{Signed, Verdict};
use pallet_inference::{AuditAnswers, Unheard};
use polkadot_sdk::{frame_support::pallet_prelude::*, frame_system, sp_runtime::traits::Get};

use crate::{features::refusal, Config, Error, Event, Pallet};

/// A verdict as it comes in.
pub(crate) type VerdictOf<T> = Signed<Verdict<<T as frame_system::Config>::AccountId>>;

impl<T: Config> From<Unheard> for Error<T> {
	fn from(why: Unheard) -> Self {
		match why {
			Unheard::UnknownAnswer => Self::UnknownAnswer,
			Unheard::OwnAnswer => Self::OwnAnswer,
			Unheard::SaysNothing => Self::SaysNothing,
			Unheard::HeardBefore => Self::HeardBefore,
			Unheard::HeardEnough => Self::HeardEnough,
			Unheard::NothingToJudge => Self::NothingToJudge,
			Unheard::NoWeight => Self::NoWeight,
		}
	}
}

impl<T: Config> Pallet<T> {
	// The call's argument is one, which keeps the runtime's calls small.
	#[allow(clippy::borrowed_box)]
	pub(crate) fn authorize_testimony(
		_source: TransactionSource,
		verdict: &alloc::boxed::Box<VerdictOf<T>>,
	) -> TransactionValidityWithRefund {
		let Verdict {
			receipt,
			checker,
			session,
			evidence,
		} = &verdict.body;
		T::Audits::may_testify(receipt, checker, *session, &evidence.verdict)
			.map_err(|why| refusal(Error::<T>::from(why).into()))?;
		let genesis = Self::genesis();
		Self::ensure_signed_by(checker, *session, |key| verdict.verify(&genesis, key))
			.map_err(refusal)?;
		ValidTransaction::with_tag_prefix("SessionsTestimony")
			.priority(T::Priority::get())
			.and_provides((receipt, checker).encode())
			.longevity(T::Longevity::get())
			.propagate(true)
			.build()
			.map(|valid| (valid, Weight::zero()))
	}

	/// Has a checker's verdict judged that was let in.
	pub(crate) fn do_testify(verdict: VerdictOf<T>) -> DispatchResult {
		let Verdict {
			receipt,
			checker,
			session,
			evidence,
		} = verdict.body;
		T::Audits::testify(&receipt, &checker, session, &evidence.verdict)
			.map_err(Error::<T>::from)?;
		Self::deposit_event(Event::VerdictShown {
			receipt,
			checker,
			session,
		});
		Ok(())
	}
}
