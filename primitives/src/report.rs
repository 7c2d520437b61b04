//! Duties, and the statements that discharge them.
//!
//! The runtime says what is due for a session key at a block; the worker does it and puts everything it has to say into
//! one report, with one signature, so that transactions grow with validators and not with requests.

use alloc::vec::Vec;
use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use polkadot_sdk::sp_core::H256;
use scale_info::TypeInfo;

use crate::{
	evidence::{Evidence, Salt},
	model::Speed,
	request::{Output, StoredInput},
	List, ModelId, RequestId,
};

/// Most statements of one report.
pub const MAX_STATEMENTS: u32 = 512;

/// One thing that a validator has to say.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub enum Statement {
	/// It serves the model: it has checked every hash, loaded it, and measured this for the reference input.
	Serve {
		/// The model.
		model: ModelId,
		/// What it measured.
		evidence: Evidence,
		/// How fast its machine was.
		speed: Speed,
	},
	/// It stops serving the model. Duties already drawn stay.
	Withdraw {
		/// The model.
		model: ModelId,
	},
	/// The executor's answer: text, or that the input cannot be answered, whatever the task.
	Answer {
		/// The request.
		#[codec(compact)]
		request: RequestId,
		/// The answer.
		output: Output,
	},
	/// The executor's binding commitment to its answer (embedding, tensor).
	CommitOutput {
		/// The request.
		#[codec(compact)]
		request: RequestId,
		/// [`crate::evidence::output_commitment`].
		commitment: H256,
	},
	/// A member's commitment to its evidence.
	Commit {
		/// The request.
		#[codec(compact)]
		request: RequestId,
		/// [`Evidence::commitment`].
		commitment: H256,
	},
	/// A member's evidence.
	Reveal {
		/// The request.
		#[codec(compact)]
		request: RequestId,
		/// What it measured.
		evidence: Evidence,
		/// Salt of the commitment.
		salt: Salt,
	},
	/// The answer to which the executor is bound. Comes before or with its [`Statement::Reveal`].
	RevealOutput {
		/// The request.
		#[codec(compact)]
		request: RequestId,
		/// The answer.
		output: Output,
		/// Salt of the commitment.
		salt: Salt,
	},
	/// It cannot serve the model: its machine computes something else for the reference input. Said once, for whoever wonders why the
	/// model is not active.
	Differ {
		/// The model.
		model: ModelId,
		/// What it measured.
		evidence: Evidence,
	},
}

/// All that a validator has to say in a block. Its `infr` key signs [`Report::payload`].
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Report<BlockNumber> {
	/// Index of the session in which the validator index holds.
	pub session: u32,
	/// The validator's index in the session's `infr` keys.
	pub validator: u32,
	/// Number of the block on which the report was made: a report is good for a few blocks after it.
	pub at: BlockNumber,
	/// What it says.
	pub statements: List<Statement, MAX_STATEMENTS>,
}

impl<BlockNumber: Encode> Report<BlockNumber> {
	/// What is signed. `made_on` is the hash of the block whose number is [`Report::at`]: a report that was made on one fork is
	/// worth nothing on another, whose challenges its commitments do not answer.
	pub fn payload(&self, genesis: &H256, made_on: &H256) -> Vec<u8> {
		(b"consilience/report", genesis, made_on, self).encode()
	}
}

/// What kind of work is due.
#[derive(
	Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, MaxEncodedLen, TypeInfo,
)]
pub enum DutyKind {
	/// As executor: run the model, then [`Statement::Answer`].
	Answer,
	/// As executor: run the model, then [`Statement::CommitOutput`], or [`Statement::Answer`] where there is none.
	CommitOutput,
	/// As member of the round: measure, then [`Statement::Commit`].
	Commit,
	/// As member of the round: [`Statement::Reveal`] what was committed, the executor of a committed output also
	/// [`Statement::RevealOutput`].
	Reveal,
	/// As executor that its round has left out, or that has shown its evidence: only [`Statement::RevealOutput`].
	RevealOutput,
	/// As member of a committee over whose answer a jury judges meanwhile: [`Statement::Reveal`] what was committed, under
	/// [`Work::prior`]. It counts until the jury has spoken.
	LateReveal,
}

/// Something that is due.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub struct Duty<BlockNumber> {
	/// The request.
	pub request: RequestId,
	/// The model.
	pub model: ModelId,
	/// What to do.
	pub kind: DutyKind,
	/// Last block in which the statement is taken.
	pub deadline: BlockNumber,
}

/// Everything due for one validator.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub struct Duties<AccountId, BlockNumber> {
	/// The validator, to which commitments are bound.
	pub validator: AccountId,
	/// For [`Report::session`].
	pub session: u32,
	/// For [`Report::validator`].
	pub index: u32,
	/// Models that it serves at present.
	pub serving: Vec<ModelId>,
	/// What is due, the most urgent first.
	pub duties: Vec<Duty<BlockNumber>>,
	/// Requests in which a jury accuses this validator of a lie, each with the last block in which that can be contested.
	pub accused: Vec<(RequestId, BlockNumber)>,
	/// Rules of the constraints that this chain takes: [`crate::sampling::CONSTRAINT_RULES`] of its runtime. Whoever follows others finds
	/// other masks, and serves no text model here.
	pub rules: u16,
}

/// A contribution that is asked of a validator ([`crate::contribution`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub struct ContributionDue<BlockNumber> {
	/// The block to whose randomness it contributes.
	pub block: BlockNumber,
	/// Hash of the block before; `None` where that is the block at which this is asked.
	pub parent: Option<H256>,
}

/// What the engine needs to do a duty.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub struct Work {
	/// The model.
	pub model: ModelId,
	/// What was asked.
	pub input: StoredInput,
	/// Seed of the sampling noise.
	pub seed: H256,
	/// The answer, once it is on chain.
	pub output: Option<Output>,
	/// Seed of the challenge, once it is drawn.
	pub challenge: Option<H256>,
	/// For jurors: seed of the challenge of the disputed round, under which they measure a second time for
	/// [`Evidence::prior`].
	pub prior: Option<H256>,
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::{
		crypto::{InferencePair, InferenceSignature},
		evidence::{Fingerprint, Verdict},
		model::NumericClass,
	};
	use polkadot_sdk::sp_core::Pair;

	/// Bytes of a round's statements of one request by one member, and of the two reports that carry them and nothing else.
	fn bytes(class: NumericClass) -> (usize, usize) {
		let fingerprint = match class {
			NumericClass::Exact => Fingerprint::Digest([7; 16]),
			NumericClass::Tolerant => Fingerprint::Values {
				tag: 0,
				values: alloc::vec![1 << 20; 16].try_into().expect("in bounds"),
			},
		};
		let statements = [
			Statement::Commit {
				request: 1 << 24,
				commitment: H256::repeat_byte(1),
			},
			Statement::Reveal {
				request: 1 << 24,
				evidence: Evidence {
					fingerprint,
					verdict: Verdict::default(),
					prior: None,
				},
				salt: [2; 16],
			},
		];
		let signature: InferenceSignature = InferencePair::from_seed(&[1; 32]).sign(b"x");
		let reports = statements.clone().map(|s| Report {
			session: u32::MAX,
			validator: 299,
			at: u32::MAX,
			statements: alloc::vec![s].try_into().expect("in bounds"),
		});
		(
			statements.iter().map(|s| s.encoded_size()).sum(),
			reports.iter().map(|r| (r, &signature).encoded_size()).sum(),
		)
	}

	/// Executor and two verifiers. The targets are 2 bytes a token at 200 tokens and 6 at 64.
	#[test]
	fn evidence_on_chain_stays_within_its_budget() {
		let (exact, reports) = bytes(NumericClass::Exact);
		assert_eq!((exact, reports), (79, 233));
		let (tolerant, _) = bytes(NumericClass::Tolerant);
		assert_eq!(tolerant, 79 - 16 + 2 + 16 * 4);
		for (per_token, tokens) in [(2, 200), (6, 64)] {
			assert!(exact * 3 <= per_token * tokens);
			// Shown by `scripts/bench protocol`.
			println!(
				"figure evidence_bytes_a_token_of_{tokens} = {}.{:02} [at most {per_token}] committee of three, exact class",
				exact * 3 / tokens,
				exact * 300 / tokens % 100
			);
		}
		println!(
			"figure evidence_bytes_an_answer = {} [at most 237] committee of three, exact class; of one member {exact}, tolerant class {tolerant}",
			exact * 3
		);
		println!(
			"figure report_bytes_beside_evidence = {} [] commitment and reveal",
			reports - exact
		);
	}
}
