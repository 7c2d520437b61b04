//! A vector for a text.

use consilience_primitives::{
	manifest::Pooling,
	request::Unanswerable,
	tensor::{DataType, Tensor},
	List,
};
use tokenizers::{Tokenizer, TruncationParams};

use crate::{
	session::Graph,
	tensor::{self, Raw},
	EngineError,
};

/// A text encoder.
pub(crate) struct Embedder {
	pub(crate) tokenizer: Tokenizer,
	pub(crate) pooling: Pooling,
	pub(crate) normalize: bool,
	pub(crate) dimensions: u32,
	pub(crate) output: String,
}

impl Embedder {
	/// An encoder whose texts are cut after `max_tokens` tokens, special ones included.
	pub(crate) fn new(
		mut tokenizer: Tokenizer,
		pooling: Pooling,
		normalize: bool,
		max_tokens: u32,
		dimensions: u32,
		output: String,
	) -> Result<Self, EngineError> {
		tokenizer.with_padding(None);
		tokenizer
			.with_truncation(Some(TruncationParams {
				max_length: max_tokens as usize,
				..Default::default()
			}))
			.map_err(|e| EngineError::Input(e.to_string()))?;
		Ok(Self {
			tokenizer,
			pooling,
			normalize,
			dimensions,
			output,
		})
	}

	/// What the graph is fed for a text.
	pub(crate) fn inputs(
		&self,
		graph: &Graph,
		text: &str,
	) -> Result<Vec<(String, Raw)>, EngineError> {
		// What the tokenizer says may quote the text.
		let refused = |why: &str| EngineError::Unanswerable(Unanswerable::GraphRefused, why.into());
		let encoding = self
			.tokenizer
			.encode(text, true)
			.map_err(|_| refused("the model's tokenizer refuses this text"))?;
		if encoding.is_empty() {
			return Err(refused("the text has no tokens"));
		}
		let named = [
			("input_ids", encoding.get_ids()),
			("attention_mask", encoding.get_attention_mask()),
			("token_type_ids", encoding.get_type_ids()),
		];
		let row = |(name, values): (&str, &[u32])| {
			let values: Vec<i64> = values.iter().map(|v| i64::from(*v)).collect();
			(
				name.to_owned(),
				Raw::of_integers(&[1, values.len()], &values),
			)
		};
		let taken = named.into_iter().filter(|(name, _)| graph.has_input(name));
		Ok(taken.map(row).collect())
	}

	/// The vector of a text.
	pub(crate) fn embed(&self, graph: &Graph, text: &str) -> Result<Tensor, EngineError> {
		let inputs = self
			.inputs(graph, text)?
			.into_iter()
			.map(|(name, raw)| Ok((name, raw.value()?.into())))
			.collect::<Result<_, EngineError>>()?;
		let (shape, values) = graph.run(inputs, |outputs| {
			let value = outputs.get(&self.output).ok_or_else(|| {
				EngineError::Mismatch(format!("the graph has no output {:?}", self.output))
			})?;
			tensor::floats(value)
		})?;
		let mut vector = self.pool(&shape, &values)?;
		if self.normalize {
			let length = vector
				.iter()
				.map(|v| f64::from(*v) * f64::from(*v))
				.sum::<f64>()
				.sqrt();
			if length > 0.0 {
				vector
					.iter_mut()
					.for_each(|v| *v = (f64::from(*v) / length) as f32);
			}
		}
		// A vector is there to be compared with others, which NaN and infinity cannot be.
		if vector.iter().any(|v| !v.is_finite()) {
			return Err(EngineError::Unanswerable(
				Unanswerable::NotFinite,
				"the vector holds NaN or infinity".into(),
			));
		}
		Ok(Tensor {
			name: List::truncate_from(b"embedding".to_vec()),
			datatype: DataType::Fp32,
			shape: List::truncate_from(vec![vector.len() as u32]),
			data: vector
				.iter()
				.flat_map(|v| v.to_le_bytes())
				.collect::<Vec<_>>()
				.try_into()
				.map_err(|_| {
					EngineError::Unanswerable(
						Unanswerable::OutputTooLarge,
						"the vector is longer than the chain carries".into(),
					)
				})?,
		})
	}

	/// One vector from one for each token. A single text is not padded, so that all tokens count.
	fn pool(&self, shape: &[usize], values: &[f32]) -> Result<Vec<f32>, EngineError> {
		let dimensions = self.dimensions as usize;
		let wrong = || {
			EngineError::Mismatch(format!(
				"the vectors' shape is {shape:?}, not [1,(tokens,){dimensions}]"
			))
		};
		match (self.pooling, shape) {
			(Pooling::None, [1, d]) if *d == dimensions => Ok(values.to_vec()),
			(Pooling::Cls, [1, n, d]) if *d == dimensions && *n > 0 => {
				Ok(values[..dimensions].to_vec())
			}
			(Pooling::Mean, [1, n, d]) if *d == dimensions && *n > 0 => {
				let mut sum = vec![0f64; dimensions];
				for row in values.chunks_exact(dimensions) {
					sum.iter_mut()
						.zip(row)
						.for_each(|(s, v)| *s += f64::from(*v));
				}
				Ok(sum.into_iter().map(|s| (s / *n as f64) as f32).collect())
			}
			_ => Err(wrong()),
		}
	}
}
