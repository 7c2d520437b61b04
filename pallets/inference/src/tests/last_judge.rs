//! What a proof of one false step does to what committees and juries have found; how it is found is `pallet-judge`'s matter.

use consilience_judge::{disputed::Disputed, play::Seen, standing::Verdict};
use consilience_primitives::{
	comparison::AnswerJudgement, report::Statement, request::Assurance, view::RequestState,
	RequestId,
};
use pallet_judge::{Cases, Games};
use polkadot_sdk::{
	frame_support::{assert_ok, traits::fungible::InspectHold},
	sp_core::Pair,
};

use crate::{
	mock::*, Claims, Event, Judging, Juries, OffenceKind, OffenceKind::*, Place, Proven, Requests,
	Rulings, Suspended, Vouchers,
};

fn place(request: RequestId, token: u32) -> Place {
	Place { request, token }
}

fn is_disputable(request: RequestId) -> bool {
	Inference::statement(&place(request, 0)).is_some()
}

/// Opens a dispute, if that can be.
fn open(request: RequestId) {
	assert!(is_disputable(request));
	Inference::opened(&place(request, 0));
}

/// Bob has stood for what is right with 700 at stake, and that is what came out.
fn prove(request: RequestId) {
	Inference::closed(&place(request, 0), Verdict::Overturned, Some((BOB, 700)));
}

/// Whoever opened it was wrong.
fn fail(request: RequestId) {
	Inference::closed(&place(request, 0), Verdict::Stays, None);
}

/// What staking heard of, once it has heard of everything that it can hear now.
fn heard() -> Vec<(u64, OffenceKind)> {
	blocks(16);
	let mut heard: Vec<_> = reported().iter().map(|o| (o.offender.0, o.kind)).collect();
	heard.sort();
	heard
}

/// A lie that everybody who was drawn finds right.
fn lie_of_all() -> RequestId {
	let request = ask(TEXT, ALICE);
	let odd = VALIDATORS.map(|v| (v, Habit::Vouching));
	settle_within(request, 12, &odd);
	assert_eq!(state(request), RequestState::Final);
	request
}

/// A lie for which five of seven vouch, in the committee and in the jury. Returns the two who do not.
fn lie_of_five() -> (RequestId, [u64; 2]) {
	let request = ask(TEXT, ALICE);
	blocks(2);
	let liar = executor(request);
	work(liar, Habit::Vouching);
	blocks(2);
	let [one, two] = [verifiers(request)[0], verifiers(request)[1]];
	let stranger = VALIDATORS
		.into_iter()
		.find(|v| ![liar, one, two].contains(v))
		.unwrap();
	let honest = [one, stranger];
	let odd: Vec<_> = VALIDATORS
		.into_iter()
		.filter(|v| !honest.contains(v))
		.map(|v| (v, Habit::Vouching))
		.collect();
	settle_within(request, 20, &odd);
	assert_eq!(
		state(request),
		RequestState::Final,
		"the jury has five liars"
	);
	assert_eq!(Inference::request_view(request).unwrap().jurors.len(), 7);
	(request, honest)
}

fn blamed(request: RequestId) -> Vec<u64> {
	let mut all = events().into_iter().find_map(|event| match event {
		Event::AnswerRefuted {
			request: of,
			blamed,
			..
		} if of == request => Some(blamed),
		_ => None,
	});
	all.iter_mut().for_each(|all| all.sort());
	all.unwrap_or_default()
}

/// Five of seven are one party: committee and jury make its lie final, and accuse who contradicts. One honest challenger overturns that, and the
/// five pay.
#[test]
fn five_of_seven_make_a_lie_final_and_pay_for_it() {
	run(|| {
		judge_for(60);
		let before = Balances::free_balance(ALICE);
		let (request, honest) = lie_of_five();
		let liar = executor(request);
		assert!(
			honest.iter().all(Inference::is_suspended),
			"accused of slander"
		);
		assert_eq!(
			heard(),
			[],
			"what a proof can overturn, staking does not hear of yet"
		);
		open(request);
		check();
		prove(request);
		check();
		assert_eq!(state(request), RequestState::Final);
		next_block();
		assert_eq!(state(request), RequestState::Overturned);
		assert!(!honest.iter().any(Inference::is_suspended), "acquitted");
		let mut five: Vec<_> = VALIDATORS
			.into_iter()
			.filter(|v| !honest.contains(v))
			.collect();
		assert_eq!(blamed(request), five);
		assert!(five.iter().all(Inference::is_suspended));
		assert_eq!(Juries::<Test>::get(request).unwrap().ruling, None);
		let mut expected: Vec<_> = five
			.drain(..)
			.map(|v| match v == liar {
				true => (v, FraudulentResult),
				false => (v, FraudulentEvidence),
			})
			.collect();
		expected.sort();
		check();
		assert_eq!(heard(), expected);
		// What the requester has paid and what was at stake is owed out of the slash.
		let paid = Requests::<Test>::get(request).unwrap().paid;
		assert_eq!(before - Balances::free_balance(ALICE), paid);
		let claim = Claims::<Test>::get(liar, request).unwrap();
		assert_eq!(claim.owed.to_vec(), [(ALICE, paid), (BOB, 700)]);
		check();
	});
}

/// A whole committee of one party needs no jury to be believed.
#[test]
fn a_committee_that_vouches_pays_when_it_is_proven_wrong() {
	run(|| {
		judge_for(60);
		let request = lie_of_all();
		let mut all = [&[executor(request)][..], &verifiers(request)].concat();
		all.sort();
		open(request);
		prove(request);
		next_block();
		assert_eq!(state(request), RequestState::Overturned);
		assert_eq!(blamed(request), all);
		assert_eq!(heard().len(), 3);
		// It is over: nothing more can be proven of it.
		assert!(!is_disputable(request));
		assert!(Proven::<Test>::get().is_empty());
	});
}

#[test]
fn only_a_settled_answer_of_a_judged_model_can_be_disputed_and_only_in_time() {
	run(|| {
		let early = ask(TEXT, ALICE);
		settle_within(early, 12, &[]);
		assert!(!is_disputable(early), "no judge");
		judge_for(10);
		assert!(is_disputable(early));
		assert!(
			Inference::statement(&place(early, 3)).is_none(),
			"it has three tokens"
		);
		assert_eq!(Inference::statement(&place(early, 2)).unwrap().said, 3);
		assert!(Inference::statement(&place(99, 0)).is_none());
		let tensor = ask(TENSOR, ALICE);
		settle_within(tensor, 12, &[]);
		assert!(!is_disputable(tensor), "another model");
		let open_one = ask(TEXT, ALICE);
		work_block(&[]);
		work_block(&[]);
		assert!(!is_disputable(open_one), "not settled");
		settle_within(open_one, 12, &[]);
		let settled = Requests::<Test>::get(open_one).unwrap().settled_at.unwrap();
		while System::block_number() < settled + 10 {
			next_block();
		}
		assert!(is_disputable(open_one));
		next_block();
		assert!(!is_disputable(open_one));
		// What a jury has found wrong is no answer that stands.
		let wrong = ask(TEXT, ALICE);
		blocks(2);
		let liar = executor(wrong);
		settle_within(wrong, 14, &[(liar, Habit::Vouching)]);
		assert_eq!(state(wrong), RequestState::Rejected);
		assert!(!is_disputable(wrong));
	});
}

/// Whoever wants that nobody looks at a lie any more: a sham dispute closes nothing, and a hundred of them postpone nothing.
#[test]
fn sham_disputes_close_nothing_and_postpone_nothing() {
	run(|| {
		judge_for(30);
		let request = lie_of_all();
		let settled = Requests::<Test>::get(request).unwrap().settled_at.unwrap();
		// Its friends dispute it themselves, at several places at a time, and lose on purpose.
		for _ in 0..5 {
			for token in 0..2 {
				assert!(Inference::statement(&place(request, token)).is_some());
				Inference::opened(&place(request, token));
			}
			assert_eq!(Judging::<Test>::get(request), 2);
			blocks(2);
			check();
			for token in 0..2 {
				Inference::closed(&place(request, token), Verdict::Stays, None);
			}
			assert!(!Judging::<Test>::contains_key(request));
			assert_eq!(state(request), RequestState::Final);
		}
		// In the last block a new one is opened: no later one can be, but it is played to its end.
		blocks(settled + 30 - System::block_number());
		open(request);
		next_block();
		assert!(!is_disputable(request));
		blocks(100);
		assert_eq!(state(request), RequestState::Final, "it is kept meanwhile");
		prove(request);
		next_block();
		assert_eq!(state(request), RequestState::Overturned);
		check();
		assert_eq!(heard().len(), 3);
	});
}

/// What is not forgotten while it is disputed is forgotten afterwards.
#[test]
fn a_disputed_answer_is_kept_and_then_forgotten() {
	run(|| {
		judge_for(20);
		let request = ask(TEXT, ALICE);
		settle_within(request, 12, &[]);
		open(request);
		blocks(70);
		check();
		assert!(Requests::<Test>::contains_key(request));
		fail(request);
		blocks(40);
		assert!(!Requests::<Test>::contains_key(request));
		assert!(!Judging::<Test>::contains_key(request));
	});
}

/// A jury that sits speaks first, and its word changes nothing that is proven.
#[test]
fn a_jury_that_sits_is_heard_out_and_pays_for_what_it_says() {
	run(|| {
		judge_for(80);
		let request = lie_of_all();
		let mut first = [&[executor(request)][..], &verifiers(request)].concat();
		open(request);
		assert_ok!(Inference::appeal(RuntimeOrigin::signed(BOB), request));
		blocks(3);
		assert_eq!(state(request), RequestState::Disputed);
		prove(request);
		check();
		next_block();
		assert_eq!(state(request), RequestState::Disputed, "the jury goes on");
		check();
		// All but two of it are liars.
		let honest: Vec<_> = VALIDATORS
			.into_iter()
			.filter(|v| !first.contains(v))
			.take(2)
			.collect();
		let odd: Vec<_> = VALIDATORS
			.into_iter()
			.filter(|v| !honest.contains(v))
			.map(|v| (v, Habit::Vouching))
			.collect();
		for _ in 0..30 {
			if state(request) == RequestState::Overturned {
				break;
			}
			work_block(&odd);
		}
		assert_eq!(state(request), RequestState::Overturned);
		let all = blamed(request);
		assert_eq!(
			all.len(),
			5,
			"those who were drawn for it before, and two jurors more"
		);
		first.retain(|who| !all.contains(who));
		assert!(first.is_empty());
		assert!(!honest
			.iter()
			.any(|v| all.contains(v) || Inference::is_suspended(v)));
		// Whoever appealed lost its bond by being right.
		let appeal = Juries::<Test>::get(request).unwrap().appeal.unwrap();
		let owed: Vec<_> = VALIDATORS
			.iter()
			.filter_map(|v| Claims::<Test>::get(v, request))
			.flat_map(|claim| claim.owed)
			.collect();
		assert!(owed.contains(&(appeal.who, appeal.bond)));
		check();
	});
}

/// The jury finds the lie itself: the proof finds nobody whom it has not accused.
#[test]
fn what_a_jury_finds_too_is_not_paid_for_twice() {
	run(|| {
		judge_for(80);
		let request = lie_of_all();
		open(request);
		assert_ok!(Inference::appeal(RuntimeOrigin::signed(BOB), request));
		blocks(3);
		for _ in 0..20 {
			if state(request) == RequestState::Overturned {
				break;
			}
			work_block(&[]);
		}
		assert_eq!(state(request), RequestState::Overturned);
		let before = heard();
		prove(request);
		blocks(3);
		assert!(Proven::<Test>::get().is_empty());
		assert_eq!(heard(), []);
		assert_eq!(
			before
				.iter()
				.filter(|(_, kind)| *kind == FraudulentResult)
				.count(),
			1
		);
		assert!(blamed(request).is_empty());
		check();
	});
}

/// Whoever measured again and agreed has vouched as well.
#[test]
fn auditors_who_agreed_pay_too() {
	run(|| {
		judge_for(80);
		let mut parameters = DefaultParameters::get();
		parameters.audit_share = polkadot_sdk::sp_runtime::Perbill::one();
		assert_ok!(Inference::set_parameters(RuntimeOrigin::root(), parameters));
		let request = lie_of_all();
		let parties = [&[executor(request)][..], &verifiers(request)].concat();
		let odd = VALIDATORS.map(|v| (v, Habit::Vouching));
		for _ in 0..30 {
			work_block(&odd);
		}
		assert_eq!(state(request), RequestState::Final);
		let auditors: Vec<_> = Vouchers::<Test>::get(request)
			.into_iter()
			.map(|(who, _)| who)
			.collect();
		assert_eq!(auditors.len(), 2);
		assert!(!auditors.iter().any(|v| parties.contains(v)));
		check();
		open(request);
		prove(request);
		next_block();
		let all = blamed(request);
		assert_eq!(all.len(), 5);
		assert!(auditors.iter().all(|v| all.contains(v)));
		assert!(!Vouchers::<Test>::contains_key(request));
		check();
	});
}

/// Nobody disputes it: staking hears of the slanderer when nobody can any more.
#[test]
fn what_a_jury_rules_waits_for_the_judge_and_no_longer() {
	run(|| {
		judge_for(40);
		let request = ask(TEXT, ALICE);
		blocks(2);
		work(executor(request), Habit::Honest);
		blocks(2);
		let slanderer = verifiers(request)[0];
		settle_within(request, 14, &[(slanderer, Habit::Slandering)]);
		assert_eq!(state(request), RequestState::Final);
		let settled = Requests::<Test>::get(request).unwrap().settled_at.unwrap();
		assert!(
			Inference::is_suspended(&slanderer),
			"it is drawn no more at once"
		);
		while System::block_number() <= settled + 40 {
			assert_eq!(reported().len(), 0);
			assert!(Rulings::<Test>::iter().count() > 0);
			next_block();
			check();
		}
		// It is looked at again as often as accusations can be contested.
		blocks(ContestBlocks::get());
		assert_eq!(heard(), [(slanderer, FraudulentEvidence)]);
		assert_eq!(Rulings::<Test>::iter().count(), 0);
		assert!(Suspended::<Test>::get().iter().all(|s| s.pending == 0));
	});
}

/// A dispute that is open keeps it waiting, and one that is lost lets it go on.
#[test]
fn a_lost_dispute_lets_a_ruling_stand() {
	run(|| {
		judge_for(30);
		let request = ask(TEXT, ALICE);
		blocks(2);
		work(executor(request), Habit::Honest);
		blocks(2);
		let slanderer = verifiers(request)[0];
		settle_within(request, 14, &[(slanderer, Habit::Slandering)]);
		open(request);
		blocks(60);
		check();
		assert_eq!(reported().len(), 0);
		fail(request);
		blocks(2 * ContestBlocks::get());
		assert_eq!(heard(), [(slanderer, FraudulentEvidence)]);
	});
}

/// Validators of which a jury is the smaller part.
const MANY: [u64; 16] = {
	let mut all = [0; 16];
	let mut i = 0;
	while i < 16 {
		all[i] = 101 + i as u64;
		i += 1;
	}
	all
};

/// Two juries uphold the lie, of which the second has taken the place of the first: both pay, and whoever lost a contest by being right has its bond
/// owed.
#[test]
fn two_captured_juries_pay_both() {
	run(|| {
		judge_for(200);
		MaxJurors::set(7);
		set_session(&MANY);
		for v in &MANY[7..] {
			Balances::force_set_balance(RuntimeOrigin::root(), *v, 1_000).unwrap();
			let serve = Statement::Serve {
				model: id(TEXT),
				evidence: digest(7),
				speed: Speed::default(),
			};
			report(*v, vec![serve]).unwrap();
		}
		next_block();
		let input = text("hi", 4);
		let request =
			Inference::do_request(ALICE, id(TEXT), input, Assurance::Committee(2), 1_000, 0)
				.unwrap();
		blocks(2);
		work(executor(request), Habit::Vouching);
		blocks(2);
		let honest = verifiers(request)[0];
		let all = |until: &dyn Fn() -> bool| {
			for _ in 0..40 {
				if until() {
					return;
				}
				for v in MANY {
					let habit = match v == honest {
						true => Habit::Honest,
						false => Habit::Vouching,
					};
					work(v, habit);
				}
				next_block();
			}
			panic!("still {:?}", state(request));
		};
		all(&|| state(request) == RequestState::Final);
		let first: Vec<_> = Inference::request_view(request).unwrap().jurors;
		let ruling = Juries::<Test>::get(request).unwrap().ruling.unwrap();
		assert_eq!(ruling.answer, AnswerJudgement::Right);
		assert_eq!(ruling.accused[0].offence.offender, honest);
		assert_ok!(Inference::contest(RuntimeOrigin::signed(honest), request));
		all(&|| state(request) == RequestState::Final);
		check();
		let second: Vec<_> = Inference::request_view(request).unwrap().jurors;
		assert!(second
			.iter()
			.all(|v| !first.contains(v) && !second.is_empty()));
		assert_eq!(heard(), [], "what two juries uphold waits as well");
		assert!(Inference::duties(&pair(honest).public())
			.unwrap()
			.accused
			.is_empty());
		open(request);
		prove(request);
		next_block();
		assert_eq!(state(request), RequestState::Overturned);
		let blamed = blamed(request);
		let liars = |jury: &[u64]| {
			jury.iter()
				.filter(|v| **v != honest)
				.all(|v| blamed.contains(v))
		};
		assert!(liars(&first) && liars(&second));
		assert!(!blamed.contains(&honest) && !Inference::is_suspended(&honest));
		let contest = Juries::<Test>::get(request).unwrap().contest.unwrap();
		let owed: Vec<_> = MANY
			.iter()
			.filter_map(|v| Claims::<Test>::get(v, request))
			.flat_map(|claim| claim.owed)
			.collect();
		assert!(owed.contains(&(honest, contest.bond)));
		check();
		let heard = heard();
		assert!(heard.iter().all(|(who, _)| *who != honest));
		assert_eq!(heard.len(), blamed.len());
		check();
	});
}

/// A token of a text by whom, and what it says there.
fn stand(who: u64, request: RequestId, text: &Text) -> bool {
	let (run, of) = (text.run(), place(request, 0));
	let trace = run.claim(Vec::new()).trace;
	let opening = run.opening(0).unwrap();
	Judge::stand(RuntimeOrigin::signed(who), of, trace, opening).is_ok()
}

/// What Bob does in a block who has computed the text: he stands for what is right, doubts and plays against everything else, answers whoever
/// doubts him, and says who is late.
fn honest(request: RequestId, right: &Text, seen: &mut Vec<(u8, Seen)>) {
	let of = place(request, 0);
	let origin = || RuntimeOrigin::signed(BOB);
	stand(BOB, request, right);
	let Some(case) = Cases::<Test>::get(of) else {
		return;
	};
	for (n, trace) in case.dispute.stands.iter().enumerate() {
		let n = n as u8;
		let is_right = trace.trace == right.run().claim(Vec::new()).trace;
		if !is_right && Judge::doubt(origin(), of, n).is_ok() {
			seen.push((n, Seen::default()));
		}
		let games: Vec<_> = Games::<Test>::iter_prefix((of, n)).collect();
		for (challenger, played) in games {
			if is_right {
				if let Some(reply) = right.run().reply(&played.game) {
					let _ = Judge::reply(origin(), of, n, challenger, reply);
				}
			} else if challenger == BOB {
				let known = seen.iter().find(|(of, _)| *of == n);
				let choice = known.and_then(|(_, seen)| seen.choose(&right.run(), &played.game));
				if let Some(choice) = choice {
					assert_ok!(Judge::choose(origin(), of, n, choice));
				}
			}
			let _ = Judge::late(origin(), of, n, challenger);
		}
		let _ = Judge::lapse(origin(), of, n);
	}
	let _ = Judge::close(origin(), of);
}

/// What those who answered do, seeing everything: they stand for their answer with as many traces as they can, each of which they speak for or
/// not, and doubt what Bob stands for.
fn liars(request: RequestId, seen: &mut [(u8, Seen)], speak: bool) {
	let of = place(request, 0);
	let answered = Text::new(5);
	let wrong = [&answered, &Text::new(9)];
	stand(ALICE, request, wrong[System::block_number() as usize % 2]);
	let _ = Judge::doubt(RuntimeOrigin::signed(OWNER), of, 0);
	let Some(case) = Cases::<Test>::get(of) else {
		return;
	};
	for (n, trace) in case.dispute.stands.iter().enumerate() {
		let n = n as u8;
		let text = wrong
			.iter()
			.find(|text| text.run().claim(Vec::new()).trace == trace.trace);
		let (Some(text), true) = (text, speak) else {
			continue;
		};
		let games: Vec<_> = Games::<Test>::iter_prefix((of, n)).collect();
		for (challenger, played) in games {
			let Some(reply) = text.run().reply(&played.game) else {
				continue;
			};
			let origin = RuntimeOrigin::signed(ALICE);
			let said = Judge::reply(origin, of, n, challenger, reply.clone());
			let known = seen.iter_mut().find(|(of, _)| *of == n);
			if let (Ok(()), Some((_, seen))) = (said, known) {
				seen.note(&played.game.stage, &reply);
			}
		}
	}
}

/// Both pallets together: five of seven have made a lie final. Whether they defend it or are silent, whether they doubt what is right or
/// open sham disputes, one who computes the text overturns it, and they pay.
#[test]
fn one_who_computes_the_text_overturns_what_five_of_seven_have_made_final() {
	for (speak, sham) in [(false, false), (true, false), (false, true), (true, true)] {
		run(|| {
			judge_for(200);
			let (request, honest_ones) = lie_of_five();
			assert!(Inference::statement(&place(request, 0)).is_some_and(|of| of.said == 6));
			let right = Text::new(0);
			let money = Balances::free_balance(BOB);
			if sham {
				// They dispute their own answer first, with what is false too, and another place of it.
				assert!(stand(ALICE, request, &Text::new(9)));
				let at = place(request, 1);
				let text = Text::new(9);
				let opening = text.run().opening(1).unwrap();
				let trace = text.run().claim(Vec::new()).trace;
				assert_ok!(Judge::stand(
					RuntimeOrigin::signed(OWNER),
					at,
					trace,
					opening
				));
			}
			let mut seen = Vec::new();
			for _ in 0..1_500 {
				if state(request) == RequestState::Overturned {
					break;
				}
				honest(request, &right, &mut seen);
				liars(request, &mut seen, speak);
				check();
				next_block();
			}
			assert_eq!(state(request), RequestState::Overturned, "{speak} {sham}");
			assert_eq!(blamed(request).len(), 5);
			assert!(!honest_ones.iter().any(Inference::is_suspended));
			// All ends by itself, and Bob has lost nothing.
			blocks(u64::from(Judge::longest()) + 100);
			assert_eq!(Cases::<Test>::count(), 0);
			assert!(!Judging::<Test>::contains_key(request));
			let held =
				|who| Balances::balance_on_hold(&pallet_judge::HoldReason::Bond.into(), &who);
			assert_eq!([ALICE, BOB, OWNER].map(held), [0; 3]);
			assert!(Balances::free_balance(BOB) >= money);
			check();
		});
	}
}
