//! Random sequences of all calls, work, lies, silence, withdrawals and session changes, with the invariants of storage checked
//! after each step. Money is neither made nor lost.

use std::{
	cell::{Cell, RefCell},
	collections::BTreeMap,
};

use consilience_judge::{disputed::Disputed, standing::Verdict};
use consilience_primitives::{
	evidence,
	model::{Price, Task},
	report::Statement,
	request::Assurance,
};
use polkadot_sdk::{
	frame_support::{
		assert_ok,
		pallet_prelude::Weight,
		storage::with_storage_layer,
		traits::{
			fungible::{InspectHold, Mutate},
			tokens::Preservation,
		},
	},
	sp_core::H256,
	sp_runtime::Perbill,
	sp_staking::OnStakingUpdate,
};
use proptest::{prelude::*, test_runner::TestRunner};

use crate::{
	mock::*, Answered, AuditAnswers, ContestEnd, Elsewhere, Event, HoldReason, Juries, NextRequest,
	OffenceRange, Place, ProtocolParameters, RequestInference, Requests, Rulings,
	SessionValidators,
};

#[derive(Clone, Debug)]
enum Action {
	Ask {
		model: u8,
		by_bob: bool,
		verifiers: u8,
		sampled: Option<u16>,
		limit: u64,
		tip: u64,
		callback: bool,
	},
	Appeal {
		request: u64,
		by: u8,
	},
	/// An answer that was given elsewhere is shown, or none is.
	Show {
		validator: usize,
		wrong: bool,
		missing: bool,
		appealed: bool,
	},
	/// What a checker says of one of them.
	Testify {
		answer: u64,
		checker: usize,
		right: bool,
	},
	/// Who is a party from now on, and what it does.
	Party {
		members: u8,
		habit: Habit,
	},
	/// Everybody does what is due, those of the party in their way, and a block ends.
	Everybody,
	/// One of the accused, mostly, calls a second jury.
	Contest {
		request: u64,
		validator: usize,
	},
	/// Somebody disputes an answer before the last judge, where that can be.
	Dispute {
		request: u64,
		token: u32,
	},
	/// One of the disputes that are open ends.
	Judge {
		overturned: bool,
	},
	/// Staking applies a slash.
	Slash {
		validator: usize,
		amount: u64,
	},
	/// Juries of three, beside which there are others.
	Few(bool),
	Disable {
		validator: usize,
	},
	Cancel {
		request: u64,
		by_bob: bool,
	},
	Work {
		validator: usize,
		habit: Habit,
	},
	Withdraw {
		validator: usize,
		model: u8,
	},
	Differ {
		validator: usize,
		model: u8,
	},
	Serve {
		validator: usize,
		model: u8,
		pace: u32,
	},
	Session {
		without: Option<usize>,
	},
	Randomness(bool),
	/// Blocks that a draw mixes, by the odds.
	Odds(u32),
	/// Validators that toss for verifiers.
	Contributors(u32),
	/// One contributes to what it is asked for.
	Toss {
		validator: usize,
	},
	Deaf(bool),
	Idle(bool),
	/// Register a model that was removed, and have everybody serve it.
	Register {
		model: u8,
	},
	SetPrice {
		model: u8,
		per_request: u64,
	},
	Deprecate {
		model: u8,
		by_bob: bool,
	},
	Remove {
		model: u8,
	},
	Govern {
		executor: u8,
		verifier: u8,
		surcharge: u32,
	},
	/// How much of a requester's work a validator takes at a time.
	Room(u32),
	Block,
}

fn habit() -> impl Strategy<Value = Habit> {
	prop_oneof![
		6 => Just(Habit::Honest),
		1 => Just(Habit::Silent),
		1 => Just(Habit::Withholding),
		1 => Just(Habit::Lying),
		1 => Just(Habit::Vouching),
		1 => Just(Habit::Slandering),
		1 => Just(Habit::Refusing),
	]
}

/// What a party does together.
fn lie() -> impl Strategy<Value = Habit> {
	prop_oneof![
		1 => Just(Habit::Honest),
		1 => Just(Habit::Silent),
		1 => Just(Habit::Withholding),
		1 => Just(Habit::Lying),
		4 => Just(Habit::Vouching),
		2 => Just(Habit::Slandering),
		1 => Just(Habit::Refusing),
	]
}

fn action() -> impl Strategy<Value = Action> {
	let model = 1u8..=2;
	prop_oneof![
		10 => (
			model.clone(),
			any::<bool>(),
			prop_oneof![1 => 0u8..=6, 2 => 1u8..=2],
			prop::option::weighted(0.3, 0u16..1_100),
			prop_oneof![1 => 0u64..2_000, 2 => 1_000u64..2_000],
			0u64..50,
			any::<bool>()
		)
			.prop_map(|(model, by_bob, verifiers, sampled, limit, tip, callback)| {
				Action::Ask { model, by_bob, verifiers, sampled, limit, tip, callback }
			}),
		// Some of whom lie, and most often none.
		3 => (prop_oneof![1 => Just(0u8), 1 => 0u8..128, 2 => Just(7u8)], lie())
			.prop_map(|(members, habit)| Action::Party { members, habit }),
		30 => Just(Action::Everybody),
		3 => (0u64..20, 0u8..4).prop_map(|(request, by)| Action::Appeal { request, by }),
		4 => (
			0usize..7,
			prop::bool::weighted(0.3),
			prop::bool::weighted(0.05),
			prop::bool::weighted(0.3)
		)
			.prop_map(|(validator, wrong, missing, appealed)| {
				Action::Show { validator, wrong, missing, appealed }
			}),
		4 => (0u64..16, 0usize..7, any::<bool>())
			.prop_map(|(answer, checker, right)| Action::Testify { answer, checker, right }),
		2 => (0u64..20, 0usize..7).prop_map(|(request, validator)| Action::Contest { request, validator }),
		3 => (0u64..20, 0u32..2).prop_map(|(request, token)| Action::Dispute { request, token }),
		2 => any::<bool>().prop_map(|overturned| Action::Judge { overturned }),
		1 => (0usize..7, 0u64..300).prop_map(|(validator, amount)| Action::Slash { validator, amount }),
		1 => prop::bool::weighted(0.7).prop_map(Action::Few),
		1 => (0usize..7).prop_map(|validator| Action::Disable { validator }),
		1 => (0u64..20, any::<bool>()).prop_map(|(request, by_bob)| Action::Cancel { request, by_bob }),
		10 => (0usize..7, habit()).prop_map(|(validator, habit)| Action::Work { validator, habit }),
		1 => (0usize..7, model.clone()).prop_map(|(validator, model)| Action::Withdraw { validator, model }),
		1 => (0usize..7, model.clone()).prop_map(|(validator, model)| Action::Differ { validator, model }),
		2 => (0usize..7, model.clone(), prop_oneof![0u32..5_000, Just(1_000)])
			.prop_map(|(validator, model, pace)| Action::Serve { validator, model, pace }),
		1 => model.clone().prop_map(|model| Action::Register { model }),
		1 => (model.clone(), 0u64..300).prop_map(|(model, per_request)| Action::SetPrice { model, per_request }),
		// Mostly by somebody whose model it is not, so that there is a model most of the time.
		1 => (model.clone(), prop::bool::weighted(0.95))
			.prop_map(|(model, by_bob)| Action::Deprecate { model, by_bob }),
		1 => model.prop_map(|model| Action::Remove { model }),
		1 => (0u8..=100, 0u8..=100, 0u32..4_000)
			.prop_map(|(executor, verifier, surcharge)| Action::Govern { executor, verifier, surcharge }),
		// Little enough that requests are refused and those near full pay more.
		1 => prop_oneof![1 => Just(4_000u32), 2 => 300u32..1_000].prop_map(Action::Room),
		1 => prop::option::of(0usize..7).prop_map(|without| Action::Session { without }),
		1 => prop::bool::weighted(0.8).prop_map(Action::Randomness),
		1 => prop_oneof![4 => Just(0u32), 1 => 1u32..1_000].prop_map(Action::Odds),
		1 => prop_oneof![1 => Just(0u32), 2 => 1u32..=11].prop_map(Action::Contributors),
		3 => (0usize..7).prop_map(|validator| Action::Toss { validator }),
		1 => any::<bool>().prop_map(Action::Deaf),
		1 => any::<bool>().prop_map(Action::Idle),
		3 => Just(Action::Block),
	]
}

thread_local! {
	/// Members of the party by their places, and what they do.
	static PARTY: Cell<(u8, Habit)> = const { Cell::new((0, Habit::Honest)) };
	/// Disputes that are open before the last judge.
	static DISPUTES: RefCell<Vec<Place>> = const { RefCell::new(Vec::new()) };
}

/// Name of an answer that was given elsewhere.
fn name(answer: u64) -> H256 {
	H256::from_low_u64_be(answer)
}

/// One of the last requests.
fn recent(request: u64) -> u64 {
	NextRequest::<Test>::get().saturating_sub(1 + request % 8)
}

fn act(action: Action) {
	let who = |bob| if bob { BOB } else { ALICE };
	match action {
		Action::Ask {
			model,
			by_bob,
			verifiers,
			sampled,
			limit,
			tip,
			callback,
		} => {
			// Some of what is asked nobody can answer.
			let poisoned = tip % 5 == 0;
			let input = match (model, poisoned) {
				(TEXT, false) => text("hi", 4),
				(TEXT, true) => text("poison", 4),
				(_, false) => tensor_input(&[1, 2]),
				(_, true) => tensor_input(POISON),
			};
			let assurance = match sampled {
				Some(p) => Assurance::Sampled(p),
				None => Assurance::Committee(verifiers),
			};
			if callback {
				let _ = with_storage_layer(|| {
					Inference::request_inference(
						who(by_bob),
						id(model),
						input,
						assurance,
						limit,
						tip,
					)
				});
			} else {
				let _ = with_storage_layer(|| {
					Inference::request(
						RuntimeOrigin::signed(who(by_bob)),
						id(model),
						input,
						assurance,
						limit,
						tip,
					)
				});
			}
		}
		Action::Appeal { request, by } => {
			let who = [ALICE, BOB, VALIDATORS[0], VALIDATORS[5]][usize::from(by)];
			let request = recent(request);
			let _ = with_storage_layer(|| Inference::appeal(RuntimeOrigin::signed(who), request));
		}
		Action::Show {
			validator,
			wrong,
			missing,
			appealed,
		} => {
			let executor = VALIDATORS[validator];
			let session = <Inference as SessionValidators<u64>>::session();
			if missing {
				<Inference as AuditAnswers<u64>>::not_shown(session.into(), &executor, session);
				return;
			}
			// Not where the model is gone.
			let answer = Answered {
				// Some have the name of one that was shown before.
				reference: name(NextRequest::<Test>::get() % 16),
				requester: BOB,
				model: id(TEXT),
				input: text("hi", 4),
				output: if wrong {
					wrong_answer()
				} else {
					answer(&[1, 2, 3])
				},
				seed: Default::default(),
				executor,
				session,
				passed_over: Default::default(),
				choice: 0,
			};
			let _ = with_storage_layer(|| {
				if appealed {
					<Inference as AuditAnswers<u64>>::appeal(ALICE, answer)
				} else {
					<Inference as AuditAnswers<u64>>::audit(answer)
				}
			});
		}
		Action::Testify {
			answer,
			checker,
			right,
		} => {
			let verdict = evidence::Verdict {
				margin_max: if right { 0 } else { 90_000 },
				..Default::default()
			};
			let known: Vec<_> = {
				let mut all: Vec<_> = crate::References::<Test>::iter_keys().collect();
				all.sort();
				all
			};
			let last = (answer as usize) % known.len().max(1);
			let name = known.get(last).copied().unwrap_or_default();
			let checker = VALIDATORS[checker];
			let session = <Inference as SessionValidators<u64>>::session();
			let may = Inference::may_testify(&name, &checker, session, &verdict);
			let done = Inference::testify(&name, &checker, session, &verdict);
			assert_eq!(may, done);
		}
		Action::Party { members, habit } => PARTY.set((members, habit)),
		Action::Everybody => {
			let (party, habit) = PARTY.get();
			for (place, v) in VALIDATORS.into_iter().enumerate() {
				let is_party = party & (1 << place) != 0;
				// Some of a party withhold what decides who checks them.
				if !is_party || habit != Habit::Withholding {
					toss(v);
				}
				let done = crate::LastReport::<Test>::get(v) == Some(System::block_number() - 1);
				if !done {
					work(v, if is_party { habit } else { Habit::Honest });
				}
			}
			next_block();
		}
		Action::Contest { request, validator } => {
			let waiting = crate::RulingRange::<Test>::get();
			let request = (waiting.0..waiting.1)
				.filter_map(Rulings::<Test>::get)
				.map(|(id, _)| id)
				.next()
				.unwrap_or(recent(request));
			let ruling = Juries::<Test>::get(request).and_then(|jury| jury.ruling);
			let accused = ruling.and_then(|r| r.accused.first().map(|a| a.offence.offender));
			let who = accused
				.filter(|_| validator > 0)
				.unwrap_or(VALIDATORS[validator]);
			let _ = with_storage_layer(|| Inference::contest(RuntimeOrigin::signed(who), request));
		}
		Action::Dispute { request, token } => {
			let place = Place {
				request: recent(request),
				token,
			};
			let is_open = DISPUTES.with_borrow(|all| all.contains(&place));
			if !is_open && Inference::statement(&place).is_some() {
				Inference::opened(&place);
				DISPUTES.with_borrow_mut(|all| all.push(place));
			}
		}
		Action::Judge { overturned } => {
			let first = DISPUTES.with_borrow_mut(|all| (!all.is_empty()).then(|| all.remove(0)));
			let Some(place) = first else {
				return;
			};
			match overturned {
				true => Inference::closed(&place, Verdict::Overturned, Some((BOB, 30))),
				false => Inference::closed(&place, Verdict::Stays, None),
			}
		}
		Action::Slash { validator, amount } => {
			// Out of whose slash somebody is owed something, where there is one.
			let owing = crate::Claims::<Test>::iter_keys().next();
			let v = owing.map_or(VALIDATORS[validator], |(v, _)| v);
			let free = Balances::free_balance(v);
			let amount = amount.min(free.saturating_sub(10));
			Inference::on_slash(&v, amount, &Default::default(), amount);
			Balances::transfer(&v, &FUND, amount, Preservation::Preserve).unwrap();
		}
		Action::Few(few) => {
			MaxJurors::set(if few { 3 } else { 8 });
			MinJury::set(if few { 1 } else { 3 });
		}
		Action::Disable { validator } => {
			let sits = crate::Keys::<Test>::get().len();
			if validator < sits {
				disable(&[validator as u32]);
			}
		}
		Action::Cancel { request, by_bob } => {
			let _ = Inference::cancel(RuntimeOrigin::signed(who(by_bob)), recent(request));
		}
		Action::Work { validator, habit } => {
			let v = VALIDATORS[validator];
			// One report a validator and block.
			let done = crate::LastReport::<Test>::get(v) == Some(System::block_number() - 1);
			if !done {
				work(v, habit);
			}
		}
		Action::Withdraw { validator, model } => {
			let _ = report(
				VALIDATORS[validator],
				vec![Statement::Withdraw { model: id(model) }],
			);
		}
		Action::Differ { validator, model } => {
			let statement = Statement::Differ {
				model: id(model),
				evidence: digest(8),
			};
			let _ = report(VALIDATORS[validator], vec![statement]);
		}
		Action::Serve {
			validator,
			model,
			pace,
		} => {
			let statement = Statement::Serve {
				model: id(model),
				evidence: digest(7),
				speed: Speed {
					pace,
					duty: pace / 100,
				},
			};
			let _ = report(VALIDATORS[validator], vec![statement]);
		}
		Action::Session { without } => {
			let mut validators = VALIDATORS.to_vec();
			if let Some(i) = without {
				validators.remove(i);
			}
			disable(&[]);
			set_session(&validators);
		}
		Action::Randomness(on) => set_vrf(on),
		Action::Odds(odds) => DrawOdds::set(odds),
		Action::Contributors(most) => Contributors::set(most),
		Action::Toss { validator } => toss(VALIDATORS[validator]),
		Action::Deaf(deaf) => set_deaf(deaf),
		Action::Idle(idle) => set_idle(if idle { Weight::MAX } else { Weight::zero() }),
		Action::Register { model } => {
			let task = if model == TEXT {
				Task::TextGeneration
			} else {
				Task::Tensor
			};
			let registered = with_storage_layer(|| {
				ModelRegistry::register(
					RuntimeOrigin::signed(OWNER),
					id(model),
					spec(task),
					price(),
				)
			});
			if registered.is_ok() {
				for validator in VALIDATORS {
					act(Action::Serve {
						validator: (validator - VALIDATORS[0]) as usize,
						model,
						pace: 1_000,
					});
				}
			}
		}
		Action::SetPrice { model, per_request } => {
			let price = Price {
				per_request,
				..price()
			};
			let _ = ModelRegistry::set_price(RuntimeOrigin::signed(OWNER), id(model), price);
		}
		Action::Deprecate { model, by_bob } => {
			let who = if by_bob { BOB } else { OWNER };
			let _ = with_storage_layer(|| {
				ModelRegistry::deprecate(RuntimeOrigin::signed(who), id(model))
			});
		}
		Action::Remove { model } => {
			let _ = with_storage_layer(|| {
				ModelRegistry::remove(RuntimeOrigin::signed(OWNER), id(model))
			});
		}
		Action::Room(most) => MaxLoad::set(most),
		Action::Govern {
			executor,
			verifier,
			surcharge,
		} => {
			let parameters = ProtocolParameters {
				treasury_share: Perbill::from_percent(executor.into()),
				verifier_share: Perbill::from_percent(verifier.into()),
				audit_share: Perbill::from_percent(executor.into()),
				surcharge_at_full: surcharge,
				..crate::Parameters::<Test>::get()
			};
			let _ = Inference::set_parameters(RuntimeOrigin::root(), parameters);
		}
		Action::Block => next_block(),
	}
}

fn cases() -> u32 {
	// The nightly run asks for more.
	std::env::var("PROPTEST_CASES")
		.ok()
		.and_then(|n| n.parse().ok())
		.unwrap_or(128)
}

#[test]
fn invariants_hold_after_every_action() {
	let config = ProptestConfig {
		cases: cases(),
		..ProptestConfig::with_source_file(file!())
	};
	let tried = Cell::new(0u64);
	let reached = RefCell::new(BTreeMap::new());
	let sequences = prop::collection::vec(action(), 1..250);
	let found = TestRunner::new(config).run(&sequences, |actions| {
		tried.set(tried.get() + actions.len() as u64);
		check_sequence(actions, &mut reached.borrow_mut());
		Ok(())
	});
	found.unwrap_or_else(|e| panic!("{e}"));
	// Shown by `scripts/bench protocol`.
	println!(
		"figure property_actions = {} [at least 1000000] in {} sequences, all invariants checked after each, nothing found",
		tried.get(),
		cases()
	);
	// A property holds easily of what is never reached.
	let reached = reached.into_inner();
	println!("reached {reached:?}");
	for end in [
		"final",
		"surcharged",
		"unanswerable",
		"rejected",
		"appealed",
		"audited",
		"testified",
		"offences",
		"tossed in vain",
		"refuted",
	] {
		assert!(reached.contains_key(end), "nothing was {end}: {reached:?}");
	}
}

/// Counts what a sequence has come to.
fn count(reached: &mut BTreeMap<&'static str, u32>) {
	for event in events() {
		let name = match event {
			Event::RequestFinal { .. } => "final",
			Event::SurchargeBurned { .. } => "surcharged",
			Event::RequestUnanswerable { .. } => "unanswerable",
			Event::RequestRejected { .. } => "rejected",
			Event::RequestExpired { .. } => "expired",
			Event::Appealed { .. } => "appealed",
			Event::AuditDrawn { .. } => "audited",
			Event::Testified { .. } => "testified",
			Event::AnswerOverturned { .. } => "overturned",
			Event::OffenceReported { .. } => "offences",
			Event::TossFailed { .. } => "tossed in vain",
			Event::Contested { .. } => "contested",
			Event::ContestEnded {
				end: ContestEnd::Upheld,
				..
			} => "upheld",
			Event::ContestEnded { .. } => "quashed",
			Event::AnswerRefuted { .. } => "refuted",
			Event::ClaimPaid { .. } => "compensated",
			_ => continue,
		};
		*reached.entry(name).or_default() += 1;
	}
}

fn check_sequence(actions: Vec<Action>, reached: &mut BTreeMap<&'static str, u32>) {
	externalities().execute_with(|| {
		act(Action::Few(false));
		act(Action::Room(4_000));
		// Near full the price doubles, unless governance has it otherwise.
		crate::Parameters::<Test>::mutate(|p| p.surcharge_at_full = 1_000);
		PARTY.set((7, Habit::Vouching));
		DISPUTES.take();
		// Before a judge or without one.
		judge_for_all(actions.len().is_multiple_of(2));
		let money = total();
		for action in actions {
			act(action);
			ModelRegistry::do_try_state().unwrap();
			Inference::do_try_state().unwrap();
			assert_eq!(total() + burned(), money);
		}
		while DISPUTES.with_borrow(|all| !all.is_empty()) {
			act(Action::Judge { overturned: false });
		}
		// Left alone, everything is settled, every escrow released, and everything forgotten.
		set_vrf(true);
		set_idle(Weight::MAX);
		DrawOdds::set(0);
		Contributors::set(0);
		act(Action::Room(4_000));
		blocks(200);
		check();
		for who in [ALICE, BOB] {
			assert_eq!(
				Balances::balance_on_hold(&HoldReason::Escrow.into(), &who),
				0
			);
			assert_eq!(
				Balances::balance_on_hold(&HoldReason::Appeal.into(), &who),
				0
			);
		}
		for v in VALIDATORS {
			assert_eq!(Balances::balance_on_hold(&HoldReason::Appeal.into(), &v), 0);
		}
		assert_eq!(Requests::<Test>::iter().count(), 0);
		assert_eq!(Juries::<Test>::iter().count(), 0);
		let (first, end) = OffenceRange::<Test>::get();
		assert_eq!(first, end, "staking has heard of everything");
		assert_eq!(Rulings::<Test>::iter().count(), 0);
		assert_eq!(Elsewhere::<Test>::iter().count(), 0);
		assert_eq!(crate::Vouchers::<Test>::iter().count(), 0);
		assert_eq!(crate::Judging::<Test>::iter().count(), 0);
		assert!(crate::Proven::<Test>::get().is_empty());
		assert_eq!(crate::Testimonies::<Test>::iter().count(), 0);
		assert_eq!(crate::Doubting::<Test>::iter().count(), 0);
		assert_eq!(crate::References::<Test>::iter().count(), 0);
		assert_eq!(total() + burned(), money);
		count(reached);
	});
}

#[test]
fn the_mock_can_reach_every_end() {
	// The property above would hold of a mock in which nothing happens.
	run(|| {
		let request = ask(TENSOR, ALICE);
		settle_within(request, 8, &[]);
		assert_eq!(NextRequest::<Test>::get(), 1);
		assert_ok!(Inference::do_request(
			ALICE,
			id(TEXT),
			text("hi", 4),
			Assurance::Committee(4),
			1_000,
			0
		));
		settle_within(1, 8, &[]);
		assert_eq!(state(1), consilience_primitives::view::RequestState::Final);
	});
}
