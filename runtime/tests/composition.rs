//! What other parts rely on in the way the runtime is put together.

// A test that cannot go on fails: that is what unwrap says.
#![allow(clippy::unwrap_used)]

mod common;

use codec::{Decode, Encode};
use consilience_runtime::{
	signed, AllPalletsWithSystem, Hash, Runtime, RuntimeCall, System, TransactionExtensions,
	UncheckedExtrinsic,
};
use frame_support::traits::PalletsInfoAccess;
use frame_system::offchain::CreateAuthorizedTransaction;
use polkadot_sdk::*;
use sp_runtime::{
	generic::Preamble,
	traits::{Checkable, TransactionExtension},
};

#[test]
fn pallets_run_in_the_order_that_draws_rely_on() {
	let names: Vec<_> = AllPalletsWithSystem::infos()
		.iter()
		.map(|info| info.name)
		.collect();
	let place = |name| {
		names
			.iter()
			.position(|n| *n == name)
			.unwrap_or_else(|| panic!("no {name}"))
	};
	assert!(
		place("Inference") > place("Babe"),
		"Inference draws with what Babe stores in on_finalize"
	);
	assert!(place("Inference") > place("ModelRegistry"));
	assert!(place("Session") > place("Authorship"));
}

#[test]
fn indices_are_those_that_clients_know() {
	let of = |name: &str| {
		AllPalletsWithSystem::infos()
			.iter()
			.find(|info| info.name == name)
			.unwrap()
			.index
	};
	for (name, index) in [
		("System", 0),
		("Timestamp", 1),
		("Babe", 2),
		("Balances", 5),
		("ModelRegistry", 50),
		("Inference", 51),
	] {
		assert_eq!(of(name), index, "{name}");
	}
}

#[test]
fn calls_are_authorised_before_any_other_check() {
	let extensions = <TransactionExtensions as TransactionExtension<RuntimeCall>>::metadata();
	assert_eq!(extensions[0].identifier, "AuthorizeCall");
}

#[test]
fn the_runtime_makes_authorised_transactions_that_it_can_read() {
	let call = RuntimeCall::from(frame_system::Call::remark {
		remark: vec![1, 2, 3],
	});
	let transaction = <Runtime as CreateAuthorizedTransaction<
		frame_system::Call<Runtime>,
	>>::create_authorized_transaction(call.clone());
	let read = UncheckedExtrinsic::decode(&mut &transaction.encode()[..]).unwrap();
	assert_eq!(read.function, call);
	assert!(
		matches!(read.preamble, Preamble::General(_)),
		"{:?}",
		read.preamble
	);
	assert_eq!(read.encode(), transaction.encode());
}

#[test]
fn a_signature_is_over_what_the_runtime_checks() {
	common::chain("local_testnet").execute_with(|| {
		let accepted = |genesis: Hash| {
			let call = frame_system::Call::remark { remark: vec![1] };
			let alice = sp_keyring::Sr25519Keyring::Alice.pair();
			signed(call.into(), &alice, 7, genesis)
				.check(&frame_system::ChainContext::<Runtime>::default())
				.is_ok()
		};
		let genesis = System::block_hash(0);
		assert!(accepted(genesis));
		assert!(!accepted(Hash::repeat_byte(!genesis[0])));
	});
}
