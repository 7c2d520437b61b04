//! JSON-RPC of models, requests and the session lane.
//!
//! Methods are declared once, in [`ModelsRpc`], [`InferenceRpc`] and [`SessionsRpc`]; jsonrpsee generates servers and clients.
//! Values are made for people: hashes in hexadecimal, accounts as addresses, text as text, amounts as decimal strings in the token's
//! smallest unit, tensors in the Open Inference Protocol's JSON.
//!
//! | method | what it does | unsafe |
//! |---|---|---|
//! | `models_list` | every model on chain | |
//! | `models_get` | one model on chain | |
//! | `models_local` | models stored on this node, and where each stands with its validator | |
//! | `models_serve` | lets this validator serve a stored model | yes |
//! | `models_withdraw` | lets it serve the model no longer | yes |
//! | `inference_request` | a request that is open or was settled not long ago | |
//! | `inference_quote` | what a request costs at most, and how long it is expected to take | |
//! | `inference_engine` | the engine and its work | |
//! | `inference_proof` | a request in a finalised block, with a proof against the block's state root | |
//! | `inference_data` | data that a transaction brought | |
//! | `inference_watch` | every step of a request, with its block, its finality, and whether a fork took it back | |
//! | `inference_subscribeRequest` | how a request stands, whenever that changes | |
//! | `sessions_channel` | a channel of the session lane | |
//! | `sessions_channelsOf` | an account's channels | |
//! | `sessions_lanes` | validators that serve a model in the session lane, with their addresses | |
//!
//! What is [`RequestState::Final`](consilience_primitives::view::RequestState) in a block that is not finalised may still be
//! undone by a fork; every state comes with whether its block is finalised.

mod error;
mod inference;
mod json;
mod life;
mod models;
mod proof;
mod sampling;
mod sessions;
mod watch;

pub use error::{code, is_outdated, RpcError};
pub use inference::{Inference, InferenceRpcClient, InferenceRpcServer};
pub use json::{
	Block, EngineStatus, JsonInput, JsonMessage, JsonModel, JsonOutput, JsonPrice, JsonQuote,
	JsonRequest, JsonSpec, LocalModel, Update,
};
pub use models::{Models, ModelsRpcClient, ModelsRpcServer};
pub use proof::{Entries, Entry, Proof};
pub use sampling::{JsonConstraint, JsonSampling};
pub use sessions::{
	JsonAllocation, JsonAllotment, JsonChannel, JsonLane, JsonLowering, Sessions,
	SessionsRpcClient, SessionsRpcServer,
};
pub use watch::Step;
