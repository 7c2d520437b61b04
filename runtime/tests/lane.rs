//! Claims of the session lane in the real runtime: what they weigh, and how many a second are executed natively.

// A test that cannot go on fails: that is what unwrap says.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Instant;

use codec::Encode;
use common::{begin, block, chain};
use consilience_primitives::{
	session::{ChannelId, Claim, LaneKey, Service, Signable, Signed, SumNode, Voucher, MAX_CLAIMS},
	List,
};
use consilience_runtime::{
	AccountId, Balance, Balances, Executive, Runtime, RuntimeCall, RuntimeOrigin, Sessions, System,
	UncheckedExtrinsic, EPOCH_DURATION_IN_SLOTS, UNIT,
};
use frame_support::traits::fungible::Mutate;
use frame_support::weights::Weight;
use frame_system::offchain::CreateAuthorizedTransaction;
use pallet_sessions::{Certificates, Certified, Channels, Claims, WeightInfo};
use polkadot_sdk::*;
use sp_core::{sr25519, Pair, H256};

type SignedClaim = Signed<Claim<AccountId, Balance>>;

/// Picoseconds of weight in a second.
const SECOND: f64 = 1e12;

/// A session of the local network's validators, the first of which has certified this lane key.
struct Payee {
	who: AccountId,
	lane: sr25519::Pair,
	session: u32,
	/// The last block.
	parent: H256,
}

impl Payee {
	fn certified() -> Self {
		System::set_block_number(0);
		let parent = block(1, System::block_hash(0), 1_000_000);
		let parent = block(2, parent, 1_000_000 + EPOCH_DURATION_IN_SLOTS);
		let who = pallet_session::Validators::<Runtime>::get()[0].clone();
		let session = pallet_session::CurrentIndex::<Runtime>::get();
		let lane = sr25519::Pair::from_string("//lane", None).unwrap();
		let certified = Certified {
			keys: List::truncate_from(vec![lane.public()]),
			endpoint: b"ws://127.0.0.1:9955".to_vec().try_into().unwrap(),
			times: 1,
		};
		Certificates::<Runtime>::insert(session, &who, certified);
		Self {
			who,
			lane,
			session,
			parent,
		}
	}

	/// A channel that pays it, ready to be used. An account has few: each has an owner of its own.
	fn channel(&self, n: u64, key: LaneKey) -> ChannelId {
		let owner: AccountId = [&n.to_le_bytes()[..], &[7; 24]].concat()[..]
			.try_into()
			.unwrap();
		Balances::mint_into(&owner, 100 * UNIT).unwrap();
		let id = pallet_sessions::NextChannel::<Runtime>::get();
		let allocations = List::truncate_from(vec![(self.who.clone(), 10 * UNIT)]);
		Sessions::open(
			RuntimeOrigin::signed(owner),
			key,
			H256::zero(),
			allocations,
			UNIT,
		)
		.unwrap();
		Channels::<Runtime>::mutate(id, |channel| {
			channel.as_mut().unwrap().seed = Some(H256::repeat_byte(3));
		});
		id
	}

	/// A claim over so many receipts.
	fn claim(&self, channel: ChannelId, key: &sr25519::Pair, receipts: u32) -> SignedClaim {
		let genesis = System::block_hash(0);
		let amount = UNIT / 5;
		let each = amount / Balance::from(receipts);
		let leaf = |n: u32| {
			let rest = amount - each * Balance::from(receipts);
			let sum = each + if n == 0 { rest } else { 0 };
			SumNode::leaf(&H256::from_low_u64_be(n.into()), sum)
		};
		let leaves: Vec<_> = (0..receipts).map(leaf).collect();
		let voucher = Voucher {
			channel,
			payee: self.who.clone(),
			service: Service::Answer,
			number: receipts,
			request: H256::zero(),
			transcript: H256::zero(),
			amount,
			expires: self.session,
		};
		let signed = |payload: Vec<u8>, pair: &sr25519::Pair| pair.sign(&payload);
		let signature = signed(voucher.payload(&genesis), key);
		let body = Claim {
			voucher: Signed {
				body: voucher,
				signature,
			},
			root: SumNode::root(&leaves).unwrap(),
			count: receipts,
			session: self.session,
		};
		let signature = signed(body.payload(&genesis), &self.lane);
		Signed { body, signature }
	}
}

fn settle(claims: &[SignedClaim]) -> UncheckedExtrinsic {
	let claims = List::truncate_from(claims.to_vec());
	let call: RuntimeCall = pallet_sessions::Call::settle { claims }.into();
	<Runtime as CreateAuthorizedTransaction<pallet_sessions::Call<Runtime>>>::create_authorized_transaction(call)
}

/// What it took to execute claims.
struct Executed {
	/// Length of the transactions.
	bytes: usize,
	/// Blocks that they filled.
	blocks: u32,
	seconds: f64,
}

/// Executes so many claims in full transactions, in as many blocks as they fill.
fn execute(count: u32, receipts: u32) -> Executed {
	chain("local_testnet").execute_with(|| {
		let payee = Payee::certified();
		let key = sr25519::Pair::from_string("//client", None).unwrap();
		let claims: Vec<_> = (0..u64::from(count))
			.map(|n| payee.claim(payee.channel(n, key.public()), &key, receipts))
			.collect();
		let transactions: Vec<_> = claims.chunks(MAX_CLAIMS as usize).map(settle).collect();
		let bytes = transactions.iter().map(Encode::encoded_size).sum();
		let began = Instant::now();
		let mut number = System::block_number() + 1;
		let mut slot = 1_000_001 + EPOCH_DURATION_IN_SLOTS;
		let mut blocks = 1;
		begin(number, payee.parent, slot);
		for transaction in transactions {
			if Executive::apply_extrinsic(transaction.clone()) != Ok(Ok(())) {
				let parent = Executive::finalize_block().hash();
				(number, slot, blocks) = (number + 1, slot + 1, blocks + 1);
				begin(number, parent, slot);
				Executive::apply_extrinsic(transaction).unwrap().unwrap();
			}
		}
		Executive::finalize_block();
		let seconds = began.elapsed().as_secs_f64();
		let pending: Balance = Claims::<Runtime>::iter()
			.map(|(_, claim)| claim.root.sum)
			.sum();
		assert_eq!(pending, Balance::from(count) * UNIT / 5, "each is claimed");
		Executed {
			bytes,
			blocks,
			seconds,
		}
	})
}

#[test]
fn a_claim_of_a_thousand_receipts_is_as_long_as_one_of_one() {
	let [one, many] = [1, 1_000].map(|receipts| execute(1, receipts).bytes);
	// The number of receipts is a compact integer, or the voucher's number.
	assert!(many.abs_diff(one) <= 4, "{one}, {many}");
}

/// For `scripts/bench sessions`.
#[test]
#[ignore = "prints figures"]
fn figures_of_claims() {
	/// In channels of their own.
	const CLAIMS: u32 = 1_024;
	for receipts in [1, 10, 1_000] {
		let executed = execute(CLAIMS, receipts);
		let bytes = executed.bytes as f64 / f64::from(CLAIMS);
		let rate = f64::from(CLAIMS) / executed.seconds;
		let goal = if receipts == 1 { "at least 1000" } else { "" };
		println!(
			"figure sessions_settle_claims_a_second_{receipts} = {rate:.0} [{goal}] of native execution, each with two signatures, in \
			 transactions of {MAX_CLAIMS}, {} blocks; real runtime, storage in memory; {receipts} receipts a claim, {:.0} receipts a second",
			executed.blocks,
			rate * f64::from(receipts)
		);
		println!("figure sessions_settle_bytes_{receipts} = {bytes:.0} [] a claim of {receipts} receipts");
	}
	type Weights = <Runtime as pallet_sessions::Config>::WeightInfo;
	let of = |weight: Weight| weight.ref_time() as f64;
	let claim =
		of(Weights::settle(MAX_CLAIMS).saturating_add(Weights::authorize_settle(MAX_CLAIMS)))
			/ f64::from(MAX_CLAIMS);
	println!(
		"figure sessions_settle_weight_us = {:.0} [] a claim, {:.0} a second by weight, every lane key tried",
		claim / 1e6,
		SECOND / claim
	);
	let bytes = 1_000;
	let audit =
		of(Weights::open_receipt(bytes).saturating_add(Weights::authorize_open_receipt(bytes)));
	println!(
		"figure sessions_receipts_opened_a_second = {:.0} [] by weight, questions and answers of {bytes} bytes together: with one in \
		 every coin, {:.0} CSL a second of execution can be audited",
		SECOND / audit,
		SECOND / audit
	);
}
