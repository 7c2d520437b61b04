use codec::Encode;
use consilience_primitives::{
	request::{Assurance, Constraint, ConstraintForm, Input, InputError, Prompt, Sampling},
	view::{QuoteError, RequestState},
};
use polkadot_sdk::{
	frame_support::{
		assert_noop, assert_ok, dispatch::GetDispatchInfo, traits::fungible::InspectHold,
	},
	sp_runtime::{DispatchError, TokenError},
};

use crate::{mock::*, weights::SubstrateWeight, Call, Error, HoldReason, WeightInfo};

fn ask_with(input: Input, assurance: u8, limit: u64) -> Result<u64, DispatchError> {
	Inference::do_request(
		ALICE,
		id(TEXT),
		input,
		Assurance::Committee(assurance),
		limit,
		0,
	)
}

fn refused(error: Error<Test>) -> Result<u64, DispatchError> {
	Err(error.into())
}

#[test]
fn holds_the_fee_limit() {
	run(|| {
		let request = ask(TEXT, ALICE);
		assert_eq!(state(request), RequestState::Requested);
		assert_eq!(
			Balances::balance_on_hold(&HoldReason::Escrow.into(), &ALICE),
			1_000
		);
	});
}

#[test]
fn bad_input_is_refused_each_with_its_reason() {
	run(|| {
		let sampling = |change: fn(&mut Sampling)| {
			let mut input = text("hi", 4);
			if let Input::TextGeneration { sampling, .. } = &mut input {
				change(sampling);
			}
			input
		};
		let raw = |bytes: &[u8]| Input::TextGeneration {
			prompt: Prompt::Text(bytes.to_vec().try_into().unwrap()),
			sampling: Sampling {
				max_tokens: 1,
				..Default::default()
			},
		};
		let cases = [
			(raw(&[0xff, 0xfe]), Error::NotUtf8),
			(raw(b""), Error::EmptyInput),
			(text(&"x".repeat(201), 4), Error::InputTooLarge),
			(text("hi", 0), Error::ZeroTokens),
			(text("hi", 11), Error::OutputTooLarge),
			(sampling(|s| s.temperature = 2_001), Error::BadSampling),
			(sampling(|s| s.top_p = 0), Error::BadSampling),
			(
				sampling(|s| s.stop = vec![Default::default()].try_into().unwrap()),
				Error::BadSampling,
			),
			(tensor_input(&[1]), Error::WrongTask),
		];
		for (input, error) in cases {
			assert_eq!(ask_with(input, 2, 1_000), refused(error));
		}
		assert_eq!(
			ask_with(text("hi", 4), 0, 1_000),
			refused(Error::BadAssurance)
		);
		assert_eq!(
			ask_with(text("hi", 4), 6, 1_000),
			refused(Error::BadAssurance)
		);
		set_session(&VALIDATORS[..4]);
		assert_eq!(
			ask_with(text("hi", 4), 4, 1_000),
			refused(Error::TooFewServe)
		);
		set_session(&VALIDATORS);
		assert_eq!(
			Balances::balance_on_hold(&HoldReason::Escrow.into(), &ALICE),
			0
		);
	});
}

fn constrained(constraint: Constraint) -> Input {
	let Input::TextGeneration { prompt, sampling } = text("hi", 4) else {
		unreachable!("it is text")
	};
	Input::text(prompt, sampling, Some(constraint))
}

fn schema(bytes: usize) -> Constraint {
	Constraint::new(ConstraintForm::JsonSchema, &"x".repeat(bytes)).unwrap()
}

#[test]
fn a_constraint_is_charged_by_its_bytes() {
	run(|| {
		let quote = |input: Input| {
			let quote = Inference::quote(id(TEXT), &input.into(), Assurance::Committee(2));
			quote.map(|quote| quote.fee)
		};
		let plain = quote(text("hi", 4)).unwrap();
		assert_eq!(quote(constrained(schema(1))).unwrap(), plain + 1 + 2 + 1);
		assert!(quote(constrained(schema(100))).unwrap() >= plain + 100);
		assert_eq!(
			quote(constrained(schema(200))),
			Err(QuoteError::Input(InputError::InputTooLarge)),
			"it counts as input"
		);
	});
	let weight = |input: Input| {
		let bytes = input.encoded_size() as u64;
		let call = Call::<Test>::request {
			model: id(TEXT),
			input,
			assurance: Assurance::Committee(2),
			fee_limit: 1_000,
			tip: 0,
		};
		let real = SubstrateWeight::<Test>::request(bytes as u32);
		assert_eq!(
			call.get_dispatch_info().call_weight,
			<Test as crate::Config>::WeightInfo::request(bytes as u32)
		);
		(bytes, real.ref_time())
	};
	let (plain, most) = (weight(text("hi", 4)), weight(constrained(schema(8_192))));
	assert!(most.0 >= plain.0 + 8_192);
	// A nanosecond a byte and more, as for a prompt.
	assert!(most.1 - plain.1 >= 8_192 * 1_000);
}

#[test]
fn a_constraint_that_nobody_could_judge_is_refused() {
	run(|| {
		let with = |change: fn(&mut Constraint)| {
			let mut constraint = schema(3);
			change(&mut constraint);
			constrained(constraint)
		};
		assert!(ask_with(with(|_| ()), 2, 1_000).is_ok());
		for input in [
			with(|c| c.rules += 1),
			with(|c| c.rules = 0),
			with(|c| c.text = Default::default()),
			with(|c| c.text = vec![0xff].try_into().unwrap()),
		] {
			assert_eq!(ask_with(input, 2, 1_000), refused(Error::BadConstraint));
		}
	});
}

#[test]
fn tensors_must_suit_the_signature() {
	run(|| {
		let ask = |input| {
			Inference::do_request(ALICE, id(TENSOR), input, Assurance::Committee(2), 1_000, 0)
		};
		let mut other_name = tensor("z", &[1]);
		assert_noop!(
			ask(Input::Tensor(vec![other_name.clone()].try_into().unwrap())),
			Error::<Test>::SignatureMismatch
		);
		other_name.name = b"x".to_vec().try_into().unwrap();
		other_name.shape = vec![2].try_into().unwrap();
		assert_noop!(
			ask(Input::Tensor(vec![other_name].try_into().unwrap())),
			Error::<Test>::MalformedTensor
		);
		assert_ok!(ask(tensor_input(&[1])));
	});
}

#[test]
fn the_fee_limit_covers_the_worst_case() {
	run(|| {
		let quote = Inference::quote(id(TEXT), &text("hi", 4).into(), Assurance::Committee(2))
			.unwrap()
			.fee;
		// 100 a request, 2 bytes and two times 16 units around the message, 4 tokens at 10; two verifiers at the worth of a measurement,
		// and half of one for juries.
		assert_eq!(quote, 100 + 34 + 40 + 2 * 48 + 24);
		let fifteen = Inference::quote(id(TEXT), &text("hi", 4).into(), Assurance::Committee(5));
		assert_eq!(
			fifteen.unwrap().fee,
			quote + 3 * 48,
			"checking is paid by the head"
		);
		assert_eq!(
			ask_with(text("hi", 4), 2, quote - 1),
			refused(Error::FeeLimitTooLow)
		);
		assert!(ask_with(text("hi", 4), 2, quote).is_ok());
		assert_noop!(
			Inference::do_request(
				ALICE,
				id(TEXT),
				text("hi", 4),
				Assurance::Committee(2),
				quote,
				1
			),
			Error::<Test>::FeeLimitTooLow
		);
	});
}

#[test]
fn unknown_and_inactive_models() {
	run(|| {
		let ask = |n| {
			Inference::do_request(
				ALICE,
				id(n),
				text("hi", 4),
				Assurance::Committee(2),
				1_000,
				0,
			)
		};
		assert_noop!(ask(9), Error::<Test>::UnknownModel);
		assert_ok!(ModelRegistry::deprecate(
			RuntimeOrigin::signed(OWNER),
			id(TEXT)
		));
		assert_noop!(ask(TEXT), Error::<Test>::ModelNotActive);
		assert_eq!(
			Inference::quote(id(TEXT), &text("hi", 4).into(), Assurance::Committee(2)),
			Err(QuoteError::ModelNotActive)
		);
	});
}

#[test]
fn needs_the_money() {
	run(|| {
		assert_noop!(
			Inference::do_request(
				77,
				id(TEXT),
				text("hi", 4),
				Assurance::Committee(2),
				1_000,
				0
			),
			TokenError::FundsUnavailable
		);
	});
}

#[test]
fn open_requests_are_bounded() {
	run(|| {
		for _ in 0..8 {
			ask(TEXT, ALICE);
		}
		assert_eq!(
			ask_with(text("hi", 4), 2, 1_000),
			refused(Error::TooManyOpenOfAccount)
		);
		for _ in 0..4 {
			ask(TEXT, BOB);
		}
		assert_noop!(
			Inference::do_request(
				BOB,
				id(TEXT),
				text("hi", 4),
				Assurance::Committee(2),
				1_000,
				0
			),
			Error::<Test>::TooManyOpen
		);
	});
}

#[test]
fn cancels_only_before_an_executor_is_drawn() {
	run(|| {
		let before = Balances::free_balance(ALICE);
		let request = ask(TEXT, ALICE);
		assert_noop!(
			Inference::cancel(RuntimeOrigin::signed(BOB), request),
			Error::<Test>::NotRequester
		);
		assert_ok!(Inference::cancel(RuntimeOrigin::signed(ALICE), request));
		assert_eq!(state(request), RequestState::Cancelled);
		assert_eq!(Balances::free_balance(ALICE), before);
		assert_noop!(
			Inference::cancel(RuntimeOrigin::signed(ALICE), request),
			Error::<Test>::UnknownRequest
		);
		let request = ask(TEXT, ALICE);
		blocks(2);
		assert_noop!(
			Inference::cancel(RuntimeOrigin::signed(ALICE), request),
			Error::<Test>::AlreadyAssigned
		);
	});
}
