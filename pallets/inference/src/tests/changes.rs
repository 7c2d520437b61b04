//! Whatever changes around a request, in whatever state of its life, it ends, and every unit of its escrow is paid or returned:
//! validators leave, are disabled or stop serving, models are deprecated, runtimes are upgraded.

use consilience_primitives::{
	report::Statement, request::Assurance, view::RequestState, RequestId,
};
use polkadot_sdk::{
	frame_support::{
		assert_ok,
		migrations::VersionedMigration,
		traits::{
			fungible::InspectHold, GetStorageVersion, OnRuntimeUpgrade, StorageVersion,
			UncheckedOnRuntimeUpgrade,
		},
		weights::Weight,
	},
	frame_system,
};

use crate::{
	features::round::Phase, mock::*, HoldReason, Juries, LastReport, Pallet, Requests, RoundOf,
	Rounds,
};

/// Where a request can be when something changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
	Requested,
	Assigned,
	Answered,
	Committing,
	Revealing,
	Unchecked,
	Disputed,
	JuryCommitting,
	JuryRevealing,
}

const STAGES: [Stage; 9] = [
	Stage::Requested,
	Stage::Assigned,
	Stage::Answered,
	Stage::Committing,
	Stage::Revealing,
	Stage::Unchecked,
	Stage::Disputed,
	Stage::JuryCommitting,
	Stage::JuryRevealing,
];

fn jury(request: RequestId) -> Option<RoundOf<Test>> {
	Juries::<Test>::get(request).and_then(|j| j.round)
}

fn stage(id: RequestId) -> Option<Stage> {
	let request = Requests::<Test>::get(id)?;
	let of = |round: Option<RoundOf<Test>>, none, commit, reveal| match round.map(|r| r.phase) {
		None => none,
		Some(Phase::Commit) => commit,
		Some(Phase::Reveal) => reveal,
	};
	match request.state {
		RequestState::Requested => Some(Stage::Requested),
		RequestState::Assigned => Some(Stage::Assigned),
		RequestState::Provisional if request.appealable_until.is_some() => Some(Stage::Unchecked),
		RequestState::Provisional => Some(of(
			Rounds::<Test>::get(id),
			Stage::Answered,
			Stage::Committing,
			Stage::Revealing,
		)),
		RequestState::Disputed => Some(of(
			jury(id),
			Stage::Disputed,
			Stage::JuryCommitting,
			Stage::JuryRevealing,
		)),
		_ => None,
	}
}

/// A verifier that measures other bits, once it is drawn: this is what a dispute comes from.
fn liar(request: RequestId) -> Option<u64> {
	Rounds::<Test>::get(request).map(|r| r.members[1].who)
}

/// Everybody says what is due, once in a block.
fn work_all(request: RequestId, to: Stage) -> bool {
	for v in VALIDATORS {
		if LastReport::<Test>::get(v) != Some(System::block_number() - 1) {
			let lies = to >= Stage::Disputed && liar(request) == Some(v);
			work(v, if lies { Habit::Lying } else { Habit::Honest });
		}
		if stage(request) == Some(to) {
			return true;
		}
	}
	false
}

/// A request that has come to this stage.
fn reach(to: Stage) -> RequestId {
	let assurance = if to == Stage::Unchecked {
		admit_sampling();
		Assurance::Sampled(0)
	} else {
		Assurance::Committee(2)
	};
	let request =
		Inference::do_request(ALICE, id(TEXT), text("hi", 4), assurance, 1_000, 0).unwrap();
	for _ in 0..20 {
		if stage(request) == Some(to) || work_all(request, to) {
			// Reports count once a block.
			next_block();
			assert_eq!(stage(request), Some(to));
			return request;
		}
		next_block();
	}
	panic!("{to:?} is not reached");
}

/// Whom a change hits.
#[derive(Clone, Copy, Debug)]
enum Target {
	Executor,
	Verifier,
	Juror,
	Outsider,
}

const TARGETS: [Target; 4] = [
	Target::Executor,
	Target::Verifier,
	Target::Juror,
	Target::Outsider,
];

/// The validator that is this to the request, if there is one yet.
fn find(target: Target, request: RequestId) -> Option<u64> {
	let executor = Requests::<Test>::get(request).unwrap().executor;
	let members = |round: Option<RoundOf<Test>>| -> Vec<u64> {
		round
			.into_iter()
			.flat_map(|r| r.members)
			.map(|m| m.who)
			.collect()
	};
	let committee = members(Rounds::<Test>::get(request));
	let party = |v: &u64| executor == Some(*v) || committee.contains(v);
	match target {
		Target::Executor => executor,
		Target::Verifier => committee.into_iter().find(|v| executor != Some(*v)),
		Target::Juror => members(jury(request)).into_iter().find(|v| !party(v)),
		Target::Outsider => VALIDATORS.into_iter().rev().find(|v| !party(v)),
	}
}

/// The request ends in time, and the money is where it belongs.
fn ends(request: RequestId, money: u64, what: &str) -> RequestState {
	for _ in 0..100 {
		if state(request).is_settled() {
			break;
		}
		work_block(&[]);
		check();
	}
	let end = Requests::<Test>::get(request).unwrap();
	assert!(
		matches!(
			end.state,
			RequestState::Final | RequestState::Rejected | RequestState::Expired
		),
		"{what}: {:?}",
		end.state
	);
	assert_eq!(end.paid + end.refunded, end.escrow, "{what}");
	assert_eq!(total(), money, "{what}");
	let held = Balances::balance_on_hold(&HoldReason::Escrow.into(), &ALICE);
	assert_eq!(held, 0, "{what}");
	check();
	end.state
}

/// Does this to the target, at every stage at which there is one. Gives how often there was one.
fn at_every_stage(change: impl Fn(u64)) -> u32 {
	let mut times = 0;
	for to in STAGES {
		for target in TARGETS {
			externalities().execute_with(|| {
				let money = total();
				let request = reach(to);
				let Some(hit) = find(target, request) else {
					return;
				};
				times += 1;
				change(hit);
				check();
				ends(request, money, &format!("{target:?} at {to:?}"));
			});
		}
	}
	times
}

fn without(hit: u64) -> Vec<u64> {
	VALIDATORS.into_iter().filter(|v| *v != hit).collect()
}

// Executors from the answer's assignment on, verifiers once there is a round, jurors once there is a jury, outsiders always.
const HITS: u32 = 8 + 5 + 2 + 9;

#[test]
fn a_validator_leaves_the_session() {
	let hits = at_every_stage(|hit| {
		set_session(&without(hit));
		assert!(ModelRegistry::served_by(hit).is_empty());
	});
	assert_eq!(hits, HITS);
}

#[test]
fn a_validator_leaves_the_session_and_comes_back_with_nothing_to_serve() {
	at_every_stage(|hit| {
		set_session(&without(hit));
		next_block();
		set_session(&VALIDATORS);
		assert!(ModelRegistry::served_by(hit).is_empty());
	});
}

#[test]
fn a_validator_is_disabled_for_what_it_did() {
	let hits = at_every_stage(|hit| {
		let place = VALIDATORS.iter().position(|v| *v == hit).unwrap();
		disable(&[place as u32]);
		assert!(ModelRegistry::served_by(hit).is_empty());
	});
	assert_eq!(hits, HITS);
}

#[test]
fn a_validator_stops_serving() {
	let hits = at_every_stage(|hit| {
		assert_ok!(report(hit, vec![Statement::Withdraw { model: id(TEXT) }]));
		next_block();
	});
	assert_eq!(hits, HITS);
}

#[test]
fn all_validators_but_three_leave() {
	for to in STAGES {
		externalities().execute_with(|| {
			let money = total();
			let request = reach(to);
			set_session(&VALIDATORS[..3]);
			check();
			ends(request, money, &format!("{to:?}"));
		});
	}
}

#[test]
fn a_deprecated_model_finishes_what_is_open_and_goes() {
	for to in STAGES {
		externalities().execute_with(|| {
			let money = total();
			let request = reach(to);
			let owner = || RuntimeOrigin::signed(OWNER);
			assert_ok!(ModelRegistry::deprecate(owner(), id(TEXT)));
			assert!(ModelRegistry::remove(owner(), id(TEXT)).is_err());
			let end = ends(request, money, &format!("{to:?}"));
			assert_eq!(end, RequestState::Final, "{to:?}");
			// It stays while its answers can be looked at again.
			blocks(25);
			assert_ok!(ModelRegistry::remove(owner(), id(TEXT)));
			check();
		});
	}
}

/// Writes every request anew, as the step to another layout does.
struct Rewrite;

impl UncheckedOnRuntimeUpgrade for Rewrite {
	fn on_runtime_upgrade() -> Weight {
		let mut rewritten = 0;
		Requests::<Test>::translate::<crate::RequestOf<Test>, _>(|_, request| {
			rewritten += 1;
			Some(request)
		});
		assert!(rewritten > 0, "no request is open");
		Weight::from_parts(rewritten, 0)
	}
}

type Step =
	VersionedMigration<0, 1, Rewrite, Pallet<Test>, <Test as frame_system::Config>::DbWeight>;

#[test]
fn requests_live_through_a_migration() {
	for to in STAGES {
		externalities().execute_with(|| {
			let money = total();
			let request = reach(to);
			let before = Requests::<Test>::get(request);
			StorageVersion::new(0).put::<Pallet<Test>>();
			Step::on_runtime_upgrade();
			crate::migrations::Migrations::on_runtime_upgrade();
			assert_eq!(
				Pallet::<Test>::on_chain_storage_version(),
				Pallet::<Test>::in_code_storage_version()
			);
			assert_eq!(Requests::<Test>::get(request), before);
			// What was done is not done again.
			Requests::<Test>::mutate(request, |r| r.as_mut().unwrap().tip += 1);
			let changed = Requests::<Test>::get(request);
			Step::on_runtime_upgrade();
			assert_eq!(Requests::<Test>::get(request), changed);
			Requests::<Test>::set(request, before);
			check();
			let end = ends(request, money, &format!("{to:?}"));
			assert_eq!(end, RequestState::Final, "{to:?}");
		});
	}
}
