//! Openings: which receipts fit, and what is measured.

use consilience_primitives::{
	model::Price,
	request::{FinishReason, Input, Output, Prompt, Sampling},
	session::{
		sampling_seed, Opening, Receipt, Service, Signable, SumNode, Transcript, Voucher,
		SLICE_TOKENS,
	},
};
use polkadot_sdk::{frame_support::assert_ok, sp_core::H256};

use crate::{mock::*, Audits, Claims, Error, Event, PointState, Shown};

type Open = Opening<u64, u64, u64>;

/// A claim over these, every coin of which has a point, and its openings.
fn claimed(answers: &[Answer]) -> (u64, Vec<Open>) {
	let id = open(ALICE, &[(EXECUTOR, 2_000)], 0);
	PointInterval::set(30);
	claim(id, EXECUTOR, answers)
}

/// The first point that lies in this opening's receipt.
fn point_in(claim: u64, openings: &[Open], place: usize) -> u32 {
	let claim = Claims::<Test>::get(claim).unwrap();
	claim
		.points
		.iter()
		.position(|p| at_point(openings, p.offset, &claim.root) == place)
		.unwrap() as u32
}

#[test]
fn an_opened_answer_is_measured_as_it_was_asked() {
	run(|| {
		let (claim, openings) = claimed(&answers(1, &[60, 70]));
		let (first, second) = (point_in(claim, &openings, 0), point_in(claim, &openings, 1));
		let due = Sessions::openings_due(&EXECUTOR);
		assert_eq!(due.len(), Claims::<Test>::get(claim).unwrap().points.len());
		assert_eq!((due[0].claim, due[0].point, due[0].channel), (claim, 0, 0));
		assert_eq!(open_receipt(claim, first, &openings[0]), Ok(()));
		let measured = audited();
		assert_eq!(measured.len(), 1);
		let seed = Sessions::channel(0).unwrap().seed.unwrap();
		assert_eq!(measured[0].seed, sampling_seed(&seed, 1));
		assert_eq!(measured[0].output, openings[0].output);
		assert_eq!(measured[0].input, openings[0].ask.input);
		assert_eq!(
			(
				measured[0].requester,
				measured[0].executor,
				measured[0].session
			),
			(ALICE, EXECUTOR, 0)
		);
		assert_eq!(measured[0].model, model());
		assert!(events().contains(&Event::ReceiptOpened {
			claim,
			number: 1,
			request: Some(0)
		}));
		// All points in the receipt are done with it, and none else.
		let points = Claims::<Test>::get(claim).unwrap().points;
		for point in &points {
			let expected = if point.offset < 150 {
				PointState::Measured(0)
			} else {
				PointState::Due
			};
			assert_eq!(point.state, expected);
		}
		assert_eq!(
			open_receipt(claim, first, &openings[0]),
			refused(Error::NotDue)
		);
		assert_eq!(
			open_receipt(claim, second, &openings[0]),
			refused(Error::ShownBefore)
		);
		assert_eq!(open_receipt(claim, second, &openings[1]), Ok(()));
		assert!(Sessions::openings_due(&EXECUTOR).is_empty());
		assert_eq!(Audits::<Test>::iter().count(), 2);
	});
}

/// Signs a receipt and a voucher again that were changed.
fn resigned(mut opening: Open) -> Open {
	opening.receipt = sign(opening.receipt.body, &lane(EXECUTOR));
	opening.voucher = sign(opening.voucher.body, &key(ALICE));
	opening
}

#[test]
fn what_does_not_fit_is_refused_with_its_reason_and_the_deadline_goes_on() {
	run(|| {
		let (claim, openings) = claimed(&answers(1, &[60, 70]));
		let point = point_in(claim, &openings, 0);
		let good = openings[0].clone();
		let with = |change: &dyn Fn(&mut Open)| {
			let mut opening = good.clone();
			change(&mut opening);
			open_receipt(claim, point, &resigned(opening))
		};
		assert_eq!(open_receipt(7, point, &good), refused(Error::UnknownClaim));
		assert_eq!(open_receipt(claim, 99, &good), refused(Error::NotDue));
		// Of another channel, another payee, or no number.
		for change in [
			(|r| r.channel = 9) as fn(&mut Receipt<u64, u64, u64>),
			|r| r.payee = OTHER,
			|r| r.number = 0,
			|r| r.number = consilience_primitives::session::MAX_NUMBER + 1,
		] {
			assert_eq!(
				with(&|o| change(&mut o.receipt.body)),
				refused(Error::WrongReceipt)
			);
		}
		assert_eq!(
			with(&|o| o.ask.salt = H256::zero()),
			refused(Error::WrongAsk)
		);
		assert_eq!(with(&|o| o.ask.number = 2), refused(Error::WrongAsk));
		for change in [
			(|v| v.service = Service::Check) as fn(&mut Voucher<u64, u64>),
			|v| v.number = 2,
			|v| v.channel = 9,
			|v| v.payee = OTHER,
			|v| v.request = H256::zero(),
		] {
			assert_eq!(
				with(&|o| change(&mut o.voucher.body)),
				refused(Error::WrongVoucher)
			);
		}
		assert_eq!(
			with(&|o| o.output = openings[1].output.clone()),
			refused(Error::WrongOutput)
		);
		assert_eq!(
			with(&|o| o.output =
				Output::Unanswerable(consilience_primitives::request::Unanswerable::NotFinite)),
			refused(Error::WrongOutput)
		);
		assert_eq!(
			with(&|o| o.voucher.body.transcript = H256::zero()),
			refused(Error::NotAcknowledged)
		);
		assert_eq!(
			with(&|o| o.receipt.body.input_units += 1),
			refused(Error::WrongUnits)
		);
		assert_eq!(
			with(&|o| o.receipt.body.output_units -= 1),
			refused(Error::WrongUnits)
		);
		// More was paid than it says, or it is another receipt.
		assert_eq!(
			with(&|o| o.receipt.body.amount = 149),
			refused(Error::WrongPlace)
		);
		assert_eq!(
			with(&|o| o.receipt.body.amount = 151),
			refused(Error::NotInClaim)
		);
		// A voucher that ends elsewhere.
		assert_eq!(
			with(&|o| o.voucher.body.amount = 151),
			refused(Error::WrongPlace)
		);
		assert_eq!(
			with(&|o| o.voucher.body.amount = 149),
			refused(Error::NotInClaim)
		);
		assert_eq!(
			with(&|o| o.voucher.body.amount = 0),
			refused(Error::WrongPlace)
		);
		// The place of another receipt.
		assert_eq!(
			with(&|o| o.proof = openings[1].proof.clone()),
			refused(Error::WrongPlace)
		);
		assert_eq!(
			with(&|o| o.receipt.body.session = 1),
			refused(Error::NotInClaim)
		);
		assert_eq!(
			open_receipt(claim, point, &openings[1]),
			refused(Error::NotAtPoint)
		);
		// By other keys.
		let mut stolen = good.clone();
		stolen.receipt = sign(stolen.receipt.body, &lane(OTHER));
		assert_eq!(
			open_receipt(claim, point, &stolen),
			refused(Error::BadSignature)
		);
		let mut own = good.clone();
		own.voucher = sign(own.voucher.body, &lane(EXECUTOR));
		assert_eq!(open_receipt(claim, point, &own), refused(Error::BadVoucher));
		assert!(audited().is_empty());
		// The last block counts.
		let deadline = Claims::<Test>::get(claim).unwrap().deadline.unwrap();
		blocks(deadline - System::block_number());
		assert_eq!(open_receipt(claim, point, &good), Ok(()));
		next_block();
		assert!(
			!Claims::<Test>::contains_key(claim),
			"the other was not opened"
		);
	});
}

/// One answer that was claimed with whatever is in its opening.
fn claimed_as(change: impl FnOnce(&mut Open)) -> (u64, Open) {
	let id = open(ALICE, &[(EXECUTOR, 2_000)], 0);
	PointInterval::set(50);
	let answer = Answer {
		number: 1,
		tokens: 60,
		seen: 60,
	};
	let mut opening = opening_of(id, EXECUTOR, answer);
	change(&mut opening);
	let request = opening.ask.hash(&genesis());
	let Output::Text {
		tokens,
		text,
		finish,
	} = &opening.output
	else {
		panic!("a text");
	};
	let receipt = &mut opening.receipt.body;
	receipt.request = request;
	receipt.transcript = Transcript::of(&request, tokens, text, *finish);
	receipt.anchor = opening.ask.anchor;
	receipt.output_units = tokens.len() as u32;
	let mut transcript = Transcript::begin(&request);
	tokens.iter().for_each(|t| transcript.push(t.0));
	opening.voucher.body.request = request;
	opening.voucher.body.transcript = transcript.hash;
	let amount = opening.receipt.body.amount;
	opening.voucher.body.amount = amount;
	let opening = resigned(opening);
	let (template, _) = claim_of(id, EXECUTOR, &[answer]);
	let claim = changed(template, |c| {
		c.root = SumNode::leaf(&opening.receipt.body.hash(&genesis()), amount);
		c.voucher.body.amount = amount;
	});
	assert_eq!(settle(&[claim]), Ok(()));
	drawn();
	assert!(!Claims::<Test>::get(0).unwrap().points.is_empty());
	(0, opening)
}

#[test]
fn what_a_model_costs_now_makes_nobody_a_liar() {
	run(|| {
		let dearer = |per_request| Price {
			per_request,
			..price()
		};
		// Client and executor have agreed on the price, by voucher and receipt.
		assert_ok!(ModelRegistry::set_price(
			RuntimeOrigin::signed(OWNER),
			model(),
			dearer(70)
		));
		let (claim, opening) = claimed_as(|o| assert_eq!(o.ask.anchor.number, 1));
		assert_ok!(ModelRegistry::set_price(
			RuntimeOrigin::signed(OWNER),
			model(),
			dearer(7)
		));
		assert_eq!(open_receipt(claim, 0, &opening), Ok(()));
	});
	run(|| {
		let (claim, opening) = claimed_as(|o| o.receipt.body.amount = 60);
		assert_eq!(open_receipt(claim, 0, &opening), Ok(()));
	});
}

#[test]
fn a_model_that_is_gone_is_not_its_executors_fault() {
	run(|| {
		let (claim, opening) = claimed_as(|_| ());
		assert_ok!(ModelRegistry::deprecate(
			RuntimeOrigin::signed(OWNER),
			model()
		));
		assert_ok!(ModelRegistry::remove(RuntimeOrigin::signed(OWNER), model()));
		let mut other = opening.clone();
		other.receipt.body.number = 5;
		assert_eq!(
			open_receipt(claim, 0, &resigned(other)),
			refused(Error::WrongAsk)
		);
		assert_eq!(open_receipt(claim, 0, &opening), Ok(()));
		assert!(audited().is_empty());
		let points = Claims::<Test>::get(claim).unwrap().points;
		assert!(points.iter().all(|p| p.state == PointState::Unmeasured));
		let before = Balances::free_balance(EXECUTOR);
		blocks(10);
		assert!(Balances::free_balance(EXECUTOR) > before);
	});
}

#[test]
fn the_anchor_is_a_block_of_this_chain_before_the_claim() {
	run(|| {
		let (claim, opening) = claimed_as(|o| o.ask.anchor.hash = H256::zero());
		assert_eq!(
			open_receipt(claim, 0, &opening),
			refused(Error::WrongAnchor)
		);
	});
	run(|| {
		let (claim, opening) = claimed_as(|o| o.ask.anchor.number = 1_000);
		assert_eq!(
			open_receipt(claim, 0, &opening),
			refused(Error::WrongAnchor)
		);
	});
	run(|| {
		let (claim, opening) = claimed_as(|_| ());
		// Its hash is forgotten.
		polkadot_sdk::frame_system::BlockHash::<Test>::remove(1);
		assert_eq!(open_receipt(claim, 0, &opening), Ok(()));
	});
}

#[test]
fn a_question_that_the_model_does_not_take_was_never_honestly_answered() {
	run(|| {
		let (claim, opening) = claimed_as(|o| {
			o.ask.input = Input::TextGeneration {
				prompt: Prompt::Text(b"\xff123456789".to_vec().try_into().unwrap()),
				sampling: Sampling {
					max_tokens: 400,
					..Default::default()
				},
			}
		});
		assert_eq!(open_receipt(claim, 0, &opening), refused(Error::WrongInput));
	});
	run(|| {
		let (claim, opening) = claimed_as(|o| {
			if let Input::TextGeneration { sampling, .. } = &mut o.ask.input {
				sampling.max_tokens = 59;
			}
		});
		assert_eq!(
			open_receipt(claim, 0, &opening),
			refused(Error::WrongOutput)
		);
	});
}

#[test]
fn the_client_may_keep_the_last_slice_and_no_more() {
	run(|| {
		let answer = |number, tokens, unpaid| Answer {
			number,
			tokens,
			seen: tokens - unpaid,
		};
		let (claim, openings) = claimed(&[
			answer(1, 20, 20),
			answer(2, 60, SLICE_TOKENS),
			answer(3, 80, 0),
			answer(4, 70, SLICE_TOKENS + 1),
		]);
		let details = Claims::<Test>::get(claim).unwrap();
		assert_eq!(details.root.sum, 30 + 86 + 190 + 104);
		let open = |place| {
			let point = point_in(claim, &openings, place);
			open_receipt(claim, point, &openings[place])
		};
		// Of a short answer only the question may be paid.
		assert_eq!(open(0), Ok(()));
		assert_eq!(open(1), Ok(()));
		assert_eq!(open(2), Ok(()));
		assert_eq!(open(3), refused(Error::NotAcknowledged));
		// It says what was paid: another voucher does not go with the tree.
		assert_eq!(
			Audits::<Test>::iter_values().map(|o| o.paid).sum::<u64>(),
			30 + 86 + 190
		);
	});
}

#[test]
fn a_cut_answer_is_measured_as_the_whole_answer_to_a_shorter_question() {
	run(|| {
		let (claim, opening) = claimed_as(|o| {
			if let Output::Text { finish, .. } = &mut o.output {
				*finish = FinishReason::Length;
			}
		});
		assert_eq!(open_receipt(claim, 0, &opening), Ok(()));
		let Input::TextGeneration { sampling, .. } = &audited()[0].input else {
			panic!("a text");
		};
		assert_eq!(sampling.max_tokens, 60);
		let Input::TextGeneration { sampling, .. } = &opening.ask.input else {
			panic!("a text");
		};
		assert_eq!(sampling.max_tokens, 400);
	});
}

#[test]
fn padding_is_found_where_a_point_falls_on_it() {
	run(|| {
		// The same honest receipt twice, where the second stands for what must not be seen.
		let id = open(ALICE, &[(EXECUTOR, 2_000)], 0);
		PointInterval::set(50);
		let all = answers(1, &[60]);
		let (template, openings) = claim_of(id, EXECUTOR, &all);
		let leaf = SumNode::leaf(&openings[0].receipt.body.hash(&genesis()), 150);
		let leaves = [leaf, leaf];
		let claim = changed(template, |c| {
			c.root = SumNode::root(&leaves).unwrap();
			c.voucher.body.amount = 300;
		});
		assert_eq!(settle(&[claim]), Ok(()));
		let (again, _) = claim_of(id, EXECUTOR, &all);
		assert_eq!(settle(&[again]), Ok(()));
		drawn();
		let opening = |place| Opening {
			proof: SumNode::proof(&leaves, place).unwrap(),
			..openings[0].clone()
		};
		let second = Claims::<Test>::get(0)
			.unwrap()
			.points
			.iter()
			.position(|p| p.offset >= 150)
			.unwrap();
		assert_eq!(
			open_receipt(0, second as u32, &opening(1)),
			refused(Error::WrongPlace)
		);
		// Nor in another claim of the channel, whether the first is paid by then or not.
		assert_eq!(open_receipt(1, 0, &openings[0]), refused(Error::WrongPlace));
		// In its own it stands, and once.
		assert_eq!(open_receipt(0, 0, &opening(0)), Ok(()));
		assert_eq!(
			open_receipt(0, second as u32, &opening(1)),
			refused(Error::ShownBefore)
		);
		assert_eq!(Shown::<Test>::iter().count(), 1);
	});
	run(|| {
		// A question that nobody has asked: there is no voucher for it.
		let id = open(ALICE, &[(EXECUTOR, 2_000)], 0);
		PointInterval::set(50);
		let answer = answers(1, &[60])[0];
		let mut invented = opening_of(id, EXECUTOR, answer);
		invented.voucher.body.amount = 150;
		invented.voucher = sign(invented.voucher.body, &lane(EXECUTOR));
		let (claim, _) = claim_of(id, EXECUTOR, &[answer]);
		assert_eq!(settle(&[claim]), Ok(()));
		drawn();
		assert_eq!(open_receipt(0, 0, &invented), refused(Error::BadVoucher));
	});
}
