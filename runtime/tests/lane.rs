//! Claims of the session lane in the real runtime: what becomes of them over two hours of blocks and over a fork, what they weigh, and how
//! many a second are executed natively.

// A test that cannot go on fails: that is what unwrap says.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Instant;

use codec::{Compact, Encode};
use common::{begin, begin_by, block, chain};
use consilience_primitives::{
	request::{FinishReason, Input, Output, Prompt, Sampling},
	session::{
		Anchor, Ask, ChannelId, Claim, LaneKey, Opening, Receipt, Service, Signable, Signed,
		SumNode, Transcript, Voucher, MAX_CLAIMS,
	},
	List, ModelId,
};
use consilience_runtime::{
	configs::sessions::OPENING_BLOCKS, AccountId, Balance, Balances, BlockNumber, Executive,
	Runtime, RuntimeCall, RuntimeEvent, RuntimeOrigin, Sessions, System, UncheckedExtrinsic,
	EPOCH_DURATION_IN_SLOTS, UNIT,
};
use frame_support::{
	traits::fungible::{Inspect, InspectHold, Mutate},
	weights::Weight,
};
use frame_system::offchain::CreateAuthorizedTransaction;
use pallet_inference::OffenceKind;
use pallet_sessions::{
	Certificates, Certified, Channels, Claims, Error, Event, Forfeit, WeightInfo,
};
use polkadot_sdk::*;
use sp_consensus_babe::digests::{PreDigest, SecondaryVRFPreDigest};
use sp_core::{crypto::VrfSecret, sr25519, Pair, H256};
use sp_keyring::Sr25519Keyring;
use sp_runtime::{
	transaction_validity::{InvalidTransaction, TransactionSource, TransactionValidityError},
	DispatchError, ModuleError,
};

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
		Self::of(0, parent)
	}

	/// The validator of this place.
	fn of(place: usize, parent: H256) -> Self {
		let who = pallet_session::Validators::<Runtime>::get()[place].clone();
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

/// What a question costs before its answer, all of which is paid; not what a point's interval is, so that points of two draws lie in
/// different receipts.
const EACH: Balance = UNIT * 3 / 4;
/// Answers that are claimed together.
const ANSWERS: u32 = 8;

/// An answer that was given and paid.
#[derive(Clone)]
struct Answered {
	ask: Ask<AccountId, BlockNumber>,
	output: Output,
	receipt: Signed<Receipt<AccountId, BlockNumber, Balance>>,
	voucher: Signed<Voucher<AccountId, Balance>>,
}

impl Payee {
	fn answered(&self, channel: ChannelId, key: &sr25519::Pair, number: u32) -> Answered {
		let genesis = System::block_hash(0);
		let anchor = Anchor {
			number: 0,
			hash: genesis,
		};
		let prompt = Prompt::Text(b"what".to_vec().try_into().unwrap());
		let ask = Ask {
			channel,
			number,
			payee: self.who.clone(),
			// Nobody has registered it: what is opened is not measured, and stands.
			model: ModelId::from([9; 32]),
			input: Input::TextGeneration {
				prompt,
				sampling: Sampling::default(),
			},
			anchor,
			salt: H256::from_low_u64_be(number.into()),
		};
		let request = ask.hash(&genesis);
		let tokens = [3, 4, 5].map(Compact);
		let mut transcript = Transcript::begin(&request);
		tokens.iter().for_each(|token| transcript.push(token.0));
		let output = Output::Text {
			tokens: tokens.to_vec().try_into().unwrap(),
			text: b"that".to_vec().try_into().unwrap(),
			finish: FinishReason::EndOfText,
		};
		let receipt = Receipt {
			channel,
			payee: self.who.clone(),
			number,
			session: self.session,
			request,
			transcript: transcript.end(b"that", FinishReason::EndOfText),
			input_units: ask.input.units(),
			output_units: tokens.len() as u32,
			amount: EACH,
			anchor,
		};
		let voucher = Voucher {
			channel,
			payee: self.who.clone(),
			service: Service::Answer,
			number,
			request,
			transcript: transcript.hash,
			amount: EACH * Balance::from(number),
			expires: self.session,
		};
		Answered {
			ask,
			output,
			receipt: signed(receipt, &self.lane, genesis),
			voucher: signed(voucher, key, genesis),
		}
	}

	/// Answers to a channel's first questions, and the claim over them.
	fn served(&self, channel: ChannelId, key: &sr25519::Pair) -> (Vec<Answered>, SignedClaim) {
		let genesis = System::block_hash(0);
		let numbers = 1..=ANSWERS;
		let answers: Vec<_> = numbers.map(|n| self.answered(channel, key, n)).collect();
		let body = Claim {
			voucher: answers.last().unwrap().voucher.clone(),
			root: SumNode::root(&leaves(&answers)).unwrap(),
			count: ANSWERS,
			session: self.session,
		};
		(answers, signed(body, &self.lane, genesis))
	}
}

fn signed<T: Signable>(body: T, pair: &sr25519::Pair, genesis: H256) -> Signed<T> {
	let signature = pair.sign(&body.payload(&genesis));
	Signed { body, signature }
}

fn leaves(answers: &[Answered]) -> Vec<SumNode<Balance>> {
	let genesis = System::block_hash(0);
	let receipts = answers.iter().map(|a| a.receipt.body.hash(&genesis));
	receipts.map(|hash| SumNode::leaf(&hash, EACH)).collect()
}

fn authorised(call: pallet_sessions::Call<Runtime>) -> UncheckedExtrinsic {
	<Runtime as CreateAuthorizedTransaction<pallet_sessions::Call<Runtime>>>::create_authorized_transaction(call.into())
}

/// What opens the receipt in which a point lies.
fn opening(answers: &[Answered], claim: u64, point: u32, offset: Balance) -> UncheckedExtrinsic {
	let index = (offset / EACH) as usize;
	let answer = answers[index].clone();
	let opening = Opening {
		receipt: answer.receipt,
		voucher: answer.voucher,
		proof: SumNode::proof(&leaves(answers), index).unwrap(),
		ask: answer.ask,
		output: answer.output,
	};
	authorised(pallet_sessions::Call::open_receipt {
		claim,
		point,
		opening: Box::new(opening),
	})
}

/// Why the pool does not take a transaction; `None` where it does.
fn refused(transaction: UncheckedExtrinsic) -> Option<u8> {
	// It begins a block of its own.
	sp_io::storage::start_transaction();
	let source = TransactionSource::External;
	let valid = Executive::validate_transaction(source, transaction, System::parent_hash());
	sp_io::storage::rollback_transaction();
	match valid {
		Ok(_) => None,
		Err(TransactionValidityError::Invalid(InvalidTransaction::Custom(code))) => Some(code),
		Err(other) => panic!("{other:?}"),
	}
}

fn code(error: Error<Runtime>) -> Option<u8> {
	match error.into() {
		DispatchError::Module(ModuleError { error, .. }) => Some(error[0]),
		other => panic!("{other:?} is no module's"),
	}
}

/// A chain whose blocks have a random value, as those of a network do.
struct Blocks {
	number: BlockNumber,
	parent: H256,
	slot: u64,
}

impl Blocks {
	fn after(payee: &Payee) -> Self {
		Self {
			number: 2,
			parent: payee.parent,
			slot: 1_000_000 + EPOCH_DURATION_IN_SLOTS,
		}
	}

	/// Executes a block with these transactions, so many slots later. Returns its events.
	fn next(&mut self, slots: u64, transactions: Vec<UncheckedExtrinsic>) -> Vec<RuntimeEvent> {
		self.number += 1;
		self.slot += slots;
		let author = pallet_babe::Authorities::<Runtime>::decode_len().unwrap() - 1;
		let key = &pallet_babe::Authorities::<Runtime>::get()[author].0;
		let key = Sr25519Keyring::from_raw_public(key.clone().into_inner().0).unwrap();
		let epoch = pallet_babe::EpochIndex::<Runtime>::get();
		let randomness = pallet_babe::Randomness::<Runtime>::get();
		let data = sp_consensus_babe::make_vrf_sign_data(&randomness, self.slot.into(), epoch);
		// The randomness of the next epoch is not known here.
		let began = *pallet_babe::GenesisSlot::<Runtime>::get();
		let digest = if (self.slot - began) / EPOCH_DURATION_IN_SLOTS > epoch {
			None
		} else {
			Some(PreDigest::SecondaryVRF(SecondaryVRFPreDigest {
				authority_index: author as u32,
				slot: self.slot.into(),
				vrf_signature: key.pair().vrf_sign(&data),
			}))
		};
		match digest {
			Some(digest) => begin_by(self.number, self.parent, self.slot, digest),
			None => begin(self.number, self.parent, self.slot),
		}
		for transaction in transactions {
			Executive::apply_extrinsic(transaction).unwrap().unwrap();
		}
		self.parent = Executive::finalize_block().hash();
		let events = System::read_events_no_consensus();
		events.map(|record| record.event).collect()
	}

	/// Executes blocks until there is such an event of the session lane.
	fn until<T>(&mut self, slots: u64, wanted: impl Fn(&Event<Runtime>) -> Option<T>) -> T {
		for _ in 0..100 {
			for event in self.next(slots, Vec::new()) {
				match event {
					RuntimeEvent::Sessions(event) => {
						if let Some(found) = wanted(&event) {
							return found;
						}
					}
					_ => continue,
				}
			}
		}
		panic!("not within 100 blocks");
	}

	/// Claims, and has the points drawn. Returns the claim's number, where they lie, and the last block in which they can be opened.
	fn claimed(&mut self, slots: u64, claim: &SignedClaim) -> (u64, Vec<Balance>, BlockNumber) {
		let events = self.next(slots, vec![settle(std::slice::from_ref(claim))]);
		let claimed = events.iter().find_map(|event| match event {
			RuntimeEvent::Sessions(Event::Claimed { claim, .. }) => Some(*claim),
			_ => None,
		});
		let number = claimed.expect("the claim is good");
		let (offsets, deadline) = self.until(slots, |event| match event {
			Event::PointsDrawn {
				claim,
				offsets,
				deadline,
			} if *claim == number => Some((offsets.clone(), *deadline)),
			_ => None,
		});
		(number, offsets, deadline)
	}

	/// Executes blocks up to this one: one of twenty while it is far away, since nothing is due in those between. Returns what the session
	/// lane did, and who was reported.
	fn up_to(
		&mut self,
		block: BlockNumber,
	) -> (Vec<Event<Runtime>>, Vec<(AccountId, OffenceKind)>) {
		let (mut lane, mut blamed) = (Vec::new(), Vec::new());
		while self.number < block {
			let ahead = if block - self.number > 40 { 20 } else { 1 };
			self.number += ahead - 1;
			System::set_block_number(self.number);
			for event in self.next(ahead.into(), Vec::new()) {
				match event {
					RuntimeEvent::Sessions(event) => lane.push(event),
					RuntimeEvent::Inference(pallet_inference::Event::OffenceReported {
						offender,
						kind,
						..
					}) => blamed.push((offender, kind)),
					_ => (),
				}
			}
		}
		(lane, blamed)
	}
}

#[test]
fn a_receipt_that_is_not_opened_in_two_hours_costs_claim_and_stake_and_nobody_else() {
	chain("local_testnet").execute_with(|| {
		let silent = Payee::certified();
		let honest = Payee::of(1, silent.parent);
		let mut blocks = Blocks::after(&silent);
		let key = sr25519::Pair::from_string("//client", None).unwrap();
		let [deceived, other] = [(1, &silent), (2, &honest)].map(|(n, payee)| {
			let channel = payee.channel(n, key.public());
			let owner = Channels::<Runtime>::get(channel).unwrap().owner;
			(channel, owner)
		});
		let before = Balances::total_balance(&deceived.1);
		let earned = Balances::total_balance(&honest.who);
		let (_, claim) = silent.served(deceived.0, &key);
		let (answers, claim_of_other) = honest.served(other.0, &key);
		let (closed, points, deadline) = blocks.claimed(1, &claim);
		assert_eq!(deadline, blocks.number + OPENING_BLOCKS);
		let (open, offsets, until) = blocks.claimed(1, &claim_of_other);
		for (point, offset) in (0..).zip(&offsets) {
			let transaction = opening(&answers, open, point, *offset);
			// One receipt may have several.
			if refused(transaction.clone()).is_none() {
				blocks.next(1, vec![transaction]);
			}
		}

		// Up to the last block it could still be opened.
		let (lane, blamed) = blocks.up_to(deadline);
		assert!(Claims::<Runtime>::contains_key(closed), "{lane:?}");
		assert_eq!(blamed, []);
		let (lane, blamed) = blocks.up_to(until + 10);
		assert_eq!(
			blamed,
			[(silent.who.clone(), OffenceKind::FraudulentResult)]
		);
		let sum = EACH * Balance::from(ANSWERS);
		let forfeited = lane.iter().find_map(|event| match event {
			Event::ClaimForfeited {
				claim,
				payee,
				why,
				returned,
				to_treasury,
			} => Some((*claim, payee.clone(), *why, *returned, *to_treasury)),
			_ => None,
		});
		// A coin for each point that was not opened is the client's again.
		let returned = UNIT * points.len() as Balance;
		let expected = (
			closed,
			silent.who.clone(),
			Forfeit::NotOpened,
			returned,
			sum - returned,
		);
		assert_eq!(forfeited, Some(expected));
		assert_eq!(
			Balances::total_balance(&deceived.1),
			before - (sum - returned)
		);
		let paid: Vec<_> = lane
			.iter()
			.filter_map(|event| match event {
				Event::ClaimPaid { payee, paid, .. } => Some((payee.clone(), *paid)),
				_ => None,
			})
			.collect();
		// Less a tenth for the treasury and a fiftieth for juries.
		assert_eq!(paid, [(honest.who.clone(), sum / 100 * 88)]);
		assert_eq!(
			Balances::total_balance(&honest.who),
			earned + sum / 100 * 88
		);
		// A tenth of the stake of one of them, and of nobody else's.
		let slashes: Vec<_> = pallet_staking::UnappliedSlashes::<Runtime>::iter_values()
			.flatten()
			.map(|slash| (slash.validator, slash.own))
			.collect();
		assert_eq!(slashes, [(silent.who, 100_000 * UNIT)]);
	});
}

#[test]
fn a_claim_of_another_fork_is_made_again_with_the_same_root_and_paid_once() {
	chain("local_testnet").execute_with(|| {
		let payee = Payee::certified();
		let mut blocks = Blocks::after(&payee);
		let key = sr25519::Pair::from_string("//client", None).unwrap();
		let channel = payee.channel(1, key.public());
		let owner = Channels::<Runtime>::get(channel).unwrap().owner;
		let (answers, claim) = payee.served(channel, &key);
		let sum = EACH * Balance::from(ANSWERS);
		let earned = Balances::total_balance(&payee.who);
		let held = Balances::total_balance_on_hold(&owner);
		let fork = Blocks { ..blocks };

		// On one fork it is claimed, drawn, and opened.
		sp_io::storage::start_transaction();
		let (number, offsets, _) = blocks.claimed(1, &claim);
		let shown = opening(&answers, number, 0, offsets[0]);
		blocks.next(1, vec![shown.clone()]);
		sp_io::storage::rollback_transaction();

		// The other has slots of its own. There nothing is claimed, and nothing is drawn that could be opened.
		let mut blocks = fork;
		blocks.next(2, Vec::new());
		assert_eq!(Channels::<Runtime>::get(channel).unwrap().pending, 0);
		assert_eq!(refused(shown.clone()), code(Error::UnknownClaim));
		// The executor claims what it claimed before. Points lie elsewhere: nobody could choose them by a fork.
		let (again, others, until) = blocks.claimed(2, &claim);
		assert_eq!((again, offsets.len()), (number, others.len()));
		assert_ne!(offsets, others);
		assert_eq!(
			refused(settle(std::slice::from_ref(&claim))),
			code(Error::ClaimedBefore)
		);
		let elsewhere = (0..)
			.zip(offsets.iter().zip(&others))
			.find(|(_, (a, b))| *a / EACH != *b / EACH);
		let (point, (before, _)) = elsewhere.expect("points of two draws lie in one receipt each");
		let stale = opening(&answers, again, point, *before);
		assert_eq!(refused(stale), code(Error::NotAtPoint));
		for (point, offset) in (0..).zip(&others) {
			let transaction = opening(&answers, again, point, *offset);
			if refused(transaction.clone()).is_none() {
				blocks.next(2, vec![transaction]);
			}
		}
		assert_eq!(Channels::<Runtime>::get(channel).unwrap().pending, sum);

		let (lane, blamed) = blocks.up_to(until + 1);
		assert_eq!(blamed, []);
		let paid = lane
			.iter()
			.filter(|event| matches!(event, Event::ClaimPaid { .. }));
		assert_eq!(paid.count(), 1, "{lane:?}");
		assert_eq!(Balances::total_balance(&payee.who), earned + sum / 100 * 88);
		assert_eq!(Balances::total_balance_on_hold(&owner), held - sum);
		assert_eq!(refused(settle(&[claim])), code(Error::VoucherExpired));
	});
}

#[test]
fn what_was_signed_for_another_chain_channel_or_payee_is_worth_nothing() {
	chain("local_testnet").execute_with(|| {
		let payee = Payee::certified();
		let other = Payee::of(1, payee.parent);
		let key = sr25519::Pair::from_string("//client", None).unwrap();
		// The same key signs for both of the client's channels.
		let [channel, second] = [1, 2].map(|n| payee.channel(n, key.public()));
		let genesis = System::block_hash(0);
		let (_, claim) = payee.served(channel, &key);
		let with = |change: &dyn Fn(&mut SignedClaim)| {
			let mut claim = claim.clone();
			change(&mut claim);
			let claim = signed(claim.body, &payee.lane, genesis);
			refused(settle(&[claim]))
		};
		assert_eq!(with(&|_| ()), None);
		let elsewhere = H256::repeat_byte(7);
		let foreign = |claim: &mut SignedClaim| {
			let voucher = claim.body.voucher.body.clone();
			claim.body.voucher = signed(voucher, &key, elsewhere);
		};
		assert_eq!(with(&foreign), code(Error::BadVoucher));
		assert_eq!(
			with(&|claim| claim.body.voucher.body.channel = second),
			code(Error::BadVoucher)
		);
		assert_eq!(
			with(&|claim| claim.body.voucher.body.payee = other.who.clone()),
			code(Error::NoAllotment)
		);
		let foreign = signed(claim.body.clone(), &payee.lane, elsewhere);
		assert_eq!(refused(settle(&[foreign])), code(Error::BadSignature));
	});
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
