//! A runtime with balances and the registry.

pub(crate) use consilience_primitives::model::Speed;
use consilience_primitives::{
	evidence::{Evidence, Fingerprint, Verdict},
	model::{Bounds, Limits, ModelSpec, NumericClass, Price, Task, TimeLimit, VerificationPolicy},
	ModelId,
};
use polkadot_sdk::{
	frame_support::{self, derive_impl, parameter_types},
	frame_system, pallet_balances, sp_io,
	sp_runtime::{traits::IdentityLookup, BuildStorage},
};

type Block = frame_system::mocking::MockBlock<Test>;

frame_support::construct_runtime!(
	pub enum Test {
		System: frame_system,
		Balances: pallet_balances,
		ModelRegistry: crate,
	}
);

#[derive_impl(frame_system::config_preludes::TestDefaultConfig)]
impl frame_system::Config for Test {
	type Block = Block;
	type AccountId = u64;
	type Lookup = IdentityLookup<u64>;
	type AccountData = pallet_balances::AccountData<u64>;
}

#[derive_impl(pallet_balances::config_preludes::TestDefaultConfig)]
impl pallet_balances::Config for Test {
	type AccountStore = System;
}

parameter_types! {
	pub const DepositBase: u64 = 1_000;
	pub const DepositPerByte: u64 = 1;
	pub const MinServing: u32 = 2;
	pub const MaxServing: u32 = 3;
	pub const ServingGrace: u64 = 10;
	pub const MaxServed: u32 = 2;
	pub const MaxModels: u32 = 4;
	pub static RemovalDelay: u64 = 0;
}

impl crate::Config for Test {
	type Currency = Balances;
	type RuntimeHoldReason = RuntimeHoldReason;
	type DepositBase = DepositBase;
	type DepositPerByte = DepositPerByte;
	type MinServing = MinServing;
	type MaxServing = MaxServing;
	type ServingGrace = ServingGrace;
	type MaxServed = MaxServed;
	type MaxModels = MaxModels;
	type RemovalDelay = RemovalDelay;
	type WeightInfo = crate::weights::SubstrateWeight<Test>;
}

/// A model of the exact class whose reference digest is `digest`.
pub(crate) fn spec(digest: u8) -> ModelSpec {
	ModelSpec {
		name: b"test".to_vec().try_into().unwrap(),
		task: Task::TextGeneration,
		chat: true,
		size: 1,
		limits: Limits {
			max_input_units: 100,
			max_output_units: 10,
		},
		time: TimeLimit {
			base_blocks: 5,
			output_units_per_block: 10,
		},
		policy: VerificationPolicy {
			class: NumericClass::Exact,
			positions: 4,
			entries: 1,
			fraction_bits: 0,
			accept: Bounds::default(),
			fraud: Bounds::default(),
			min_verifiers: 1,
			min_sampling: 1_000,
		},
		signature: Default::default(),
		sampling: Default::default(),
		reference: evidence(digest),
	}
}

pub(crate) fn evidence(digest: u8) -> Evidence {
	Evidence {
		fingerprint: Fingerprint::Digest([digest; 16]),
		verdict: Verdict::default(),
		prior: None,
	}
}

pub(crate) fn price() -> Price<u64> {
	Price {
		per_request: 10,
		per_input_unit: 1,
		per_output_unit: 2,
	}
}

pub(crate) fn id(n: u8) -> ModelId {
	ModelId::repeat_byte(n)
}

/// Accounts 1 to 5 have 100,000 each.
pub(crate) fn externalities() -> sp_io::TestExternalities {
	let mut storage = frame_system::GenesisConfig::<Test>::default()
		.build_storage()
		.unwrap();
	pallet_balances::GenesisConfig::<Test> {
		balances: (1..=5).map(|n| (n, 100_000)).collect(),
		..Default::default()
	}
	.assimilate_storage(&mut storage)
	.unwrap();
	let mut ext = sp_io::TestExternalities::new(storage);
	ext.execute_with(|| System::set_block_number(1));
	ext
}

/// Storage is checked at the end.
pub(crate) fn run(test: impl FnOnce()) {
	externalities().execute_with(|| {
		test();
		ModelRegistry::do_try_state().unwrap();
	});
}
