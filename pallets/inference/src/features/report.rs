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

use crate::{
	features::compare::Body, Config, Error, Event, Indices, KeyAt, LastReport, Pallet, Session,
	WeightInfo,
};

/// The validator index is not in the session.
pub const UNKNOWN_VALIDATOR: u8 = 1;
/// The report says nothing, or one thing twice.
pub const BAD_STATEMENTS: u8 = 2;
/// A statement is not due from this validator.
pub const NOT_DUE: u8 = 3;

/// Bytes of the longest output of which every reveal in a report may settle one.
const ORDINARY_OUTPUT: u32 = 4_096;

/// An output that was read when evidence was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadOutput {
	/// Its length in bytes.
	bytes: u32,
	/// Whether it is evidence itself: what was measured is computed from it.
	is_evidence: bool,
}

impl ReadOutput {
	pub(crate) fn of(output: &Output) -> Self {
		Self {
			bytes: output.encoded_size() as u32,
			is_evidence: matches!(output, Output::Tensors(_)),
		}
	}

	fn weight<W: WeightInfo>(self) -> Weight {
		let whole = W::read_output(self.bytes);
		if self.is_evidence {
			return whole;
		}
		// That it is read is counted with the comparison.
		whole.saturating_sub(W::read_output(0))
	}
}

/// What a statement brought to its end, which weighs more than the statement itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
	/// Nothing.
	Open,
	/// A committee's evidence was compared: the request was settled, or a jury called.
	Compared {
		/// Members of the committee.
		members: u32,
		/// The output.
		output: ReadOutput,
	},
	/// A jury's evidence was compared, and the dispute ended.
	Judged {
		/// Members of the jury.
		jurors: u32,
		/// The output.
		output: ReadOutput,
	},
}

impl Outcome {
	fn weight<W: WeightInfo>(self) -> Weight {
		match self {
			Self::Open => Weight::zero(),
			Self::Compared { members, output } => {
				W::settle(members).saturating_add(output.weight::<W>())
			}
			Self::Judged { jurors, output } => {
				W::judge(jurors).saturating_add(output.weight::<W>())
			}
		}
	}

	/// What most evidence brings about at most: a committee of three agrees on a short output.
	fn ordinary<T: Config>() -> Weight {
		let compared = Self::Compared {
			members: 3,
			output: ReadOutput {
				bytes: ORDINARY_OUTPUT,
				is_evidence: true,
			},
		};
		compared.weight::<<T as Config>::WeightInfo>()
	}

	/// The most that one statement can bring about.
	fn heaviest<T: Config>() -> Weight {
		let output = ReadOutput {
			bytes: Output::max_encoded_len() as u32,
			is_evidence: true,
		};
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

/// What it took to see that a statement is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checked {
	/// Its request and its model.
	Answer,
	/// The round, too.
	Measurement(Body),
	/// As much as anything can.
	Other,
}

impl Checked {
	fn weight<W: WeightInfo>(self) -> Weight {
		match self {
			Self::Answer => W::check_answer(),
			Self::Measurement(Body::Committee(members)) => W::check_member(members),
			Self::Measurement(Body::Jury) | Self::Other => W::check(),
		}
	}
}

/// A statement that did what it says.
struct Applied {
	/// What it weighs, without what it brought to its end.
	weight: Weight,
	/// What it brought to its end.
	outcome: Outcome,
}

impl Applied {
	fn commit<W: WeightInfo>(body: Body) -> Self {
		let weight = match body {
			Body::Committee(members) => W::commit(members),
			Body::Jury => W::commit_juror(),
		};
		Self {
			weight,
			outcome: Outcome::Open,
		}
	}

	fn reveal<W: WeightInfo>(body: Body, outcome: Outcome) -> Self {
		let weight = match (body, outcome) {
			(Body::Committee(members), Outcome::Open) => W::reveal(members),
			(Body::Jury, Outcome::Open) => W::reveal_juror(),
			// What ends with it is weighed together with it.
			(_, Outcome::Compared { .. } | Outcome::Judged { .. }) => Weight::zero(),
		};
		Self { weight, outcome }
	}
}

/// What a statement is about: a report may say one thing once.
fn subject(statement: &Statement) -> (u8, ModelId, RequestId) {
	let none = ModelId::zero();
	match statement {
		Statement::Serve { model, .. }
		| Statement::Withdraw { model }
		| Statement::Differ { model, .. } => (0, *model, 0),
		Statement::Answer { request, .. } => (1, none, *request),
		Statement::CommitOutput { request, .. } => (2, none, *request),
		Statement::Commit { request, .. } => (3, none, *request),
		// Of a committee that is late, and of the jury over it.
		Statement::Reveal {
			request, evidence, ..
		} if evidence.prior.is_none() => (4, none, *request),
		Statement::Reveal { request, .. } => (6, none, *request),
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
		let Some((validator, key)) = KeyAt::<T>::get(report.validator) else {
			return Err(InvalidTransaction::Custom(UNKNOWN_VALIDATOR).into());
		};
		let validator = &validator;
		if LastReport::<T>::get(validator).is_some_and(|last| last >= report.at) {
			return Err(InvalidTransaction::Stale.into());
		}
		let subjects: BTreeSet<_> = report.statements.iter().map(subject).collect();
		if subjects.is_empty() || subjects.len() != report.statements.len() {
			return Err(InvalidTransaction::Custom(BAD_STATEMENTS).into());
		}
		let mut unspent = Weight::zero();
		for statement in &report.statements {
			let checked =
				Self::due(validator, statement).map_err(|_| InvalidTransaction::Custom(NOT_DUE))?;
			let took = checked.weight::<<T as Config>::WeightInfo>();
			let most = <T as Config>::WeightInfo::check();
			unspent.saturating_accrue(most.saturating_sub(took));
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
			.map(|valid| (valid, unspent))
	}

	/// Whether a statement is due from this validator. Changes nothing.
	pub fn check_statement(validator: &T::AccountId, statement: &Statement) -> DispatchResult {
		Self::due(validator, statement).map(|_| ())
	}

	/// The same. Returns what that took.
	fn due(validator: &T::AccountId, statement: &Statement) -> Result<Checked, DispatchError> {
		match statement {
			Statement::Serve {
				model,
				evidence,
				speed,
			} => {
				ensure!(
					!Self::is_disabled(validator) && !Self::is_barred(validator, *model),
					Error::<T>::NotDue
				);
				ensure!(!Self::is_suspended(validator), Error::<T>::Suspended);
				pallet_model_registry::Pallet::<T>::can_serve(validator, *model, evidence, *speed)?
			}
			Statement::Withdraw { model } => {
				let serves = pallet_model_registry::ServedBy::<T>::get(validator).contains(model);
				ensure!(serves, Error::<T>::NotDue);
			}
			Statement::Differ { model, evidence } => {
				pallet_model_registry::Pallet::<T>::can_differ(validator, *model, evidence)?
			}
			Statement::Answer { request, output } => {
				Self::check_answer(validator, *request, output)?;
				return Ok(Checked::Answer);
			}
			Statement::CommitOutput { request, .. } => {
				Self::check_commit_output(validator, *request)?;
				return Ok(Checked::Answer);
			}
			Statement::Commit { request, .. } => {
				let body = Self::check_commit(validator, *request)?;
				return Ok(Checked::Measurement(body));
			}
			Statement::Reveal {
				request,
				evidence,
				salt,
			} => {
				let body = Self::check_reveal(validator, *request, evidence, salt)?;
				return Ok(Checked::Measurement(body));
			}
			Statement::RevealOutput {
				request,
				output,
				salt,
			} => Self::check_reveal_output(validator, *request, output, salt)?,
		}
		Ok(Checked::Other)
	}

	/// Whether the validator may not take part for the rest of the session, because of what it did.
	fn is_disabled(validator: &T::AccountId) -> bool {
		Indices::<T>::get(validator).is_some_and(T::DisabledValidators::is_disabled)
	}

	/// What the validator signs of its report. `frame-system` keeps the hash of the genesis block for ever.
	pub(crate) fn payload(report: &Report<BlockNumberFor<T>>) -> Vec<u8> {
		let hash = |at| H256(frame_system::Pallet::<T>::block_hash(at).into());
		report.payload(&hash(Zero::zero()), &hash(report.at))
	}

	/// Most that a statement weighs, settling not counted.
	fn statement_weight(statement: &Statement) -> Weight {
		match statement {
			// To differ reads and writes less than to serve.
			Statement::Serve { .. } | Statement::Differ { .. } => {
				<T as Config>::WeightInfo::serve()
			}
			Statement::Withdraw { .. } => <T as Config>::WeightInfo::withdraw(),
			Statement::Answer { .. } | Statement::CommitOutput { .. } => {
				<T as Config>::WeightInfo::answer()
			}
			Statement::Commit { .. } => <T as Config>::WeightInfo::commit_juror(),
			Statement::Reveal { .. } | Statement::RevealOutput { .. } => {
				<T as Config>::WeightInfo::reveal_juror()
			}
		}
	}

	/// Whether a statement may be the last of a round.
	fn may_settle(statement: &Statement) -> bool {
		matches!(
			statement,
			Statement::Reveal { .. } | Statement::RevealOutput { .. }
		)
	}

	/// Most that a report weighs: each reveal could be the last of an ordinary round, and one of them that of the largest. Were all of
	/// them counted as the largest, no block would take many reports.
	pub fn report_weight(report: &Report<BlockNumberFor<T>>) -> Weight {
		let base = <T as Config>::WeightInfo::report(report.encoded_size() as u32);
		let heaviest = if report.statements.iter().any(Self::may_settle) {
			Outcome::heaviest::<T>()
		} else {
			Weight::zero()
		};
		base.saturating_add(heaviest)
			.saturating_add(Self::ordinary_settlements(report))
			.saturating_add(
				report
					.statements
					.iter()
					.map(Self::statement_weight)
					.fold(Weight::zero(), Weight::saturating_add),
			)
	}

	/// What a report may settle beside its one heaviest round.
	fn ordinary_settlements(report: &Report<BlockNumberFor<T>>) -> Weight {
		let reveals = report.statements.iter().filter(|s| Self::may_settle(s));
		Outcome::ordinary::<T>().saturating_mul(reveals.count() as u64)
	}

	/// What letting a report in weighs.
	pub fn authorize_weight(report: &Report<BlockNumberFor<T>>) -> Weight {
		let statements = report.statements.len() as u64;
		<T as Config>::WeightInfo::authorize_report(report.encoded_size() as u32)
			.saturating_add(<T as Config>::WeightInfo::check().saturating_mul(statements))
	}

	/// Does what a statement says.
	fn apply_statement(
		validator: &T::AccountId,
		statement: Statement,
	) -> Result<Applied, DispatchError> {
		let weight = Self::statement_weight(&statement);
		let mut outcome = Outcome::Open;
		match statement {
			Statement::Serve {
				model,
				evidence,
				speed,
			} => {
				let displaced =
					pallet_model_registry::Pallet::<T>::serve(validator, model, &evidence, speed)?;
				if let Some(displaced) = displaced {
					// Or two who have proven nothing would take turns.
					Self::keep_away(&displaced, model);
				}
			}
			Statement::Withdraw { model } => {
				pallet_model_registry::Pallet::<T>::withdraw(validator, model)?
			}
			Statement::Differ { model, evidence } => {
				pallet_model_registry::Pallet::<T>::differ(validator, model, evidence)?
			}
			Statement::Answer { request, output } => Self::answer(validator, request, output)?,
			Statement::CommitOutput {
				request,
				commitment,
			} => Self::commit_output(validator, request, commitment)?,
			Statement::Commit {
				request,
				commitment,
			} => {
				let body = Self::commit_evidence(validator, request, commitment)?;
				return Ok(Applied::commit::<<T as Config>::WeightInfo>(body));
			}
			Statement::Reveal {
				request,
				evidence,
				salt,
			} => {
				let (body, outcome) = Self::reveal_evidence(validator, request, evidence, salt)?;
				return Ok(Applied::reveal::<<T as Config>::WeightInfo>(body, outcome));
			}
			Statement::RevealOutput {
				request,
				output,
				salt,
			} => outcome = Self::reveal_output(validator, request, output, salt)?,
		}
		Ok(Applied { weight, outcome })
	}

	/// Executes a report that was let in. A statement that is not due any more is skipped, and changes nothing. When what the report
	/// settles weighs as much as it may, its other reveals are skipped too, and can be said again in the next block.
	pub(crate) fn do_report(report: Report<BlockNumberFor<T>>) -> DispatchResultWithPostInfo {
		let mut weight = <T as Config>::WeightInfo::report(report.encoded_size() as u32);
		let (validator, _) = KeyAt::<T>::get(report.validator).ok_or(Error::<T>::NotDue)?;
		let validator = &validator;
		LastReport::<T>::insert(validator, report.at);
		let mut ordinary = Self::ordinary_settlements(&report);
		let mut is_full = false;
		for (index, statement) in report.statements.into_iter().enumerate() {
			let most = Self::statement_weight(&statement);
			let applied = if is_full && Self::may_settle(&statement) {
				Err(Error::<T>::ReportFull.into())
			} else {
				with_storage_layer(|| Self::apply_statement(validator, statement))
			};
			match applied {
				Ok(Applied {
					weight: said,
					outcome,
				}) => {
					let settling = outcome.weight::<<T as Config>::WeightInfo>();
					weight.saturating_accrue(said.saturating_add(settling));
					match ordinary.checked_sub(&settling) {
						Some(left) => ordinary = left,
						// This was the one heaviest.
						None => is_full = true,
					}
				}
				Err(reason) => {
					weight.saturating_accrue(most);
					Self::deposit_event(Event::StatementSkipped {
						validator: validator.clone(),
						index: index as u32,
						reason,
					});
				}
			}
		}
		Ok(Some(weight).into())
	}
}
