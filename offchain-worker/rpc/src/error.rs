//! Errors and their codes: one table.

use consilience_primitives::{view::QuoteError, ModelId, RequestId};
use consilience_worker::chain::BlockNumber;
use jsonrpsee::{core::ClientError, types::ErrorObjectOwned};
use polkadot_sdk::sp_core::H256;

/// Codes of errors. They never change and are never used again.
pub mod code {
	/// The runtime could not be called.
	pub const RUNTIME: i32 = 7001;
	/// No such model on chain.
	pub const UNKNOWN_MODEL: i32 = 7002;
	/// No such request, or it was settled too long ago.
	pub const UNKNOWN_REQUEST: i32 = 7003;
	/// The input is malformed or does not suit the model.
	pub const INPUT: i32 = 7004;
	/// The model takes no requests.
	pub const MODEL_NOT_ACTIVE: i32 = 7005;
	/// Too few or too many verifiers.
	pub const ASSURANCE: i32 = 7006;
	/// A price does not fit.
	pub const OVERFLOW: i32 = 7007;
	/// The node runs no worker.
	pub const NO_WORKER: i32 = 7008;
	/// The worker refused.
	pub const REFUSED: i32 = 7009;
	/// The method is unsafe and called from outside.
	pub const UNSAFE: i32 = 7010;
	/// More verifiers than serve the model.
	pub const TOO_FEW_SERVE: i32 = 7011;
	/// No capacity in time.
	pub const NO_CAPACITY: i32 = 7012;
	/// The model store cannot be used.
	pub const STORE: i32 = 7013;
	/// No such block on this node.
	pub const UNKNOWN_BLOCK: i32 = 7014;
	/// The block is not finalised.
	pub const NOT_FINALIZED: i32 = 7015;
	/// The block's state is gone.
	pub const PRUNED: i32 = 7016;
	/// Whoever subscribed does not read.
	pub const SLOW: i32 = 7017;
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RpcError {
	/// The runtime could not be called.
	#[error("runtime call: {0}")]
	Runtime(String),
	/// No such model on chain.
	#[error("no model {0:?} is registered: models_list shows those that are")]
	UnknownModel(ModelId),
	/// No such request, or it was settled too long ago.
	#[error("no request {0}: it was never made, or it was settled so long ago that the chain has forgotten it")]
	UnknownRequest(RequestId),
	/// The input is malformed or does not suit the model.
	#[error("input: {0}")]
	Input(String),
	/// The model takes no requests.
	#[error("the model takes no requests: too few validators serve it, or its owner withdrew it")]
	ModelNotActive,
	/// Too few or too many verifiers.
	#[error("fewer verifiers than the model's policy asks for, or more than the chain allows")]
	Assurance,
	/// More verifiers than serve the model beside an executor.
	#[error("more verifiers than validators that serve the model beside the one that answers: ask for fewer")]
	TooFewServe,
	/// No capacity in time.
	#[error("those who serve the model have more to do already than they can do in time: room is expected in {0} blocks; or ask for a shorter \
	         answer, or fewer verifiers")]
	NoCapacity(BlockNumber),
	/// A price does not fit.
	#[error("the price does not fit the chain's balance type")]
	Overflow,
	/// The node runs no worker.
	#[error("this node runs no worker: start it with --validator")]
	NoWorker,
	/// The worker refused.
	#[error("{0}")]
	Refused(String),
	/// The model store cannot be read.
	#[error("the model store: {0}")]
	Store(String),
	/// The model is served, or to be served.
	#[error("model {0:?} is to be served, is served, or something is due for it: `consilience model withdraw {0:?}` ends that, and it can be \
	         removed when its duties are done")]
	InUse(ModelId),
	/// The node has no model store.
	#[error("this node has no model store: its log says why")]
	NoStore,
	/// No such block on this node.
	#[error("this node knows no block {0:?}: it is of another chain, or has not arrived yet")]
	UnknownBlock(H256),
	/// The block is not finalised.
	#[error("block {0:?} is not finalised: what stands there may still be undone. Wait for its finality, or leave the block out to have \
	         the last finalised one")]
	NotFinalized(H256),
	/// The block's state is gone.
	#[error("the state of block {0} was pruned: leave the block out to have the last finalised one, or ask a node that keeps it \
	         (--state-pruning archive)")]
	Pruned(BlockNumber),
	/// Whoever subscribed does not read.
	#[error("what you subscribed to waits for you to read it: subscribe again")]
	Slow,
	/// The method is unsafe and called from outside.
	#[error("the method is unsafe to call from outside: start the node with --rpc-methods unsafe, or call it on the node's machine")]
	Unsafe,
}

impl RpcError {
	/// The error's code.
	pub const fn code(&self) -> i32 {
		match self {
			Self::Runtime(_) => code::RUNTIME,
			Self::UnknownModel(_) => code::UNKNOWN_MODEL,
			Self::UnknownRequest(_) => code::UNKNOWN_REQUEST,
			Self::Input(_) => code::INPUT,
			Self::ModelNotActive => code::MODEL_NOT_ACTIVE,
			Self::Assurance => code::ASSURANCE,
			Self::Overflow => code::OVERFLOW,
			Self::TooFewServe => code::TOO_FEW_SERVE,
			Self::NoCapacity(_) => code::NO_CAPACITY,
			Self::NoWorker => code::NO_WORKER,
			Self::Refused(_) => code::REFUSED,
			Self::Unsafe => code::UNSAFE,
			Self::UnknownBlock(_) => code::UNKNOWN_BLOCK,
			Self::NotFinalized(_) => code::NOT_FINALIZED,
			Self::Pruned(_) => code::PRUNED,
			Self::Slow => code::SLOW,
			Self::Store(_) | Self::InUse(_) | Self::NoStore => code::STORE,
		}
	}

	/// Why the runtime would refuse a request for this model.
	pub fn quote(model: ModelId, error: QuoteError) -> Self {
		match error {
			QuoteError::UnknownModel => Self::UnknownModel(model),
			QuoteError::ModelNotActive => Self::ModelNotActive,
			QuoteError::Input(e) => Self::Input(describe(e).into()),
			QuoteError::BadAssurance => Self::Assurance,
			QuoteError::Overflow => Self::Overflow,
			QuoteError::TooFewServe => Self::TooFewServe,
			QuoteError::NoCapacity { blocks } => Self::NoCapacity(blocks),
		}
	}
}

/// The node's code for a transaction in whose place, by its nonce, the pool holds another of the account (`sc_rpc_api::author`).
const TOO_LOW_PRIORITY: i32 = 1_014;

/// Whether a transaction was refused because its nonce was read of another block than it was checked against: a block came, or
/// another fork became the best, in between. After a fork, the nonce may be that of a transaction which went back to the pool.
pub fn is_outdated(error: &ClientError) -> bool {
	let ClientError::Call(e) = error else {
		return false;
	};
	e.code() == TOO_LOW_PRIORITY || e.data().is_some_and(|d| d.get().contains("outdated"))
}

fn describe(error: consilience_primitives::request::InputError) -> &'static str {
	use consilience_primitives::request::InputError::*;
	match error {
		WrongTask => "the model does another task",
		NotUtf8 => "text is not UTF-8",
		Empty => "there is no text, no message or no tensor",
		InputTooLarge => "larger than the model takes: see its limits",
		ZeroTokens => "max_tokens is zero",
		OutputTooLarge => "max_tokens is more than the model gives: see its limits",
		BadSampling => {
			"a parameter of sampling is out of its range: temperature, top_p, stop, min_p, a penalty or logit_bias"
		}
		SignatureMismatch => {
			"names, types or shapes of the tensors are not the model's: see its signature"
		}
		MalformedTensor => "a tensor's data does not fit its shape",
		NoChat => "the model has no chat template: give a prompt instead of messages",
		BadConstraint => "the constraint is empty, or made for other rules than this network's",
	}
}

impl From<RpcError> for ErrorObjectOwned {
	fn from(e: RpcError) -> Self {
		Self::owned(e.code(), e.to_string(), None::<()>)
	}
}

impl From<consilience_worker::CommandError> for RpcError {
	fn from(e: consilience_worker::CommandError) -> Self {
		Self::Refused(e.to_string())
	}
}
