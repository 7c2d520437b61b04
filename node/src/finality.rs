//! Which block a validator votes to finalise: the best one ([ADR 15](../../docs/adr/0015-vote-on-the-best-block.md)).

use consilience_runtime::{opaque::Block, BlockNumber};
use polkadot_sdk::{sc_consensus_grandpa, sp_blockchain::HeaderBackend};
use sc_consensus_grandpa::{
	BeforeBestBlockBy, ThreeQuartersOfTheUnfinalizedChain, VotingRule, VotingRulesBuilder,
};

/// How a validator votes on finality.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct FinalityParams {
	/// Vote on a block this far behind the best one. Members of a round reveal when their commitments are final, so that each block
	/// here is one more in the life of every request. To measure, and for networks whose tip is often undone.
	#[arg(long, value_name = "BLOCKS", default_value_t = 0, hide = true)]
	pub(crate) finality_lag: BlockNumber,
}

/// Votes go to the best block, or so far behind it. Of a chain of three and more that nobody has finalised they go to the older three
/// quarters, rounded up: where that many have come together, voters have not agreed on the tip, and sooner do on what is older.
pub(crate) fn voting_rule<B: HeaderBackend<Block> + 'static>(
	params: FinalityParams,
) -> impl VotingRule<Block, B> + Clone {
	VotingRulesBuilder::new()
		.add(BeforeBestBlockBy(params.finality_lag))
		.add(ThreeQuartersOfTheUnfinalizedChain)
		.build()
}

#[cfg(test)]
mod tests {
	#![allow(clippy::unwrap_used)]

	use super::*;
	use clap::Parser;
	use consilience_runtime::{Hash, Header};
	use futures::executor::block_on;
	use polkadot_sdk::{
		sp_blockchain::{self, BlockStatus, Info},
		sp_runtime::traits::Header as _,
	};
	use std::sync::Arc;

	/// Headers on top of each other, from genesis on.
	struct Line(Vec<Header>);

	impl Line {
		fn new(blocks: u32) -> Arc<Self> {
			let mut headers: Vec<Header> = Vec::new();
			for number in 0..=blocks {
				let parent = headers.last().map(|h| h.hash()).unwrap_or_default();
				let (zero, digest) = (Hash::zero(), Default::default());
				headers.push(Header::new(number, zero, zero, parent, digest));
			}
			Arc::new(Self(headers))
		}

		/// Returns the block to vote for, given the last final block and the best one.
		fn vote(self: &Arc<Self>, lag: u32, finalized: u32) -> u32 {
			let rule = voting_rule::<Self>(FinalityParams { finality_lag: lag });
			let (base, best) = (&self.0[finalized as usize], self.0.last().unwrap());
			let vote = block_on(rule.restrict_vote(self.clone(), base, best, best));
			vote.map_or(*best.number(), |(hash, number)| {
				assert_eq!(hash, self.0[number as usize].hash());
				number
			})
		}
	}

	impl HeaderBackend<Block> for Line {
		fn header(&self, hash: Hash) -> sp_blockchain::Result<Option<Header>> {
			Ok(self.0.iter().find(|h| h.hash() == hash).cloned())
		}

		fn info(&self) -> Info<Block> {
			unreachable!("rules ask for headers only")
		}

		fn status(&self, _: Hash) -> sp_blockchain::Result<BlockStatus> {
			Ok(BlockStatus::InChain)
		}

		fn number(&self, hash: Hash) -> sp_blockchain::Result<Option<BlockNumber>> {
			Ok(self.header(hash)?.map(|h| *h.number()))
		}

		fn hash(&self, number: BlockNumber) -> sp_blockchain::Result<Option<Hash>> {
			Ok(self.0.get(number as usize).map(|h| h.hash()))
		}
	}

	#[test]
	fn votes_go_to_the_best_block_while_finality_keeps_up() {
		let line = Line::new(20);
		assert_eq!(line.vote(0, 20), 20, "nothing is new");
		assert_eq!(line.vote(0, 19), 20);
		assert_eq!(line.vote(0, 18), 20);
		// Where it has not, the older part is agreed on first.
		assert_eq!(line.vote(0, 17), 19);
		assert_eq!(line.vote(0, 16), 19);
		assert_eq!(line.vote(0, 4), 16);
	}

	#[test]
	fn a_lag_keeps_votes_behind_the_best_block() {
		let line = Line::new(20);
		assert_eq!(line.vote(2, 17), 18);
		assert_eq!(line.vote(2, 18), 18);
		assert_eq!(line.vote(1, 19), 19);
		assert_eq!(line.vote(2, 4), 16, "the older three quarters are older");
	}

	#[test]
	fn the_lag_is_an_option_that_is_zero() {
		let lag = |options: &[&str]| {
			let cli = crate::cli::Cli::try_parse_from([&["consilience"], options].concat());
			cli.map(|c| c.finality.finality_lag)
		};
		assert_eq!(lag(&[]).unwrap(), 0);
		assert_eq!(lag(&["--validator", "--finality-lag", "2"]).unwrap(), 2);
		assert!(lag(&["--finality-lag", "-1"]).is_err());
	}
}
