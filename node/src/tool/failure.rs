//! Errors of the chain in words.

use codec::Decode;
use consilience_primitives::{request::InputError, view::QuoteError};
use consilience_runtime::{Runtime, RuntimeError, MILLISECS_PER_BLOCK};
use polkadot_sdk::sp_runtime::{DispatchError, ModuleError};
use scale_info::{TypeDef, TypeInfo};

/// Why a transaction did not get into the pool.
pub(crate) fn submission(error: jsonrpsee::core::ClientError) -> String {
	match error {
		jsonrpsee::core::ClientError::Call(e) => {
			let data = e
				.data()
				.map(|d| d.get().trim_matches('"').to_owned())
				.unwrap_or_default();
			let hint = if data.contains("payment") || data.contains("fees") {
				". The account cannot pay the transaction fee: is it funded?"
			} else {
				""
			};
			format!(
				"the node refused the transaction: {}: {data}{hint}",
				e.message()
			)
		}
		e => format!("the node refused the transaction: {e}"),
	}
}

/// Why a transaction of the session lane that is authorised by what is in it did not get into the pool.
pub(crate) fn sessions(error: jsonrpsee::core::ClientError) -> String {
	let code = match &error {
		jsonrpsee::core::ClientError::Call(e) => e.data().and_then(|data| {
			let words = data.get().trim_matches('"');
			words.rsplit(' ').next()?.parse().ok()
		}),
		_ => None,
	};
	code.and_then(documentation::<pallet_sessions::Error<Runtime>>)
		.map_or_else(
			|| submission(error),
			|(name, docs)| format!("{name}: {docs}"),
		)
}

/// What a pallet's own documentation says of its error.
fn documentation<E: TypeInfo>(index: u8) -> Option<(String, String)> {
	let TypeDef::Variant(variants) = E::type_info().type_def else {
		return None;
	};
	let variant = variants.variants.iter().find(|v| v.index == index)?;
	let docs = variant
		.docs
		.iter()
		.map(|l| l.trim())
		.collect::<Vec<_>>()
		.join(" ");
	Some((variant.name.to_string(), docs))
}

/// The error of a pallet, in the runtime's own type.
pub(crate) fn of_pallet(error: &DispatchError) -> Option<RuntimeError> {
	let DispatchError::Module(ModuleError { index, error, .. }) = error else {
		return None;
	};
	let mut bytes = vec![*index];
	bytes.extend(error);
	RuntimeError::decode(&mut &bytes[..]).ok()
}

/// Why a call failed.
pub(crate) fn dispatch(failed: &DispatchError) -> String {
	let DispatchError::Module(ModuleError { index, error, .. }) = failed else {
		return format!("the call failed: {failed:?}");
	};
	let known = match of_pallet(failed) {
		Some(RuntimeError::Inference(_)) => {
			documentation::<pallet_inference::Error<Runtime>>(error[0])
		}
		Some(RuntimeError::ModelRegistry(_)) => {
			documentation::<pallet_model_registry::Error<Runtime>>(error[0])
		}
		Some(RuntimeError::Sessions(_)) => {
			documentation::<pallet_sessions::Error<Runtime>>(error[0])
		}
		Some(other) => return format!("the call failed: {other:?}"),
		None => None,
	};
	match known {
		Some((name, docs)) => format!("the call failed: {name}: {docs}"),
		None => format!("the call failed: error {error:?} of pallet {index}"),
	}
}

/// Why a request would be refused, and what to do.
pub(crate) fn quote(error: QuoteError, model: &super::chain::Model) -> String {
	let spec = &model.spec;
	let name = String::from_utf8_lossy(&spec.name);
	match error {
		QuoteError::UnknownModel => format!("model {name} is not registered any more"),
		QuoteError::ModelNotActive => format!(
			"model {name} is {:?} and takes no requests: {} validators serve it",
			model.status,
			model.serving.len()
		),
		QuoteError::BadAssurance => format!(
			"--verifiers: the model asks for at least {}, the chain allows at most {}; --sampled: for text only, and at least {} \
			 thousandths for this model",
			spec.policy.min_verifiers,
			<<Runtime as pallet_inference::Config>::MaxVerifiers as polkadot_sdk::frame_support::traits::Get<u8>>::get(),
			spec.policy.min_sampling,
		),
		QuoteError::Overflow => "the price is more than all the money there is".into(),
		QuoteError::TooFewServe => format!(
			"--verifiers: {} validators serve model {name}; one answers, so that at most {} can check",
			model.serving.len(),
			model.serving.len().saturating_sub(1)
		),
		QuoteError::NoCapacity { blocks } => format!(
			"those who serve model {name} have more to do already than they can do in time: room is expected in {blocks} blocks (about {} s); \
			 or ask for a shorter answer or fewer verifiers",
			u64::from(blocks).saturating_mul(MILLISECS_PER_BLOCK) / 1_000
		),
		QuoteError::Input(e) => match e {
			InputError::WrongTask => format!(
				"model {name} does {:?}: use {}",
				spec.task,
				match spec.task {
					consilience_primitives::model::Task::TextGeneration => "--prompt",
					consilience_primitives::model::Task::Embedding => "--text",
					consilience_primitives::model::Task::Tensor => "--input",
				}
			),
			InputError::NotUtf8 => "the text is not UTF-8".into(),
			InputError::Empty => "the input is empty".into(),
			InputError::InputTooLarge => format!(
				"the input is larger than the {} units (bytes of text, elements of tensors) that model {name} takes",
				spec.limits.max_input_units
			),
			InputError::ZeroTokens => "--max-tokens is zero".into(),
			InputError::OutputTooLarge => format!(
				"--max-tokens is more than the {} that model {name} gives",
				spec.limits.max_output_units
			),
			InputError::BadSampling =>
				"a parameter of sampling is out of its range: `consilience infer --help` names them".into(),
			InputError::SignatureMismatch => format!(
				"model {name} takes these tensors: {}",
				spec.signature
					.iter()
					.map(|t| {
						let shape: Vec<_> =
							t.shape.iter().map(|d| d.map_or("?".into(), |d| d.to_string())).collect();
						format!(
							"{} {} [{}]",
							String::from_utf8_lossy(&t.name),
							t.datatype.name(),
							shape.join(",")
						)
					})
					.collect::<Vec<_>>()
					.join("; ")
			),
			InputError::MalformedTensor =>
				"a tensor's data is not as long as its shape says".into(),
			InputError::NoChat => format!(
				"model {name} has no chat template: give the whole text with --prompt and --raw"
			),
			InputError::BadConstraint =>
				"the constraint is for other rules than this network's: use the program's version that its validators run".into(),
		},
	}
}
