//! Benchmarks of the calls. The largest description, and every validator that can serve.

use alloc::{format, vec, vec::Vec};
use consilience_primitives::{
	evidence::{Evidence, Fingerprint, Verdict, MAX_VALUES},
	model::{
		Bounds, Limits, ModelSpec, ModelStatus, NumericClass, Price, Speed, Task, TimeLimit,
		VerificationPolicy, MAX_MODEL_NAME,
	},
	tensor::{DataType, TensorSpec, MAX_NAME, MAX_RANK, MAX_TENSORS},
	ModelId,
};
use polkadot_sdk::{
	frame_benchmarking::v2::*,
	frame_support::traits::{
		fungible::{Inspect, Unbalanced},
		tokens::Precision,
		Get,
	},
	frame_system::{self, RawOrigin},
	sp_runtime::traits::{Saturating, Zero},
};

use crate::{BalanceOf, Call, Config, Models, Pallet, Serving};

const MODEL: ModelId = ModelId::repeat_byte(1);

fn spec() -> ModelSpec {
	let signature: Vec<_> = (0..MAX_TENSORS)
		.map(|i| TensorSpec {
			name: format!("{i:0width$}", width = MAX_NAME as usize)
				.into_bytes()
				.try_into()
				.expect("as long as the bound; qed"),
			datatype: DataType::Fp32,
			shape: vec![Some(1); MAX_RANK as usize]
				.try_into()
				.expect("as long as the bound; qed"),
		})
		.collect();
	ModelSpec {
		name: vec![b'x'; MAX_MODEL_NAME as usize]
			.try_into()
			.expect("as long as the bound; qed"),
		task: Task::Tensor,
		chat: false,
		size: u64::MAX,
		limits: Limits {
			max_input_units: 1_000,
			max_output_units: 1_000,
		},
		time: TimeLimit {
			base_blocks: 10,
			output_units_per_block: 100,
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
		signature: signature.try_into().expect("as many as the bound; qed"),
		sampling: Default::default(),
		reference: evidence(),
	}
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

fn price<T: Config>() -> Price<BalanceOf<T>> {
	Price {
		per_request: 1u32.into(),
		per_input_unit: 1u32.into(),
		per_output_unit: 1u32.into(),
	}
}

fn owner<T: Config>() -> Result<T::AccountId, BenchmarkError> {
	let owner: T::AccountId = account("owner", 0, 0);
	let money = Pallet::<T>::deposit_for(&spec())
		.saturating_add(T::Currency::minimum_balance().saturating_mul(10u32.into()));
	T::Currency::increase_balance(&owner, money, Precision::Exact)?;
	Ok(owner)
}

fn registered<T: Config>() -> Result<T::AccountId, BenchmarkError> {
	let owner = owner::<T>()?;
	Pallet::<T>::do_register(owner.clone(), MODEL, spec(), price::<T>())?;
	Ok(owner)
}

#[benchmarks]
mod benchmarks {
	use super::*;

	#[benchmark]
	fn register() -> Result<(), BenchmarkError> {
		let owner = owner::<T>()?;
		#[extrinsic_call]
		_(RawOrigin::Signed(owner), MODEL, spec(), price::<T>());
		assert!(Models::<T>::contains_key(MODEL));
		Ok(())
	}

	#[benchmark]
	fn set_price() -> Result<(), BenchmarkError> {
		let owner = registered::<T>()?;
		let mut dearer = price::<T>();
		dearer.per_request = 2u32.into();
		#[extrinsic_call]
		_(RawOrigin::Signed(owner), MODEL, dearer);
		assert!(Models::<T>::get(MODEL).is_some_and(|m| m.price == dearer));
		Ok(())
	}

	#[benchmark]
	fn deprecate() -> Result<(), BenchmarkError> {
		let owner = registered::<T>()?;
		#[extrinsic_call]
		_(RawOrigin::Signed(owner), MODEL);
		assert!(Models::<T>::get(MODEL).is_some_and(|m| m.status == ModelStatus::Deprecated));
		Ok(())
	}

	#[benchmark]
	fn remove(n: Linear<0, { T::MaxServing::get() }>) -> Result<(), BenchmarkError> {
		let owner = registered::<T>()?;
		for i in 0..n {
			Pallet::<T>::serve(
				&account("validator", i, 0),
				MODEL,
				&evidence(),
				Speed::default(),
			)?;
		}
		assert_eq!(Serving::<T>::get(MODEL).len() as u32, n);
		Pallet::<T>::deprecate(RawOrigin::Signed(owner.clone()).into(), MODEL)?;
		let later =
			frame_system::Pallet::<T>::block_number().saturating_add(T::RemovalDelay::get());
		frame_system::Pallet::<T>::set_block_number(later);
		#[extrinsic_call]
		_(RawOrigin::Signed(owner.clone()), MODEL);
		assert!(!Models::<T>::contains_key(MODEL));
		assert!(T::Currency::balance(&owner) > Zero::zero());
		Ok(())
	}

	impl_benchmark_test_suite!(Pallet, crate::mock::externalities(), crate::mock::Test);
}
