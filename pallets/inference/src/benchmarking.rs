//! Benchmarks of calls, statements, the authorise callback and hooks.
//!
//! The world is as full as it can be: a session of as many validators as it holds, as many of them as possible serving a text
//! model of the tolerant class with the longest fingerprints, all of them busy but for one place; rounds of as many verifiers and
//! juries of as many jurors as there can be; all other places of the queues taken, and blocks full where a deadline is looked for.

use alloc::{vec, vec::Vec};
use codec::{Decode, Encode};
use consilience_primitives::{
	contribution::Contribution,
	crypto::{InferenceId, InferenceSignature},
	evidence::{output_commitment, Evidence, Fingerprint, Salt, Verdict, MAX_VALUES},
	model::{
		Bounds, Limits, ModelSpec, NumericClass, Price, Speed, Task, TimeLimit, VerificationPolicy,
	},
	report::{Report, Statement},
	request::{
		Assurance, FinishReason, Input, LogitsProcessing, Output, Prompt, Sampling, StoredInput,
		MAX_STOP, MAX_STOPS, MAX_TEXT, MAX_TOKENS,
	},
	sampling::MAX_BIASES,
	tensor::{
		DataType, IndexedTensors, Tensor, TensorHeader, TensorSpec, MAX_DATA, MAX_NAME, MAX_RANK,
		MAX_TENSORS, MAX_TENSOR_BYTES,
	},
	view::RequestState,
	Bytes, List, ModelId, RequestId,
};
use polkadot_sdk::{
	frame_benchmarking::v2::*,
	frame_support::{
		pallet_prelude::Weight,
		traits::{
			fungible::{Inspect, Unbalanced},
			tokens::Precision,
			Authorize, EnsureOrigin, Get, ValidatorSet, ValidatorSetWithIdentification,
		},
		WeakBoundedVec,
	},
	frame_system::{self, pallet_prelude::BlockNumberFor, RawOrigin},
	sp_application_crypto::RuntimeAppPublic,
	sp_core::{sr25519, H256},
	sp_runtime::{
		traits::{Convert, One, Saturating},
		transaction_validity::TransactionSource,
		SaturatedConversion,
	},
	sp_staking::offence::ReportOffence,
};

use crate::{
	features::{
		compare::Body,
		draw::draw_blocks,
		offence::{OffenceKind, FREE_STRIKES},
		report::Outcome,
	},
	Assignment, Assignments, BalanceOf, Call, Callbacks, Claims, Config, Contributor, Deadlines,
	Draws, Juries, Keys, Late, Loads, OffenceRange, Outputs, Pallet, Parameters, Proof, Proven,
	Quiet, Recovered, Requests, Role, Rounds, Session, Strikes, Toss, Tosses, Vouchers, WeightInfo,
	MAX_CONTRIBUTORS, MAX_EXCLUDED, MAX_VOUCHERS,
};

const MODEL: ModelId = ModelId::repeat_byte(1);
const SALT: Salt = [7; 16];

/// A contribution of the key of seed `[1; 32]` where the genesis block's hash is `[1; 32]` and the parent's `[2; 32]`: benchmarks run where
/// nothing can be signed like that.
const CONTRIBUTION: (&str, &str, &str) = (
	"189dac29296d31814dc8c56cf3d36a0543372bba7538fa322a4aebfebc39e056",
	"821b03a66f4549175dc5230d9dec475f2e341482130f79a164cecef076fb6a71",
	"c02a8e489dfaee8f58b12900430b16eb0ac7e7e218a1c8c8c85cb62bc86c9e026e432126777e4d6434478df43b65d95e8a719ed4d2f32215d3cc5d9c7ddab70a",
);

/// Bytes of a constant in hexadecimal.
fn unhex<const N: usize>(hex: &str) -> Result<[u8; N], BenchmarkError> {
	let mut bytes = [0; N];
	for (byte, digits) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
		let digits = core::str::from_utf8(digits).map_err(|_| "no hexadecimal")?;
		*byte = u8::from_str_radix(digits, 16).map_err(|_| "no hexadecimal")?;
	}
	Ok(bytes)
}

/// The last contribution to a toss of as many as there can be, where all validators were late before.
fn contribution<T: Config>() -> Result<Contribution<BlockNumberFor<T>>, BenchmarkError> {
	let (key, output, proof) = CONTRIBUTION;
	let contribution = Contribution {
		block: frame_system::Pallet::<T>::block_number(),
		key: InferenceId::from(sr25519::Public::from_raw(unhex(key)?)),
		output: unhex(output)?,
		proof: unhex(proof)?,
	};
	let hash = |byte: u8| T::Hash::decode(&mut &[byte; 32][..]).map_err(|_| "a hash has 32 bytes");
	let parent = contribution.block.saturating_sub(One::one());
	frame_system::BlockHash::<T>::insert(BlockNumberFor::<T>::from(0u32), hash(1)?);
	frame_system::BlockHash::<T>::insert(parent, hash(2)?);
	let keys = Keys::<T>::get();
	let most = T::Contributors::get().clamp(1, MAX_CONTRIBUTORS) as usize;
	let mut contributors: Vec<_> = keys
		.iter()
		.take(most)
		.map(|(who, key)| Contributor {
			who: who.clone(),
			key: key.clone(),
			output: Some([3; 32]),
		})
		.collect();
	let last = contributors.last_mut().ok_or("a session has validators")?;
	last.key = contribution.key.clone();
	last.output = None;
	let toss = Toss {
		request: 0,
		contributors: contributors
			.try_into()
			.map_err(|_| "as many as the bound")?,
		failed: false,
	};
	Tosses::<T>::insert(contribution.block, toss);
	let late = keys.iter().map(|(who, _)| Late {
		who: who.clone(),
		times: 1,
		is_back: false,
	});
	Quiet::<T>::put(WeakBoundedVec::force_from(late.collect(), None));
	Ok(contribution)
}

fn rich<T: Config>(who: &T::AccountId) -> Result<(), BenchmarkError> {
	let money = T::Currency::minimum_balance().saturating_mul(1_000_000u32.into());
	T::Currency::increase_balance(who, money, Precision::Exact)?;
	Ok(())
}

fn evidence() -> Evidence {
	Evidence {
		fingerprint: Fingerprint::Values {
			tag: 0,
			values: vec![1; MAX_VALUES as usize]
				.try_into()
				.expect("as many as the bound; qed"),
		},
		verdict: Verdict::default(),
		prior: None,
	}
}

fn spec() -> ModelSpec {
	ModelSpec {
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
			class: NumericClass::Tolerant,
			positions: MAX_VALUES as u8,
			entries: 1,
			fraction_bits: 8,
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

/// Requests that only take up room have numbers from here on.
const OTHERS: RequestId = 1 << 40;

/// Puts a model on chain.
fn register<T: Config>(model: ModelId) -> Result<(), BenchmarkError> {
	let owner: T::AccountId = account("owner", 0, 0);
	let deposit = pallet_model_registry::Pallet::<T>::deposit_for(&spec());
	T::Currency::increase_balance(&owner, deposit, Precision::Exact)?;
	rich::<T>(&owner)?;
	let unit: BalanceOf<T> = T::Currency::minimum_balance();
	let price = Price {
		per_request: unit.saturating_mul(100u32.into()),
		per_input_unit: 0u32.into(),
		per_output_unit: 0u32.into(),
	};
	pallet_model_registry::Pallet::<T>::register(
		RawOrigin::Signed(owner).into(),
		model,
		spec(),
		price,
	)?;
	Ok(())
}

/// A full session, in which everybody has something to do; the model on chain, served by as many validators as can and active; all
/// places of the queues taken but the one that a benchmark needs.
fn world<T: Config>() -> Result<(), BenchmarkError> {
	let now: BlockNumberFor<T> = 10u32.into();
	frame_system::Pallet::<T>::set_block_number(now);
	rich::<T>(&T::Treasury::get())?;
	rich::<T>(&T::JuryFund::get())?;
	register::<T>(MODEL)?;
	let serving = serving::<T>();
	// Those who serve stand behind those who do not: they are looked for from the front.
	let mut keys: Vec<(T::AccountId, InferenceId)> = (serving..T::MaxValidators::get())
		.map(|i| {
			let key = sr25519::Public::from_raw([i as u8; 32]);
			(account("idle", i, 0), key.into())
		})
		.collect();
	for i in 0..serving {
		let validator: T::AccountId = account("validator", i, 0);
		rich::<T>(&validator)?;
		pallet_model_registry::Pallet::<T>::serve(
			&validator,
			MODEL,
			&evidence(),
			Speed::default(),
		)?;
		let duty = Assignment {
			role: Role::Verifier,
			work: 1,
		};
		Assignments::<T>::insert(&validator, OTHERS, duty);
		keys.push((validator, InferenceId::generate_pair(None)));
	}
	let loads = vec![1; keys.len()];
	Pallet::<T>::set_keys(keys);
	Loads::<T>::put(WeakBoundedVec::force_from(loads, None));
	let others = 1..T::MaxOpen::get();
	Callbacks::<T>::mutate(|list| {
		for i in others {
			let waits = list.try_push(OTHERS + RequestId::from(i));
			waits.expect("fewer than there is room for; qed");
		}
	});
	once_a_block::<T>();
	Ok(())
}

/// Validators that serve the model.
fn serving<T: Config>() -> u32 {
	T::MaxServing::get().min(T::MaxValidators::get())
}

/// Has the search for a deadline in so many blocks pass a full one.
fn crowd<T: Config>(blocks: BlockNumberFor<T>) {
	let wanted = frame_system::Pallet::<T>::block_number().saturating_add(blocks);
	Deadlines::<T>::mutate(wanted.saturating_add(One::one()), |list| {
		while list.try_push(OTHERS).is_ok() {}
	});
}

/// The same for a request that is there, and has no place any more that is early enough.
fn crowd_for<T: Config>(id: RequestId, blocks: BlockNumberFor<T>) {
	crowd::<T>(blocks);
	let now = frame_system::Pallet::<T>::block_number();
	Requests::<T>::mutate(id, |request| {
		if let Some(request) = request {
			request.looked_at = now;
		}
	});
}

/// Has the block come after a request's deadline, in which it is looked at. Returns its number.
fn pass_deadline<T: Config>(id: RequestId) -> Result<BlockNumberFor<T>, BenchmarkError> {
	let mut open = Requests::<T>::get(id).ok_or("no request")?;
	let now = open.deadline.saturating_add(One::one());
	open.looked_at = now;
	Requests::<T>::insert(id, open);
	Deadlines::<T>::mutate(now, |list| list.try_push(id)).map_err(|_| "no room")?;
	frame_system::Pallet::<T>::set_block_number(now);
	Ok(now)
}

/// What all that is done in a block shares is counted with the block.
fn once_a_block<T: Config>() {
	let now = frame_system::Pallet::<T>::block_number();
	let next = now.saturating_add(One::one());
	let audit = now
		.saturating_add(T::AuditDelay::get())
		.saturating_add((draw_blocks(0, T::DrawOdds::get()) - 1).into());
	let account = |who: T::AccountId| frame_system::Account::<T>::hashed_key_for(who);
	let shared = [now, next, audit].map(Draws::<T>::hashed_key_for);
	let shared = shared.into_iter().chain([
		Tosses::<T>::hashed_key_for(next),
		account(T::Treasury::get()),
		account(T::JuryFund::get()),
	]);
	for key in shared {
		polkadot_sdk::frame_benchmarking::benchmarking::add_to_whitelist(key.into());
	}
}

/// Blocks that the model has for its longest answer.
fn answer_blocks<T: Config>() -> BlockNumberFor<T> {
	spec().time.answer_blocks(MAX_TOKENS).into()
}

/// Verifiers of the largest round that the session can make up.
fn most_verifiers<T: Config>() -> u8 {
	T::MaxVerifiers::get().min(serving::<T>().saturating_sub(1).saturated_into())
}

/// A request for a text of so many bytes.
fn input(bytes: u32) -> Input {
	let stop = vec![
		vec![b'x'; MAX_STOP as usize]
			.try_into()
			.expect("as long as the bound; qed");
		MAX_STOPS as usize
	];
	let biases: Vec<_> = (0..MAX_BIASES).map(|token| (token, 1)).collect();
	Input::TextGeneration {
		prompt: Prompt::Text(
			vec![b'x'; bytes as usize]
				.try_into()
				.expect("benchmarks keep the bound; qed"),
		),
		sampling: Sampling {
			max_tokens: MAX_TOKENS,
			temperature: 1_000,
			top_p: 900,
			stop: stop.try_into().expect("as many as the bound; qed"),
			processing: Some(LogitsProcessing {
				logit_bias: biases.try_into().expect("as many as the bound; qed"),
				..Default::default()
			}),
		},
	}
}

fn output(bytes: u32) -> Output {
	let tokens = (bytes / 8).clamp(1, MAX_TOKENS);
	Output::Text {
		tokens: vec![codec::Compact(40_000); tokens as usize]
			.try_into()
			.expect("at most the bound; qed"),
		text: vec![b'x'; bytes as usize]
			.try_into()
			.expect("benchmarks keep the bound; qed"),
		finish: FinishReason::Length,
	}
}

/// The largest answer that the chain takes, as the graph's outputs: floats, of which most are in a byte.
fn tensors(bytes: u32) -> Output {
	let largest = MAX_TENSORS * MAX_TENSOR_BYTES;
	let each = bytes.min(largest) / MAX_TENSORS / 2;
	let mut shape = vec![1; MAX_RANK as usize];
	shape[0] = each;
	let tensor = Tensor {
		name: vec![b'x'; MAX_NAME as usize]
			.try_into()
			.expect("as long as the bound; qed"),
		datatype: DataType::Fp16,
		shape: shape.try_into().expect("as long as the bound; qed"),
		data: vec![1; 2 * each as usize]
			.try_into()
			.expect("no longer than the bound; qed"),
	};
	Output::Tensors(
		vec![tensor; MAX_TENSORS as usize]
			.try_into()
			.expect("as many as the bound; qed"),
	)
}

fn fee_limit<T: Config>() -> BalanceOf<T> {
	T::Currency::minimum_balance().saturating_mul(100_000u32.into())
}

fn requester<T: Config>() -> Result<T::AccountId, BenchmarkError> {
	let requester: T::AccountId = account("requester", 0, 0);
	rich::<T>(&requester)?;
	Ok(requester)
}

/// A request that has turned validators away to the last but one, and that another pallet made.
fn requested<T: Config>(verifiers: u8) -> Result<RequestId, BenchmarkError> {
	let id = Pallet::<T>::submit(
		requester::<T>()?,
		MODEL,
		input(16).into(),
		Assurance::Committee(verifiers),
		fee_limit::<T>(),
		0u32.into(),
		true,
	)?;
	Requests::<T>::mutate(id, |request| {
		// Something is burned at its end.
		let charged = request.iter_mut().map(|r| r.surcharge = 1u32.into());
		assert_eq!(charged.count(), 1);
		for i in 1..MAX_EXCLUDED {
			let late = request
				.iter_mut()
				.all(|r| r.excluded.try_push(account("idle", i, 1)).is_ok());
			assert!(late);
		}
	});
	Ok(id)
}

/// Gives somebody what an appeal or a contest in this request puts at stake.
fn afford_bond<T: Config>(who: &T::AccountId, id: RequestId) -> Result<(), BenchmarkError> {
	let open = Requests::<T>::get(id).ok_or("no request")?;
	let bond = Pallet::<T>::appeal_bond(&open);
	T::Currency::increase_balance(who, bond, Precision::Exact)?;
	Ok(())
}

/// A request over which the largest jury has ruled, beside which others serve the model.
fn ruled<T: Config>() -> Result<RequestId, BenchmarkError> {
	let all = pallet_model_registry::Serving::<T>::get(MODEL);
	let (id, left) = jury_revealed::<T>(most_jurors::<T>(), 1)?;
	pallet_model_registry::Serving::<T>::insert(MODEL, all);
	reveal_all::<T>(id, &left)?;
	Ok(id)
}

/// What the end of a block with randomness does for the request.
fn draw<T: Config>(id: RequestId) {
	let roster = Pallet::<T>::roster();
	assert!(draw_with::<T>(id, &roster));
}

fn draw_with<T: Config>(
	id: RequestId,
	roster: &crate::features::load::Roster<T::AccountId>,
) -> bool {
	let now = frame_system::Pallet::<T>::block_number();
	let Some(mut request) = Requests::<T>::get(id) else {
		return false;
	};
	request.draw = None;
	Pallet::<T>::draw(now, id, &mut request, H256::repeat_byte(9), roster)
}

fn executor<T: Config>(id: RequestId) -> Result<T::AccountId, BenchmarkError> {
	Requests::<T>::get(id)
		.and_then(|r| r.executor)
		.ok_or(BenchmarkError::Stop("no executor was drawn"))
}

fn assigned<T: Config>(verifiers: u8) -> Result<(RequestId, T::AccountId), BenchmarkError> {
	let id = requested::<T>(verifiers)?;
	draw::<T>(id);
	Ok((id, executor::<T>(id)?))
}

fn answered<T: Config>(verifiers: u8) -> Result<RequestId, BenchmarkError> {
	let (id, executor) = assigned::<T>(verifiers)?;
	Pallet::<T>::answer(&executor, id, output(16))?;
	Ok(id)
}

fn members<T: Config>(id: RequestId) -> Result<(H256, Vec<T::AccountId>), BenchmarkError> {
	let round = Rounds::<T>::get(id).ok_or(BenchmarkError::Stop("no round was drawn"))?;
	Ok((
		round.challenge,
		round.members.iter().map(|m| m.who.clone()).collect(),
	))
}

/// Who measures.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
	Honest,
	Lying,
}

/// Evidence in a round, or in a jury. Who lies measured other values, and finds the answer right that is wrong.
fn measured(side: Side, juror: bool) -> Evidence {
	let mut evidence = evidence();
	if side == Side::Lying {
		evidence.fingerprint = Fingerprint::Values {
			tag: 0,
			values: vec![i32::MAX; MAX_VALUES as usize]
				.try_into()
				.expect("as many as the bound; qed"),
		};
	} else if juror {
		evidence.verdict.margin_max = u32::MAX;
	}
	evidence.prior = juror.then(|| evidence.fingerprint.clone());
	evidence
}

fn commit_all<T: Config>(
	id: RequestId,
	challenge: &H256,
	members: &[(T::AccountId, Evidence)],
) -> Result<(), BenchmarkError> {
	for (member, evidence) in members {
		let commitment = evidence.commitment(id, challenge, member, &SALT);
		Pallet::<T>::commit_evidence(member, id, commitment)?;
	}
	Ok(())
}

fn reveal_all<T: Config>(
	id: RequestId,
	members: &[(T::AccountId, Evidence)],
) -> Result<(), BenchmarkError> {
	for (member, evidence) in members {
		Pallet::<T>::reveal_evidence(member, id, evidence.clone(), SALT)?;
	}
	Ok(())
}

/// A round in which everybody is to commit to the same.
#[allow(clippy::type_complexity)]
fn measuring<T: Config>(
	verifiers: u8,
) -> Result<(RequestId, H256, Vec<(T::AccountId, Evidence)>), BenchmarkError> {
	let id = answered::<T>(verifiers)?;
	draw::<T>(id);
	let (challenge, members) = members::<T>(id)?;
	let members = members.into_iter().map(|who| (who, evidence())).collect();
	Ok((id, challenge, members))
}

/// A round in which everybody has committed to the same.
fn committed<T: Config>(
	verifiers: u8,
) -> Result<(RequestId, Vec<(T::AccountId, Evidence)>), BenchmarkError> {
	let (id, challenge, members) = measuring::<T>(verifiers)?;
	commit_all::<T>(id, &challenge, &members)?;
	Ok((id, members))
}

/// A round in which everybody but the last member has revealed.
fn revealed<T: Config>(verifiers: u8) -> Result<(RequestId, T::AccountId), BenchmarkError> {
	let (id, members) = committed::<T>(verifiers)?;
	let (last, others) = members
		.split_last()
		.ok_or(BenchmarkError::Stop("a round without members"))?;
	reveal_all::<T>(id, others)?;
	Ok((id, last.0.clone()))
}

/// The largest round, in dispute: all lied, each in its own way.
fn disputed<T: Config>() -> Result<RequestId, BenchmarkError> {
	let id = answered::<T>(most_verifiers::<T>())?;
	draw::<T>(id);
	let (challenge, members) = members::<T>(id)?;
	let members: Vec<_> = members
		.into_iter()
		.enumerate()
		.map(|(i, who)| {
			let mut lie = measured(Side::Lying, false);
			if let Fingerprint::Values { values, .. } = &mut lie.fingerprint {
				values.iter_mut().for_each(|v| *v -= i as i32);
			}
			(who, lie)
		})
		.collect();
	commit_all::<T>(id, &challenge, &members)?;
	reveal_all::<T>(id, &members)?;
	assert_eq!(state::<T>(id), Some(RequestState::Disputed));
	Ok(id)
}

/// Most jurors that can be drawn beside the largest committee.
fn most_jurors<T: Config>() -> u32 {
	let others = serving::<T>().saturating_sub(u32::from(most_verifiers::<T>()) + 1);
	T::MaxJurors::get().min(others)
}

/// As many liars in a jury as leave the others most, and enough of them to be heard.
fn most_liars<T: Config>(jurors: u32) -> u32 {
	(jurors.saturating_sub(1) / 2).min(jurors.saturating_sub(T::MinJury::get()))
}

/// A dispute with so many jurors, none of them of the committee; as many of them lie as can without winning. With what they
/// are to reveal, the liars first.
fn judged_by<T: Config>(
	jurors: u32,
) -> Result<(RequestId, H256, Vec<(T::AccountId, Evidence)>), BenchmarkError> {
	let id = disputed::<T>()?;
	let (_, committee) = members::<T>(id)?;
	// So many of the others go on serving.
	pallet_model_registry::Serving::<T>::mutate(MODEL, |list| {
		list.retain(|server| !committee.contains(&server.who));
		list.truncate(jurors as usize);
	});
	draw::<T>(id);
	let round = Juries::<T>::get(id)
		.and_then(|j| j.round)
		.ok_or(BenchmarkError::Stop("no jury was drawn"))?;
	assert_eq!(round.members.len() as u32, jurors);
	let liars = most_liars::<T>(jurors) as usize;
	let members = round
		.members
		.into_iter()
		.enumerate()
		.map(|(i, member)| {
			let side = if i < liars { Side::Lying } else { Side::Honest };
			(member.who, measured(side, true))
		})
		.collect();
	Ok((id, round.challenge, members))
}

/// The largest jury, in which everybody has committed, and all but so many have revealed. With those who have not.
fn jury_revealed<T: Config>(
	jurors: u32,
	missing: usize,
) -> Result<(RequestId, Vec<(T::AccountId, Evidence)>), BenchmarkError> {
	let (id, challenge, mut members) = judged_by::<T>(jurors)?;
	commit_all::<T>(id, &challenge, &members)?;
	let left = members.split_off(members.len().saturating_sub(missing));
	reveal_all::<T>(id, &members)?;
	Ok((id, left))
}

/// A tensor model's round in which the executor is to show an answer of so many bytes, to which it is bound.
fn to_be_shown<T: Config>(
	bytes: u32,
) -> Result<(RequestId, T::AccountId, Statement), BenchmarkError> {
	let (id, _) = committed::<T>(most_verifiers::<T>())?;
	let executor = executor::<T>(id)?;
	let output = output(bytes);
	let commitment = output_commitment(&output, id, &executor, &SALT);
	Outputs::<T>::remove(id);
	Requests::<T>::mutate(id, |request| {
		if let Some(r) = request {
			r.output_commitment = Some(commitment);
		}
	});
	let statement = Statement::RevealOutput {
		request: id,
		output,
		salt: SALT,
	};
	Ok((id, executor, statement))
}

fn signed<T: Config>(
	validator: &T::AccountId,
	statements: Vec<Statement>,
) -> Result<(Report<BlockNumberFor<T>>, InferenceSignature), BenchmarkError> {
	let keys = Keys::<T>::get();
	let index = keys
		.iter()
		.position(|(v, _)| v == validator)
		.ok_or(BenchmarkError::Stop("not in the session"))?;
	let report = Report {
		session: Session::<T>::get(),
		validator: index as u32,
		at: frame_system::Pallet::<T>::block_number().saturating_sub(1u32.into()),
		statements: statements
			.try_into()
			.map_err(|_| BenchmarkError::Stop("too many statements"))?,
	};
	let signature = keys[index]
		.1
		.sign(&Pallet::<T>::payload(&report))
		.ok_or(BenchmarkError::Stop("no key to sign with"))?;
	Ok((report, signature))
}

fn state<T: Config>(id: RequestId) -> Option<RequestState> {
	Requests::<T>::get(id).map(|r| r.state)
}

#[benchmarks(where <T as frame_system::Config>::RuntimeCall: From<Call<T>>)]
mod benchmarks {
	use super::*;

	/// With an input of so many bytes.
	#[benchmark]
	fn request(b: Linear<1, MAX_TEXT>) -> Result<(), BenchmarkError> {
		world::<T>()?;
		let requester = requester::<T>()?;
		crowd::<T>(T::RevealBlocks::get());
		#[extrinsic_call]
		_(
			RawOrigin::Signed(requester),
			MODEL,
			input(b),
			Assurance::Committee(most_verifiers::<T>()),
			fee_limit::<T>(),
			0u32.into(),
		);
		assert_eq!(state::<T>(0), Some(RequestState::Requested));
		Ok(())
	}

	/// With so many bytes of data, as what takes longest to look at: strings without a character, of which each is a length.
	#[benchmark]
	fn request_with_data(b: Linear<4, MAX_DATA>) -> Result<(), BenchmarkError> {
		world::<T>()?;
		let requester = requester::<T>()?;
		crowd::<T>(T::RevealBlocks::get());
		let name: Bytes<MAX_NAME> = b"x".to_vec().try_into().expect("short; qed");
		pallet_model_registry::Models::<T>::mutate(MODEL, |model| {
			let spec = &mut model.as_mut().expect("the world has it; qed").spec;
			spec.task = Task::Tensor;
			spec.limits.max_input_units = MAX_DATA;
			let input = TensorSpec {
				name: name.clone(),
				datatype: DataType::Bytes,
				shape: vec![None].try_into().expect("one is in bounds; qed"),
			};
			spec.signature = vec![input].try_into().expect("one is in bounds; qed");
		});
		let header = TensorHeader {
			name,
			datatype: DataType::Bytes,
			shape: vec![b / 4].try_into().expect("one is in bounds; qed"),
			bytes: b / 4 * 4,
		};
		let data: Bytes<MAX_DATA> = vec![0; header.bytes as usize]
			.try_into()
			.expect("benchmarks keep the bound; qed");
		let tensors: List<_, MAX_TENSORS> = vec![header].try_into().expect("one is in bounds; qed");
		let assurance = Assurance::Committee(most_verifiers::<T>());
		let asked = StoredInput::Indexed(IndexedTensors {
			tensors: tensors.clone(),
			data_hash: H256::zero(),
		});
		let limit = Pallet::<T>::quote(MODEL, &asked, assurance)
			.map_err(|_| BenchmarkError::Stop("the model takes no such input"))?
			.fee;
		T::Currency::increase_balance(&requester, limit, Precision::Exact)?;
		frame_system::Pallet::<T>::set_extrinsic_index(0);
		frame_system::Pallet::<T>::note_extrinsic(data.to_vec());
		#[extrinsic_call]
		_(
			RawOrigin::Signed(requester),
			MODEL,
			tensors,
			assurance,
			limit,
			0u32.into(),
			data,
		);
		assert_eq!(state::<T>(0), Some(RequestState::Requested));
		Ok(())
	}

	#[benchmark]
	fn cancel() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let id = requested::<T>(1)?;
		#[extrinsic_call]
		_(RawOrigin::Signed(account("requester", 0, 0)), id);
		assert_eq!(state::<T>(id), Some(RequestState::Cancelled));
		Ok(())
	}

	/// With an output of so many bytes that the executor is bound to. Statements are counted by themselves as well, so that this
	/// counts one too many.
	#[benchmark]
	fn report(b: Linear<1, MAX_TEXT>) -> Result<(), BenchmarkError> {
		world::<T>()?;
		let (id, executor, statement) = to_be_shown::<T>(b)?;
		let (said, signature) = signed::<T>(&executor, vec![statement])?;
		#[extrinsic_call]
		_(RawOrigin::Authorized, said, signature);
		assert!(Outputs::<T>::contains_key(id));
		Ok(())
	}

	/// The same, let in.
	#[benchmark]
	fn authorize_report(b: Linear<1, MAX_TEXT>) -> Result<(), BenchmarkError> {
		world::<T>()?;
		let (_, executor, statement) = to_be_shown::<T>(b)?;
		let (said, signature) = signed::<T>(&executor, vec![statement])?;
		let call: <T as frame_system::Config>::RuntimeCall = Call::report {
			report: said,
			signature,
		}
		.into();
		#[block]
		{
			call.authorize(TransactionSource::InBlock)
				.expect("the call is authorised by itself; qed")
				.map_err(|_| "the report was not let in")?;
		}
		Ok(())
	}

	/// The last contribution that a toss waits for, let in.
	#[benchmark]
	fn authorize_contribution() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let contribution = contribution::<T>()?;
		let call: <T as frame_system::Config>::RuntimeCall =
			Call::contribute { contribution }.into();
		#[block]
		{
			call.authorize(TransactionSource::InBlock)
				.expect("the call is authorised by itself; qed")
				.map_err(|_| "the contribution was not let in")?;
		}
		Ok(())
	}

	/// The same, taken.
	#[benchmark]
	fn contribute() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let contribution = contribution::<T>()?;
		#[block]
		{
			Pallet::<T>::do_contribute(contribution)?;
		}
		let now = frame_system::Pallet::<T>::block_number();
		let toss = Tosses::<T>::get(now).ok_or("the toss is gone")?;
		assert!(toss.is_complete());
		Ok(())
	}

	/// Whether a juror's evidence is due.
	#[benchmark]
	fn check() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let (id, mut left) = jury_revealed::<T>(most_jurors::<T>(), 1)?;
		let (validator, evidence) = left.pop().ok_or("nobody is left")?;
		let statement = Statement::Reveal {
			request: id,
			evidence,
			salt: SALT,
		};
		let due;
		#[block]
		{
			due = Pallet::<T>::check_statement(&validator, &statement);
		}
		due?;
		Ok(())
	}

	/// Whether an answer is due.
	#[benchmark]
	fn check_answer() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let (id, executor) = assigned::<T>(most_verifiers::<T>())?;
		let statement = Statement::Answer {
			request: id,
			output: output(1),
		};
		let due;
		#[block]
		{
			due = Pallet::<T>::check_statement(&executor, &statement);
		}
		due?;
		Ok(())
	}

	/// Whether evidence of a member of a committee of so many is due.
	#[benchmark]
	fn check_member(
		m: Linear<2, { u32::from(most_verifiers::<T>()) + 1 }>,
	) -> Result<(), BenchmarkError> {
		world::<T>()?;
		let (id, validator) = revealed::<T>((m - 1) as u8)?;
		let statement = Statement::Reveal {
			request: id,
			evidence: evidence(),
			salt: SALT,
		};
		let due;
		#[block]
		{
			due = Pallet::<T>::check_statement(&validator, &statement);
		}
		due?;
		Ok(())
	}

	/// By the last that can serve the model, as the last that it can serve.
	#[benchmark]
	fn serve() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let validator: T::AccountId = account("validator", 0, 0);
		pallet_model_registry::Pallet::<T>::withdraw(&validator, MODEL)?;
		pallet_model_registry::ServedBy::<T>::mutate(&validator, |list| {
			for i in 1..T::MaxServed::get() {
				let served = list.try_push(ModelId::from([(100 + i) as u8; 32]));
				served.expect("fewer than there is room for; qed");
			}
		});
		#[block]
		{
			pallet_model_registry::Pallet::<T>::serve(
				&validator,
				MODEL,
				&evidence(),
				Speed::default(),
			)?;
		}
		Ok(())
	}

	/// From one of as many models as a validator can serve.
	#[benchmark]
	fn withdraw() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let validator: T::AccountId = account("validator", 0, 0);
		pallet_model_registry::ServedBy::<T>::mutate(&validator, |list| {
			for i in 1..T::MaxServed::get() {
				let served = list.try_push(ModelId::from([(100 + i) as u8; 32]));
				served.expect("fewer than there is room for; qed");
			}
		});
		#[block]
		{
			pallet_model_registry::Pallet::<T>::withdraw(&validator, MODEL)?;
		}
		Ok(())
	}

	/// An answer; its bytes are counted by the report.
	#[benchmark]
	fn answer() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let (id, executor) = assigned::<T>(most_verifiers::<T>())?;
		crowd_for::<T>(id, T::DrawPatience::get());
		#[block]
		{
			Pallet::<T>::answer(&executor, id, output(1))?;
		}
		assert!(Outputs::<T>::contains_key(id));
		Ok(())
	}

	/// The last commitment of a committee of so many members, which begins the reveal.
	#[benchmark]
	fn commit(
		m: Linear<2, { u32::from(most_verifiers::<T>()) + 1 }>,
	) -> Result<(), BenchmarkError> {
		world::<T>()?;
		let (id, challenge, mut members) = measuring::<T>((m - 1) as u8)?;
		let (last, evidence) = members.pop().ok_or("nobody is left")?;
		commit_all::<T>(id, &challenge, &members)?;
		let commitment = evidence.commitment(id, &challenge, &last, &SALT);
		crowd_for::<T>(id, T::RevealBlocks::get());
		let body;
		#[block]
		{
			body = Pallet::<T>::commit_evidence(&last, id, commitment)?;
		}
		assert_eq!(body, Body::Committee(m));
		Ok(())
	}

	/// The last commitment of a jury.
	#[benchmark]
	fn commit_juror() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let (id, challenge, mut members) = judged_by::<T>(most_jurors::<T>())?;
		let (last, evidence) = members.pop().ok_or("nobody is left")?;
		commit_all::<T>(id, &challenge, &members)?;
		let commitment = evidence.commitment(id, &challenge, &last, &SALT);
		crowd_for::<T>(id, T::RevealBlocks::get());
		let body;
		#[block]
		{
			body = Pallet::<T>::commit_evidence(&last, id, commitment)?;
		}
		assert_eq!(body, Body::Jury);
		Ok(())
	}

	/// The last reveal of a committee of so many members but one.
	#[benchmark]
	fn reveal(
		m: Linear<2, { u32::from(most_verifiers::<T>()) + 1 }>,
	) -> Result<(), BenchmarkError> {
		world::<T>()?;
		let (id, mut members) = committed::<T>((m - 1) as u8)?;
		members.pop();
		let (who, evidence) = members.pop().ok_or("nobody is left")?;
		reveal_all::<T>(id, &members)?;
		let outcome;
		#[block]
		{
			outcome = Pallet::<T>::reveal_evidence(&who, id, evidence, SALT)?;
		}
		assert_eq!(outcome, (Body::Committee(m), Outcome::Open));
		Ok(())
	}

	/// The last reveal of a jury but one.
	#[benchmark]
	fn reveal_juror() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let (id, left) = jury_revealed::<T>(most_jurors::<T>(), 2)?;
		let (who, evidence) = left[0].clone();
		let outcome;
		#[block]
		{
			outcome = Pallet::<T>::reveal_evidence(&who, id, evidence, SALT)?;
		}
		assert_eq!(outcome, (Body::Jury, Outcome::Open));
		Ok(())
	}

	/// The last reveal of a committee of so many members, in which all agree and are paid.
	#[benchmark]
	fn settle(
		m: Linear<2, { u32::from(most_verifiers::<T>()) + 1 }>,
	) -> Result<(), BenchmarkError> {
		world::<T>()?;
		let (id, last) = revealed::<T>((m - 1) as u8)?;
		let outcome;
		#[block]
		{
			(_, outcome) = Pallet::<T>::reveal_evidence(&last, id, evidence(), SALT)?;
		}
		assert!(matches!(outcome, Outcome::Compared { members, .. } if members == m));
		assert_eq!(state::<T>(id), Some(RequestState::Final));
		Ok(())
	}

	/// The last reveal of a jury of so many members, which finds that the largest committee lied, and almost half of the jury.
	#[benchmark]
	fn judge(
		j: Linear<{ T::MinJury::get() }, { most_jurors::<T>() }>,
	) -> Result<(), BenchmarkError> {
		world::<T>()?;
		let (id, mut left) = jury_revealed::<T>(j, 1)?;
		let (last, evidence) = left.pop().ok_or("nobody is left")?;
		let outcome;
		#[block]
		{
			(_, outcome) = Pallet::<T>::reveal_evidence(&last, id, evidence, SALT)?;
		}
		assert!(matches!(outcome, Outcome::Judged { jurors, .. } if jurors == j));
		assert_eq!(state::<T>(id), Some(RequestState::Rejected));
		let liars = most_liars::<T>(j) + u32::from(most_verifiers::<T>()) + 1;
		let waiting = Juries::<T>::get(id).and_then(|jury| jury.ruling);
		let accused = waiting.map_or(0, |found| found.accused.len() as u64);
		assert_eq!(OffenceRange::<T>::get().1 + accused, u64::from(liars));
		Ok(())
	}

	/// Reading an output of so many bytes, and the sketch that is the evidence of one of the tolerant class. A digest of it, which
	/// is that of the exact class, takes less.
	#[benchmark]
	fn read_output(b: Linear<1, { MAX_TENSORS * MAX_TENSOR_BYTES }>) -> Result<(), BenchmarkError> {
		Outputs::<T>::insert(OTHERS, tensors(b));
		let policy = spec().policy;
		let measured;
		#[block]
		{
			measured = match Outputs::<T>::get(OTHERS) {
				Some(Output::Tensors(tensors)) => {
					Evidence::of_tensors(&tensors, &H256::zero(), &policy)
				}
				_ => return Err("no output".into()),
			};
		}
		measured.map_err(|_| "the output is not as it says")?;
		Ok(())
	}

	/// The executor of a full round and all of its verifiers are late, and not for the first time.
	#[benchmark]
	fn late() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let id = answered::<T>(most_verifiers::<T>())?;
		draw::<T>(id);
		for member in members::<T>(id)?.1 {
			Strikes::<T>::insert(member, FREE_STRIKES);
		}
		let now = pass_deadline::<T>(id)?;
		crowd::<T>(T::DrawPatience::get().saturating_add(answer_blocks::<T>()));
		let due;
		#[block]
		{
			due = Pallet::<T>::process_deadlines(now);
		}
		assert_eq!((due.late, due.juries), (1, 0));
		assert_eq!(state::<T>(id), Some(RequestState::Provisional));
		assert_eq!(
			OffenceRange::<T>::get().1,
			u64::from(most_verifiers::<T>()) + 1
		);
		Ok(())
	}

	/// The largest jury ends without one of its members, which withholds its evidence.
	#[benchmark]
	fn late_jury() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let (id, _) = jury_revealed::<T>(most_jurors::<T>(), 1)?;
		Juries::<T>::mutate(id, |jury| {
			if let Some(round) = jury.as_mut().and_then(|j| j.round.as_mut()) {
				round.extended = true;
			}
		});
		let now = pass_deadline::<T>(id)?;
		let due;
		#[block]
		{
			due = Pallet::<T>::process_deadlines(now);
		}
		assert_eq!((due.late, due.juries), (0, 1));
		assert_eq!(state::<T>(id), Some(RequestState::Rejected));
		Ok(())
	}

	/// A request that a jury ended, with the largest output.
	#[benchmark]
	fn prune() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let (id, left) = jury_revealed::<T>(most_jurors::<T>(), 1)?;
		reveal_all::<T>(id, &left)?;
		Callbacks::<T>::mutate(|list| list.retain(|other| *other != id));
		Outputs::<T>::insert(id, tensors(u32::MAX));
		let at = frame_system::Pallet::<T>::block_number().saturating_add(T::Retention::get());
		#[block]
		{
			Pallet::<T>::prune(at);
		}
		assert!(state::<T>(id).is_none());
		assert!(!Juries::<T>::contains_key(id));
		Ok(())
	}

	#[benchmark]
	fn draw_executor() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let id = requested::<T>(most_verifiers::<T>())?;
		let roster = Pallet::<T>::roster();
		crowd_for::<T>(id, answer_blocks::<T>());
		#[block]
		{
			draw_with::<T>(id, &roster);
		}
		assert_eq!(state::<T>(id), Some(RequestState::Assigned));
		Ok(())
	}

	/// So many.
	#[benchmark]
	fn draw_verifiers(
		v: Linear<1, { u32::from(most_verifiers::<T>()) }>,
	) -> Result<(), BenchmarkError> {
		world::<T>()?;
		let id = answered::<T>(v as u8)?;
		let roster = Pallet::<T>::roster();
		crowd_for::<T>(id, answer_blocks::<T>());
		#[block]
		{
			draw_with::<T>(id, &roster);
		}
		assert!(Rounds::<T>::contains_key(id));
		Ok(())
	}

	#[benchmark]
	fn draw_jury() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let id = disputed::<T>()?;
		let roster = Pallet::<T>::roster();
		crowd_for::<T>(id, answer_blocks::<T>().saturating_mul(2u32.into()));
		#[block]
		{
			draw_with::<T>(id, &roster);
		}
		let round = Juries::<T>::get(id).and_then(|j| j.round);
		let jurors = round.map(|r| r.members.len() as u32);
		assert_eq!(jurors, Some(T::MaxJurors::get().min(serving::<T>())));
		Ok(())
	}

	/// A settled answer that is not measured again.
	#[benchmark]
	fn pass_audit() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let (id, last) = revealed::<T>(2)?;
		Pallet::<T>::reveal_evidence(&last, id, evidence(), SALT)?;
		let mut parameters = Parameters::<T>::get();
		parameters.audit_share = Default::default();
		Parameters::<T>::put(parameters);
		let roster = Pallet::<T>::roster();
		#[block]
		{
			draw_with::<T>(id, &roster);
		}
		assert_eq!(state::<T>(id), Some(RequestState::Final));
		Ok(())
	}

	#[benchmark]
	fn appeal() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let id = answered::<T>(1)?;
		Requests::<T>::mutate(id, |open| {
			if let Some(r) = open {
				r.draw = None;
				r.appealable_until = Some(r.deadline);
			}
		});
		let who: T::AccountId = account("validator", serving::<T>() - 1, 0);
		afford_bond::<T>(&who, id)?;
		crowd_for::<T>(id, T::DrawPatience::get());
		#[extrinsic_call]
		_(RawOrigin::Signed(who), id);
		assert_eq!(state::<T>(id), Some(RequestState::Disputed));
		Ok(())
	}

	/// By the executor that was found to have lied.
	#[benchmark]
	fn contest() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let id = ruled::<T>()?;
		let who = executor::<T>(id)?;
		afford_bond::<T>(&who, id)?;
		crowd_for::<T>(id, T::DrawPatience::get());
		#[extrinsic_call]
		_(RawOrigin::Signed(who), id);
		assert_eq!(state::<T>(id), Some(RequestState::Disputed));
		Ok(())
	}

	/// Staking is to hear of all that the largest jury accuses.
	#[benchmark]
	fn ruling() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let id = ruled::<T>()?;
		let until = Juries::<T>::get(id)
			.and_then(|jury| jury.ruling)
			.map(|found| found.until)
			.ok_or("no ruling")?;
		let heard;
		#[block]
		{
			heard = Pallet::<T>::process_rulings(until.saturating_add(One::one()));
		}
		assert_eq!(heard, 1);
		assert!(OffenceRange::<T>::get().1 > 0);
		Ok(())
	}

	/// An answer is proven false for which as many as can be have vouched, and of which a jury has accused as many as it can.
	#[benchmark]
	fn refute() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let id = ruled::<T>()?;
		let now = frame_system::Pallet::<T>::block_number();
		Requests::<T>::mutate(id, |found| {
			if let Some(found) = found {
				found.state = RequestState::Final;
				found.settled_at = Some(now);
			}
		});
		let vouchers: Vec<_> = (0..MAX_VOUCHERS)
			.map(|n| (account("voucher", n, 0), 0))
			.collect();
		Vouchers::<T>::insert(id, List::truncate_from(vouchers));
		Proven::<T>::put(WeakBoundedVec::force_from(
			vec![Proof {
				request: id,
				by: account("requester", 2, 0),
				bond: T::Currency::minimum_balance(),
			}],
			None,
		));
		let done;
		#[block]
		{
			done = Pallet::<T>::process_proven();
		}
		assert_eq!(done, 1);
		assert_eq!(state::<T>(id), Some(RequestState::Overturned));
		assert!(OffenceRange::<T>::get().1 >= MAX_VOUCHERS.into());
		Ok(())
	}

	/// A requester and an appellant are owed something for one request.
	#[benchmark]
	fn claim() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let liar: T::AccountId = account("validator", 0, 0);
		let unit: BalanceOf<T> = T::Currency::minimum_balance();
		let [requester, appellant] = [1, 2].map(|n| account("requester", n, 0));
		let owed = [&requester, &appellant].map(|who: &T::AccountId| (who.clone(), unit));
		Pallet::<T>::owe(&liar, OTHERS, owed);
		Recovered::<T>::put(WeakBoundedVec::force_from(
			vec![(liar.clone(), unit.saturating_mul(2u32.into()))],
			None,
		));
		#[block]
		{
			Pallet::<T>::pay_claims();
		}
		assert_eq!(Claims::<T>::iter_prefix(&liar).count(), 0);
		assert!(Recovered::<T>::get().is_empty());
		Ok(())
	}

	#[benchmark]
	fn set_parameters() -> Result<(), BenchmarkError> {
		let origin =
			T::AdminOrigin::try_successful_origin().map_err(|_| BenchmarkError::Weightless)?;
		let mut parameters = T::DefaultParameters::get();
		parameters.verifier_share = Default::default();
		#[extrinsic_call]
		_(origin as T::RuntimeOrigin, parameters);
		assert_eq!(Parameters::<T>::get(), parameters);
		Ok(())
	}

	/// Of one of as many as can be suspended.
	#[benchmark]
	fn lift_suspension() -> Result<(), BenchmarkError> {
		let origin =
			T::AdminOrigin::try_successful_origin().map_err(|_| BenchmarkError::Weightless)?;
		for n in 0..T::MaxValidators::get() {
			let validator = account("validator", n, 0);
			Pallet::<T>::offend(OTHERS, &validator, OffenceKind::FraudulentEvidence);
		}
		let last: T::AccountId = account("validator", T::MaxValidators::get() - 1, 0);
		#[extrinsic_call]
		_(origin as T::RuntimeOrigin, last.clone());
		assert!(!Pallet::<T>::is_suspended(&last));
		Ok(())
	}

	/// Against a validator of the genesis session, which is disabled, and serves as many models as it can. Nominators behind it are
	/// counted by themselves.
	#[benchmark]
	fn offence() -> Result<(), BenchmarkError> {
		let keys = Keys::<T>::get();
		let (offender, _) = keys.first().ok_or("a genesis without validators")?;
		for n in 0..T::MaxServed::get() {
			let model = ModelId::repeat_byte(n as u8);
			register::<T>(model)?;
			pallet_model_registry::Pallet::<T>::serve(
				offender,
				model,
				&evidence(),
				Speed::default(),
			)?;
		}
		let kind = OffenceKind::FraudulentResult;
		Pallet::<T>::offend(OTHERS, offender, kind);
		#[block]
		{
			Pallet::<T>::process_offences();
		}
		type Set<T> = <T as Config>::ValidatorSet;
		let id = <Set<T> as ValidatorSet<T::AccountId>>::ValidatorIdOf::convert(offender.clone())
			.ok_or("no validator")?;
		let full =
			<Set<T> as ValidatorSetWithIdentification<T::AccountId>>::IdentificationOf::convert(
				id.clone(),
			)
			.ok_or("no identification")?;
		let offender = (id.clone(), full.clone()).encode();
		assert!(T::ReportOffence::is_known_offence(
			&[(id, full)],
			&(OTHERS, kind, T::ValidatorSet::session_index(), offender)
		));
		Ok(())
	}

	/// About the largest output; what is called is not counted.
	#[benchmark]
	fn call_back() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let (id, last) = revealed::<T>(most_verifiers::<T>())?;
		Pallet::<T>::reveal_evidence(&last, id, evidence(), SALT)?;
		Outputs::<T>::insert(id, tensors(u32::MAX));
		Callbacks::<T>::mutate(|list| list.retain(|other| *other == id));
		let now = frame_system::Pallet::<T>::block_number().saturating_add(One::one());
		#[block]
		{
			Pallet::<T>::process_callbacks(now, Weight::MAX);
		}
		assert!(Callbacks::<T>::get().is_empty());
		Ok(())
	}

	/// A block in which nothing is done, though all queues are full.
	#[benchmark]
	fn hooks() -> Result<(), BenchmarkError> {
		world::<T>()?;
		let now = frame_system::Pallet::<T>::block_number();
		// What is passed over: a request that was settled.
		Draws::<T>::mutate(now, |list| while list.try_push(OTHERS).is_ok() {});
		let idle = <T as Config>::WeightInfo::hooks();
		#[block]
		{
			Pallet::<T>::process_deadlines(now);
			Pallet::<T>::prune(now);
			Pallet::<T>::process_offences();
			Pallet::<T>::process_rulings(now);
			Pallet::<T>::pay_claims();
			Pallet::<T>::process_draws(now);
			Pallet::<T>::process_callbacks(now, idle);
		}
		assert!(!Callbacks::<T>::get().is_empty());
		Ok(())
	}

	impl_benchmark_test_suite!(Pallet, crate::mock::benchmarked(), crate::mock::Test);
}
