use std::collections::BTreeSet;

use consilience_primitives::{contribution::Contribution, view::RequestState, RequestId};
use polkadot_sdk::sp_core::{Pair as _, H256};
use polkadot_sdk::sp_runtime::transaction_validity::{
	InvalidTransaction, TransactionValidityError,
};

use crate::{
	features::{draw::draw_lowest, toss::NOT_ASKED},
	mock::*,
	Event, OffenceKind, Quiet, Requests, Strikes, Tosses,
};

/// Runs a test in which all seven validators toss.
fn tossing(test: impl FnOnce()) {
	externalities().execute_with(|| {
		Contributors::set(11);
		DrawOdds::set(1_000);
		test();
		check();
		Contributors::set(0);
		DrawOdds::set(0);
	});
}

/// A request whose answer is in the block before this one.
fn answered() -> RequestId {
	let request = ask(TEXT, ALICE);
	blocks(2);
	work(executor(request), Habit::Honest);
	next_block();
	assert_eq!(state(request), RequestState::Provisional);
	request
}

fn all_but(silent: &[u64]) -> impl Iterator<Item = u64> + '_ {
	VALIDATORS.into_iter().filter(|v| !silent.contains(v))
}

/// Who is not asked.
fn quiet() -> Vec<u64> {
	let late = Quiet::<Test>::get().into_iter();
	late.filter(|late| !late.is_back)
		.map(|late| late.who)
		.collect()
}

fn refused<T: std::fmt::Debug>(result: Result<T, TransactionValidityError>) -> InvalidTransaction {
	match result {
		Err(TransactionValidityError::Invalid(why)) => why,
		other => panic!("{other:?}"),
	}
}

/// Has a toss fail because of these.
fn fail(silent: &[u64]) -> RequestId {
	let request = answered();
	for _ in 0..2 {
		all_but(silent).for_each(toss);
		next_block();
	}
	request
}

#[test]
fn final_in_five_blocks_although_nobody_knows_the_verifiers_before() {
	tossing(|| {
		let request = ask(TEXT, ALICE);
		settle_within(request, 6, &[]);
		let view = Inference::request_view(request).unwrap();
		assert_eq!(view.state, RequestState::Final);
		assert_eq!(view.settled_at.unwrap() - view.requested_at, 5);
		assert!(!Requests::<Test>::get(request).unwrap().course.disturbed);
	});
}

#[test]
fn every_contribution_decides() {
	// What is drawn where the contribution at this place is another.
	let drawn = |place: Option<usize>| {
		let mut challenge = None;
		externalities().execute_with(|| {
			Contributors::set(11);
			DrawOdds::set(1_000);
			let request = answered();
			VALIDATORS.into_iter().for_each(toss);
			if let Some(place) = place {
				Tosses::<Test>::mutate(System::block_number(), |toss| {
					let toss = toss.as_mut().unwrap();
					assert_eq!(toss.contributors.len(), 7);
					toss.contributors[place].output = Some([1; 32]);
				});
			}
			next_block();
			challenge = Inference::request_view(request).unwrap().challenge;
			Contributors::set(0);
			DrawOdds::set(0);
		});
		challenge.unwrap()
	};
	let all: BTreeSet<_> = (0..7).map(Some).chain([None]).map(drawn).collect();
	assert_eq!(all.len(), 8);
}

#[test]
fn nothing_is_drawn_while_one_contribution_is_missing() {
	tossing(|| {
		let request = answered();
		let late = VALIDATORS[3];
		all_but(&[late]).for_each(toss);
		next_block();
		assert!(verifiers(request).is_empty());
		// In the last block in which it is taken.
		toss(late);
		next_block();
		assert_eq!(verifiers(request).len(), 2);
		assert!(!Requests::<Test>::get(request).unwrap().course.disturbed);
		assert!(quiet().is_empty());
		settle_within(request, 6, &[]);
		assert_eq!(state(request), RequestState::Final);
	});
}

#[test]
fn one_toss_serves_all_answers_of_a_block() {
	tossing(|| {
		let requests = [ask(TEXT, ALICE), ask(TEXT, BOB)];
		blocks(2);
		requests
			.into_iter()
			.map(executor)
			.collect::<BTreeSet<_>>()
			.into_iter()
			.for_each(|v| work(v, Habit::Honest));
		next_block();
		assert_eq!(Tosses::<Test>::iter().count(), 1);
		VALIDATORS.into_iter().for_each(toss);
		next_block();
		let challenges = requests.map(|id| Inference::request_view(id).unwrap().challenge);
		assert!(challenges[0].is_some() && challenges[1].is_some());
		assert_ne!(challenges[0], challenges[1]);
	});
}

#[test]
fn what_is_not_asked_for_is_refused() {
	tossing(|| {
		let (one, other) = (VALIDATORS[0], VALIDATORS[1]);
		let parent = |block: u64| System::block_hash(block - 1);
		let now = System::block_number();
		assert_eq!(
			refused(contribute(contribution(one, now, parent(now)))),
			InvalidTransaction::Custom(NOT_ASKED),
			"no answer waits"
		);
		answered();
		let now = System::block_number();
		let right = contribution(one, now, parent(now));
		for (block, why) in [
			(now + 1, InvalidTransaction::Stale),
			(now - 1, InvalidTransaction::Custom(NOT_ASKED)),
		] {
			let wrong = Contribution {
				block,
				..right.clone()
			};
			assert_eq!(refused(contribute(wrong)), why);
		}
		let stranger = contribution(200, now, parent(now));
		assert_eq!(
			refused(contribute(stranger)),
			InvalidTransaction::Custom(NOT_ASKED)
		);
		let fork = contribution(one, now, parent(now - 1));
		assert_eq!(refused(contribute(fork)), InvalidTransaction::BadProof);
		let another = Contribution {
			output: contribution(other, now, parent(now)).output,
			..right.clone()
		};
		assert_eq!(refused(contribute(another)), InvalidTransaction::BadProof);
		contribute(right.clone()).unwrap();
		assert_eq!(
			refused(contribute(right)),
			InvalidTransaction::Custom(NOT_ASKED),
			"once"
		);
		let late = contribution(other, now, parent(now));
		blocks(3);
		assert_eq!(refused(contribute(late)), InvalidTransaction::Stale);
	});
}

#[test]
fn whoever_withholds_has_the_answer_measured_again_for_sure() {
	tossing(|| {
		// Otherwise chance would, never.
		assert_eq!(DefaultParameters::get().audit_share, Default::default());
		let silent = VALIDATORS[6];
		let request = fail(&[silent]);
		assert!(events().contains(&Event::TossFailed {
			block: System::block_number() - 2,
			silent: vec![silent],
		}));
		assert!(verifiers(request).is_empty());
		// A window of several blocks draws them.
		settle_within(request, 30, &[(silent, Habit::Silent)]);
		assert_eq!(state(request), RequestState::Final);
		assert!(Requests::<Test>::get(request).unwrap().course.disturbed);
		for _ in 0..20 {
			work_block(&[(silent, Habit::Silent)]);
		}
		let audited = |event: &Event<Test>| matches!(event, Event::AuditDrawn { request: of, .. } if *of == request);
		assert!(events().iter().any(audited));
	});
}

#[test]
fn a_validator_that_is_away_holds_up_one_toss() {
	tossing(|| {
		let away = VALIDATORS[2];
		fail(&[away]);
		assert_eq!(quiet(), [away]);
		next_block();
		assert_eq!(Strikes::<Test>::get(away), 1);
		// The next goes without it.
		let request = answered();
		all_but(&[away]).for_each(toss);
		next_block();
		assert_eq!(verifiers(request).len(), 2);
		assert_eq!(Strikes::<Test>::get(away), 1);

		// It is back, and shows that by contributing where it was not drawn.
		answered();
		VALIDATORS.into_iter().for_each(toss);
		assert!(quiet().is_empty());
		next_block();
		answered();
		let toss = Tosses::<Test>::get(System::block_number()).unwrap();
		assert!(toss.contributors.iter().any(|c| c.who == away));
	});
}

#[test]
fn whoever_is_kept_out_of_the_toss_is_blamed_for_nothing() {
	tossing(|| {
		let kept_out = VALIDATORS[2];
		let request = fail(&[kept_out]);
		assert_eq!(quiet(), [kept_out]);
		// The toss has failed, and it is asked all the same, while a third of the authors could have kept it out.
		toss(kept_out);
		assert!(quiet().is_empty());
		next_block();
		assert_eq!(Strikes::<Test>::get(kept_out), 0);
		assert!(Requests::<Test>::get(request).unwrap().course.disturbed);
		assert!(Tosses::<Test>::iter().all(|(_, toss)| toss.failed));
	});
}

#[test]
fn silence_again_and_again_costs_stake() {
	tossing(|| {
		let silent = VALIDATORS[4];
		for strikes in 1..=4 {
			let request = fail(&[silent]);
			next_block();
			assert_eq!(Strikes::<Test>::get(silent), strikes);
			settle_within(request, 30, &[]);
			let absences = reported();
			assert_eq!(absences.len(), usize::from(strikes > 3), "{strikes}");
			for absence in absences {
				assert_eq!(
					(absence.offender.0, absence.kind),
					(silent, OffenceKind::Absence)
				);
			}
			// Back, to be drawn again.
			let request = answered();
			VALIDATORS.into_iter().for_each(toss);
			next_block();
			settle_within(request, 30, &[]);
		}
	});
}

#[test]
fn whoever_is_late_on_purpose_holds_up_few_tosses() {
	tossing(|| {
		let late = VALIDATORS[4];
		for times in 1..=4 {
			let request = fail(&[late]);
			toss(late);
			next_block();
			assert_eq!(
				Strikes::<Test>::get(late),
				0,
				"it was there in time for that"
			);
			assert_eq!(quiet().is_empty(), times <= 3, "{times}");
			settle_within(request, 30, &[]);
		}
		// It is asked no more, whatever it says.
		let request = answered();
		let key = pair(late).public();
		assert!(Inference::contributions_due_in(System::block_number(), &key).is_empty());
		all_but(&[late]).for_each(toss);
		next_block();
		assert_eq!(verifiers(request).len(), 2);
		settle_within(request, 30, &[]);
		// In a later session it may come back.
		set_session(&VALIDATORS);
		set_session(&VALIDATORS);
		assert_eq!(quiet(), [late]);
		answered();
		VALIDATORS.into_iter().for_each(toss);
		assert!(quiet().is_empty());
	});
}

#[test]
fn where_more_than_half_are_silent_it_is_the_network() {
	tossing(|| {
		let away = &VALIDATORS[..4];
		let request = fail(away);
		assert_eq!(quiet().len(), 4);
		next_block();
		assert!(away.iter().all(|v| Strikes::<Test>::get(v) == 0));
		assert!(Quiet::<Test>::get().iter().all(|late| late.times == 0));
		settle_within(request, 30, &[]);
		assert_eq!(state(request), RequestState::Final);
	});
}

#[test]
fn a_few_do_not_toss_for_all() {
	tossing(|| {
		// Five of seven do.
		fail(&VALIDATORS[..2]);
		answered();
		let toss = Tosses::<Test>::get(System::block_number()).unwrap();
		assert_eq!(toss.contributors.len(), 5);
		// Of four, a party of a third could be the half: all are asked again.
		fail(&VALIDATORS[..3]);
		answered();
		let toss = Tosses::<Test>::get(System::block_number()).unwrap();
		assert_eq!(toss.contributors.len(), 7);
		VALIDATORS.into_iter().for_each(crate::mock::toss);
		assert!(quiet().is_empty());
	});
}

#[test]
fn whoever_leaves_changes_nothing_but_that() {
	// The party has seen the seed, and takes members away to have others drawn.
	let seed = H256::repeat_byte(7);
	let all: Vec<u64> = (0..40).collect();
	let drawn = |all: &[u64]| draw_lowest(&seed, b"verifier", all.to_vec(), 2);
	let both = drawn(&all);
	for gone in &all {
		let rest: Vec<_> = all.iter().copied().filter(|who| who != gone).collect();
		let next = drawn(&rest);
		let stay = both.iter().filter(|who| *who != gone);
		assert!(stay.into_iter().all(|who| next.contains(who)), "{gone}");
	}
}

#[test]
fn a_session_that_ends_meanwhile_leaves_the_toss_as_it_is() {
	tossing(|| {
		let request = ask(TEXT, ALICE);
		blocks(2);
		work(executor(request), Habit::Honest);
		next_block();
		let left = *VALIDATORS
			.iter()
			.find(|v| **v != executor(request))
			.unwrap();
		let rest: Vec<_> = all_but(&[left]).collect();
		let key = pair(left).public();
		set_session(&rest);
		let now = System::block_number();
		assert!(Inference::duties(&key).is_none());
		// Whoever has left contributes by the key of then.
		contribute(contribution(left, now, System::block_hash(now - 1))).unwrap();
		rest.into_iter().for_each(toss);
		next_block();
		assert_eq!(verifiers(request).len(), 2);

		// Who has left and is silent is blamed for nothing.
		fail(&[VALIDATORS[5]]);
		assert_eq!(quiet(), [VALIDATORS[5]]);
		set_session(&VALIDATORS[..5]);
		assert!(quiet().is_empty());
	});
}

#[test]
fn without_randomness_nobody_is_drawn_to_toss() {
	tossing(|| {
		let request = ask(TEXT, ALICE);
		blocks(2);
		work(executor(request), Habit::Honest);
		set_vrf(false);
		next_block();
		set_vrf(true);
		assert!(Tosses::<Test>::get(System::block_number()).unwrap().failed);
		settle_within(request, 30, &[]);
		assert_eq!(state(request), RequestState::Final);
	});
}

#[test]
fn answers_that_can_take_long_are_drawn_for_by_windows() {
	tossing(|| {
		Contributors::set(8);
		// 3⁸ is less than 1,000 times the blocks in which an answer of 40 tokens can be given.
		assert!(Inference::can_toss(5) && !Inference::can_toss(6));
		pallet_model_registry::Models::<Test>::mutate(id(TEXT), |model| {
			model.as_mut().unwrap().spec.time.base_blocks = 6;
		});
		let request = answered();
		assert_eq!(Tosses::<Test>::iter().count(), 0);
		settle_within(request, 30, &[]);
		assert_eq!(state(request), RequestState::Final);
	});
}
