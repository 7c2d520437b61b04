//! A runtime in which a double answers: it takes every question that can be paid, and tests say how each ends. The real ones are asked
//! in `tests/network.rs`.

use std::cell::{Cell, RefCell};

use consilience_primitives::{
	request::{Assurance, FinishReason, Input, Output},
	sampling::{LogitsProcessing, Sampling, MAX_BIAS},
	tensor::{DataType, Tensor},
	view::QuoteError,
	ModelId, RequestId,
};
use pallet_inference::{Final, OnSettled, RequestInference, Settled};
use polkadot_sdk::{
	frame_support::{
		self, assert_ok, derive_impl,
		pallet_prelude::{DispatchResult, Weight},
		parameter_types,
		traits::fungible::InspectHold,
	},
	frame_system, pallet_balances, sp_io,
	sp_runtime::{traits::IdentityLookup, BuildStorage, DispatchError},
};

use crate::{Event, HoldReason, Policy, Question, Reading};

type Block = frame_system::mocking::MockBlock<Test>;

frame_support::construct_runtime!(
	pub enum Test {
		System: frame_system,
		Balances: pallet_balances,
		Moderation: crate,
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
	pub const DepositBase: u64 = 100;
	pub const DepositPerByte: u64 = 2;
	pub const MaxLength: u32 = 64;
}

impl crate::Config for Test {
	type Currency = Balances;
	type RuntimeHoldReason = RuntimeHoldReason;
	type Inference = Double;
	type PolicyOrigin = frame_system::EnsureRoot<u64>;
	type DepositBase = DepositBase;
	type DepositPerByte = DepositPerByte;
	type MaxLength = MaxLength;
	type WeightInfo = crate::weights::SubstrateWeight<Test>;
}

// docs: double
thread_local! {
	static ASKED: RefCell<Vec<(u64, Input)>> = const { RefCell::new(Vec::new()) };
	static REFUSING: Cell<bool> = const { Cell::new(false) };
}

/// In the place of `pallet-inference`: it remembers what it is asked, and takes no money.
pub struct Double;

impl RequestInference<u64> for Double {
	type Balance = u64;

	fn request_inference(
		requester: u64,
		_model: ModelId,
		input: Input,
		_assurance: Assurance,
		fee_limit: u64,
		_tip: u64,
	) -> Result<RequestId, DispatchError> {
		if REFUSING.get() || fee_limit < PRICE {
			return Err(DispatchError::Other("refused"));
		}
		Ok(ASKED.with_borrow_mut(|asked| {
			asked.push((requester, input));
			asked.len() as RequestId - 1
		}))
	}

	fn quote_inference(_: ModelId, _: Input, _: Assurance) -> Result<u64, QuoteError> {
		Ok(PRICE)
	}

	fn request_inference_weight(bytes: u32) -> Weight {
		Weight::from_parts(bytes.into(), 0)
	}
}

/// Tells the pallet how a question ended, as `pallet-inference` does.
pub(crate) fn tell(request: RequestId, settled: Settled) -> DispatchResult {
	let who = ASKED.with_borrow(|asked| asked[request as usize].0);
	Moderation::on_settled(request, &who, &settled)
}

/// Returns a language model's final answer.
pub(crate) fn says(text: &str) -> Settled {
	Settled::Final(Final::untested(text_output(text)))
}
// docs: end

/// What the double asks for an answer.
pub(crate) const PRICE: u64 = 50;

/// Accounts with 1,000,000 each.
pub(crate) const ALICE: u64 = 1;
pub(crate) const BOB: u64 = 2;

/// Whether questions are refused from now on.
pub(crate) fn refuse(refuse: bool) {
	REFUSING.set(refuse);
}

/// What was asked, and for whom.
pub(crate) fn asked() -> Vec<(u64, Input)> {
	ASKED.with_borrow(|asked| asked.clone())
}

pub(crate) fn text_output(text: &str) -> Output {
	Output::Text {
		tokens: vec![codec::Compact(1)].try_into().unwrap(),
		text: text.as_bytes().to_vec().try_into().unwrap(),
		finish: FinishReason::EndOfText,
	}
}

/// Scores of a classifier, by the bits of each.
pub(crate) fn scores(bits: &[u32]) -> Output {
	let tensor = Tensor {
		name: b"scores".to_vec().try_into().unwrap(),
		datatype: DataType::Fp32,
		shape: vec![1, bits.len() as u32].try_into().unwrap(),
		data: bits
			.iter()
			.flat_map(|b| b.to_le_bytes())
			.collect::<Vec<_>>()
			.try_into()
			.unwrap(),
	};
	Output::Tensors(vec![tensor].try_into().unwrap())
}

// docs: policy
/// A language model that says "Yes" or "No": these are the two tokens of SmolLM2's vocabulary, of which one is all it can say.
pub(crate) fn chat() -> Policy {
	const NO: u32 = 5_230;
	const YES: u32 = 10_539;
	let bytes = |text: &str| text.as_bytes().to_vec();
	let either = LogitsProcessing {
		logit_bias: vec![(NO, MAX_BIAS), (YES, MAX_BIAS)].try_into().unwrap(),
		..Default::default()
	};
	Policy {
		model: ModelId::repeat_byte(1),
		question: Question::Chat {
			instructions: bytes("Is this text fit for everybody? Answer yes or no.")
				.try_into()
				.unwrap(),
			sampling: Sampling {
				max_tokens: 1,
				processing: either.compact(),
				..Default::default()
			},
		},
		reading: Reading::Word {
			allow: bytes("yes").try_into().unwrap(),
			refuse: bytes("no").try_into().unwrap(),
		},
		assurance: Assurance::Committee(2),
	}
}

/// A classifier whose second score is how bad a text is, from 0 to 1. A half at most is allowed.
pub(crate) fn classifier() -> Policy {
	let bytes = |text: &str| text.as_bytes().to_vec();
	Policy {
		question: Question::Classify {
			input: bytes("text").try_into().unwrap(),
			rank: 2,
		},
		reading: Reading::Score {
			output: bytes("scores").try_into().unwrap(),
			element: 1,
			most: 1 << 15,
		},
		..chat()
	}
}
// docs: end

/// Two accounts with money, and a language model to ask.
pub(crate) fn externalities() -> sp_io::TestExternalities {
	let mut storage = frame_system::GenesisConfig::<Test>::default()
		.build_storage()
		.unwrap();
	pallet_balances::GenesisConfig::<Test> {
		balances: [ALICE, BOB].map(|n| (n, 1_000_000)).into(),
		..Default::default()
	}
	.assimilate_storage(&mut storage)
	.unwrap();
	let mut ext = sp_io::TestExternalities::new(storage);
	ext.execute_with(|| {
		ASKED.take();
		refuse(false);
		System::set_block_number(1);
		assert_ok!(Moderation::set_policy(RuntimeOrigin::root(), Some(chat())));
		System::reset_events();
	});
	ext
}

/// Storage is checked at the end.
pub(crate) fn run(test: impl FnOnce()) {
	externalities().execute_with(|| {
		test();
		Moderation::do_try_state().unwrap();
	});
}

/// Proposes a text. Returns the question's number.
pub(crate) fn propose(who: u64, text: &str) -> RequestId {
	let text = text.as_bytes().to_vec().try_into().unwrap();
	assert_ok!(Moderation::propose(RuntimeOrigin::signed(who), text, PRICE));
	asked().len() as RequestId - 1
}

/// What is held from an account.
pub(crate) fn held(who: u64) -> u64 {
	Balances::balance_on_hold(&HoldReason::Deposit.into(), &who)
}

pub(crate) fn last_event() -> Event<Test> {
	let last = System::events()
		.into_iter()
		.filter_map(|r| match r.event {
			RuntimeEvent::Moderation(e) => Some(e),
			_ => None,
		})
		.next_back();
	last.unwrap()
}
