use consilience_primitives::request::{Input, Message, Prompt, Role};
use polkadot_sdk::{
	frame_support::{assert_noop, assert_ok, dispatch::GetDispatchInfo},
	sp_runtime::DispatchError,
};

use crate::{mock::*, Call, CurrentPolicy, Error, Event, Notes, Proposals, Quote, Unquoted};

fn attempt(text: &[u8], fee_limit: u64) -> Result<(), DispatchError> {
	let text = text.to_vec().try_into().unwrap();
	Moderation::propose(RuntimeOrigin::signed(ALICE), text, fee_limit)
}

#[test]
fn a_text_is_asked_about_before_it_is_stored() {
	run(|| {
		let request = propose(ALICE, "hello");
		assert_eq!(held(ALICE), 100 + 2 * 5);
		assert_eq!(
			last_event(),
			Event::Proposed {
				who: ALICE,
				request,
				deposit: 110
			}
		);
		assert!(Notes::<Test>::get(ALICE).is_none());
		let (payer, input) = asked().remove(0);
		assert_eq!(payer, ALICE);
		let Input::TextGeneration {
			prompt: Prompt::Chat(messages),
			sampling,
		} = input
		else {
			panic!("{input:?}");
		};
		assert_eq!(sampling.max_tokens, 1);
		let [system, user] = &messages[..] else {
			panic!("{messages:?}");
		};
		assert_eq!(system.role, Role::System);
		let wanted = Message {
			role: Role::User,
			content: b"hello".to_vec().try_into().unwrap(),
		};
		assert_eq!(*user, wanted);
	});
}

#[test]
fn a_classifier_is_asked_with_the_text_as_a_string() {
	run(|| {
		CurrentPolicy::<Test>::put(classifier());
		propose(ALICE, "grüezi");
		let Input::Tensor(tensors) = asked().remove(0).1 else {
			panic!();
		};
		assert_ok!(tensors[0].validate());
		assert_eq!(tensors[0].shape[..], [1, 1]);
		assert_eq!(tensors[0].strings().unwrap(), ["grüezi"]);
	});
}

#[test]
fn what_nobody_could_show_is_refused_for_nothing() {
	run(|| {
		for text in [&b""[..], b"\xff", b"a\x1b[2J", b"a\0"] {
			assert_noop!(attempt(text, PRICE), Error::<Test>::BadText);
			assert_eq!(Moderation::quote(text.to_vec()), Err(Unquoted::BadText));
		}
		assert_ok!(attempt(b"two\nlines", PRICE));
		assert_noop!(attempt(b"again", PRICE), Error::<Test>::AlreadyProposed);
		assert_eq!(Moderation::quote(vec![b'a'; 65]), Err(Unquoted::TooLong));
	});
}

#[test]
fn where_nobody_is_asked_nothing_is_held() {
	run(|| {
		assert_noop!(
			attempt(b"hello", PRICE - 1),
			DispatchError::Other("refused")
		);
		refuse(true);
		assert_noop!(attempt(b"hello", PRICE), DispatchError::Other("refused"));
		refuse(false);
		CurrentPolicy::<Test>::kill();
		assert_noop!(attempt(b"hello", PRICE), Error::<Test>::NoPolicy);
		assert_eq!(Moderation::quote(b"a".to_vec()), Err(Unquoted::NoPolicy));
		assert_eq!(held(ALICE), 0);
		assert!(Proposals::<Test>::get(ALICE).is_none());
	});
}

#[test]
fn whoever_cannot_pay_the_deposit_asks_nothing() {
	run(|| {
		assert!(Moderation::propose(
			RuntimeOrigin::signed(77),
			b"hello".to_vec().try_into().unwrap(),
			PRICE
		)
		.is_err());
		assert!(asked().is_empty());
	});
}

#[test]
fn a_quote_says_what_will_be_held() {
	run(|| {
		let quote = Quote {
			fee_limit: PRICE,
			deposit: 110,
		};
		assert_eq!(Moderation::quote(b"hello".to_vec()), Ok(quote));
		propose(ALICE, "hello");
		assert_eq!(held(ALICE), quote.deposit);
	});
}

#[test]
fn asking_is_part_of_the_weight() {
	let weight = |text: &[u8]| {
		let text = text.to_vec().try_into().unwrap();
		let call = Call::<Test>::propose {
			text,
			fee_limit: PRICE,
		};
		call.get_dispatch_info().call_weight
	};
	let (short, long) = (weight(b"a"), weight(&[b'a'; 64]));
	// The double says a unit a byte.
	assert!(long.ref_time() >= short.ref_time() + 63);
	assert!(short.all_gte(Moderation::asking_weight(1)));
}

#[test]
fn no_input_is_larger_than_what_was_weighed() {
	use codec::Encode;
	use consilience_primitives::sampling::{LogitsProcessing, Sampling};

	let text = [b'a'; 64];
	let mut chat = chat().question;
	let crate::Question::Chat {
		instructions,
		sampling,
	} = &mut chat
	else {
		panic!();
	};
	*instructions = vec![b'i'; crate::MAX_INSTRUCTIONS as usize]
		.try_into()
		.unwrap();
	*sampling = Sampling {
		stop: vec![vec![b's'; 64].try_into().unwrap(); 4]
			.try_into()
			.unwrap(),
		processing: Some(LogitsProcessing {
			logit_bias: vec![(0, 0); 16].try_into().unwrap(),
			..Default::default()
		}),
		..Default::default()
	};
	for question in [chat, classifier().question] {
		let size = question.input(&text).unwrap().encoded_size() as u32;
		let weighed = 64 + crate::Question::overhead();
		assert!(size <= weighed, "{size} of {weighed}");
	}
}
