use consilience_primitives::{sampling::Sampling, ModelId};
use polkadot_sdk::{
	frame_support::{assert_noop, assert_ok},
	sp_runtime::DispatchError,
};

use crate::{mock::*, CurrentPolicy, Error, Event, Notes, Policy, Question, Reading};

#[test]
fn only_its_origin_changes_the_policy() {
	run(|| {
		let set = |origin, policy| Moderation::set_policy(origin, policy);
		assert_noop!(
			set(RuntimeOrigin::signed(ALICE), None),
			DispatchError::BadOrigin
		);
		let model = Some(ModelId::repeat_byte(1));
		assert_ok!(set(RuntimeOrigin::root(), Some(classifier())));
		assert_eq!(last_event(), Event::PolicyChanged { model });
		assert_ok!(set(RuntimeOrigin::root(), None));
		assert_eq!(last_event(), Event::PolicyChanged { model: None });
		assert!(CurrentPolicy::<Test>::get().is_none());
	});
}

#[test]
fn a_policy_that_cannot_work_is_refused() {
	run(|| {
		let word = |allow: &str, refuse: &str| {
			let bytes = |s: &str| s.as_bytes().to_vec().try_into().unwrap();
			Reading::Word {
				allow: bytes(allow),
				refuse: bytes(refuse),
			}
		};
		let ask = |instructions: &[u8], sampling: Sampling| Question::Chat {
			instructions: instructions.to_vec().try_into().unwrap(),
			sampling,
		};
		let reads = |reading| Policy { reading, ..chat() };
		let asks = |question| Policy { question, ..chat() };
		let no_tokens = Sampling {
			max_tokens: 0,
			..Default::default()
		};
		let hot = Sampling {
			temperature: 9_999,
			..Default::default()
		};
		let classify = |input: &[u8], rank| Policy {
			question: Question::Classify {
				input: input.to_vec().try_into().unwrap(),
				rank,
			},
			..classifier()
		};
		for bad in [
			reads(classifier().reading),
			asks(classifier().question),
			reads(word("", "no")),
			reads(word("yes", "YES")),
			reads(word("oh yes", "no")),
			asks(ask(b"", Default::default())),
			asks(ask(b"\xff", Default::default())),
			asks(ask(b"Well?", no_tokens)),
			asks(ask(b"Well?", hot)),
			classify(b"", 1),
			classify(b"text", 9),
		] {
			assert_noop!(
				Moderation::set_policy(RuntimeOrigin::root(), Some(bad)),
				Error::<Test>::BadPolicy
			);
		}
		assert_ok!(Moderation::set_policy(
			RuntimeOrigin::root(),
			Some(reads(word("ja", "Nein")))
		));
	});
}

#[test]
fn a_text_is_judged_by_what_was_asked_about_it() {
	run(|| {
		let request = propose(ALICE, "hello");
		CurrentPolicy::<Test>::put(classifier());
		assert_ok!(tell(request, says("yes")));
		assert!(Notes::<Test>::get(ALICE).is_some());
	});
}
