//! Reports: which are let in, and what their statements do.

use alloc::{collections::BTreeSet, vec::Vec};
use codec::Encode;
use consilience_primitives::{
	crypto::InferenceSignature,
	report::{Report, Statement},
	request::Output,
	ModelId, RequestId,
};
use polkadot_sdk::{
	frame_support::{pallet_prelude::*, storage::with_storage_layer, traits::DisabledValidators},
	frame_system::{self, pallet_prelude::BlockNumberFor},
	sp_application_crypto::RuntimeAppPublic,
	sp_core::H256,
	sp_runtime::traits::{Saturating, Zero},
};

use crate::{Config, Error, Event, Keys, LastReport, Pallet, Session, WeightInfo};

/// The validator index is not in the session.
pub const UNKNOWN_VALIDATOR: u8 = 1;
/// The report says nothing, or one thing twice.
pub const BAD_STATEMENTS: u8 = 2;
/// A statement is not due from this validator.
pub const NOT_DUE: u8 = 3;

/// What a statement brought to its end, which weighs more than the statement itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
	/// Nothing.
	Open,
	/// A committee's evidence was compared: the request was settled, or a jury called.
	Compared {
		/// Members of the committee.
		members: u32,
		/// Bytes of the output.
		output: u32,
	},
	/// A jury's evidence was compared, and the dispute ended.
	Judged {
		/// Members of the jury.
		jurors: u32,
		/// Bytes of the output.
		output: u32,
	},
}

impl Outcome {
	fn weight<W: WeightInfo>(self) -> Weight {
		match self {
			Self::Open => Weight::zero(),
			Self::Compared { members, output } => {
				W::settle(members).saturating_add(W::read_output(output))
			}
			Self::Judged { jurors, output } => {
				W::judge(jurors).saturating_add(W::read_output(output))
			}
		}
	}

	/// The most that one statement can bring about.
	fn heaviest<T: Config>() -> Weight {
		let output = Output::max_encoded_len() as u32;
		let compared = Self::Compared {
			members: u32::from(T::MaxVerifiers::get()).saturating_add(1),
			output,
		};
		let judged = Self::Judged {
			jurors: T::MaxJurors::get(),
			output,
		};
		let of = |outcome: Self| outcome.weight::<<T as Config>::WeightInfo>();
		of(compared).max(of(judged))
	}
}

/// What a statement is about: a report may say one thing once.
fn subject(statement: &Statement) -> (u8, ModelId, RequestId) {
	let none = ModelId::zero();
	match statement {
		Statement::Serve { model, .. } | Statement::Withdraw { model } => (0, *model, 0),
		Statement::Answer { request, .. } => (1, none, *request),
		Statement::CommitOutput { request, .. } => (2, none, *request),
		Statement::Commit { request, .. } => (3, none, *request),
		Statement::Reveal { request, .. } => (4, none, *request),
		Statement::RevealOutput { request, .. } => (5, none, *request),
	}
}

impl<T: Config> Pallet<T> {
	/// Lets a report in: cheap checks first, then whether every statement is due, the signature last.
	pub(crate) fn authorize_report(
		_source: TransactionSource,
		report: &Report<BlockNumberFor<T>>,
		signature: &InferenceSignature,
	) -> TransactionValidityWithRefund {
		let now = frame_system::Pallet::<T>::block_number();
		let stale = report.session != Session::<T>::get()
			|| report.at >= now
			|| now.saturating_sub(report.at) > T::ReportLongevity::get();
		if stale {
			return Err(InvalidTransaction::Stale.into());
		}
		let keys = Keys::<T>::get();
		let Some((validator, key)) = keys.get(report.validator as usize) else {
			return Err(InvalidTransaction::Custom(UNKNOWN_VALIDATOR).into());
		};
		if LastReport::<T>::get(validator).is_some_and(|last| last >= report.at) {
			return Err(InvalidTransaction::Stale.into());
		}
		let subjects: BTreeSet<_> = report.statements.iter().map(subject).collect();
		if subjects.is_empty() || subjects.len() != report.statements.len() {
			return Err(InvalidTransaction::Custom(BAD_STATEMENTS).into());
		}
		if report
			.statements
			.iter()
			.any(|s| Self::check_statement(validator, s).is_err())
		{
			return Err(InvalidTransaction::Custom(NOT_DUE).into());
		}
		if !key.verify(&Self::payload(report), signature) {
			return Err(InvalidTransaction::BadProof.into());
		}
		ValidTransaction::with_tag_prefix("Inference")
			.priority(T::ReportPriority::get())
			.and_provides((validator, report.at).encode())
			.longevity(
				T::ReportLongevity::get()
					.try_into()
					.ok()
					.unwrap_or(u64::from(u8::MAX)),
			)
			.propagate(true)
			.build()
			.map(|valid| (valid, Weight::zero()))
	}

	/// Whether a statement is due from this validator. Changes nothing.
	pub fn check_statement(validator: &T::AccountId, statement: &Statement) -> DispatchResult {
		match statement {
			Statement::Serve { model, evidence } => {
				ensure!(
					!Self::is_disabled(validator) && !Self::is_barred(validator, *model),
					Error::<T>::NotDue
				);
				ensure!(!Self::is_suspended(validator), Error::<T>::Suspended);
				pallet_model_registry::Pallet::<T>::can_serve(validator, *model, evidence)
			}
			Statement::Withdraw { model } => {
				let serves = pallet_model_registry::ServedBy::<T>::get(validator).contains(model);
				ensure!(serves, Error::<T>::NotDue);
				Ok(())
			}
			Statement::Answer { request, output } => {
				Self::check_answer(validator, *request, output)
			}
			Statement::CommitOutput { request, .. } => {
				Self::check_commit_output(validator, *request)
			}
			Statement::Commit { request, .. } => Self::check_commit(validator, *request),
			Statement::Reveal {
				request,
				evidence,
				salt,
			} => Self::check_reveal(validator, *request, evidence, salt).map(|_| ()),
			Statement::RevealOutput {
				request,
				output,
				salt,
			} => Self::check_reveal_output(validator, *request, output, salt),
		}
	}

	/// Whether the validator may not take part for the rest of the session, because of what it did.
	fn is_disabled(validator: &T::AccountId) -> bool {
		Keys::<T>::get()
			.iter()
			.position(|(v, _)| v == validator)
			.is_some_and(|index| T::DisabledValidators::is_disabled(index as u32))
	}

	/// What the validator signs of its report. `frame-system` keeps the hash of the genesis block for ever.
	pub(crate) fn payload(report: &Report<BlockNumberFor<T>>) -> Vec<u8> {
		let hash = |at| H256(frame_system::Pallet::<T>::block_hash(at).into());
		report.payload(&hash(Zero::zero()), &hash(report.at))
	}

	/// What a statement weighs, settling not counted.
	fn statement_weight(statement: &Statement) -> Weight {
		match statement {
			Statement::Serve { .. } => <T as Config>::WeightInfo::serve(),
			Statement::Withdraw { .. } => <T as Config>::WeightInfo::withdraw(),
			Statement::Answer { .. } | Statement::CommitOutput { .. } => {
				<T as Config>::WeightInfo::answer()
			}
			Statement::Commit { .. } => <T as Config>::WeightInfo::commit(),
			Statement::Reveal { .. } | Statement::RevealOutput { .. } => {
				<T as Config>::WeightInfo::reveal()
			}
		}
	}

	/// Most that a report weighs: each reveal could be the last of the largest round.
	pub fn report_weight(report: &Report<BlockNumberFor<T>>) -> Weight {
		let settle = Outcome::heaviest::<T>();
		let base = <T as Config>::WeightInfo::report(report.encoded_size() as u32);
		report.statements.iter().fold(base, |sum, statement| {
			let settles = matches!(
				statement,
				Statement::Reveal { .. } | Statement::RevealOutput { .. }
			);
			sum.saturating_add(Self::statement_weight(statement))
				.saturating_add(if settles { settle } else { Weight::zero() })
		})
	}

	/// What letting a report in weighs.
	pub fn authorize_weight(report: &Report<BlockNumberFor<T>>) -> Weight {
		let statements = report.statements.len() as u64;
		<T as Config>::WeightInfo::authorize_report(report.encoded_size() as u32)
			.saturating_add(<T as Config>::WeightInfo::check().saturating_mul(statements))
	}

	/// Does what a statement says. Gives what came to its end with it.
	fn apply_statement(
		validator: &T::AccountId,
		statement: Statement,
	) -> Result<Outcome, DispatchError> {
		match statement {
			Statement::Serve { model, evidence } => {
				pallet_model_registry::Pallet::<T>::serve(validator, model, &evidence)?
			}
			Statement::Withdraw { model } => {
				pallet_model_registry::Pallet::<T>::withdraw(validator, model)?
			}
			Statement::Answer { request, output } => Self::answer(validator, request, output)?,
			Statement::CommitOutput {
				request,
				commitment,
			} => Self::commit_output(validator, request, commitment)?,
			Statement::Commit {
				request,
				commitment,
			} => Self::commit_evidence(validator, request, commitment)?,
			Statement::Reveal {
				request,
				evidence,
				salt,
			} => return Self::reveal_evidence(validator, request, evidence, salt),
			Statement::RevealOutput {
				request,
				output,
				salt,
			} => return Self::reveal_output(validator, request, output, salt),
		}
		Ok(Outcome::Open)
	}

	/// Executes a report that was let in. A statement that is not due any more is skipped, and changes nothing.
	pub(crate) fn do_report(report: Report<BlockNumberFor<T>>) -> DispatchResultWithPostInfo {
		let mut weight = <T as Config>::WeightInfo::report(report.encoded_size() as u32);
		let keys = Keys::<T>::get();
		let (validator, _) = keys
			.get(report.validator as usize)
			.ok_or(Error::<T>::NotDue)?;
		LastReport::<T>::insert(validator, report.at);
		for (index, statement) in report.statements.into_iter().enumerate() {
			weight.saturating_accrue(Self::statement_weight(&statement));
			match with_storage_layer(|| Self::apply_statement(validator, statement)) {
				Ok(outcome) => {
					weight.saturating_accrue(outcome.weight::<<T as Config>::WeightInfo>());
				}
				Err(reason) => Self::deposit_event(Event::StatementSkipped {
					validator: validator.clone(),
					index: index as u32,
					reason,
				}),
			}
		}
		Ok(Some(weight).into())
	}
}
