use consilience_primitives::{
	request::{Assurance, Input, Prompt, Sampling},
	view::{QuoteError, RequestState},
};
use polkadot_sdk::{
	frame_support::{assert_noop, assert_ok, traits::fungible::InspectHold},
	sp_runtime::{DispatchError, TokenError},
};

use crate::{mock::*, Error, HoldReason};

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
