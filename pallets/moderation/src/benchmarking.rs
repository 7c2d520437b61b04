//! Benchmarks of the calls and of what is done when a question is settled. What asking weighs is not measured here: whoever is asked
//! says it, and every call adds it ([`Pallet::asking_weight`]).

use alloc::{vec, vec::Vec};
use consilience_primitives::{
	request::{Assurance, Output},
	sampling::{LogitsProcessing, Sampling, MAX_BIASES, MAX_STOP, MAX_STOPS},
	tensor::{DataType, Tensor, MAX_NAME, MAX_TENSORS, MAX_TENSOR_BYTES},
	Bytes,
};
use polkadot_sdk::{
	frame_benchmarking::v2::*,
	frame_support::traits::{
		fungible::{Inspect, Unbalanced},
		EnsureOrigin,
	},
	frame_system::RawOrigin,
};

use crate::*;

/// As many bytes as the bound.
fn full<const N: u32>() -> Bytes<N> {
	Bytes::truncate_from(vec![b'x'; N as usize])
}

/// The largest policy.
fn chat() -> Policy {
	Policy {
		model: ModelId::repeat_byte(1),
		question: Question::Chat {
			instructions: full(),
			sampling: Sampling {
				stop: vec![full::<MAX_STOP>(); MAX_STOPS as usize]
					.try_into()
					.expect("as many as the bound; qed"),
				processing: Some(LogitsProcessing {
					logit_bias: (0..MAX_BIASES)
						.map(|token| (token, 0))
						.collect::<Vec<_>>()
						.try_into()
						.expect("as many as the bound; qed"),
					..Default::default()
				}),
				..Default::default()
			},
		},
		reading: Reading::Word {
			allow: full(),
			refuse: b"no".to_vec().try_into().expect("two bytes; qed"),
		},
		assurance: Assurance::Committee(2),
	}
}

/// A score at the end of the largest answer, so that everything before it is passed over.
fn score() -> (Reading, Output) {
	let name = |n: u32| Bytes::<MAX_NAME>::truncate_from(vec![n as u8; MAX_NAME as usize]);
	let tensors = (0..MAX_TENSORS).map(|n| Tensor {
		name: name(n),
		datatype: DataType::Fp16,
		shape: vec![MAX_TENSOR_BYTES / 2]
			.try_into()
			.expect("one dimension; qed"),
		data: Bytes::truncate_from(vec![0; MAX_TENSOR_BYTES as usize]),
	});
	let reading = Reading::Score {
		output: name(MAX_TENSORS - 1),
		element: MAX_TENSOR_BYTES / 2 - 1,
		most: 0,
	};
	let output = Output::Tensors(
		tensors
			.collect::<Vec<_>>()
			.try_into()
			.expect("as many as the bound; qed"),
	);
	(reading, output)
}

/// An account that can pay for two of the longest texts.
fn author<T: Config>() -> Result<T::AccountId, BenchmarkError> {
	let author: T::AccountId = account("author", 0, 0);
	let money = Pallet::<T>::deposit_for(T::MaxLength::get())
		.saturating_mul(2u32.into())
		.saturating_add(T::Currency::minimum_balance().saturating_mul(10u32.into()));
	T::Currency::increase_balance(&author, money, Precision::Exact)?;
	CurrentPolicy::<T>::put(chat());
	Ok(author)
}

fn text<T: Config>(bytes: u32) -> TextOf<T> {
	BoundedVec::truncate_from(vec![b'x'; bytes as usize])
}

/// The longest text is being judged.
fn proposed<T: Config>(who: &T::AccountId, request: RequestId) -> DispatchResult {
	let (proposal, ..) = Pallet::<T>::prepare(who, text::<T>(T::MaxLength::get()))?;
	let proposal = ProposalOf::<T> {
		request,
		..proposal
	};
	Pallet::<T>::record(who.clone(), proposal);
	Ok(())
}

/// The longest text is stored.
fn stored<T: Config>(who: &T::AccountId, request: RequestId) -> DispatchResult {
	proposed::<T>(who, request)?;
	let proposal = Proposals::<T>::take(who).ok_or("just proposed")?;
	Pallet::<T>::judged(who, proposal, Verdict::Allowed);
	Ok(())
}

#[benchmarks(where T::Currency: Unbalanced<T::AccountId>)]
mod benchmarks {
	use super::*;

	// docs: benchmark
	/// Everything but the question.
	#[benchmark]
	fn propose(n: Linear<1, { T::MaxLength::get() }>) -> Result<(), BenchmarkError> {
		let who = author::<T>()?;
		let text = text::<T>(n);
		#[block]
		{
			let (proposal, ..) = Pallet::<T>::prepare(&who, text)?;
			Pallet::<T>::record(who.clone(), proposal);
		}
		assert!(Proposals::<T>::contains_key(&who));
		Ok(())
	}
	// docs: end

	/// The longest text takes the place of another one. Reading the answer from storage is not counted here: whoever is asked does that.
	#[benchmark]
	fn judged() -> Result<(), BenchmarkError> {
		let who = author::<T>()?;
		stored::<T>(&who, 0)?;
		proposed::<T>(&who, 1)?;
		let (reading, answer) = score();
		#[block]
		{
			let proposal = Proposals::<T>::take(&who).ok_or("proposed above")?;
			let verdict = reading.verdict(&answer);
			Pallet::<T>::judged(&who, proposal, verdict);
		}
		assert!(Notes::<T>::get(&who).is_some_and(|note| note.request == 1));
		Ok(())
	}

	#[benchmark]
	fn withdraw() -> Result<(), BenchmarkError> {
		let who = author::<T>()?;
		stored::<T>(&who, 0)?;
		#[block]
		{
			assert!(!Proposals::<T>::contains_key(&who));
			Pallet::<T>::withdraw(0, &who);
		}
		assert!(!Notes::<T>::contains_key(&who));
		Ok(())
	}

	#[benchmark]
	fn clear() -> Result<(), BenchmarkError> {
		let who = author::<T>()?;
		stored::<T>(&who, 0)?;
		#[extrinsic_call]
		_(RawOrigin::Signed(who.clone()));
		assert!(!Notes::<T>::contains_key(&who));
		Ok(())
	}

	#[benchmark]
	fn set_policy() -> Result<(), BenchmarkError> {
		let origin =
			T::PolicyOrigin::try_successful_origin().map_err(|_| BenchmarkError::Weightless)?;
		#[extrinsic_call]
		_(origin as T::RuntimeOrigin, Some(chat()));
		assert!(CurrentPolicy::<T>::exists());
		Ok(())
	}

	impl_benchmark_test_suite!(Pallet, crate::mock::externalities(), crate::mock::Test);
}
