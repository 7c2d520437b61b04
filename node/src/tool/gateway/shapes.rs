//! The chain's values in the gateway's shapes.

use std::time::Duration;

use consilience_gateway::network as gateway;
use consilience_gateway::network::Refusal;
use consilience_primitives::{
	model::Task,
	request::{FinishReason, InputError},
	view::{QuoteError, RequestState},
};
use consilience_rpc::{
	JsonInput, JsonOutput, JsonSampling, JsonSpec, LocalModel, RpcError, Update,
};
use consilience_runtime::{RuntimeError, MILLISECS_PER_BLOCK};
use consilience_store::open_inference::{to_tensor, JsonTensor};
use polkadot_sdk::{sp_core::H256, sp_crypto_hashing::blake2_256, sp_runtime::DispatchError};
use serde_json::Value;

use crate::tool::{
	chain::{address, Model},
	failure,
};

/// Returns a word as JSON has it.
fn word(value: impl serde::Serialize) -> String {
	match serde_json::to_value(value) {
		Ok(Value::String(word)) => word,
		_ => String::new(),
	}
}

/// Returns a model, and what the node's own store knows of it.
pub(super) fn model(view: Model, local: Option<&LocalModel>) -> gateway::Model {
	let spec = view.spec;
	let inputs = spec.signature.iter().map(JsonSpec::from);
	gateway::Model {
		id: format!("{:?}", view.id),
		name: String::from_utf8_lossy(&spec.name).into_owned(),
		task: match spec.task {
			Task::TextGeneration => gateway::Task::TextGeneration,
			Task::Embedding => gateway::Task::Embedding,
			Task::Tensor => gateway::Task::Tensor,
		},
		chat: spec.chat,
		class: word(spec.policy.class),
		status: word(view.status),
		owner: address(&view.owner),
		size: spec.size,
		price: gateway::Price {
			per_request: view.price.per_request,
			per_input_unit: view.price.per_input_unit,
			per_output_unit: view.price.per_output_unit,
		},
		max_input_units: spec.limits.max_input_units,
		max_output_units: spec.limits.max_output_units,
		// Not on chain, where text is counted in bytes.
		context_length: None,
		dimensions: (spec.task == Task::Embedding).then_some(spec.limits.max_output_units),
		serving: view.serving.len() as u32,
		min_verifiers: spec.policy.min_verifiers,
		policy: serde_json::to_value(spec.policy).unwrap_or_default(),
		inputs: inputs
			.map(|i| gateway::TensorSpec {
				name: i.name,
				datatype: i.datatype,
				shape: i.shape,
			})
			.collect(),
		sampling: serde_json::to_value(JsonSampling::from(&spec.sampling)).unwrap_or_default(),
		license: local.and_then(|l| l.license.clone()),
		source: local.and_then(|l| l.source.clone()),
	}
}

/// Returns why a request would be refused.
pub(super) fn quote(error: QuoteError, model: &Model) -> Refusal {
	let why = RpcError::quote(model.id, error).to_string();
	match error {
		QuoteError::UnknownModel => Refusal::UnknownModel,
		QuoteError::ModelNotActive => Refusal::NotActive,
		QuoteError::NoCapacity { blocks } => Refusal::Busy {
			retry_after: Some(Duration::from_millis(
				u64::from(blocks).saturating_mul(MILLISECS_PER_BLOCK),
			)),
		},
		QuoteError::BadAssurance | QuoteError::TooFewServe => Refusal::Verifiers(why),
		QuoteError::Input(InputError::InputTooLarge | InputError::OutputTooLarge) => {
			let limits = &model.spec.limits;
			Refusal::TooLong(format!(
				"{why}: it takes {} input units (bytes of text, 16 more for a chat and each of its messages; or elements of tensors) and \
				 gives {} output units",
				limits.max_input_units, limits.max_output_units
			))
		}
		QuoteError::Input(_) => Refusal::Input(why),
		QuoteError::Overflow => Refusal::Other(why),
	}
}

/// Returns why a request was refused in its block.
pub(super) fn dispatch(error: &DispatchError) -> Refusal {
	use pallet_inference::Error;
	let why = failure::dispatch(error);
	match failure::of_pallet(error) {
		Some(RuntimeError::Inference(e)) => match e {
			Error::UnknownModel => Refusal::UnknownModel,
			Error::ModelNotActive => Refusal::NotActive,
			// The price has risen since it was quoted: it does where the network fills up.
			Error::NoCapacity
			| Error::TooManyOpen
			| Error::TooManyOpenOfAccount
			| Error::FeeLimitTooLow => Refusal::Busy { retry_after: None },
			Error::BadAssurance | Error::TooFewServe => Refusal::Verifiers(why),
			Error::InputTooLarge | Error::OutputTooLarge => Refusal::TooLong(why),
			_ => Refusal::Other(why),
		},
		Some(RuntimeError::Balances(_)) => Refusal::Funds(why),
		_ if matches!(error, DispatchError::Token(_)) => Refusal::Funds(why),
		_ => Refusal::Other(why),
	}
}

fn state(state: RequestState) -> gateway::State {
	use gateway::State;
	match state {
		RequestState::Requested => State::Requested,
		RequestState::Assigned => State::Assigned,
		RequestState::Provisional => State::Provisional,
		RequestState::Disputed => State::Disputed,
		RequestState::Final => State::Final,
		RequestState::Rejected => State::Rejected,
		RequestState::Expired => State::Expired,
		RequestState::Cancelled => State::Cancelled,
		RequestState::Unanswerable => State::Unanswerable,
		RequestState::Overturned => State::Overturned,
	}
}

/// Returns what a tensor is charged for.
fn units(tensor: &JsonTensor) -> u32 {
	let elements = || tensor.shape.iter().fold(1u32, |n, d| n.saturating_mul(*d));
	// One that holds what JSON cannot say is not read back.
	to_tensor(tensor).map_or_else(|_| elements(), |t| t.units())
}

fn answer(output: JsonOutput) -> gateway::Answer {
	match output {
		JsonOutput::Text {
			text,
			tokens,
			finish_reason,
		} => gateway::Answer::Text {
			text,
			tokens: tokens.len() as u32,
			finish: match finish_reason {
				FinishReason::EndOfText => gateway::Finish::EndOfText,
				FinishReason::StopString => gateway::Finish::StopString,
				FinishReason::Length => gateway::Finish::Length,
			},
		},
		JsonOutput::Tensors { outputs } => gateway::Answer::Tensors {
			units: outputs.iter().map(units).fold(0, u32::saturating_add),
			outputs: outputs
				.into_iter()
				.map(|t| gateway::Tensor {
					name: t.name,
					shape: t.shape,
					datatype: t.datatype.name().into(),
					data: t.data,
				})
				.collect(),
		},
		JsonOutput::Unanswerable { code, reason } => gateway::Answer::Unanswerable {
			code: word(code),
			reason,
		},
	}
}

/// Returns a request as it stands in a block.
pub(super) fn step(update: Update) -> gateway::Step {
	let request = update.request;
	gateway::Step {
		request: request.id,
		state: state(request.state),
		block: gateway::Block {
			number: update.block.number,
			hash: format!("{:?}", update.block.hash),
		},
		finalized: update.finalized,
		answer: request.output.map(answer),
		executor: request.executor.as_ref().map(address),
		verifiers: request.verifiers.iter().map(address).collect(),
		jurors: request.jurors.iter().map(address).collect(),
		seed: request.seed.map(|seed| format!("{seed:?}")),
		escrow: request.escrow,
		paid: request.paid,
		refunded: request.refunded,
	}
}

/// Returns what tells a request from others of the same account. Floats have lost digits on their way through JSON: parameters count to the
/// thousandth as on chain, and data of tensors not at all.
pub(super) fn digest(input: &JsonInput) -> H256 {
	fn exact(value: Value) -> Value {
		match value {
			Value::Number(n) => match n.as_f64() {
				Some(n) => ((n * 1_000.0).round() as i64).into(),
				None => Value::Null,
			},
			Value::Array(list) => list.into_iter().map(exact).collect(),
			Value::Object(map) => map
				.into_iter()
				.filter(|(name, _)| name != "data")
				.map(|(name, value)| (name, exact(value)))
				.collect(),
			value => value,
		}
	}
	let value = serde_json::to_value(input).map(exact).unwrap_or_default();
	blake2_256(value.to_string().as_bytes()).into()
}
