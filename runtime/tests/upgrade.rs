//! The runtime is upgraded while a request is open: the upgrade runs, and the request lives on.

// A test that cannot go on fails: that is what unwrap says.
#![allow(clippy::unwrap_used)]

mod common;

use common::{block, chain};
use consilience_primitives::{
	evidence::{Evidence, Fingerprint, Verdict},
	model::{
		Bounds, Limits, ModelSpec, NumericClass, Price, Speed, Task, TimeLimit, VerificationPolicy,
	},
	request::{Assurance, Input, Prompt, Sampling},
	view::RequestState,
	ModelId,
};
use consilience_runtime::{
	Balance, Balances, Inference, ModelRegistry, Runtime, RuntimeOrigin, System, MILLI, UNIT,
	VERSION,
};
use frame_support::{assert_ok, traits::fungible::InspectHold};
use polkadot_sdk::*;
use sp_keyring::Sr25519Keyring;

const MODEL: ModelId = ModelId::repeat_byte(1);

fn evidence() -> Evidence {
	Evidence {
		fingerprint: Fingerprint::Digest([7; 16]),
		verdict: Verdict::default(),
		prior: None,
	}
}

/// A model of the exact class.
fn spec() -> ModelSpec {
	ModelSpec {
		name: b"model".to_vec().try_into().unwrap(),
		task: Task::TextGeneration,
		chat: false,
		size: 1,
		limits: Limits {
			max_input_units: 100,
			max_output_units: 100,
		},
		time: TimeLimit {
			base_blocks: 10,
			output_units_per_block: 10,
		},
		policy: VerificationPolicy {
			class: NumericClass::Exact,
			positions: 16,
			entries: 1,
			fraction_bits: 0,
			accept: Bounds::default(),
			fraud: Bounds::default(),
			min_verifiers: 1,
			min_sampling: 1_000,
		},
		signature: Default::default(),
		sampling: Default::default(),
		reference: evidence(),
	}
}

fn question() -> Input {
	Input::TextGeneration {
		prompt: Prompt::Text(b"Why?".to_vec().try_into().unwrap()),
		sampling: Sampling {
			max_tokens: 10,
			temperature: 0,
			top_p: 1_000,
			stop: Default::default(),
			processing: None,
		},
	}
}

#[test]
fn a_request_lives_through_an_upgrade_and_ends_with_its_money() {
	chain("local_testnet").execute_with(|| {
		System::set_block_number(0);
		let slot = 1_000_000;
		let parent = block(1, System::block_hash(0), slot);
		let [owner, requester] =
			[Sr25519Keyring::Eve, Sr25519Keyring::Ferdie].map(|account| account.to_account_id());
		let price = Price::<Balance> {
			per_request: MILLI,
			per_input_unit: 0,
			per_output_unit: 0,
		};
		let origin = RuntimeOrigin::signed(owner);
		assert_ok!(ModelRegistry::register(origin, MODEL, spec(), price));
		for (validator, _) in pallet_inference::Keys::<Runtime>::get() {
			assert_ok!(ModelRegistry::serve(
				&validator,
				MODEL,
				&evidence(),
				Speed::default()
			));
		}
		let money = Balances::free_balance(&requester);
		let origin = RuntimeOrigin::signed(requester.clone());
		let asked = Inference::request(origin, MODEL, question(), Assurance::Committee(2), UNIT, 0);
		assert_ok!(asked);
		let request = pallet_inference::Requests::<Runtime>::get(0).unwrap();
		let held = Balances::total_balance_on_hold(&requester);
		assert!(held > 0);

		// The chain's last upgrade was to a runtime before this one: migrations, if there are any, run at the next block.
		let before = frame_system::LastRuntimeUpgradeInfo {
			spec_version: (VERSION.spec_version - 1).into(),
			spec_name: VERSION.spec_name,
		};
		frame_system::LastRuntimeUpgrade::<Runtime>::put(before);
		let mut parent = block(2, parent, slot + 1);
		let last = frame_system::LastRuntimeUpgrade::<Runtime>::get().unwrap();
		assert_eq!(last.spec_version.0, VERSION.spec_version);
		// But for the block of its next draw, of which there was none without chance.
		let now = pallet_inference::Requests::<Runtime>::get(0).unwrap();
		let draw = now.draw;
		assert_eq!(now, pallet_inference::Request { draw, ..request });
		assert_eq!(Balances::total_balance_on_hold(&requester), held);

		// These blocks have no chance in them, so nobody is drawn, and the request ends when its time is over.
		for n in 3..100 {
			parent = block(n, parent, slot + u64::from(n));
		}
		let end = pallet_inference::Requests::<Runtime>::get(0).map(|r| r.state);
		assert_eq!(end, Some(RequestState::Expired));
		assert_eq!(Balances::total_balance_on_hold(&requester), 0);
		assert_eq!(Balances::free_balance(&requester), money);
	});
}
