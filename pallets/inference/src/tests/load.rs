//! What is asked of whoever comes when the network is nearly full, and how long that takes.

use consilience_primitives::{
	model::Speed,
	request::Assurance,
	view::{Quote, QuoteError, RequestState, Wait},
	RequestId,
};
use polkadot_sdk::{
	frame_support::{
		assert_noop, assert_ok,
		traits::fungible::{Inspect, InspectHold},
	},
	sp_runtime::Perbill,
};

use crate::{features::load::Capacity, mock::*, Error, Event, HoldReason, Parameters};

/// What a request costs at most, without a surcharge.
const COST: u64 = 100 + 34 + 40 + 2 * 48 + 24;

/// A network of seven in which eleven requests have room, and the price doubles near full.
fn small(test: impl FnOnce()) {
	run(|| {
		MaxLoad::set(1_000);
		// As many as are asked at once here.
		MaxDraws::set(16);
		MaxPerBlock::set(16);
		Parameters::<Test>::mutate(|p| p.surcharge_at_full = 1_000);
		test();
	});
	MaxLoad::set(4_000);
	MaxDraws::set(6);
	MaxPerBlock::set(6);
}

fn quote() -> Result<Quote<u64>, QuoteError> {
	Inference::quote(id(TEXT), &text("hi", 4).into(), Assurance::Committee(2))
}

/// Ten requests of two others, and one of the owner's that takes the last of the capacity. The others take theirs back.
fn last(content: &str) -> (RequestId, u64) {
	let others: Vec<_> = [ALICE, BOB]
		.into_iter()
		.flat_map(|who| (0..5).map(move |_| (who, ask(TEXT, who))))
		.collect();
	let quoted = Inference::quote(id(TEXT), &text(content, 4).into(), Assurance::Committee(2));
	let surcharge = quoted.unwrap().surcharge;
	let request = Inference::do_request(
		OWNER,
		id(TEXT),
		text(content, 4),
		Assurance::Committee(2),
		1_000,
		7,
	)
	.unwrap();
	for (who, request) in others {
		assert_ok!(Inference::cancel(RuntimeOrigin::signed(who), request));
	}
	check();
	(request, surcharge)
}

#[test]
fn nothing_is_paid_up_to_a_half_and_asking_in_parts_is_no_cheaper() {
	let at = |taken| Capacity {
		whole: 1_000,
		taken,
	};
	let percent = Perbill::from_percent;
	assert_eq!(at(0).crowding(500), percent(0));
	assert_eq!(at(300).crowding(100), percent(0));
	assert_eq!(
		at(500).crowding(500),
		percent(50),
		"the mean of nothing and one"
	);
	assert_eq!(at(0).crowding(1_000), percent(25));
	assert_eq!(at(1_000).crowding(1), percent(100));
	assert_eq!(at(750).crowding(0), percent(50));
	// What is more than all there is pays as if it took all.
	assert_eq!(at(0).crowding(9_000), at(0).crowding(1_000));
	// All in one, or in two parts anywhere.
	for cut in [1, 100, 499, 500, 501, 900, 999] {
		let whole = at(0).crowding(1_000).deconstruct() as i64 * 1_000;
		let parts = at(0).crowding(cut).deconstruct() as i64 * cut as i64
			+ at(cut).crowding(1_000 - cut).deconstruct() as i64 * (1_000 - cut as i64);
		assert!((whole - parts).abs() <= 1_000, "{cut}: {whole}, {parts}");
	}
	assert_eq!(at(0).per_mille(), 0);
	assert_eq!(at(999).per_mille(), 999);
	assert_eq!(Capacity { whole: 0, taken: 0 }.per_mille(), 0);
}

#[test]
fn room_is_expected_when_what_is_short_has_left() {
	let at = |taken| Capacity {
		whole: 1_000,
		taken,
	};
	// Half of what is taken leaves in half of the time that a request takes.
	assert_eq!(at(1_000).room_in(500, 20), 10);
	assert_eq!(at(1_000).room_in(1, 20), 1);
	// More than there is waits until nobody has anything to do.
	assert_eq!(at(400).room_in(5_000, 20), 20);
	assert_eq!(at(0).room_in(5_000, 20), 1);
}

#[test]
fn the_price_rises_from_a_half_to_full_and_the_quote_says_so() {
	small(|| {
		let mut surcharges = Vec::new();
		for i in 0..11 {
			let quote = quote().unwrap();
			assert_eq!(quote.fee, COST + quote.surcharge);
			assert_eq!(quote.taken, 600 * i * 1_000 / 7_000);
			surcharges.push(quote.surcharge);
			let who = [ALICE, BOB, OWNER][i as usize / 5];
			let ask = |limit| {
				let assurance = Assurance::Committee(2);
				Inference::do_request(who, id(TEXT), text("hi", 4), assurance, limit, 0)
			};
			assert_noop!(ask(quote.fee - 1), Error::<Test>::FeeLimitTooLow);
			assert_ok!(ask(quote.fee));
		}
		// Five take 3,000 of 7,000. The sixth is 100 above a half at its end: 100² ÷ (2 × 3,500 × 600) of 294.
		assert_eq!(surcharges[..6], [0, 0, 0, 0, 0, 1]);
		assert!(surcharges[5..].is_sorted());
		// From 2,500 to 3,100 of the 3,500 above a half: four fifths.
		assert_eq!(surcharges[10], (COST * 4).div_ceil(5));
		let Err(QuoteError::NoCapacity { blocks }) = quote() else {
			panic!("there is no room");
		};
		assert!((1..6).contains(&blocks));
		// Governance decides how much.
		Parameters::<Test>::mutate(|p| p.surcharge_at_full = 0);
		MaxLoad::set(2_000);
		assert_eq!(quote().unwrap().surcharge, 0);
		Parameters::<Test>::mutate(|p| p.surcharge_at_full = 2_000);
		let double = quote().unwrap().surcharge;
		Parameters::<Test>::mutate(|p| p.surcharge_at_full = 1_000);
		assert_eq!(quote().unwrap().surcharge, double / 2);
	});
}

#[test]
fn a_network_with_nothing_to_do_takes_any_request_at_its_price() {
	small(|| {
		// One request is more than all that seven can take.
		MaxLoad::set(50);
		let idle = quote().unwrap();
		assert_eq!((idle.surcharge, idle.taken), (0, 0));
		let request = ask(TEXT, ALICE);
		let Err(QuoteError::NoCapacity { blocks }) = quote() else {
			panic!("there is no room");
		};
		assert_eq!(blocks, idle.wait.blocks());
		settle_within(request, 8, &[]);
		assert_eq!(state(request), RequestState::Final);
		assert!(quote().is_ok());
	});
}

#[test]
fn a_surcharge_is_burned_when_the_answer_is_final_and_nobody_gains() {
	small(|| {
		let (request, surcharge) = last("hi");
		assert!(surcharge > 200);
		let before = (total(), Balances::total_balance(&OWNER));
		let others = VALIDATORS.into_iter().chain([TREASURY, FUND]);
		let earned: u64 = others.clone().map(Balances::free_balance).sum();
		assert_eq!(
			Inference::request_view(request).unwrap().surcharge,
			surcharge
		);
		settle_within(request, 8, &[]);
		let view = Inference::request_view(request).unwrap();
		assert_eq!(view.state, RequestState::Final);
		// Three tokens of at most four; what the capacity was taken for stays what it was.
		let cost = (100 + 34 + 30) + 2 * 47 + 24 + 7;
		assert_eq!(view.surcharge, surcharge);
		assert_eq!(view.paid, cost + surcharge);
		assert_eq!(view.paid + view.refunded, 1_000);
		assert_eq!(before.0 - total(), surcharge, "burned");
		assert_eq!(before.1 - Balances::total_balance(&OWNER), view.paid);
		let gained = others.map(Balances::free_balance).sum::<u64>() - earned;
		assert_eq!(gained, cost);
		assert!(events().contains(&Event::SurchargeBurned {
			request,
			amount: surcharge
		}));
	});
}

#[test]
fn what_nobody_can_answer_took_capacity_too() {
	small(|| {
		let (request, surcharge) = last("poison");
		let before = total();
		settle_within(request, 8, &[]);
		assert_eq!(state(request), RequestState::Unanswerable);
		assert_eq!(before - total(), surcharge);
	});
}

#[test]
fn whoever_takes_a_request_back_does_not_have_the_surcharge_back() {
	small(|| {
		let (request, surcharge) = last("hi");
		let before = total();
		assert_ok!(Inference::cancel(RuntimeOrigin::signed(OWNER), request));
		let view = Inference::request_view(request).unwrap();
		assert_eq!(view.state, RequestState::Cancelled);
		assert_eq!((view.paid, view.surcharge), (surcharge, surcharge));
		assert_eq!(view.refunded, 1_000 - surcharge);
		assert_eq!(before - total(), surcharge);
		assert_eq!(
			Balances::balance_on_hold(&HoldReason::Escrow.into(), &OWNER),
			0
		);
	});
}

#[test]
fn a_surcharge_comes_back_where_the_request_comes_to_nothing() {
	let silent = VALIDATORS.map(|v| (v, Habit::Silent));
	for (odd, end) in [
		(&silent[..], RequestState::Expired),
		(&[][..], RequestState::Rejected),
	] {
		small(|| {
			let (request, surcharge) = last("hi");
			assert!(surcharge > 0);
			let before = (total(), Balances::total_balance(&OWNER));
			blocks(2);
			let liar = [(executor(request), Habit::Vouching)];
			let odd = if odd.is_empty() { &liar } else { odd };
			settle_within(request, 100, odd);
			let view = Inference::request_view(request).unwrap();
			assert_eq!(view.state, end);
			assert_eq!((view.paid, view.surcharge, view.refunded), (0, 0, 1_000));
			assert_eq!(before, (total(), Balances::total_balance(&OWNER)));
		});
	}
}

#[test]
fn whoever_was_lied_to_has_the_surcharge_back_out_of_the_slash() {
	small(|| {
		let (request, surcharge) = last("hi");
		blocks(2);
		work(executor(request), Habit::Vouching);
		blocks(2);
		let party = [
			executor(request),
			verifiers(request)[0],
			verifiers(request)[1],
		]
		.map(|v| (v, Habit::Vouching));
		settle_within(request, 6, &party);
		assert_eq!(state(request), RequestState::Final);
		let paid = Inference::request_view(request).unwrap().paid;
		assert_ok!(Inference::appeal(RuntimeOrigin::signed(BOB), request));
		work_block(&party);
		settle_within(request, 12, &party);
		assert_eq!(state(request), RequestState::Overturned);
		let view = Inference::request_view(request).unwrap();
		assert_eq!(view.surcharge, surcharge, "that stays burned");
		assert!(events().contains(&Event::AnswerOverturned {
			request,
			owed: paid - 7
		}));
	});
}

#[test]
fn a_quote_says_how_long_an_answer_takes() {
	run(|| {
		let quoted = quote().unwrap();
		// 400 and 100 thousandths are less than half a block; the executor's draw, the answer and one block that draws.
		let idle = Wait {
			queue: 0,
			work: 0,
			draws: 3,
			rounds: 3,
		};
		assert_eq!(quoted.wait, idle);
		assert_eq!((quoted.taken, quoted.surcharge), (0, 0));
		let request = ask(TEXT, ALICE);
		let asked = System::block_number();
		settle_within(request, 8, &[]);
		// Finality comes at once here, and evidence is shown in the next block.
		let took = System::block_number() - 1 - asked;
		assert_eq!(took, u64::from(idle.blocks()) - 1);

		// Slow machines need 1.6 blocks for it, and 0.4 for a measurement.
		let slow = Speed {
			pace: 4_000,
			duty: 0,
		};
		for v in VALIDATORS {
			assert_ok!(ModelRegistry::withdraw(&v, id(TEXT)));
			assert_ok!(ModelRegistry::serve(&v, id(TEXT), &digest(7), slow));
		}
		assert_eq!(quote().unwrap().wait, Wait { work: 2, ..idle });
		// Every one of them has an answer to give.
		for who in [ALICE, BOB].repeat(5) {
			ask(TEXT, who);
		}
		blocks(3);
		let wait = quote().unwrap().wait;
		assert!(wait.queue >= 1, "{wait:?}");
		assert_eq!(wait.work, 2);
	});
}

#[test]
fn of_a_check_by_chance_the_mean_is_expected() {
	run(|| {
		admit_sampling();
		let rounds = |p| {
			let quote = Inference::quote(id(TEXT), &text("hi", 4).into(), Assurance::Sampled(p));
			quote.unwrap().wait.rounds
		};
		assert_eq!((rounds(1_000), rounds(0), rounds(500)), (3, 5, 4));
	});
}

#[test]
fn what_is_promised_for_one_model_does_not_fill_all_of_a_network_that_serves_others() {
	small(|| {
		// Three serve the one, four the other.
		for (place, v) in VALIDATORS.iter().enumerate() {
			let other = if place < 3 { TENSOR } else { TEXT };
			assert_ok!(ModelRegistry::withdraw(v, id(other)));
		}
		let taken = |model, input: consilience_primitives::request::Input| {
			Inference::quote(id(model), &input.into(), Assurance::Committee(2))
				.unwrap()
				.taken
		};
		for who in [ALICE, BOB] {
			ask(TEXT, who);
			ask(TEXT, who);
		}
		assert_eq!(taken(TEXT, text("hi", 4)), 800);
		// 2,400 over seven validators, of which four have 4,000: what falls on all alike.
		assert_eq!(taken(TENSOR, tensor_input(&[1, 2])), 342);
		check();
	});
}

#[test]
fn what_an_account_asks_of_one_model_keeps_nobody_from_another() {
	small(|| {
		for _ in 0..5 {
			ask(TEXT, ALICE);
		}
		let ask = |model, input| {
			let assurance = Assurance::Committee(2);
			Inference::do_request(ALICE, id(model), input, assurance, 1_000, 0)
		};
		assert_noop!(ask(TEXT, text("hi", 4)), Error::<Test>::NoCapacity);
		assert_ok!(ask(TENSOR, tensor_input(&[1, 2])));
	});
}

#[test]
fn whoever_has_answered_has_room_for_others() {
	run(|| {
		let request = ask(TEXT, ALICE);
		blocks(2);
		let executor = executor(request);
		let load = || crate::Loads::<Test>::get().iter().sum::<u32>();
		assert_eq!(load(), 400);
		work(executor, Habit::Honest);
		assert_eq!(load(), 100, "its own measurement is left");
		check();
		settle_within(request, 6, &[]);
		assert_eq!(load(), 0);
	});
}
