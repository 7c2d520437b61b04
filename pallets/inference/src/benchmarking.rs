//! Benchmarks of calls, statements, the authorise callback and hooks.
//!
//! The world is a session of as many validators as can serve one model, all of them serving a text model of the tolerant class
//! with the longest fingerprints, and rounds of as many verifiers as can be asked for.

use alloc::{vec, vec::Vec};
use consilience_primitives::{
	crypto::{InferenceId, InferenceSignature},
	evidence::{Evidence, Fingerprint, Salt, Verdict, MAX_VALUES},
	model::{Bounds, Limits, ModelSpec, NumericClass, Price, Task, TimeLimit, VerificationPolicy},
	report::{Report, Statement},
	request::{
		Assurance, FinishReason, Input, Output, Prompt, Sampling, MAX_STOP, MAX_STOPS, MAX_TEXT,
		MAX_TOKENS,
	},
	view::RequestState,
	ModelId, RequestId,
};
use polkadot_sdk::{
	frame_benchmarking::v2::*,
	frame_support::{
		pallet_prelude::Weight,
		traits::{
			fungible::{Inspect, Unbalanced},
			tokens::Precision,
			Authorize, Get,
		},
		WeakBoundedVec,
	},
	frame_system::{self, pallet_prelude::BlockNumberFor, RawOrigin},
	sp_application_crypto::RuntimeAppPublic,
	sp_core::H256,
	sp_runtime::{
		traits::{One, Saturating},
		transaction_validity::TransactionSource,
		SaturatedConversion,
	},
};

use crate::{
	BalanceOf, Call, Callbacks, Config, Genesis, Keys, Outputs, Pallet, PendingDraws, Requests,
	Rounds, Session,
};

const MODEL: ModelId = ModelId::repeat_byte(1);
const SALT: Salt = [7; 16];

fn rich<T: Config>(who: &T::AccountId) -> Result<(), BenchmarkError> {
	let money = T::Currency::minimum_balance().saturating_mul(1_000_000u32.into());
	T::Currency::increase_balance(who, money, Precision::Exact)?;
	Ok(())
}

fn evidence() -> Evidence {
	Evidence {
		fingerprint: Fingerprint::Values {
			tag: 0,
			values: vec![1; MAX_VALUES as usize]
				.try_into()
				.expect("as many as the bound; qed"),
		},
		verdict: Verdict::default(),
		prior: None,
	}
}

fn spec() -> ModelSpec {
	ModelSpec {
		name: b"benchmark".to_vec().try_into().expect("short; qed"),
		task: Task::TextGeneration,
		chat: true,
		size: 1,
		limits: Limits {
			max_input_units: MAX_TEXT,
			max_output_units: MAX_TOKENS,
		},
		time: TimeLimit {
			base_blocks: 10,
			output_units_per_block: 1_000,
		},
		policy: VerificationPolicy {
			class: NumericClass::Tolerant,
			positions: MAX_VALUES as u8,
			entries: 1,
			fraction_bits: 8,
			accept: Bounds::default(),
			fraud: Bounds::default(),
			min_verifiers: 1,
			min_sampling: 1_000,
		},
		signature: Default::default(),
		reference: evidence(),
	}
}

/// Validators with their keys in the session; the model on chain, served by all of them and active.
fn world<T: Config>() -> Result<(), BenchmarkError> {
	let now: BlockNumberFor<T> = 10u32.into();
	frame_system::Pallet::<T>::set_block_number(now);
	Genesis::<T>::put(H256::repeat_byte(1));
	rich::<T>(&T::Treasury::get())?;
	let owner: T::AccountId = account("owner", 0, 0);
	let deposit = pallet_model_registry::Pallet::<T>::deposit_for(&spec());
	T::Currency::increase_balance(&owner, deposit, Precision::Exact)?;
	rich::<T>(&owner)?;
	let unit: BalanceOf<T> = T::Currency::minimum_balance();
	let price = Price {
		per_request: unit.saturating_mul(100u32.into()),
		per_input_unit: 0u32.into(),
		per_output_unit: 0u32.into(),
	};
	pallet_model_registry::Pallet::<T>::register(
		RawOrigin::Signed(owner).into(),
		MODEL,
		spec(),
		price,
	)?;
	let count = T::MaxServing::get().min(T::MaxValidators::get());
	let mut keys = Vec::new();
	for i in 0..count {
		let validator: T::AccountId = account("validator", i, 0);
		rich::<T>(&validator)?;
		pallet_model_registry::Pallet::<T>::serve(&validator, MODEL, &evidence())?;
		keys.push((validator, InferenceId::generate_pair(None)));
	}
	Keys::<T>::put(WeakBoundedVec::force_from(keys, None));
	Ok(())
}

/// Verifiers of the largest round that the session can make up.
fn most_verifiers<T: Config>() -> u8 {
	let serving = T::MaxServing::get().min(T::MaxValidators::get());
	T::MaxVerifiers::get().min(serving.saturating_sub(1).saturated_into())
}

/// A request for a text of so many bytes.
fn input(bytes: u32) -> Input {
	let stop = vec![
		vec![b'x'; MAX_STOP as usize]
			.try_into()
			.expect("as long as the bound; qed");
		MAX_STOPS as usize
	];
	Input::TextGeneration {
		prompt: Prompt::Text(
			vec![b'x'; bytes as usize]
				.try_into()
				.expect("benchmarks keep the bound; qed"),
		),
		sampling: Sampling {
			max_tokens: MAX_TOKENS,
			temperature: 1_000,
			top_p: 900,
			stop: stop.try_into().expect("as many as the bound; qed"),
		},
	}
}

fn output(bytes: u32) -> Output {
	let tokens = (bytes / 8).clamp(1, MAX_TOKENS);
	Output::Text {
		tokens: vec![codec::Compact(40_000); tokens as usize]
			.try_into()
			.expect("at most the bound; qed"),
		text: vec![b'x'; bytes as usize]
			.try_into()
			.expect("benchmarks keep the bound; qed"),
		finish: FinishReason::Length,
	}
}

fn fee_limit<T: Config>() -> BalanceOf<T> {
	T::Currency::minimum_balance().saturating_mul(200u32.into())
}

fn requester<T: Config>() -> Result<T::AccountId, BenchmarkError> {
	let requester: T::AccountId = account("requester", 0, 0);
	rich::<T>(&requester)?;
	Ok(requester)
}

fn requested<T: Config>(verifiers: u8) -> Result<RequestId, BenchmarkError> {
	Ok(Pallet::<T>::submit(
		requester::<T>()?,
		MODEL,
		input(16),
		Assurance::Committee(verifiers),
		fee_limit::<T>(),
		0u32.into(),
		true,
	)?)
}

/// What the end of a block with randomness does for the request.
fn draw<T: Config>(id: RequestId) {
	let now = frame_system::Pallet::<T>::block_number();
	assert!(Pallet::<T>::draw(now, id, H256::repeat_byte(9)));
	PendingDraws::<T>::mutate(|list| list.retain(|e| e.request != id));
}

fn executor<T: Config>(id: RequestId) -> Result<T::AccountId, BenchmarkError> {
	Requests::<T>::get(id)
		.and_then(|r| r.executor)
		.ok_or(BenchmarkError::Stop("no executor was drawn"))
}

fn assigned<T: Config>(verifiers: u8) -> Result<(RequestId, T::AccountId), BenchmarkError> {
	let id = requested::<T>(verifiers)?;
	draw::<T>(id);
	Ok((id, executor::<T>(id)?))
}

fn answered<T: Config>(verifiers: u8) -> Result<RequestId, BenchmarkError> {
	let (id, executor) = assigned::<T>(verifiers)?;
	Pallet::<T>::answer(&executor, id, output(16))?;
	Ok(id)
}

fn members<T: Config>(id: RequestId) -> Result<(H256, Vec<T::AccountId>), BenchmarkError> {
	let round = Rounds::<T>::get(id).ok_or(BenchmarkError::Stop("no round was drawn"))?;
	Ok((
		round.challenge,
		round.members.iter().map(|m| m.who.clone()).collect(),
	))
}

/// A round in which everybody but the last member has committed, or everybody.
fn committed<T: Config>(verifiers: u8, all: bool) -> Result<RequestId, BenchmarkError> {
	let id = answered::<T>(verifiers)?;
	draw::<T>(id);
	let (challenge, members) = members::<T>(id)?;
	let left = members.len() - usize::from(!all);
	for member in &members[..left] {
		let commitment = evidence().commitment(id, &challenge, member, &SALT);
		Pallet::<T>::commit_evidence(member, id, commitment)?;
	}
	Ok(id)
}

/// A round in which everybody but the last member has revealed.
fn revealed<T: Config>(verifiers: u8) -> Result<(RequestId, T::AccountId), BenchmarkError> {
	let id = committed::<T>(verifiers, true)?;
	let (_, members) = members::<T>(id)?;
	let (last, others) = members
		.split_last()
		.ok_or(BenchmarkError::Stop("a round without members"))?;
	for member in others {
		Pallet::<T>::reveal_evidence(member, id, evidence(), SALT)?;
	}
	Ok((id, last.clone()))
}

fn signed<T: Config>(
	validator: &T::AccountId,
	statements: Vec<Statement>,
) -> Result<(Report<BlockNumberFor<T>>, InferenceSignature), BenchmarkError> {
	let keys = Keys::<T>::get();
	let index = keys
		.iter()
		.position(|(v, _)| v == validator)
		.ok_or(BenchmarkError::Stop("not in the session"))?;
	let report = Report {
		session: Session::<T>::get(),
		validator: index as u32,
		at: frame_system::Pallet::<T>::block_number().saturating_sub(1u32.into()),
		statements: statements
			.try_into()
			.map_err(|_| BenchmarkError::Stop("too many statements"))?,
	};
	let signature = keys[index]
		.1
		.sign(&report.payload(
			&Genesis::<T>::get().unwrap_or_default(),
			&H256(frame_system::Pallet::<T>::block_hash(report.at).into()),
		))
		.ok_or(BenchmarkError::Stop("no key to sign with"))?;
	Ok((report, signature))
}

fn state<T: Config>(id: RequestId) -> Option<RequestState> {
	Requests::<T>::get(id).map(|r| r.state)
}

#[benchmarks(where <T as frame_system::Config>::RuntimeCall: From<Call<T>>)]
mod benchmarks {
	use super::*;

	#[benchmark]
	fn request(b: Linear<1, MAX_TEXT>) -> Result<(), BenchmarkError> {
		world::<T>()?;
		let requester = requester::<T>()?;
		#[extrinsic_call]
		_(
			RawOrigin::Signed(requester),
			MODEL,
			input(b),
			Assurance::Committee(most_verifiers::<T>()),
			fee_limit::<T>(),
			0u32.into(),
		);
		assert_eq!(state::<T>(0), Some(RequestState::Requested));
		Ok(())
	}

	#[benchmark]
	fn cancel() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let id = requested::<T>(1)?;
		#[extrinsic_call]
		_(RawOrigin::Signed(account("requester", 0, 0)), id);
		assert_eq!(state::<T>(id), Some(RequestState::Cancelled));
		Ok(())
	}

	/// With one answer of so many bytes: statements are counted by themselves as well, so that this counts one too many.
	#[benchmark]
	fn report(b: Linear<1, MAX_TEXT>) -> Result<(), BenchmarkError> {
		world::<T>()?;
		let (id, executor) = assigned::<T>(1)?;
		let statement = Statement::Answer {
			request: id,
			output: output(b),
		};
		let (said, signature) = signed::<T>(&executor, vec![statement])?;
		#[extrinsic_call]
		_(RawOrigin::Authorized, said, signature);
		assert_eq!(state::<T>(id), Some(RequestState::Provisional));
		Ok(())
	}

	#[benchmark]
	fn authorize_report(b: Linear<1, MAX_TEXT>) -> Result<(), BenchmarkError> {
		world::<T>()?;
		let (id, executor) = assigned::<T>(1)?;
		let statement = Statement::Answer {
			request: id,
			output: output(b),
		};
		let (said, signature) = signed::<T>(&executor, vec![statement])?;
		let call: <T as frame_system::Config>::RuntimeCall = Call::report {
			report: said,
			signature,
		}
		.into();
		#[block]
		{
			call.authorize(TransactionSource::InBlock)
				.expect("the call is authorised by itself; qed")
				.map_err(|_| "the report was not let in")?;
		}
		Ok(())
	}

	#[benchmark]
	fn check() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let (id, validator) = revealed::<T>(most_verifiers::<T>())?;
		let statement = Statement::Reveal {
			request: id,
			evidence: evidence(),
			salt: SALT,
		};
		let due;
		#[block]
		{
			due = Pallet::<T>::check_statement(&validator, &statement);
		}
		due?;
		Ok(())
	}

	#[benchmark]
	fn serve() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let validator: T::AccountId = account("validator", 0, 0);
		pallet_model_registry::Pallet::<T>::withdraw(&validator, MODEL)?;
		#[block]
		{
			pallet_model_registry::Pallet::<T>::serve(&validator, MODEL, &evidence())?;
		}
		Ok(())
	}

	#[benchmark]
	fn withdraw() -> Result<(), BenchmarkError> {
		world::<T>()?;
		#[block]
		{
			pallet_model_registry::Pallet::<T>::withdraw(&account("validator", 0, 0), MODEL)?;
		}
		Ok(())
	}

	#[benchmark]
	fn answer() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let (id, executor) = assigned::<T>(1)?;
		#[block]
		{
			Pallet::<T>::answer(&executor, id, output(1))?;
		}
		assert!(Outputs::<T>::contains_key(id));
		Ok(())
	}

	/// The last commitment, which begins the reveal.
	#[benchmark]
	fn commit() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let id = committed::<T>(most_verifiers::<T>(), false)?;
		let (challenge, members) = members::<T>(id)?;
		let last = members
			.last()
			.ok_or(BenchmarkError::Stop("a round without members"))?;
		let commitment = evidence().commitment(id, &challenge, last, &SALT);
		#[block]
		{
			Pallet::<T>::commit_evidence(last, id, commitment)?;
		}
		Ok(())
	}

	#[benchmark]
	fn reveal() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let id = committed::<T>(most_verifiers::<T>(), true)?;
		let (_, members) = members::<T>(id)?;
		#[block]
		{
			Pallet::<T>::reveal_evidence(&members[0], id, evidence(), SALT)?;
		}
		Ok(())
	}

	/// The last reveal of a round of so many members, in which all agree and are paid.
	#[benchmark]
	fn settle(
		m: Linear<2, { u32::from(most_verifiers::<T>()) + 1 }>,
	) -> Result<(), BenchmarkError> {
		world::<T>()?;
		let (id, last) = revealed::<T>((m - 1) as u8)?;
		#[block]
		{
			Pallet::<T>::reveal_evidence(&last, id, evidence(), SALT)?;
		}
		assert_eq!(state::<T>(id), Some(RequestState::Final));
		Ok(())
	}

	#[benchmark]
	fn late() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let id = answered::<T>(most_verifiers::<T>())?;
		draw::<T>(id);
		let open = Requests::<T>::get(id).ok_or("no request")?;
		let now = open.deadline.saturating_add(One::one());
		frame_system::Pallet::<T>::set_block_number(now);
		#[block]
		{
			Pallet::<T>::process_deadlines(now);
		}
		assert_eq!(state::<T>(id), Some(RequestState::Requested));
		Ok(())
	}

	#[benchmark]
	fn prune() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let (id, last) = revealed::<T>(most_verifiers::<T>())?;
		Pallet::<T>::reveal_evidence(&last, id, evidence(), SALT)?;
		Callbacks::<T>::kill();
		let at = frame_system::Pallet::<T>::block_number().saturating_add(T::Retention::get());
		#[block]
		{
			Pallet::<T>::prune(at);
		}
		assert!(state::<T>(id).is_none());
		Ok(())
	}

	#[benchmark]
	fn draw_executor() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let id = requested::<T>(most_verifiers::<T>())?;
		let now = frame_system::Pallet::<T>::block_number();
		#[block]
		{
			Pallet::<T>::draw(now, id, H256::repeat_byte(9));
		}
		assert_eq!(state::<T>(id), Some(RequestState::Assigned));
		Ok(())
	}

	#[benchmark]
	fn draw_verifiers() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let id = answered::<T>(most_verifiers::<T>())?;
		let now = frame_system::Pallet::<T>::block_number();
		#[block]
		{
			Pallet::<T>::draw(now, id, H256::repeat_byte(9));
		}
		assert!(Rounds::<T>::contains_key(id));
		Ok(())
	}

	#[benchmark]
	fn call_back() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let (id, last) = revealed::<T>(most_verifiers::<T>())?;
		Pallet::<T>::reveal_evidence(&last, id, evidence(), SALT)?;
		let now = frame_system::Pallet::<T>::block_number().saturating_add(One::one());
		#[block]
		{
			Pallet::<T>::process_callbacks(now, Weight::MAX);
		}
		assert!(Callbacks::<T>::get().is_empty());
		Ok(())
	}

	#[benchmark]
	fn hooks() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let now = frame_system::Pallet::<T>::block_number();
		#[block]
		{
			Pallet::<T>::process_deadlines(now);
			Pallet::<T>::prune(now);
			Pallet::<T>::process_draws(now);
		}
		Ok(())
	}

	impl_benchmark_test_suite!(Pallet, crate::mock::bare(), crate::mock::Test);
}
