use consilience_primitives::{
	request::{Output, Unanswerable},
	view::RequestState,
};
use pallet_inference::{Final, Settled};
use polkadot_sdk::frame_support::{assert_noop, assert_ok};

use crate::{mock::*, CurrentPolicy, Error, Event, NotJudged, Notes, Proposals, Verdict};

// docs: test
#[test]
fn an_allowed_text_takes_the_place_of_the_one_before() {
	run(|| {
		let first = propose(ALICE, "hello");
		assert_ok!(tell(first, says("Yes.")));
		assert_eq!(Notes::<Test>::get(ALICE).unwrap().text[..], *b"hello");
		assert_eq!(held(ALICE), 110);

		let second = propose(ALICE, "hello again");
		assert_eq!(held(ALICE), 110 + 122);
		assert_ok!(tell(second, says("yes, it is")));
		assert_eq!(Notes::<Test>::get(ALICE).unwrap().text[..], *b"hello again");
		assert_eq!(held(ALICE), 122);
		let stored = Event::Stored {
			who: ALICE,
			request: second,
			released: 110,
		};
		assert_eq!(last_event(), stored);
	});
}
// docs: end

#[test]
fn a_refused_text_leaves_what_was_there_and_the_deposit_returns() {
	run(|| {
		let first = propose(ALICE, "hello");
		assert_ok!(tell(first, says("yes")));
		for (answer, verdict) in [
			("No!", Verdict::Refused),
			("Certainly.", Verdict::Unclear),
			("yesterday", Verdict::Unclear),
			("", Verdict::Unclear),
		] {
			let request = propose(ALICE, "rubbish");
			assert_ok!(tell(request, says(answer)));
			assert_eq!(
				last_event(),
				Event::Refused {
					who: ALICE,
					request,
					verdict,
					released: 114
				}
			);
			assert_eq!(Notes::<Test>::get(ALICE).unwrap().text[..], *b"hello");
			assert_eq!(held(ALICE), 110);
		}
	});
}

#[test]
fn scores_are_compared_as_integers() {
	run(|| {
		CurrentPolicy::<Test>::put(classifier());
		let half = 0.5f32;
		let above = f32::from_bits(half.to_bits() + 1024);
		for (score, verdict) in [
			(0.0, Verdict::Allowed),
			(half, Verdict::Allowed),
			(above, Verdict::Refused),
			(1.0, Verdict::Refused),
			(f32::NAN, Verdict::Unclear),
			(f32::INFINITY, Verdict::Unclear),
		] {
			let request = propose(BOB, "hello");
			let output = scores(&[0, score.to_bits()]);
			assert_ok!(tell(request, Settled::Final(Final::untested(output))));
			match last_event() {
				Event::Stored { .. } => assert_eq!(verdict, Verdict::Allowed, "{score}"),
				Event::Refused { verdict: found, .. } => assert_eq!(found, verdict, "{score}"),
				other => panic!("{other:?}"),
			}
		}
		// No such element, and an answer of another kind.
		for output in [scores(&[0]), text_output("yes")] {
			let verdict = classifier().reading.verdict(&output);
			assert_eq!(verdict, Verdict::Unclear);
		}
		assert_eq!(chat().reading.verdict(&scores(&[0])), Verdict::Unclear);
	});
}

#[test]
fn every_other_end_gives_the_deposit_back_and_says_why() {
	run(|| {
		for (settled, reason) in [
			(
				Settled::Unanswerable(Unanswerable::PromptTooLong),
				NotJudged::Unanswerable(Unanswerable::PromptTooLong),
			),
			(
				Settled::Refunded(RequestState::Rejected),
				NotJudged::Refunded(RequestState::Rejected),
			),
			(
				Settled::Refunded(RequestState::Expired),
				NotJudged::Refunded(RequestState::Expired),
			),
			(
				Settled::Refunded(RequestState::Cancelled),
				NotJudged::Refunded(RequestState::Cancelled),
			),
			(Settled::Overturned, NotJudged::Overturned),
		] {
			let before = Balances::free_balance(ALICE);
			let request = propose(ALICE, "hello");
			assert_ok!(tell(request, settled));
			assert_eq!(
				last_event(),
				Event::NotJudged {
					who: ALICE,
					request,
					reason,
					released: 110
				}
			);
			assert_eq!((held(ALICE), Balances::free_balance(ALICE)), (0, before));
			assert!(Notes::<Test>::get(ALICE).is_none());
			assert!(Proposals::<Test>::get(ALICE).is_none());
		}
	});
}

#[test]
fn a_text_goes_when_the_answer_that_allowed_it_is_overturned() {
	run(|| {
		let first = propose(ALICE, "hello");
		assert_ok!(tell(first, says("yes")));
		assert_ok!(tell(first, Settled::Overturned));
		let withdrawn = Event::Withdrawn {
			who: ALICE,
			request: first,
			released: 110,
		};
		assert_eq!(last_event(), withdrawn);
		assert!(Notes::<Test>::get(ALICE).is_none());
		assert_eq!(held(ALICE), 0);

		// Not the text that came after, nor one that is being judged.
		let second = propose(ALICE, "hello");
		assert_ok!(tell(second, says("yes")));
		let third = propose(ALICE, "hello there");
		assert_ok!(tell(first, Settled::Overturned));
		assert_ok!(tell(third, says("yes")));
		assert_ok!(tell(second, Settled::Overturned));
		assert_eq!(Notes::<Test>::get(ALICE).unwrap().request, third);
	});
}

#[test]
fn what_others_asked_and_what_was_told_before_changes_nothing() {
	run(|| {
		let request = propose(ALICE, "hello");
		let bobs = propose(BOB, "hello");
		assert_ok!(tell(bobs, Settled::Stands));
		assert!(Proposals::<Test>::contains_key(BOB), "still waiting");
		assert_ok!(tell(request, says("yes")));
		assert_ok!(tell(request, says("no")));
		let unanswerable = Output::Unanswerable(Unanswerable::NotFinite);
		assert_ok!(tell(request, Settled::Final(Final::untested(unanswerable))));
		assert_eq!(Notes::<Test>::get(ALICE).unwrap().request, request);
		assert_eq!(held(ALICE), 110);
	});
}

#[test]
fn the_account_removes_its_text() {
	run(|| {
		let origin = || RuntimeOrigin::signed(ALICE);
		assert_noop!(Moderation::clear(origin()), Error::<Test>::NoNote);
		let request = propose(ALICE, "hello");
		assert_noop!(Moderation::clear(origin()), Error::<Test>::NoNote);
		assert_ok!(tell(request, says("yes")));
		propose(ALICE, "hello");
		assert_ok!(Moderation::clear(origin()));
		assert_eq!(
			last_event(),
			Event::Cleared {
				who: ALICE,
				released: 110
			}
		);
		assert_eq!(held(ALICE), 110, "for the one that is being judged");
	});
}
