//! Load: strangers ask more than a little, everybody is honest, and the blocks are weighed.

use std::time::Duration;

use consilience_primitives::{
	request::Assurance,
	view::{RequestState, RequestView},
	RequestId,
};
use consilience_runtime::{AccountId, Balance, BlockNumber, MILLISECS_PER_BLOCK};
use polkadot_sdk::frame_support::weights::constants::WEIGHT_REF_TIME_PER_SECOND;
use serde::Serialize;

use crate::{
	honest,
	world::{self, Chain, Meter, Model, World},
};

/// Most blocks in which what was asked is to be settled.
const PATIENCE: u32 = 400;
/// Blocks in which nobody asks, to know what blocks take by themselves.
const IDLE: u32 = 10;

/// What is asked, and of how many.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Load {
	/// Validators, of which up to as many serve as the runtime lets serve.
	pub validators: usize,
	/// Requests a block, each with two verifiers.
	pub requests: u32,
	/// Blocks in which is asked.
	pub blocks: u32,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
	/// Requests that were taken.
	pub taken: u64,
	/// Requests that were refused.
	pub refused: u64,
	/// Of those taken: Final.
	pub finals: u64,
	/// Expired, or ended in another way.
	pub others: u64,
	/// Blocks from the first request to the last settlement.
	pub blocks: u32,
	/// Blocks from a request to Final, on average.
	pub blocks_to_final: f64,
	/// The longest.
	pub slowest: u32,
	/// Answers a second of the chain's own time, from the first request to the last settlement.
	pub answers_a_second: f64,
	/// Weight of a request, from asking to settlement, in milliseconds of a block.
	pub weight_ms: f64,
	/// Requests that a second of block execution settles, by weights.
	pub settled_by_weight: f64,
	/// Requests that a second of native execution settled, on storage in memory.
	pub settled_natively: f64,
}

impl Outcome {
	/// The figures, a line for each.
	pub fn text(&self, load: &Load) -> String {
		format!(
			"figure settled_a_second_by_weight = {:.1} [at least 300] {} validators serve, two verifiers: a request weighs {:.2} ms from asking to \
			 settlement\n\
			 figure settled_a_second_natively = {:.0} [] real runtime, storage in memory, {} requests in {} blocks\n\
			 figure final_blocks = {:.1} [at most 5] on average with a finality lag of {} blocks and no compute, {} at most; {} requests a \
			 block\n\
			 figure answers_a_second_of_load = {:.2} [] of the chain's own time: {} asked, {} refused, {} Final, {} ended otherwise\n",
			self.settled_by_weight,
			load.validators,
			self.weight_ms,
			self.settled_natively,
			self.finals,
			self.blocks,
			self.blocks_to_final,
			world::FINALITY_LAG,
			self.slowest,
			load.requests,
			self.answers_a_second,
			self.taken + self.refused,
			self.refused,
			self.finals,
			self.others,
		)
	}
}

type View = RequestView<AccountId, BlockNumber, Balance>;

/// Has strangers ask, and everybody answer.
pub fn run(load: Load, seed: u64) -> Outcome {
	World::new(load.validators, 1).play(seed, |mut chain| {
		let quiet = measured(&mut chain, |chain| {
			for _ in 0..IDLE {
				block(chain, &mut |_| ());
			}
		});
		let first = chain.number();
		let mut asked: Vec<RequestId> = Vec::new();
		let (mut refused, mut number) = (0, 0);
		let busy = measured(&mut chain, |chain| {
			for _ in 0..load.blocks {
				block(chain, &mut |chain| {
					for _ in 0..load.requests {
						number += 1;
						let who = world::stranger(number);
						let checked = Assurance::Committee(2);
						match chain.ask(&who, Model::Text, number, checked, 0) {
							Ok(request) => asked.push(request),
							Err(_) => refused += 1,
						}
					}
				});
			}
			let open = |chain: &Chain| asked.iter().any(|id| !view(chain, *id).state.is_settled());
			let mut left = PATIENCE;
			while left > 0 && open(chain) {
				block(chain, &mut |_| ());
				left -= 1;
			}
		});
		let blocks = chain.number() - first;
		let mut outcome = Outcome {
			taken: asked.len() as u64,
			refused,
			blocks,
			..Outcome::default()
		};
		let mut waited = 0u64;
		for id in &asked {
			let view = view(&chain, *id);
			if view.state != RequestState::Final {
				outcome.others += 1;
				continue;
			}
			let took = view.settled_at.unwrap_or_default() - view.requested_at;
			outcome.finals += 1;
			outcome.slowest = outcome.slowest.max(took);
			waited += u64::from(took);
		}
		let finals = outcome.finals.max(1) as f64;
		outcome.blocks_to_final = waited as f64 / finals;
		let seconds = f64::from(blocks) * MILLISECS_PER_BLOCK as f64 / 1_000.0;
		outcome.answers_a_second = outcome.finals as f64 / seconds;
		// What blocks take by themselves is not the requests'.
		let share = f64::from(blocks) / f64::from(IDLE);
		let weight = busy.weight as f64 - quiet.weight as f64 * share;
		let each = weight / WEIGHT_REF_TIME_PER_SECOND as f64 / finals;
		outcome.weight_ms = each * 1_000.0;
		outcome.settled_by_weight = 1.0 / each;
		let idle = quiet.executing.mul_f64(share);
		let executing = busy
			.executing
			.saturating_sub(idle)
			.max(Duration::from_micros(1));
		outcome.settled_natively = finals / executing.as_secs_f64();
		outcome
	})
}

fn view(chain: &Chain, request: RequestId) -> View {
	chain
		.view(request)
		.expect("an answer is kept longer than a load is played; qed")
}

/// What the blocks in it cost.
fn measured(chain: &mut Chain, work: impl FnOnce(&mut Chain)) -> Meter {
	let before = chain.meter.get();
	work(chain);
	let after = chain.meter.get();
	Meter {
		executing: after.executing - before.executing,
		weight: after.weight - before.weight,
	}
}

/// A block in which everybody does what is due, and strangers ask.
fn block(chain: &mut Chain, ask: &mut dyn FnMut(&Chain)) {
	chain.block(|chain| {
		ask(chain);
		for validator in 0..chain.validators.len() {
			chain.contribute(validator);
			if let Some(duties) = chain.duties(validator) {
				let said = honest::work(chain, &duties, &[Model::Text, Model::Tensor]);
				chain.report(validator, &duties, said);
			}
		}
	});
}
