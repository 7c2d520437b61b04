//! Benchmarks of calls, what lets them in, and hooks.
//!
//! Channels have as many payees as they can have, all of whose allotments are lowered; validators have certified as many keys as they can,
//! and sign with that which is tried last; claims have as many points as they can.

use alloc::{boxed::Box, vec, vec::Vec};
use codec::Compact;
use consilience_primitives::{
	crypto::InferenceId,
	evidence::{Evidence, Fingerprint, Verdict},
	model::{
		Bounds, Limits, ModelSpec, NumericClass, Price, Speed, Task, TimeLimit, VerificationPolicy,
	},
	request::{FinishReason, Input, Output, Prompt, Sampling, MAX_TEXT, MAX_TOKENS},
	session::{
		Anchor, Appealed, Ask, Certificate, ChannelId, Claim, LaneKey, Lowering, Opening, Place,
		Receipt, Release, Service, Signable, Signed, SumNode, Transcript, Verdict as Found,
		Voucher, MAX_ALLOCATIONS, MAX_CLAIMS, MAX_ENDPOINT, MAX_PROOF,
	},
	List, ModelId,
};
use pallet_inference::{AuditAnswers, SessionValidators};
use polkadot_sdk::{
	frame_benchmarking::v2::*,
	frame_support::traits::{
		fungible::{Inspect, Unbalanced},
		tokens::Precision,
		Authorize, Get,
	},
	frame_system::{self, pallet_prelude::BlockNumberFor, RawOrigin},
	sp_application_crypto::RuntimeAppPublic,
	sp_core::{crypto::KeyTypeId, H256},
	sp_io,
	sp_runtime::{
		traits::{One, Saturating, Zero},
		transaction_validity::TransactionSource,
	},
};

use crate::{
	Audits, BalanceOf, Call, Certificates, Certified, Channels, Checked, Claims, Config, Draw,
	DrawRange, Draws, EndRange, Ends, Opened, Pallet, Part, PendingClaim, Point, PointState, Shown,
	SlashableStake, Window, Windows, MAX_CLAIM_POINTS, MAX_KEYS, MAX_POINTS,
};

const MODEL: ModelId = ModelId::repeat_byte(1);
const LANE: KeyTypeId = KeyTypeId(*b"lane");

fn rich<T: Config>(who: &T::AccountId) -> Result<(), BenchmarkError> {
	let money = T::MinAllocation::get()
		.max(T::PointInterval::get())
		.max(T::Currency::minimum_balance())
		.saturating_mul(1_000u32.into());
	T::Currency::increase_balance(who, money, Precision::Exact)?;
	Ok(())
}

/// What each allotment of a channel is, and more than what is claimed of it.
fn allotment<T: Config>() -> BalanceOf<T> {
	T::MinAllocation::get()
		.max(T::PointInterval::get())
		.saturating_mul(20u32.into())
}

fn new_key() -> LaneKey {
	sp_io::crypto::sr25519_generate(LANE, None)
}

fn sign<T: Config, S: Signable>(body: S, key: &LaneKey) -> Result<Signed<S>, BenchmarkError> {
	let payload = body.payload(&Pallet::<T>::genesis());
	let signature =
		sp_io::crypto::sr25519_sign(LANE, key, &payload).ok_or("no key to sign with")?;
	Ok(Signed { body, signature })
}

/// A validator with its keys.
struct Validator<T: Config> {
	who: T::AccountId,
	infr: InferenceId,
	lane: LaneKey,
}

/// A session of a hundred validators, of which the last is this one. It has certified as many keys as it can.
fn validator<T: Config>() -> Result<Validator<T>, BenchmarkError> {
	let now: BlockNumberFor<T> = 20u32.into();
	frame_system::Pallet::<T>::set_block_number(now);
	let who: T::AccountId = account("validator", 99, 0);
	rich::<T>(&who)?;
	rich::<T>(&T::Treasury::get())?;
	rich::<T>(&T::JuryFund::get())?;
	let infr = InferenceId::generate_pair(None);
	let idle = |i: u32| -> (T::AccountId, InferenceId) {
		let key = polkadot_sdk::sp_core::sr25519::Public::from_raw([i as u8; 32]);
		(account("validator", i, 0), key.into())
	};
	let mut all: Vec<_> = (0..99).map(idle).collect();
	all.push((who.clone(), infr.clone()));
	T::Validators::set(all);
	let session = T::Validators::session();
	T::Stake::set(
		&who,
		session,
		allotment::<T>().saturating_mul(1_000u32.into()),
	);
	let lane = new_key();
	let mut keys: Vec<_> = (1..MAX_KEYS).map(|_| new_key()).collect();
	keys.push(lane);
	let certified = Certified {
		keys: List::truncate_from(keys),
		endpoint: endpoint(),
		times: 1,
	};
	Certificates::<T>::insert(session, &who, certified);
	Ok(Validator { who, infr, lane })
}

fn endpoint() -> consilience_primitives::Bytes<MAX_ENDPOINT> {
	let mut endpoint = vec![b'x'; MAX_ENDPOINT as usize];
	endpoint[..6].copy_from_slice(b"wss://");
	endpoint.try_into().expect("as long as the bound; qed")
}

/// A channel of the nth owner that can be used.
fn channel<T: Config>(
	n: u32,
	validator: &Validator<T>,
) -> Result<(ChannelId, LaneKey, T::AccountId), BenchmarkError> {
	let owner: T::AccountId = account("owner", n, 0);
	rich::<T>(&owner)?;
	let key = new_key();
	let mut allocations: Vec<_> = (1..MAX_ALLOCATIONS)
		.map(|i| (account("payee", i, 0), allotment::<T>()))
		.collect();
	allocations.push((validator.who.clone(), allotment::<T>()));
	let id = Pallet::<T>::do_open(
		owner.clone(),
		key,
		H256::zero(),
		List::truncate_from(allocations),
		allotment::<T>(),
	)?;
	Channels::<T>::mutate(id, |channel| {
		if let Some(channel) = channel {
			channel.seed = Some(H256::repeat_byte(3));
		}
	});
	Ok((id, key, owner))
}

/// Has a part of all allotments be taken back in this block.
fn lower_all<T: Config>(id: ChannelId) {
	let lowering = Some(Lowering {
		by: One::one(),
		at: frame_system::Pallet::<T>::block_number(),
	});
	Channels::<T>::mutate(id, |channel| {
		if let Some(channel) = channel {
			channel
				.allocations
				.iter_mut()
				.for_each(|a| a.allotment.lowering = lowering);
			channel.pot.lowering = lowering;
		}
	});
}

/// A claim of the nth channel.
fn claim<T: Config>(
	n: u32,
	validator: &Validator<T>,
) -> Result<Signed<Claim<T::AccountId, BalanceOf<T>>>, BenchmarkError> {
	let (id, key, _) = channel::<T>(n, validator)?;
	lower_all::<T>(id);
	let amount = T::MinClaim::get();
	let voucher = Voucher {
		channel: id,
		payee: validator.who.clone(),
		service: Service::Answer,
		number: 1,
		request: H256::zero(),
		transcript: H256::zero(),
		amount,
		expires: T::Validators::session(),
	};
	let claim = Claim {
		voucher: sign::<T, _>(voucher, &key)?,
		root: SumNode::leaf(&H256::zero(), amount),
		count: 1,
		session: T::Validators::session(),
	};
	sign::<T, _>(claim, &validator.lane)
}

fn claims<T: Config>(
	n: u32,
) -> Result<List<Signed<Claim<T::AccountId, BalanceOf<T>>>, MAX_CLAIMS>, BenchmarkError> {
	let validator = validator::<T>()?;
	let all = (0..n)
		.map(|n| claim::<T>(n, &validator))
		.collect::<Result<Vec<_>, _>>()?;
	Ok(List::truncate_from(all))
}

fn certificate<T: Config>() -> Result<
	(
		Certificate,
		consilience_primitives::crypto::InferenceSignature,
	),
	BenchmarkError,
> {
	let validator = validator::<T>()?;
	let session = T::Validators::session();
	Certificates::<T>::remove(session, &validator.who);
	let certificate = Certificate {
		session,
		validator: 99,
		key: validator.lane,
		endpoint: endpoint(),
	};
	let signature = validator
		.infr
		.sign(&certificate.payload(&Pallet::<T>::genesis()))
		.ok_or("no key to sign with")?;
	Ok((certificate, signature))
}

fn evidence() -> Evidence {
	Evidence {
		fingerprint: Fingerprint::Digest([7; 16]),
		verdict: Verdict::default(),
		prior: None,
	}
}

/// A model whose answers cost as much as there is between two points.
fn register<T: Config>(validator: &Validator<T>) -> Result<(), BenchmarkError> {
	let spec = ModelSpec {
		name: b"benchmark".to_vec().try_into().expect("short; qed"),
		task: Task::TextGeneration,
		chat: true,
		size: 1,
		limits: Limits {
			max_input_units: MAX_TEXT,
			max_output_units: MAX_TOKENS,
		},
		time: TimeLimit {
			base_blocks: 20,
			output_units_per_block: 4_096,
		},
		policy: VerificationPolicy {
			class: NumericClass::Exact,
			positions: 4,
			entries: 1,
			fraction_bits: 0,
			accept: Bounds::default(),
			fraud: Bounds::default(),
			min_verifiers: 2,
			min_sampling: 1_000,
		},
		signature: Default::default(),
		sampling: Default::default(),
		reference: evidence(),
	};
	let owner: T::AccountId = account("model", 0, 0);
	let deposit = pallet_model_registry::Pallet::<T>::deposit_for(&spec);
	T::Currency::increase_balance(&owner, deposit, Precision::Exact)?;
	rich::<T>(&owner)?;
	let price = Price {
		per_request: T::PointInterval::get(),
		per_input_unit: Zero::zero(),
		per_output_unit: Zero::zero(),
	};
	pallet_model_registry::Pallet::<T>::register(
		RawOrigin::Signed(owner).into(),
		MODEL,
		spec,
		price,
	)?;
	pallet_model_registry::Pallet::<T>::serve(
		&validator.who,
		MODEL,
		&evidence(),
		Speed::default(),
	)?;
	Ok(())
}

/// Has as many validators serve the model as make up a jury.
fn serve<T: Config>() -> Result<(), BenchmarkError> {
	for i in 0..63 {
		let other: T::AccountId = account("validator", i, 0);
		pallet_model_registry::Pallet::<T>::serve(&other, MODEL, &evidence(), Speed::default())?;
	}
	Ok(())
}

/// A receipt of so many bytes, put before a jury in a claim that has as many points as it can have beside it.
#[allow(clippy::type_complexity)]
fn appealed<T: Config>(
	bytes: u32,
) -> Result<Box<Appealed<T::AccountId, BlockNumberFor<T>, BalanceOf<T>>>, BenchmarkError> {
	let opening = opening::<T>(bytes)?;
	serve::<T>()?;
	Claims::<T>::mutate(0, |claim| {
		if let Some(claim) = claim {
			let beyond = claim.root.sum;
			let other = Point {
				offset: beyond,
				state: PointState::Unmeasured,
			};
			claim.points = List::truncate_from(vec![other; MAX_CLAIM_POINTS as usize - 1]);
		}
	});
	let Opening {
		receipt,
		voucher,
		proof,
		ask,
		output,
	} = *opening;
	Ok(Box::new(Appealed {
		receipt,
		ask,
		output,
		place: Some(Place {
			claim: 0,
			voucher,
			proof,
		}),
	}))
}

/// A receipt that is measured, and a checker that has certified as many keys as it can and calls its answer wrong.
fn verdict<T: Config>() -> Result<Box<Signed<Found<T::AccountId>>>, BenchmarkError> {
	let put = appealed::<T>(2)?;
	let seed = H256::repeat_byte(3);
	let channel = Channels::<T>::get(put.receipt.body.channel).ok_or("no channel")?;
	let (receipt, ask, output) = (put.receipt.body, put.ask, put.output);
	let answered = Pallet::<T>::answered(&channel, seed, &receipt, ask, output);
	T::Audits::audit(answered)?;
	let checker: T::AccountId = account("validator", 0, 0);
	let lane = new_key();
	let mut keys: Vec<_> = (1..MAX_KEYS).map(|_| new_key()).collect();
	keys.push(lane);
	let session = T::Validators::session();
	let certified = Certified {
		keys: List::truncate_from(keys),
		endpoint: endpoint(),
		times: 1,
	};
	Certificates::<T>::insert(session, &checker, certified);
	let mut evidence = evidence();
	evidence.verdict.margin_max = 1_000_000;
	let found = Found {
		receipt: receipt.hash(&Pallet::<T>::genesis()),
		checker,
		session,
		evidence,
	};
	Ok(Box::new(sign::<T, _>(found, &lane)?))
}

/// A claim whose points are all due, and the opening of the receipt in which the first of them lies: of the longest answer, with so many
/// bytes of text in question and answer together.
#[allow(clippy::type_complexity)]
fn opening<T: Config>(
	bytes: u32,
) -> Result<Box<Opening<T::AccountId, BlockNumberFor<T>, BalanceOf<T>>>, BenchmarkError> {
	let validator = validator::<T>()?;
	register::<T>(&validator)?;
	let (id, key, _) = channel::<T>(0, &validator)?;
	let text = |bytes: u32| vec![b'x'; bytes.max(1) as usize];
	let now = frame_system::Pallet::<T>::block_number();
	let ask = Ask {
		channel: id,
		number: 1,
		payee: validator.who.clone(),
		model: MODEL,
		input: Input::TextGeneration {
			prompt: Prompt::Text(text(bytes / 2).try_into().expect("at most the bound; qed")),
			sampling: Sampling {
				max_tokens: MAX_TOKENS,
				..Default::default()
			},
		},
		anchor: Anchor {
			number: now,
			hash: H256::zero(),
		},
		salt: H256::zero(),
	};
	let tokens = vec![Compact(40_000u32); MAX_TOKENS as usize];
	let answer = text(bytes / 2);
	let request = ask.hash(&Pallet::<T>::genesis());
	let mut transcript = Transcript::begin(&request);
	tokens.iter().for_each(|token| transcript.push(token.0));
	let session = T::Validators::session();
	let receipt = Receipt {
		channel: id,
		payee: validator.who.clone(),
		number: 1,
		session,
		request,
		transcript: transcript.end(&answer, FinishReason::Length),
		input_units: ask.input.units(),
		output_units: MAX_TOKENS,
		amount: T::PointInterval::get(),
		anchor: ask.anchor,
	};
	let voucher = Voucher {
		channel: id,
		payee: validator.who.clone(),
		service: Service::Answer,
		number: 1,
		request,
		transcript: transcript.hash,
		amount: T::PointInterval::get(),
		expires: session,
	};
	// The deepest tree: one way through it is enough.
	let leaf = SumNode::leaf(&receipt.hash(&Pallet::<T>::genesis()), receipt.amount);
	let sibling = SumNode::leaf(&H256::zero(), One::one());
	let (mut root, mut proof) = (leaf, Vec::new());
	for _ in 0..MAX_PROOF {
		root = SumNode::join(&root, &sibling).ok_or("too much money")?;
		proof.push(consilience_primitives::session::SumStep {
			sibling,
			left: false,
		});
	}
	let point = Point {
		offset: Zero::zero(),
		state: PointState::Due,
	};
	Claims::<T>::insert(
		0,
		PendingClaim {
			channel: id,
			payee: validator.who.clone(),
			service: Service::Answer,
			root,
			before: Zero::zero(),
			count: 1,
			session,
			claimed_at: now,
			deadline: Some(now),
			points: List::truncate_from(vec![point; MAX_POINTS as usize]),
			over: false,
		},
	);
	Ok(Box::new(Opening {
		receipt: sign::<T, _>(receipt, &validator.lane)?,
		voucher: sign::<T, _>(voucher, &key)?,
		proof: List::truncate_from(proof),
		ask,
		output: Output::Text {
			tokens: tokens.try_into().expect("as many as the bound; qed"),
			text: answer.try_into().expect("at most the bound; qed"),
			finish: FinishReason::Length,
		},
	}))
}

/// A channel of which the validator has claimed, and that claim with as many points as it can have.
fn claimed<T: Config>(state: impl Fn(u32) -> PointState) -> Result<ChannelId, BenchmarkError> {
	let validator = validator::<T>()?;
	let (id, ..) = channel::<T>(0, &validator)?;
	let amount = T::PointInterval::get();
	Channels::<T>::mutate(id, |channel| {
		if let Some(channel) = channel {
			channel.pending = amount;
			channel.claims = 1;
		}
	});
	let points = (0..MAX_CLAIM_POINTS).map(|n| Point {
		offset: n.into(),
		state: state(n),
	});
	let now = frame_system::Pallet::<T>::block_number();
	for n in 0..MAX_CLAIM_POINTS {
		let opened = Opened {
			claim: 0,
			number: n,
			paid: One::one(),
		};
		Audits::<T>::insert(u64::from(n), opened);
		Shown::<T>::insert((id, &validator.who, n), ());
	}
	crate::ClaimsOf::<T>::insert(&validator.who, 0, ());
	Claims::<T>::insert(
		0,
		PendingClaim {
			channel: id,
			payee: validator.who,
			service: Service::Answer,
			root: SumNode::leaf(&H256::zero(), amount),
			before: Zero::zero(),
			count: 1,
			session: T::Validators::session(),
			claimed_at: now,
			deadline: Some(now),
			points: List::truncate_from(points.collect()),
			over: false,
		},
	);
	Ends::<T>::insert(0, 0);
	EndRange::<T>::put((0, 1));
	Ok(id)
}

#[benchmarks]
mod benchmarks {
	use super::*;

	#[benchmark]
	fn open() -> Result<(), BenchmarkError> {
		validator::<T>()?;
		let owner: T::AccountId = account("owner", 0, 0);
		rich::<T>(&owner)?;
		let allocations: Vec<(T::AccountId, _)> = (0..MAX_ALLOCATIONS)
			.map(|i| (account("payee", i, 0), allotment::<T>()))
			.collect();
		let allocations = List::truncate_from(allocations);
		let key = new_key();
		#[extrinsic_call]
		_(
			RawOrigin::Signed(owner),
			key,
			H256::zero(),
			allocations,
			allotment::<T>(),
		);
		assert!(Channels::<T>::contains_key(0));
		Ok(())
	}

	#[benchmark]
	fn raise() -> Result<(), BenchmarkError> {
		let (id, _, owner) = channel::<T>(0, &validator::<T>()?)?;
		lower_all::<T>(id);
		#[extrinsic_call]
		_(RawOrigin::Signed(owner), id, Part::Pot, allotment::<T>());
		Ok(())
	}

	#[benchmark]
	fn lower() -> Result<(), BenchmarkError> {
		let validator = validator::<T>()?;
		let (id, _, owner) = channel::<T>(0, &validator)?;
		let release = Release {
			channel: id,
			payee: validator.who.clone(),
			session: T::Validators::session(),
			releases: 0,
			amount: Zero::zero(),
		};
		let release = sign::<T, _>(release, &validator.lane)?;
		let part = Part::Payee(validator.who);
		#[extrinsic_call]
		_(
			RawOrigin::Signed(owner),
			id,
			part,
			Zero::zero(),
			Some(release),
		);
		Ok(())
	}

	#[benchmark]
	fn close() -> Result<(), BenchmarkError> {
		let (id, _, owner) = channel::<T>(0, &validator::<T>()?)?;
		#[extrinsic_call]
		_(RawOrigin::Signed(owner), id);
		Ok(())
	}

	#[benchmark]
	fn withdraw(c: Linear<0, { T::MaxCheckers::get() }>) -> Result<(), BenchmarkError> {
		let (id, _, owner) = channel::<T>(0, &validator::<T>()?)?;
		for n in 0..c {
			let checker: T::AccountId = account("checker", n, 0);
			Checked::<T>::insert(id, checker, BalanceOf::<T>::one());
		}
		let now = frame_system::Pallet::<T>::block_number();
		Channels::<T>::mutate(id, |channel| {
			if let Some(channel) = channel {
				channel.checkers = c;
				channel.closes_at = Some(now);
			}
		});
		#[extrinsic_call]
		_(RawOrigin::Signed(owner), id);
		assert!(!Channels::<T>::contains_key(id));
		assert_eq!(Checked::<T>::iter_prefix(id).count(), 0);
		Ok(())
	}

	#[benchmark]
	fn certify() -> Result<(), BenchmarkError> {
		let (certificate, signature) = certificate::<T>()?;
		#[extrinsic_call]
		_(RawOrigin::Authorized, certificate, signature);
		assert_eq!(
			Certificates::<T>::iter_prefix(T::Validators::session()).count(),
			1
		);
		Ok(())
	}

	#[benchmark]
	fn authorize_certify() -> Result<(), BenchmarkError> {
		let (certificate, signature) = certificate::<T>()?;
		let call = Call::<T>::certify {
			certificate,
			signature,
		};
		#[block]
		{
			call.authorize(TransactionSource::External)
				.ok_or("not authorised by its content")?
				.map_err(|_| "not let in")?;
		}
		Ok(())
	}

	#[benchmark]
	fn settle(n: Linear<1, MAX_CLAIMS>) -> Result<(), BenchmarkError> {
		let claims = claims::<T>(n)?;
		#[extrinsic_call]
		_(RawOrigin::Authorized, claims);
		assert_eq!(Claims::<T>::iter_keys().count() as u32, n);
		Ok(())
	}

	#[benchmark]
	fn authorize_settle(n: Linear<1, MAX_CLAIMS>) -> Result<(), BenchmarkError> {
		let call = Call::<T>::settle {
			claims: claims::<T>(n)?,
		};
		#[block]
		{
			call.authorize(TransactionSource::External)
				.ok_or("not authorised by its content")?
				.map_err(|_| "not let in")?;
		}
		Ok(())
	}

	#[benchmark]
	fn open_receipt(b: Linear<2, { 2 * MAX_TEXT }>) -> Result<(), BenchmarkError> {
		let opening = opening::<T>(b)?;
		#[extrinsic_call]
		_(RawOrigin::Authorized, 0, 0, opening);
		assert_eq!(Audits::<T>::iter_keys().count(), 1);
		Ok(())
	}

	#[benchmark]
	fn authorize_open_receipt(b: Linear<2, { 2 * MAX_TEXT }>) -> Result<(), BenchmarkError> {
		let call = Call::<T>::open_receipt {
			claim: 0,
			point: 0,
			opening: opening::<T>(b)?,
		};
		#[block]
		{
			call.authorize(TransactionSource::External)
				.ok_or("not authorised by its content")?
				.map_err(|_| "not let in")?;
		}
		Ok(())
	}

	#[benchmark]
	fn appeal(b: Linear<2, { 2 * MAX_TEXT }>) -> Result<(), BenchmarkError> {
		let appealed = appealed::<T>(b)?;
		let who: T::AccountId = account("appellant", 0, 0);
		rich::<T>(&who)?;
		#[extrinsic_call]
		_(RawOrigin::Signed(who), appealed);
		assert_eq!(Audits::<T>::iter_keys().count(), 1);
		Ok(())
	}

	#[benchmark]
	fn testify() -> Result<(), BenchmarkError> {
		let verdict = verdict::<T>()?;
		#[extrinsic_call]
		_(RawOrigin::Authorized, verdict);
		Ok(())
	}

	#[benchmark]
	fn authorize_testify() -> Result<(), BenchmarkError> {
		let call = Call::<T>::testify {
			verdict: verdict::<T>()?,
		};
		#[block]
		{
			call.authorize(TransactionSource::External)
				.ok_or("not authorised by its content")?
				.map_err(|_| "not let in")?;
		}
		Ok(())
	}

	/// The points of the largest claim.
	#[benchmark]
	fn draw() -> Result<(), BenchmarkError> {
		claimed::<T>(|_| PointState::Due)?;
		EndRange::<T>::put((0, 0));
		Claims::<T>::mutate(0, |claim| {
			if let Some(claim) = claim {
				claim.root.sum = T::PointInterval::get().saturating_mul(MAX_POINTS.into());
				claim.points = List::new();
				claim.deadline = None;
			}
		});
		let from = frame_system::Pallet::<T>::block_number();
		let window = Window {
			from,
			blocks: 1,
			seed: Some(H256::repeat_byte(4)),
		};
		Windows::<T>::put(polkadot_sdk::frame_support::BoundedVec::truncate_from(
			vec![window],
		));
		Draws::<T>::insert(0, (from, Draw::Points(0)));
		DrawRange::<T>::put((0, 1));
		#[block]
		{
			Pallet::<T>::process_draws();
		}
		let points = Claims::<T>::get(0).map(|claim| claim.points.len() as u32);
		assert_eq!(points, Some(MAX_POINTS));
		Ok(())
	}

	/// One that is forfeited because one of its receipts was not opened, and with which its channel ends.
	#[benchmark]
	fn end_claim() -> Result<(), BenchmarkError> {
		let id = claimed::<T>(|n| match n {
			0 => PointState::Due,
			n => PointState::Stands(n.into()),
		})?;
		Channels::<T>::mutate(id, |channel| {
			if let Some(channel) = channel {
				channel.withdrawn = true;
			}
		});
		let at = frame_system::Pallet::<T>::block_number().saturating_add(One::one());
		#[block]
		{
			Pallet::<T>::process_ends(at);
		}
		assert!(!Claims::<T>::contains_key(0));
		assert!(!Channels::<T>::contains_key(id));
		Ok(())
	}

	#[benchmark]
	fn forget() -> Result<(), BenchmarkError> {
		let validator = validator::<T>()?;
		let session = T::Validators::session();
		let certified = Certificates::<T>::take(session, &validator.who).ok_or("no certificate")?;
		Certificates::<T>::insert(0, &validator.who, certified);
		#[block]
		{
			Pallet::<T>::forget_session(0);
		}
		assert_eq!(Certificates::<T>::iter_prefix(0).count(), 0);
		Ok(())
	}

	/// A block in which nothing is done, though something waits.
	#[benchmark]
	fn hooks() -> Result<(), BenchmarkError> {
		claimed::<T>(|_| PointState::Due)?;
		let now = frame_system::Pallet::<T>::block_number();
		#[block]
		{
			Pallet::<T>::process_ends(now);
			Pallet::<T>::forget_certificates();
			Pallet::<T>::process_draws();
		}
		assert!(Claims::<T>::contains_key(0));
		assert!(DrawRange::<T>::get().1 > 0);
		Ok(())
	}

	impl_benchmark_test_suite!(Pallet, crate::mock::bare(), crate::mock::Test);
}
