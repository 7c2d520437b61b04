//! Benchmarks of the calls and of what blocks do to end a dispute.
//!
//! Everything is as large as it can be: a dispute has all its traces, each with a whole line, and the one in question has all its games, of
//! rules as long as a rule may be. The steps that `choose` judges are those of the longest folds of a model of three billion parameters: a
//! product of 2,048 bytes with a zero of its own in each factor, which takes longest, and 2,048 squares of doubles, whose proof is longest.

use alloc::{vec, vec::Vec};
use codec::{Decode, Encode};
use consilience_judge::{
	disputed::Statement,
	narrowing::{Tensor, PARTS, TERMS},
	program::{Dim, Lengths, Operand, Operator, Reduction, Rule, Signature, RULE},
	standing::{Stand, GAMES, LINE},
	trace::{self, Opened, Proof, LEAF},
	tree::{self, NOTHING},
	value::Kind,
};
use polkadot_sdk::{
	frame_benchmarking::v2::*, frame_support::traits::fungible::Mutate, frame_system::RawOrigin,
	sp_runtime::traits::TrailingZeroInput,
};

use crate::*;

/// One text of 4,096 tokens, in as many slots.
const LENGTHS: Lengths = [1, 4_096, 4_096];
/// Tensors of a program: some 190 a layer, of 42.
const TENSORS: u32 = 8_000;
const HIDDEN: u32 = 3_072;
const VOCABULARY: u32 = 128_256;
/// What stands beside whatever is opened.
const BESIDE: Hash = [7; 32];
/// The trace in question.
const N: u8 = 0;

fn subject<T: Config>() -> SubjectOf<T> {
	SubjectOf::<T>::decode(&mut TrailingZeroInput::zeroes())
		.expect("zeros are numbers of any kind; qed")
}

fn rich<T: Config>(name: &'static str, n: u32) -> T::AccountId
where
	T::Currency: Mutate<T::AccountId>,
{
	let who = account(name, n, 0);
	let money = T::Bond::get().saturating_add(T::Currency::minimum_balance());
	T::Currency::set_balance(&who, money.saturating_mul(1_000_000u32.into()));
	who
}

fn signature(kind: Kind, shape: &[u32], along: u8) -> Signature {
	Signature {
		kind,
		shape: shape.iter().map(|factor| Dim::number(*factor)).collect(),
		along,
	}
}

/// A rule of tensors that stand beside each other at the beginning of the trace.
fn rule(operator: Operator, inputs: Vec<Signature>, output: Signature) -> Rule {
	let operands = inputs.into_iter().enumerate();
	Rule {
		operator,
		inputs: operands
			.map(|(n, signature)| Operand {
				tensor: n as u32,
				signature,
			})
			.collect(),
		output,
	}
}

/// An element of a product of bytes.
fn product() -> Rule {
	rule(
		Operator::MatMulInteger([true, true]),
		vec![
			signature(Kind::Uint8, &[1, 4_096, TERMS as u32], 2),
			signature(Kind::Int8, &[TERMS as u32, VOCABULARY], 0),
			signature(Kind::Uint8, &[], 0),
			signature(Kind::Int8, &[VOCABULARY], 0),
		],
		signature(Kind::Int32, &[1, 4_096, VOCABULARY], 2),
	)
}

/// An element of the squares of a row.
fn squares() -> Rule {
	rule(
		Operator::Reduce {
			how: Reduction::SumSquare,
			axes: vec![2],
		},
		vec![signature(Kind::Double, &[1, 4_096, TERMS as u32], 2)],
		signature(Kind::Double, &[1, 4_096, 1], 2),
	)
}

/// As long as a rule may be.
fn long() -> Rule {
	let part = || signature(Kind::Uint8, &[1, 4_096, HIDDEN], 2);
	let of = |parts: u32| {
		rule(
			Operator::Concat(2),
			(0..parts).map(|_| part()).collect(),
			signature(Kind::Uint8, &[1, 4_096, HIDDEN * parts], 2),
		)
	};
	let each = of(2).encoded_size() - of(1).encoded_size();
	of((RULE / each) as u32 - 1)
}

/// Proof of element 0 of a rule's output by zeros, and the root of the trace that it leads to.
fn proof(rule: &Rule) -> (Proof, Hash) {
	let mut opened = Vec::new();
	let mut roots = Vec::new();
	for input in &rule.inputs {
		let signature = &input.signature;
		let size = signature.kind.size();
		let row = match signature.shape.len() {
			0 | 1 => 1,
			_ => TERMS as usize,
		};
		let count = (row * size).div_ceil(LEAF);
		let leaves: Vec<_> = (0..count as u32)
			.map(|n| {
				let length = trace::leaf_length(signature, &LENGTHS, n.into());
				(n, vec![0; length.expect("it has no more leaves; qed")])
			})
			.collect();
		let all = trace::leaves(signature, &LENGTHS).expect("its lengths are known; qed");
		let depth = tree::depth(all);
		let numbers: Vec<_> = leaves.iter().map(|(n, _)| u64::from(*n)).collect();
		let beside = tree::beside(depth, &numbers, &|_, _| BESIDE);
		let hashes: Vec<_> = leaves
			.iter()
			.map(|(n, bytes)| (u64::from(*n), tree::leaf(bytes)))
			.collect();
		let root = tree::climb(depth, &hashes, &beside);
		roots.push(root.expect("these are all hashes beside the leaves; qed"));
		opened.push(Opened {
			tensor: input.tensor,
			leaves,
			beside,
			above: Vec::new(),
		});
	}
	// The first four tensors are known, and nothing of the others but the hashes beside the way.
	roots.resize(4, BESIDE);
	let pairs = [
		tree::pair(&roots[0], &roots[1]),
		tree::pair(&roots[2], &roots[3]),
	];
	let hash = |level: u32, n: u64| match (level, n) {
		(0, 0..4) => roots[n as usize],
		(1, 0..2) => pairs[n as usize],
		_ => BESIDE,
	};
	let depth = tree::depth(TENSORS.into());
	let mut trace = NOTHING;
	for (n, of) in opened.iter_mut().enumerate() {
		of.above = tree::beside(depth, &[n as u64], &hash);
		let one = [(n as u64, roots[n])];
		trace = tree::climb(depth, &one, &of.above).expect("these are all hashes beside it; qed");
	}
	(Proof { opened }, trace)
}

fn tensor(rule: Rule) -> Tensor {
	Tensor {
		number: TENSORS - 1,
		rule,
	}
}

/// A stage that takes most room, in which whoever speaks is to move.
fn wide() -> Stage {
	Stage::Fold {
		tensor: tensor(long()),
		element: 0,
		bytes: vec![1; LEAF],
		range: (0, TERMS * PARTS),
		said: None,
		parts: None,
	}
}

/// A dispute that is as large as one can be, whose first trace has a whole line and all its games, of which all but the first are at this
/// stage, and the first at that.
fn dispute<T: Config>(trace: Hash, first: Stage, others: Stage) -> Vec<T::AccountId>
where
	T::Currency: Mutate<T::AccountId>,
{
	let subject = subject::<T>();
	let line: Vec<T::AccountId> = (0..LINE as u32).map(|n| rich::<T>("line", n)).collect();
	let now = Pallet::<T>::now();
	let terms = T::Terms::get();
	let mut dispute = Dispute::new(&terms, now);
	for n in 0..2 * STANDS as u8 {
		let is_it = n == N;
		dispute.stands.push(Stand {
			trace: if is_it { trace } else { [n; 32] },
			says_so: n % 2 == 1,
			state: State::Standing,
			line: line.clone(),
			joined: LINE as u8,
			doubted: GAMES,
			open: if is_it { GAMES } else { 0 },
			vacant: None,
		});
	}
	let mut case = Case {
		statement: Statement {
			program: BESIDE,
			tensors: TENSORS,
			lengths: LENGTHS,
			inputs: vec![BESIDE],
			place: 0,
			said: 0,
		},
		dispute,
		verdict: None,
		ends: now.saturating_add(terms.longest(&T::Pace::get())),
		bonds: 0,
		cleared: 0,
	};
	for who in &line {
		let bond = Pallet::<T>::hold(who, 1, &mut case).expect("it is rich; qed");
		Bonds::<T>::insert((&subject, N, who), bond);
	}
	let mut challengers = Vec::new();
	for n in 0..u32::from(GAMES) {
		let who = rich::<T>("challenger", n);
		let claim = case.statement.claim(trace);
		let mut game = Game::new(&claim, &T::Pace::get(), now);
		game.stage = match n {
			0 => first.clone(),
			_ => others.clone(),
		};
		let bond = Pallet::<T>::hold(&who, 1, &mut case).expect("it is rich; qed");
		Games::<T>::insert((&subject, N, &who), Played { game, bond });
		challengers.push(who);
	}
	Ends::<T>::insert(case.ends, &subject);
	LastEnd::<T>::put(case.ends);
	Cases::<T>::insert(&subject, case);
	challengers
}

/// A dispute with that stage of a rule's element, which is said to be another than zero.
fn false_step<T: Config>(of: Rule) -> (T::AccountId, Choice)
where
	T::Currency: Mutate<T::AccountId>,
{
	let (proof, trace) = proof(&of);
	let stage = Stage::Element {
		bytes: vec![1; LEAF],
		tensor: tensor(of),
		n: 0,
	};
	let challengers = dispute::<T>(trace, stage, wide());
	let choice = Choice::Element {
		nth: 0,
		proof: Some(proof),
	};
	(challengers[0].clone(), choice)
}

fn refuted<T: Config>() -> bool {
	let case = Cases::<T>::get(subject::<T>());
	case.is_some_and(|case| case.dispute.stands[usize::from(N)].state == State::Refuted)
}

fn to_block<T: Config>(now: u32) {
	frame_system::Pallet::<T>::set_block_number(now.into());
}

#[benchmarks(where T::Currency: Mutate<T::AccountId>)]
mod benchmarks {
	use super::*;

	/// Somebody takes a place that is empty, and goes on in all games. What opening asks of other pallets is theirs to say.
	#[benchmark]
	fn stand() -> Result<(), BenchmarkError> {
		let output = signature(Kind::Int64, &[1, 4_096], 1);
		let logits = signature(Kind::Float, &[1, 4_096, VOCABULARY], 2);
		let rule = rule(Operator::Best, vec![logits], output.clone());
		let last = u64::from(TENSORS) - 1;
		let depth = tree::depth(TENSORS.into());
		let beside = tree::beside(depth, &[last], &|_, _| BESIDE);
		let program = tree::climb(depth, &[(last, rule.hash())], &beside);
		let leaf = vec![0; LEAF];
		let all = trace::leaves(&output, &LENGTHS).expect("its lengths are known; qed");
		let within = tree::beside(tree::depth(all), &[0], &|_, _| BESIDE);
		let tensor = tree::climb(tree::depth(all), &[(0, tree::leaf(&leaf))], &within);
		let tensor = tensor.expect("these are all hashes beside it; qed");
		let trace = tree::climb(depth, &[(last, tensor)], &beside);
		let trace = trace.expect("these are all hashes beside it; qed");
		dispute::<T>(trace, wide(), wide());
		let subject = subject::<T>();
		let mut case = Cases::<T>::get(&subject).ok_or("there is a dispute")?;
		case.statement.program = program.ok_or("these are all hashes beside it")?;
		let of = &mut case.dispute.stands[usize::from(N)];
		(of.joined, of.vacant) = (0, Some(Pallet::<T>::now()));
		of.line.clear();
		of.says_so = true;
		let _ = Bonds::<T>::clear_prefix((&subject, N), u32::MAX, None);
		case.bonds -= LINE as u16;
		Cases::<T>::insert(&subject, case);
		let opening = Opening {
			rule,
			program: beside.clone(),
			leaf,
			beside: within,
			above: beside,
		};
		let who = rich::<T>("new", 0);
		#[extrinsic_call]
		_(
			RawOrigin::Signed(who.clone()),
			subject.clone(),
			trace,
			opening,
		);
		assert!(Bonds::<T>::contains_key((&subject, N, &who)));
		Ok(())
	}

	/// The last of all games begins.
	#[benchmark]
	fn doubt() -> Result<(), BenchmarkError> {
		dispute::<T>(BESIDE, wide(), wide());
		let subject = subject::<T>();
		Cases::<T>::mutate(&subject, |case| {
			if let Some(case) = case {
				case.dispute.stands[usize::from(N)].doubted = 0;
			}
		});
		let who = rich::<T>("new", 0);
		#[extrinsic_call]
		_(RawOrigin::Signed(who.clone()), subject.clone(), N);
		assert!(Games::<T>::contains_key((&subject, N, &who)));
		Ok(())
	}

	/// All the hashes below one are shown.
	#[benchmark]
	fn reply() -> Result<(), BenchmarkError> {
		let hashes = vec![BESIDE; 1 << consilience_judge::narrowing::WIDE];
		let stage = Stage::Hash {
			tensor: Some(tensor(long())),
			level: 32,
			n: 0,
			hash: tree::above(&hashes),
			shown: false,
		};
		let challengers = dispute::<T>(BESIDE, stage, wide());
		let subject = subject::<T>();
		let speaker = account::<T::AccountId>("line", 0, 0);
		let said = Reply::Hashes(hashes);
		#[extrinsic_call]
		_(
			RawOrigin::Signed(speaker),
			subject.clone(),
			N,
			challengers[0].clone(),
			said,
		);
		let played = Games::<T>::get((&subject, N, &challengers[0])).ok_or("it goes on")?;
		assert_eq!(played.game.turn(), Some(Side::Challenger));
		Ok(())
	}

	/// A step is judged that takes longest, it is false, and the whole line loses.
	#[benchmark]
	fn choose() -> Result<(), BenchmarkError> {
		let (who, choice) = false_step::<T>(product());
		#[extrinsic_call]
		_(RawOrigin::Signed(who), subject::<T>(), N, choice);
		assert!(refuted::<T>());
		Ok(())
	}

	/// The same of the step whose proof is longest.
	#[benchmark]
	fn choose_wide() -> Result<(), BenchmarkError> {
		let (who, choice) = false_step::<T>(squares());
		#[block]
		{
			Pallet::<T>::choose(RawOrigin::Signed(who).into(), subject::<T>(), N, choice)?;
		}
		assert!(refuted::<T>());
		Ok(())
	}

	/// Whoever speaks is late, and the next goes on in all games.
	#[benchmark]
	fn late() -> Result<(), BenchmarkError> {
		let challengers = dispute::<T>(BESIDE, wide(), wide());
		let pace = T::Pace::get();
		to_block::<T>(Pallet::<T>::now() + pace.margin + pace.budget + 1);
		let subject = subject::<T>();
		let who = rich::<T>("new", 0);
		#[extrinsic_call]
		_(
			RawOrigin::Signed(who),
			subject.clone(),
			N,
			challengers[0].clone(),
		);
		let speaker = account::<T::AccountId>("line", 0, 0);
		assert!(!Bonds::<T>::contains_key((&subject, N, &speaker)));
		Ok(())
	}

	/// A line has been empty too long.
	#[benchmark]
	fn lapse() -> Result<(), BenchmarkError> {
		dispute::<T>(BESIDE, wide(), wide());
		let subject = subject::<T>();
		Cases::<T>::mutate(&subject, |case| {
			if let Some(case) = case {
				case.dispute.stands[usize::from(N)].vacant = Some(0);
			}
		});
		to_block::<T>(T::Terms::get().grace + 2);
		#[extrinsic_call]
		_(RawOrigin::Signed(rich::<T>("new", 0)), subject.clone(), N);
		let case = Cases::<T>::get(&subject).ok_or("it is kept")?;
		assert_eq!(case.dispute.stands[usize::from(N)].state, State::Lapsed);
		Ok(())
	}

	/// There is nothing left to play. What follows is other pallets' to say.
	#[benchmark]
	fn close() -> Result<(), BenchmarkError> {
		dispute::<T>(BESIDE, wide(), wide());
		let subject = subject::<T>();
		T::Disputed::opened(&subject);
		let mut case = Cases::<T>::get(&subject).ok_or("there is a dispute")?;
		case.dispute.stands[usize::from(N)].open = 0;
		let _ = Games::<T>::clear_prefix((&subject, N), u32::MAX, None);
		case.bonds -= u16::from(GAMES);
		to_block::<T>(case.dispute.closes + 1);
		Cases::<T>::insert(&subject, case);
		#[extrinsic_call]
		_(RawOrigin::Signed(rich::<T>("new", 0)), subject.clone());
		assert!(Cases::<T>::get(&subject).is_some_and(|case| case.verdict.is_some()));
		Ok(())
	}

	/// A trace has fallen that all have doubted.
	#[benchmark]
	fn clear() -> Result<(), BenchmarkError> {
		dispute::<T>(BESIDE, wide(), wide());
		let subject = subject::<T>();
		Cases::<T>::mutate(&subject, |case| {
			if let Some(case) = case {
				case.dispute.stands[usize::from(N)].state = State::Lapsed;
			}
		});
		#[extrinsic_call]
		_(RawOrigin::Signed(rich::<T>("new", 0)), subject.clone(), N);
		assert_eq!(Games::<T>::iter_prefix((&subject, N)).count(), 0);
		Ok(())
	}

	/// Nothing ends.
	#[benchmark]
	fn hooks() -> Result<(), BenchmarkError> {
		dispute::<T>(BESIDE, wide(), wide());
		#[block]
		{
			Pallet::<T>::on_initialize(1u32.into());
		}
		assert!(Ending::<T>::get().is_empty());
		Ok(())
	}

	/// All that is open about a trace is cut off: everybody who doubts it has lost.
	#[benchmark]
	fn step() -> Result<(), BenchmarkError> {
		let stage = Stage::Element {
			tensor: tensor(long()),
			n: 0,
			bytes: vec![1; LEAF],
		};
		dispute::<T>(BESIDE, stage.clone(), stage);
		let subject = subject::<T>();
		Pallet::<T>::end(&subject);
		let now = Pallet::<T>::now();
		#[block]
		{
			Pallet::<T>::step(&subject, now);
		}
		assert_eq!(Games::<T>::iter_prefix((&subject, N)).count(), 0);
		Ok(())
	}

	/// All bonds about a trace of a closed dispute are released.
	#[benchmark]
	fn step_clear() -> Result<(), BenchmarkError> {
		dispute::<T>(BESIDE, wide(), wide());
		let subject = subject::<T>();
		Cases::<T>::mutate(&subject, |case| {
			if let Some(case) = case {
				case.verdict = Some(Verdict::Stays);
			}
		});
		Pallet::<T>::end(&subject);
		let now = Pallet::<T>::now();
		#[block]
		{
			Pallet::<T>::step(&subject, now);
		}
		assert_eq!(Games::<T>::iter_prefix((&subject, N)).count(), 0);
		Ok(())
	}

	impl_benchmark_test_suite!(Pallet, crate::mock::new_test_ext(), crate::mock::Test);
}
