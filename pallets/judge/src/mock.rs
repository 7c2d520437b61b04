//! A runtime in which answers are those of a small model: a table, a product with columns, and the largest.

use std::cell::RefCell;

use consilience_judge::{
	disputed::{Disputed, Statement},
	narrowing::{Pace, Reply},
	play::{Run, Seen},
	program::{Dim, Lengths, Operand, Operator, Program, Rule, Signature},
	standing::{Opening, Terms, Verdict},
	trace::{compute, Committed},
	tree::Hash,
	value::Kind,
};
use polkadot_sdk::{
	frame_support::{
		self, derive_impl,
		dispatch::DispatchResult,
		parameter_types,
		traits::{fungible::InspectHold, Hooks},
		weights::Weight,
	},
	frame_system, pallet_balances, sp_io,
	sp_runtime::{traits::IdentityLookup, BuildStorage},
};

use crate::{Games, HoldReason};

type Block = frame_system::mocking::MockBlock<Test>;

frame_support::construct_runtime!(
	pub enum Test {
		System: frame_system,
		Balances: pallet_balances,
		Judge: crate,
	}
);

#[derive_impl(frame_system::config_preludes::TestDefaultConfig)]
impl frame_system::Config for Test {
	type Block = Block;
	type AccountId = u64;
	type Lookup = IdentityLookup<u64>;
	type AccountData = pallet_balances::AccountData<u64>;
}

#[derive_impl(pallet_balances::config_preludes::TestDefaultConfig)]
impl pallet_balances::Config for Test {
	type AccountStore = System;
}

parameter_types! {
	pub const Bond: u64 = 100;
	pub const MaxCases: u32 = 2;
	pub const GamePace: Pace = Pace { budget: 50, margin: 12 };
	pub const Windows: Terms = Terms { window: 100, grace: 40, most: 300 };
	pub const Deadline: u32 = 15_000;
}

impl crate::Config for Test {
	type Currency = Balances;
	type RuntimeHoldReason = RuntimeHoldReason;
	type Disputed = Answers;
	type Bond = Bond;
	type MaxCases = MaxCases;
	type Pace = GamePace;
	type Terms = Windows;
	type Deadline = Deadline;
	type WeightInfo = crate::weights::SubstrateWeight<Test>;
}

/// An answer that is right, and one that is false.
pub(crate) const RIGHT: u64 = 1;
pub(crate) const FALSE: u64 = 2;
/// Others, which are right.
pub(crate) const OTHERS: [u64; 2] = [3, 4];

thread_local! {
	static OPEN: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
	static OVERTURNED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// In the place of `pallet-inference`.
pub struct Answers;

impl Disputed<u64, u64> for Answers {
	type Subject = u64;

	fn statement(subject: &u64) -> Option<Statement> {
		let model = Model::new();
		let claim = Run::new(&model.program, LENGTHS, &model.tensors).claim(Vec::new());
		let right = model.token();
		let said = match *subject {
			RIGHT => right,
			FALSE => right + 1,
			other if OTHERS.contains(&other) => right,
			_ => return None,
		};
		Some(Statement {
			program: claim.program,
			tensors: claim.tensors,
			lengths: LENGTHS,
			inputs: vec![model.tensors[0].root()],
			place: PLACE,
			said,
		})
	}

	fn opened(subject: &u64) {
		OPEN.with_borrow_mut(|all| all.push(*subject));
	}

	fn closed(subject: &u64, verdict: Verdict, winner: Option<(u64, u64)>) {
		OPEN.with_borrow_mut(|all| {
			let at = all.iter().position(|open| open == subject);
			all.remove(at.expect("what is closed was opened, once"));
		});
		assert_eq!(winner.is_some(), verdict == Verdict::Overturned);
		if let Some((who, bond)) = winner {
			assert!(held(who) >= bond && bond >= Bond::get());
			OVERTURNED.with_borrow_mut(|all| all.push(*subject));
		}
	}

	fn weight() -> Weight {
		Weight::zero()
	}
}

pub(crate) fn overturned() -> Vec<u64> {
	OVERTURNED.with_borrow(|all| all.clone())
}

/// One text of four tokens.
pub(crate) const LENGTHS: Lengths = [1, 4, 4];
/// The place that is disputed.
pub(crate) const PLACE: u64 = 2;
const TOKENS: [i64; 4] = [3, 1, 4, 1];
/// Columns of the product: long, so that a part of a sum is played about.
const LONG: u32 = 2_500;
const WORDS: u32 = 6;

/// The model, and its run of the text, or one that is false somewhere.
pub(crate) struct Model {
	pub(crate) program: Program,
	pub(crate) tensors: Vec<Committed>,
}

impl Model {
	pub(crate) fn new() -> Self {
		let one = |factor: u32| Dim::number(factor);
		let tokens = Dim {
			factor: 1,
			powers: [0, 1, 0],
		};
		let signature = |kind, shape: &[Dim], along| Signature {
			kind,
			shape: shape.to_vec(),
			along,
		};
		let mut model = Self {
			program: Program { rules: Vec::new() },
			tensors: Vec::new(),
		};
		let raw: Vec<u8> = TOKENS.iter().flat_map(|t| t.to_le_bytes()).collect();
		model.given(
			Operator::Input(0),
			signature(Kind::Int64, &[one(1), tokens], 1),
			&raw,
		);
		let table: Vec<u8> = (0..5 * LONG).map(|n| (n * n % 127) as u8).collect();
		model.constant(signature(Kind::Uint8, &[one(5), one(LONG)], 1), &table);
		// The last word is never said, so that there is one to lie with.
		let column = |n: u32| match n % WORDS == WORDS - 1 {
			true => 128,
			false => (n * 7 % 251) as u8,
		};
		let columns: Vec<u8> = (0..LONG * WORDS).map(column).collect();
		model.constant(signature(Kind::Int8, &[one(LONG), one(WORDS)], 0), &columns);
		model.made(
			Operator::Gather(0),
			&[1, 0],
			signature(Kind::Uint8, &[one(1), tokens, one(LONG)], 2),
		);
		let shape = [one(1), tokens, one(WORDS)];
		model.made(
			Operator::MatMulInteger([false; 2]),
			&[3, 2],
			signature(Kind::Int32, &shape, 2),
		);
		model.made(Operator::Cast, &[4], signature(Kind::Float, &shape, 2));
		model.made(
			Operator::Best,
			&[5],
			signature(Kind::Int64, &[one(1), tokens], 1),
		);
		model
	}

	fn given(&mut self, operator: Operator, output: Signature, raw: &[u8]) {
		let committed = Committed::new(&output, &LENGTHS, raw).unwrap();
		self.tensors.push(committed);
		self.program.rules.push(Rule {
			operator,
			inputs: Vec::new(),
			output,
		});
	}

	fn constant(&mut self, output: Signature, raw: &[u8]) {
		let root = Committed::new(&output, &LENGTHS, raw).unwrap().root();
		self.given(Operator::Constant(root), output, raw);
	}

	fn made(&mut self, operator: Operator, inputs: &[u32], output: Signature) {
		let operand = |tensor: &u32| Operand {
			tensor: *tensor,
			signature: self.program.rules[*tensor as usize].output.clone(),
		};
		let rule = Rule {
			operator,
			inputs: inputs.iter().map(operand).collect(),
			output,
		};
		let made = compute(&self.tensors, &rule, &LENGTHS).unwrap();
		self.tensors.push(made);
		self.program.rules.push(rule);
	}

	/// A run that says the next token at the disputed place, and is false in one tensor (4: a product, 5: a Cast, 6: which is the
	/// largest), by a variant.
	pub(crate) fn lying(n: usize, more: i64) -> Self {
		let mut model = Self::new();
		let said = model.token() + more;
		let mut bytes = model.tensors[n].bytes().to_vec();
		if n < 6 {
			let at = (PLACE as usize * WORDS as usize + said as usize) * 4;
			let high = match n {
				4 => 1_000_000i32.to_le_bytes(),
				_ => 1e9f32.to_le_bytes(),
			};
			bytes[at..at + 4].copy_from_slice(&high);
		}
		model.tensors[n] = Committed::of_bytes(bytes);
		for m in (n + 1).max(5)..7 {
			model.tensors[m] = compute(&model.tensors, &model.program.rules[m], &LENGTHS).unwrap();
		}
		if n == 6 {
			let mut bytes = model.tensors[6].bytes().to_vec();
			bytes[PLACE as usize * 8] = said as u8;
			model.tensors[6] = Committed::of_bytes(bytes);
		}
		assert_eq!(model.token(), said);
		model
	}

	/// A run that says the right token, and is false elsewhere.
	pub(crate) fn sham() -> Self {
		Self::variant(0, 0)
	}

	/// One of many runs that are false elsewhere, and say the right token or one that is so much more.
	pub(crate) fn variant(more: i64, n: usize) -> Self {
		let mut model = match more {
			0 => Self::new(),
			more => Self::lying(5, more),
		};
		// Low bits of scores at another place: the largest there stays the largest.
		let mut bytes = model.tensors[5].bytes().to_vec();
		bytes[4 * (n % WORDS as usize)] ^= 1 + (n / WORDS as usize) as u8;
		model.tensors[5] = Committed::of_bytes(bytes);
		model
	}

	pub(crate) fn token(&self) -> i64 {
		let bytes = &self.tensors[6].bytes()[PLACE as usize * 8..][..8];
		i64::from_le_bytes(bytes.try_into().unwrap())
	}

	pub(crate) fn run(&self) -> Run<'_> {
		Run::new(&self.program, LENGTHS, &self.tensors)
	}

	pub(crate) fn trace(&self) -> Hash {
		self.run().claim(Vec::new()).trace
	}

	pub(crate) fn opening(&self) -> Opening {
		self.run().opening(PLACE).unwrap()
	}
}

pub(crate) fn stand(who: u64, subject: u64, model: &Model) -> DispatchResult {
	let origin = RuntimeOrigin::signed(who);
	Judge::stand(origin, subject, model.trace(), model.opening())
}

/// A move of whoever speaks, if it is its turn.
pub(crate) fn reply(
	who: u64,
	subject: u64,
	n: u8,
	challenger: u64,
	model: &Model,
) -> Option<Reply> {
	let played = Games::<Test>::get((subject, n, challenger))?;
	let reply = model.run().reply(&played.game)?;
	let origin = RuntimeOrigin::signed(who);
	Judge::reply(origin, subject, n, challenger, reply.clone()).ok()?;
	Some(reply)
}

/// Plays a game in which the challenger's own run is another, until it is over or nobody moves.
pub(crate) fn play(
	subject: u64,
	n: u8,
	(speaker, theirs): (u64, &Model),
	(challenger, own): (u64, &Model),
) {
	let mut seen = Seen::default();
	while let Some(played) = Games::<Test>::get((subject, n, challenger)) {
		let stage = played.game.stage.clone();
		if let Some(reply) = reply(speaker, subject, n, challenger, theirs) {
			seen.note(&stage, &reply);
			continue;
		}
		let Some(choice) = seen.choose(&own.run(), &played.game) else {
			return;
		};
		let origin = RuntimeOrigin::signed(challenger);
		if Judge::choose(origin, subject, n, choice).is_err() {
			return;
		}
	}
}

pub(crate) fn held(who: u64) -> u64 {
	Balances::balance_on_hold(&HoldReason::Bond.into(), &who)
}

/// Accounts 1 to 99 have 1,000,000 each.
pub(crate) const MONEY: u64 = 1_000_000;

pub(crate) fn to_block(n: u64) {
	while System::block_number() < n {
		let next = System::block_number() + 1;
		System::set_block_number(next);
		Judge::on_initialize(next);
	}
}

pub(crate) fn new_test_ext() -> sp_io::TestExternalities {
	let mut storage = frame_system::GenesisConfig::<Test>::default()
		.build_storage()
		.unwrap();
	pallet_balances::GenesisConfig::<Test> {
		balances: (1..100).map(|who| (who, MONEY)).collect(),
		..Default::default()
	}
	.assimilate_storage(&mut storage)
	.unwrap();
	let mut ext = sp_io::TestExternalities::new(storage);
	ext.execute_with(|| {
		OVERTURNED.with_borrow_mut(Vec::clear);
		OPEN.with_borrow_mut(Vec::clear);
		System::set_block_number(1);
	});
	ext
}

/// Runs a test, and looks at all storage at its end.
pub(crate) fn run(test: impl FnOnce()) {
	new_test_ext().execute_with(|| {
		test();
		Judge::do_try_state().unwrap();
	});
}
