//! Random sequences of calls and ends, with the invariants of storage checked after each. Money is neither made nor lost.

use consilience_primitives::{request::Unanswerable, view::RequestState, RequestId};
use pallet_inference::Settled;
use proptest::prelude::*;

use crate::{mock::*, Notes, Proposals};

#[derive(Clone, Debug)]
enum Action {
	Propose {
		who: u64,
		length: usize,
	},
	Clear {
		who: u64,
	},
	/// A question ends, whether it is open or not.
	Tell {
		request: RequestId,
		end: u8,
	},
	Policy(u8),
	Refuse(bool),
}

fn action() -> impl Strategy<Value = Action> {
	let who = prop_oneof![Just(ALICE), Just(BOB)];
	prop_oneof![
		4 => (who.clone(), 0usize..=64).prop_map(|(who, length)| Action::Propose { who, length }),
		1 => who.prop_map(|who| Action::Clear { who }),
		6 => (any::<prop::sample::Index>(), 0u8..7)
			.prop_map(|(i, end)| Action::Tell { request: i.index(24) as RequestId, end }),
		1 => (0u8..3).prop_map(Action::Policy),
		1 => any::<bool>().prop_map(Action::Refuse),
	]
}

fn settled(end: u8) -> Settled {
	match end {
		0 => says("yes"),
		1 => says("no"),
		2 => says("perhaps"),
		3 => Settled::Unanswerable(Unanswerable::TemplateRefused),
		4 => Settled::Refunded(RequestState::Expired),
		5 => Settled::Stands,
		_ => Settled::Overturned,
	}
}

fn act(action: Action) {
	match action {
		Action::Propose { who, length } => {
			let text = vec![b'x'; length].try_into().unwrap();
			let _ = Moderation::propose(RuntimeOrigin::signed(who), text, PRICE);
		}
		Action::Clear { who } => {
			let _ = Moderation::clear(RuntimeOrigin::signed(who));
		}
		Action::Tell { request, end } => {
			if (request as usize) < asked().len() {
				tell(request, settled(end)).unwrap();
			}
		}
		Action::Policy(n) => {
			let policy = [None, Some(chat()), Some(classifier())][n as usize].clone();
			Moderation::set_policy(RuntimeOrigin::root(), policy).unwrap();
		}
		Action::Refuse(on) => refuse(on),
	}
}

proptest! {
	#![proptest_config(ProptestConfig::with_cases(64))]

	#[test]
	fn invariants_hold_after_every_action(actions in prop::collection::vec(action(), 1..60)) {
		externalities().execute_with(|| {
			for action in actions {
				act(action);
				Moderation::do_try_state().unwrap();
				for who in [ALICE, BOB] {
					let proposed = Proposals::<Test>::get(who).map_or(0, |p| p.deposit);
					let stored = Notes::<Test>::get(who).map_or(0, |n| n.deposit);
					assert_eq!(held(who), proposed + stored);
					assert_eq!(Balances::free_balance(who) + held(who), 1_000_000);
				}
			}
		});
	}
}
