//! Random sequences of all calls, work, lies, silence, withdrawals and session changes, with the invariants of storage checked
//! after each step. Money is neither made nor lost.

use std::cell::Cell;

use consilience_primitives::{
	model::{Price, Task},
	report::Statement,
	request::Assurance,
};
use polkadot_sdk::{
	frame_support::{
		assert_ok, pallet_prelude::Weight, storage::with_storage_layer,
		traits::fungible::InspectHold,
	},
	sp_runtime::Perbill,
};
use proptest::{prelude::*, test_runner::TestRunner};

use crate::{
	mock::*, HoldReason, Juries, NextRequest, OffenceRange, ProtocolParameters, RequestInference,
	Requests,
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
	},
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

fn action() -> impl Strategy<Value = Action> {
	let model = 1u8..=2;
	prop_oneof![
		4 => (
			model.clone(),
			any::<bool>(),
			0u8..=6,
			prop::option::weighted(0.3, 0u16..1_100),
			0u64..2_000,
			0u64..50,
			any::<bool>()
		)
			.prop_map(|(model, by_bob, verifiers, sampled, limit, tip, callback)| {
				Action::Ask { model, by_bob, verifiers, sampled, limit, tip, callback }
			}),
		2 => (0u64..20, 0u8..4).prop_map(|(request, by)| Action::Appeal { request, by }),
		1 => (0usize..7).prop_map(|validator| Action::Disable { validator }),
		1 => (0u64..20, any::<bool>()).prop_map(|(request, by_bob)| Action::Cancel { request, by_bob }),
		20 => (0usize..7, habit()).prop_map(|(validator, habit)| Action::Work { validator, habit }),
		1 => (0usize..7, model.clone()).prop_map(|(validator, model)| Action::Withdraw { validator, model }),
		2 => (0usize..7, model.clone(), prop_oneof![0u32..5_000, Just(1_000)])
			.prop_map(|(validator, model, pace)| Action::Serve { validator, model, pace }),
		1 => model.clone().prop_map(|model| Action::Register { model }),
		1 => (model.clone(), 0u64..300).prop_map(|(model, per_request)| Action::SetPrice { model, per_request }),
		// Mostly by somebody whose model it is not, so that there is a model most of the time.
		1 => (model.clone(), prop::bool::weighted(0.8))
			.prop_map(|(model, by_bob)| Action::Deprecate { model, by_bob }),
		1 => model.prop_map(|model| Action::Remove { model }),
		1 => (0u8..=100, 0u8..=100).prop_map(|(executor, verifier)| Action::Govern { executor, verifier }),
		1 => prop::option::of(0usize..7).prop_map(|without| Action::Session { without }),
		1 => prop::bool::weighted(0.8).prop_map(Action::Randomness),
		1 => prop_oneof![4 => Just(0u32), 1 => 1u32..1_000].prop_map(Action::Odds),
		1 => any::<bool>().prop_map(Action::Deaf),
		1 => any::<bool>().prop_map(Action::Idle),
		8 => Just(Action::Block),
	]
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
			let _ = with_storage_layer(|| Inference::appeal(RuntimeOrigin::signed(who), request));
		}
		Action::Disable { validator } => {
			let sits = crate::Keys::<Test>::get().len();
			if validator < sits {
				disable(&[validator as u32]);
			}
		}
		Action::Cancel { request, by_bob } => {
			let _ = Inference::cancel(RuntimeOrigin::signed(who(by_bob)), request);
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
		Action::Govern { executor, verifier } => {
			let parameters = ProtocolParameters {
				treasury_share: Perbill::from_percent(executor.into()),
				verifier_share: Perbill::from_percent(verifier.into()),
				audit_share: Perbill::from_percent(executor.into()),
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
		.unwrap_or(256)
}

#[test]
fn invariants_hold_after_every_action() {
	let config = ProptestConfig {
		cases: cases(),
		..ProptestConfig::with_source_file(file!())
	};
	let tried = Cell::new(0u64);
	let sequences = prop::collection::vec(action(), 1..150);
	let found = TestRunner::new(config).run(&sequences, |actions| {
		tried.set(tried.get() + actions.len() as u64);
		check_sequence(actions);
		Ok(())
	});
	found.unwrap_or_else(|e| panic!("{e}"));
	// Shown by `scripts/bench protocol`.
	println!(
		"figure property_actions = {} [at least 1000000] in {} sequences, all invariants checked after each, nothing found",
		tried.get(),
		cases()
	);
}

fn check_sequence(actions: Vec<Action>) {
	externalities().execute_with(|| {
		let money = total();
		for action in actions {
			act(action);
			ModelRegistry::do_try_state().unwrap();
			Inference::do_try_state().unwrap();
			assert_eq!(total() + burned(), money);
		}
		// Left alone, everything is settled, every escrow released, and everything forgotten.
		set_vrf(true);
		set_idle(Weight::MAX);
		DrawOdds::set(0);
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
		assert_eq!(Requests::<Test>::iter().count(), 0);
		assert_eq!(Juries::<Test>::iter().count(), 0);
		let (first, end) = OffenceRange::<Test>::get();
		assert_eq!(first, end, "staking has heard of everything");
		assert_eq!(total() + burned(), money);
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
