//! Capacity: many validators of different speed serve many models of different size, accounts of different appetite ask more and more of
//! them, and everybody is honest. It says what is answered, what is refused, how long answers take, and who gets how much.

use std::{
	cell::RefCell,
	collections::{BTreeMap, BTreeSet},
};

use codec::Encode;
use consilience_primitives::{
	model::{Limits, ModelSpec, ModelStatus, Speed, TimeLimit},
	report::{DutyKind, Statement},
	request::{Assurance, Input, Prompt, Sampling},
	view::RequestState,
	ModelId, RequestId,
};
use consilience_runtime::{
	AccountId, Balance, Balances, BlockNumber, Inference, Runtime, MILLISECS_PER_BLOCK, UNIT,
};
use polkadot_sdk::{
	frame_support::{
		traits::{fungible::Mutate, Get},
		weights::constants::WEIGHT_REF_TIME_PER_SECOND,
	},
	frame_system,
	sp_crypto_hashing::blake2_256,
};
use serde::Serialize;

use crate::{
	honest,
	world::{self, Chain, Model, World, PRICE},
};

/// Verifiers of every request.
const VERIFIERS: u8 = 2;
/// Blocks in which is asked before anything is counted: the network fills up in them.
const FILLING: u32 = 60;
/// Most blocks in which what was asked is to be settled.
const PATIENCE: u32 = 400;
/// Validators that serve a model at least and at most.
const LEAST_SERVERS: usize = 4;
/// See [`LEAST_SERVERS`].
pub const MOST_SERVERS: usize = 40;
/// Accounts that ask.
const ACCOUNTS: usize = 40;
/// Tokens that may be asked for.
const TOKENS: [u32; 4] = [16, 32, 64, 128];
/// One in how many requests is quoted first, to see whether the quote was true.
const QUOTED: u64 = 8;

/// A network, and how much is asked of it.
#[derive(Clone, Debug, Serialize)]
pub struct Network {
	/// Validators, each with a machine of its own.
	pub validators: usize,
	/// Models, each served by some of them.
	pub models: usize,
	/// Loads that are offered, in percent of what all machines can do.
	pub loads: Vec<u32>,
	/// A load, in percent, of which one account offers ten times as much as all others together; none for no such load.
	pub greedy: Option<u32>,
	/// Blocks in which is counted.
	pub blocks: u32,
}

/// What came of one load.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Point {
	/// Offered, in percent of what all machines can do.
	pub load: u32,
	/// Requests offered a second.
	pub offered_a_second: f64,
	/// Answers that became Final a second of the chain's own time.
	pub answers_a_second: f64,
	/// Part of what was offered that was refused.
	pub refused: f64,
	/// Requests that were taken and did not become Final.
	pub others: u64,
	/// Part of the machines' time that answers and checks took.
	pub busy: f64,
	/// Blocks from a request to Final: of the one in the middle, and of the slowest of 95 in a hundred.
	pub final_blocks: (u32, u32),
	/// What was quoted for those that were quoted, in the middle, and what they took.
	pub quoted_blocks: (u32, u32),
	/// Mean surcharge of those taken, as a part of the rest of their cost.
	pub surcharge: f64,
	/// Jain's index over the accounts' shares of what they asked for.
	pub fairness_of_accounts: f64,
	/// Part of the work taken that was the greediest account's, and of the work offered.
	pub greediest: (f64, f64),
	/// Part of what the others asked for that they got.
	pub others_got: f64,
	/// Jain's index over the models' shares of what was asked of them.
	pub fairness_of_models: f64,
	/// Members that were late and replaced, and honest validators that were reported.
	pub late: (u32, u32),
	/// Part of what a block may weigh that blocks weighed on average.
	pub weight: f64,
}

impl Point {
	/// The figures, a line for each.
	pub fn text(&self, network: &Network) -> String {
		let load = self.load;
		format!(
			"figure simulated_answers_at_{load}_percent = {:.2} [] a second, {:.2} offered to {} validators and {} models; {:.1} % refused, {} taken and \
			 not Final; machines busy {:.0} % of their time; surcharge {:.1} % of the cost\n\
			 figure simulated_final_blocks_at_{load}_percent = {} [] in the middle, {} of 95 %; quoted {} where it took {}; {} members late, {} honest \
			 validators reported; blocks weigh {:.0} % of what they may\n\
			 figure simulated_fairness_of_answers_at_{load}_percent = {:.3} [] Jain's index over {ACCOUNTS} accounts' shares of what they asked, {:.3} over \
			 models'; who offers {:.0} % of the work gets {:.0} %\n",
			self.answers_a_second,
			self.offered_a_second,
			network.validators,
			network.models,
			self.refused * 100.0,
			self.others,
			self.busy * 100.0,
			self.surcharge * 100.0,
			self.final_blocks.0,
			self.final_blocks.1,
			self.quoted_blocks.0,
			self.quoted_blocks.1,
			self.late.0,
			self.late.1,
			self.weight * 100.0,
			self.fairness_of_accounts,
			self.fairness_of_models,
			self.greediest.1 * 100.0,
			self.greediest.0 * 100.0,
		)
	}
}

impl Point {
	/// The figure of a load most of which one account offers.
	pub fn beside_greed(&self) -> String {
		format!(
			"figure simulated_answers_beside_greed = {:.1} [] % of what {} accounts ask, while another asks ten times as much as all of them and gets \
			 {:.0} % of what is answered, {:.2} a second; {} % of what all machines can do is offered; surcharge {:.0} % of the cost\n",
			self.others_got * 100.0,
			ACCOUNTS - 1,
			self.greediest.0 * 100.0,
			self.answers_a_second,
			self.load,
			self.surcharge * 100.0,
		)
	}
}

/// A model of the network.
struct Served {
	id: ModelId,
	spec: ModelSpec,
	/// Places of those who serve it.
	by: Vec<usize>,
	/// How often it is asked for, beside the others.
	popularity: f64,
}

/// What a validator computes with: one block's work in a block, the most urgent first.
#[derive(Clone, Default)]
struct Machine {
	speed: Speed,
	/// What is left of its duties, in thousandths of a block.
	left: BTreeMap<(RequestId, bool), u32>,
	/// What it has done, in thousandths of a block.
	done: u64,
}

impl Machine {
	/// Has it compute for a block, and returns whether it is done with each of these duties.
	fn compute(&mut self, duties: &[(RequestId, DutyKind)]) -> BTreeSet<RequestId> {
		let keys: Vec<_> = duties
			.iter()
			.filter_map(|(request, kind)| match kind {
				DutyKind::Answer | DutyKind::CommitOutput => Some((*request, true)),
				DutyKind::Commit => Some((*request, false)),
				// The evidence is there already.
				DutyKind::Reveal | DutyKind::RevealOutput | DutyKind::LateReveal => None,
			})
			.collect();
		self.left.retain(|key, _| keys.contains(key));
		let mut time = 1_000;
		let mut busy = BTreeSet::new();
		for key in keys {
			let speed = self.speed;
			let left = self.left.entry(key).or_insert_with(|| {
				let request = pallet_inference::Requests::<Runtime>::get(key.0);
				let work = request.map_or(0, |request| request.work);
				speed.work(if key.1 {
					work
				} else {
					TimeLimit::measuring(work)
				})
			});
			let spent = (*left).min(time);
			*left -= spent;
			time -= spent;
			self.done += u64::from(spent);
			if *left > 0 {
				busy.insert(key.0);
			}
		}
		busy
	}
}

/// Validators that a session of the runtime has at most.
pub fn most_validators() -> usize {
	let most: u32 = <Runtime as pallet_inference::Config>::MaxValidators::get();
	most as usize
}

/// Models that one validator serves at most.
pub fn most_served() -> usize {
	let most: u32 = <Runtime as pallet_model_registry::Config>::MaxServed::get();
	most as usize
}

/// A number from 0 to 1 that differs by purpose.
fn chance(chain: &Chain, purpose: impl Encode) -> f64 {
	(chain.random(purpose) >> 11) as f64 / (1u64 << 53) as f64
}

/// From the least to the most, every doubling as likely as any other.
fn between(chain: &Chain, purpose: impl Encode, least: f64, most: f64) -> f64 {
	least * (most / least).powf(chance(chain, purpose))
}

fn account(index: usize) -> AccountId {
	AccountId::from((b"asks", index as u32).using_encoded(blake2_256))
}

/// How much each account asks, beside the others: the first ten times as much as most, or as all others together.
fn appetites(is_greedy: bool) -> Vec<f64> {
	let mut all: Vec<f64> = (0..ACCOUNTS)
		.map(|index| match index {
			0 => 10.0,
			1..10 => 3.0,
			_ => 1.0,
		})
		.collect();
	if is_greedy {
		all[0] = 10.0 * all[1..].iter().sum::<f64>();
	}
	all
}

/// Chooses by weight.
fn choose(point: f64, weights: impl Iterator<Item = f64> + Clone) -> usize {
	let mut left = point * weights.clone().sum::<f64>();
	let mut last = 0;
	for (index, weight) in weights.enumerate() {
		last = index;
		left -= weight;
		if left < 0.0 {
			break;
		}
	}
	last
}

/// Jain's index: one where all shares are alike, and 1 ÷ n where one has everything.
fn jain(shares: impl Iterator<Item = f64> + Clone) -> f64 {
	let count = shares.clone().count() as f64;
	let sum: f64 = shares.clone().sum();
	let squares: f64 = shares.map(|x| x * x).sum();
	if squares == 0.0 {
		1.0
	} else {
		sum * sum / (count * squares)
	}
}

/// The one in the middle, and the one that 95 in a hundred don't exceed.
fn spread(mut all: Vec<u32>) -> (u32, u32) {
	all.sort_unstable();
	let at = |part: usize| all.get((all.len() * part / 100).min(all.len().saturating_sub(1)));
	let at = |part| at(part).copied().unwrap_or_default();
	(at(50), at(95))
}

/// Offers one load after the other to the same network. Each is told with whether most of it is one account's.
pub fn run(network: &Network, seed: u64, mut told: impl FnMut(&Point, bool)) -> Vec<Point> {
	World::new(network.validators, 1).play(seed, |mut chain| {
		let machines: Vec<_> = (0..network.validators)
			.map(|v| Machine {
				speed: Speed {
					pace: between(&chain, ("pace", v as u32), 250.0, 4_000.0) as u32,
					duty: between(&chain, ("duty", v as u32), 2.0, 50.0) as u32,
				},
				..Machine::default()
			})
			.collect();
		let models = set_up(&mut chain, network, &machines);
		let mut points = Vec::new();
		let loads = network.loads.iter().map(|load| (*load, false));
		for (load, is_greedy) in loads.chain(network.greedy.map(|load| (load, true))) {
			let load = (load, appetites(is_greedy));
			let point = RefCell::new(Point::default());
			chain.attempt(
				|chain| {
					*point.borrow_mut() = offer(chain, network, &models, machines.clone(), &load);
					chain.check();
				},
				// The next load is offered to the network as it was.
				|_| false,
			);
			let point = point.into_inner();
			told(&point, is_greedy);
			points.push(point);
		}
		points
	})
}

/// Registers the models and has them served by those who have announced their speed.
fn set_up(chain: &mut Chain, network: &Network, machines: &[Machine]) -> Vec<Served> {
	let publisher = account(usize::MAX);
	let mut served = vec![0; network.validators];
	let mut models: Vec<_> = (0..network.models as u32)
		.map(|m| {
			let (least, most) = (LEAST_SERVERS as f64, (MOST_SERVERS + 1) as f64);
			let servers = between(chain, ("servers", m), least, most) as usize;
			let mut by: Vec<usize> = (0..network.validators)
				.filter(|v| served[*v] < most_served())
				.collect();
			by.sort_unstable_by_key(|v| chain.random(("serves", m, *v as u32)));
			by.truncate(servers);
			by.iter().for_each(|v| served[*v] += 1);
			let spec = ModelSpec {
				limits: Limits {
					max_input_units: 200,
					max_output_units: 128,
				},
				time: TimeLimit {
					base_blocks: 20,
					output_units_per_block: between(chain, ("size", m), 8.0, 128.0) as u32,
				},
				..Model::Text.spec()
			};
			Served {
				id: ModelId::from((b"simulated", m).using_encoded(blake2_256)),
				spec,
				by,
				popularity: 0.0,
			}
		})
		.collect();
	let mean = TOKENS.iter().sum::<u32>() / TOKENS.len() as u32;
	for model in &mut models {
		// Validators serve what is asked for: a model has as many as the work that it is asked for needs.
		let speed: f64 = model.by.iter().map(|v| speed(&machines[*v])).sum();
		model.popularity = speed / f64::from(model.spec.time.work(mean));
	}
	chain.block(|chain| {
		for who in (0..ACCOUNTS).map(account).chain([publisher.clone()]) {
			Balances::mint_into(&who, 10_000_000 * UNIT).expect("no account is too rich; qed");
		}
		for model in &models {
			let call = pallet_model_registry::Call::register {
				model: model.id,
				spec: model.spec.clone(),
				price: world::price(),
			};
			chain
				.call(&publisher, call)
				.expect("it is a good model; qed");
		}
	});
	chain.block(|chain| {
		for (v, machine) in machines.iter().enumerate() {
			let serves = models.iter().filter(|model| model.by.contains(&v));
			let statements = serves.map(|model| Statement::Serve {
				model: model.id,
				evidence: model.spec.reference.clone(),
				speed: machine.speed,
			});
			if let Some(duties) = chain.duties(v) {
				chain.report(v, &duties, statements.collect());
			}
		}
	});
	chain.next_session();
	chain.block(|_| ());
	for model in &models {
		let details = pallet_model_registry::Models::<Runtime>::get(model.id);
		assert!(
			details.is_some_and(|d| d.status == ModelStatus::Active),
			"a model of {} servers is not active",
			model.by.len()
		);
	}
	models
}

/// What a machine does in the time of a block, of work as models describe it.
fn speed(machine: &Machine) -> f64 {
	1_000.0 / f64::from(machine.speed.pace)
}

/// One request that was offered.
struct Asked {
	account: usize,
	model: usize,
	work: f64,
	/// Its number, if it was taken.
	request: Option<RequestId>,
	/// Blocks that were quoted.
	quoted: Option<u32>,
	counted: bool,
}

/// Offers one load.
fn offer(
	chain: &mut Chain,
	network: &Network,
	models: &[Served],
	mut machines: Vec<Machine>,
	(load, appetites): &(u32, Vec<f64>),
) -> Point {
	let load = *load;
	// What all who serve something can do in a block, and what a request takes of it.
	let able = |v: &usize| models.iter().any(|model| model.by.contains(v));
	let capacity: f64 = (0..network.validators)
		.filter(able)
		.map(|v| speed(&machines[v]))
		.sum();
	let popularity: f64 = models.iter().map(|m| m.popularity).sum();
	let mean = |model: &Served| {
		let work = |tokens: &u32| f64::from(model.spec.time.work(*tokens)) / 1_000.0;
		TOKENS.iter().map(work).sum::<f64>() / TOKENS.len() as f64
	};
	// Whoever answers measures too.
	let whole = |work: f64| work * (1.0 + f64::from(VERIFIERS + 1) / 4.0);
	let each: f64 = models.iter().map(|m| m.popularity * whole(mean(m))).sum();
	let rate = capacity * f64::from(load) / 100.0 / (each / popularity);

	let mut asked: Vec<Asked> = Vec::new();
	let first = chain.number();
	let before = chain.meter.get();
	let (late, troubled) = blamed(chain);
	let mut worked = 0;
	for n in 0..FILLING + network.blocks {
		if n == FILLING {
			worked = machines.iter().map(|m| m.done).sum::<u64>();
		}
		let count = (rate + chance(chain, ("count", load, n))) as u64;
		block(chain, &mut machines, |chain| {
			for i in 0..count {
				asked.push(ask(chain, models, appetites, (load, n, i), n >= FILLING));
			}
		});
	}
	let last = chain.number();
	let worked = machines.iter().map(|m| m.done).sum::<u64>() - worked;
	let weight = chain.meter.get().weight - before.weight;
	let open = || {
		let mut taken = asked.iter().filter_map(|a| a.request);
		taken.any(|id| !state(id).0.is_settled())
	};
	let mut left = PATIENCE;
	while left > 0 && open() {
		block(chain, &mut machines, |_| ());
		left -= 1;
	}

	let seconds = f64::from(network.blocks) * MILLISECS_PER_BLOCK as f64 / 1_000.0;
	let mut point = Point {
		load,
		..Point::default()
	};
	let (mut offered, mut taken, mut finals) = (0u64, 0u64, 0u64);
	let (mut took, mut quoted, mut of_quoted) = (Vec::new(), Vec::new(), Vec::new());
	let mut accounts = vec![(0.0, 0.0); ACCOUNTS];
	let mut of_models = vec![(0.0, 0.0); models.len()];
	let mut surcharges = 0.0;
	for one in &asked {
		let settled = one.request.map(state);
		if let Some((RequestState::Final, _, at)) = settled {
			finals += u64::from(at > first + FILLING && at <= last);
		}
		if !one.counted {
			continue;
		}
		offered += 1;
		accounts[one.account].0 += one.work;
		of_models[one.model].0 += one.work;
		let Some((state, asked_at, at)) = settled else {
			continue;
		};
		taken += 1;
		if state != RequestState::Final {
			point.others += 1;
			continue;
		}
		accounts[one.account].1 += one.work;
		of_models[one.model].1 += one.work;
		took.push(at - asked_at);
		if let Some(blocks) = one.quoted {
			quoted.push(blocks);
			of_quoted.push(at - asked_at);
		}
		let view = one.request.and_then(|id| chain.view(id));
		surcharges += view.map_or(0.0, |view| {
			let rest = view.paid.saturating_sub(view.surcharge).max(1);
			view.surcharge as f64 / rest as f64
		});
	}
	let whole = |of: &[(f64, f64)]| of.iter().fold((0.0, 0.0), |s, x| (s.0 + x.0, s.1 + x.1));
	let sums = whole(&accounts);
	let shares = |of: &[(f64, f64)]| -> f64 {
		let asked = of.iter().filter(|(offered, _)| *offered > 0.0);
		jain(asked.map(|(offered, got)| got / offered))
	};
	point.offered_a_second = offered as f64 / seconds;
	point.answers_a_second = finals as f64 / seconds;
	point.refused = (offered - taken) as f64 / offered.max(1) as f64;
	point.busy = worked as f64 / 1_000.0 / f64::from(network.blocks) / network.validators as f64;
	point.final_blocks = spread(took);
	point.quoted_blocks = (spread(quoted).0, spread(of_quoted).0);
	point.surcharge = surcharges / taken.max(1) as f64;
	point.fairness_of_accounts = shares(&accounts);
	point.fairness_of_models = shares(&of_models);
	point.greediest = (
		accounts[0].1 / sums.1.max(1e-9),
		accounts[0].0 / sums.0.max(1e-9),
	);
	let others = whole(&accounts[1..]);
	point.others_got = others.1 / others.0.max(1e-9);
	let (late_now, troubled_now) = blamed(chain);
	point.late = (late_now - late, troubled_now - troubled);
	let limits = <Runtime as frame_system::Config>::BlockWeights::get();
	let most = limits
		.max_block
		.ref_time()
		.min(WEIGHT_REF_TIME_PER_SECOND * 10);
	point.weight = weight as f64 / f64::from(last - first) / most as f64;
	point
}

/// Members that were late and honest validators that were reported, up to now.
fn blamed(chain: &Chain) -> (u32, u32) {
	(
		chain.seen.late.values().sum(),
		chain.seen.troubled.values().sum(),
	)
}

/// Where a request stands, and its first and its last block.
fn state(id: RequestId) -> (RequestState, BlockNumber, BlockNumber) {
	let request = pallet_inference::Requests::<Runtime>::get(id)
		.expect("an answer is kept longer than a load is offered; qed");
	(
		request.state,
		request.requested_at,
		request.settled_at.unwrap_or_default(),
	)
}

/// Has an account ask.
fn ask(
	chain: &Chain,
	models: &[Served],
	appetites: &[f64],
	number: (u32, u32, u64),
	counted: bool,
) -> Asked {
	let point = |purpose: &str| chance(chain, (purpose, number));
	let account_index = choose(point("account"), appetites.iter().copied());
	let model_index = choose(point("model"), models.iter().map(|m| m.popularity));
	let tokens = TOKENS[(point("tokens") * TOKENS.len() as f64) as usize % TOKENS.len()];
	let model = &models[model_index];
	let input = Input::TextGeneration {
		prompt: Prompt::Text(
			format!("question {number:?}")
				.into_bytes()
				.try_into()
				.expect("short; qed"),
		),
		sampling: Sampling {
			max_tokens: tokens,
			..Default::default()
		},
	};
	let assurance = Assurance::Committee(VERIFIERS);
	let quoted = number
		.2
		.is_multiple_of(QUOTED)
		.then(|| Inference::quote(model.id, &input.clone().into(), assurance).ok())
		.flatten();
	let next = pallet_inference::NextRequest::<Runtime>::get();
	let limit: Balance = 1_000 * PRICE;
	let call = pallet_inference::Call::request {
		model: model.id,
		input,
		assurance,
		fee_limit: limit,
		tip: 0,
	};
	let taken = chain.call(&account(account_index), call).is_ok();
	Asked {
		account: account_index,
		model: model_index,
		work: f64::from(model.spec.time.work(tokens)),
		request: taken.then_some(next),
		quoted: quoted.map(|quote| quote.wait.blocks()),
		counted,
	}
}

/// A block in which accounts ask and every machine computes for the time of a block.
fn block(chain: &mut Chain, machines: &mut [Machine], ask: impl FnOnce(&Chain)) {
	chain.block(|chain| {
		ask(chain);
		for (v, machine) in machines.iter_mut().enumerate() {
			chain.contribute(v);
			let Some(mut duties) = chain.duties(v) else {
				continue;
			};
			let due: Vec<_> = duties.duties.iter().map(|d| (d.request, d.kind)).collect();
			let busy = machine.compute(&due);
			duties.duties.retain(|duty| !busy.contains(&duty.request));
			let said = honest::work(chain, &duties, &[]);
			chain.report(v, &duties, said);
		}
	});
}
