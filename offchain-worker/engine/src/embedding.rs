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
		Ok(self.encode(graph, text)?.1)
	}

	/// How many tokens a text has, and what the graph is fed for it.
	fn encode(
		&self,
		graph: &Graph,
		text: &str,
	) -> Result<(usize, Vec<(String, Raw)>), EngineError> {
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
		let n = encoding.len();
		// Where the graph takes one length alone, the rest is what the mask leaves out.
		let length = graph.fixed_length("input_ids").unwrap_or(n);
		if n > length {
			return Err(EngineError::Mismatch(format!(
				"max_tokens is more than the {length} tokens that the graph takes"
			)));
		}
		let positions: Vec<u32> = (0..length as u32).collect();
		let fed = named.into_iter().chain([("position_ids", &positions[..])]);
		let inputs = fed
			.filter(|(name, _)| graph.has_input(name))
			.map(|(name, values)| {
				let mut values: Vec<i64> = values.iter().map(|v| i64::from(*v)).collect();
				values.resize(length, 0);
				Ok((name.to_owned(), graph.integers(name, &[1, length], values)?))
			})
			.collect::<Result<_, EngineError>>()?;
		Ok((n, inputs))
	}

	/// Refuses a graph that cannot be fed with texts.
	pub(crate) fn check(graph: &Graph) -> Result<(), EngineError> {
		let fed = [
			"input_ids",
			"attention_mask",
			"token_type_ids",
			"position_ids",
		];
		graph.only_needs(|name| fed.contains(&name))
	}

	/// The vector of a text.
	pub(crate) fn embed(&self, graph: &Graph, text: &str) -> Result<Tensor, EngineError> {
		let (tokens, inputs) = self.encode(graph, text)?;
		let inputs = inputs
			.into_iter()
			.map(|(name, raw)| Ok((name, raw.value()?.into())))
			.collect::<Result<_, EngineError>>()?;
		let (shape, values) = graph.run(inputs, |outputs| {
			let value = outputs.get(&self.output).ok_or_else(|| {
				EngineError::Mismatch(format!("the graph has no output {:?}", self.output))
			})?;
			tensor::floats(value)
		})?;
		let mut vector = self.pool(&shape, &values, tokens)?;
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

	/// One vector from one for each token, of which so many are the text's and others what fills a graph of a fixed length.
	fn pool(
		&self,
		shape: &[usize],
		values: &[f32],
		tokens: usize,
	) -> Result<Vec<f32>, EngineError> {
		let dimensions = self.dimensions as usize;
		let wrong = || {
			EngineError::Mismatch(format!(
				"the vectors' shape is {shape:?}, not [1,(tokens,){dimensions}]"
			))
		};
		let mut rows = match shape {
			[1, d] if *d == dimensions && self.pooling == Pooling::None => {
				return Ok(values.to_vec())
			}
			[1, n, d] if *d == dimensions && (1..=*n).contains(&tokens) => {
				values.chunks_exact(dimensions).take(tokens)
			}
			_ => return Err(wrong()),
		};
		let one = match self.pooling {
			Pooling::Cls => rows.next(),
			Pooling::Last => rows.next_back(),
			Pooling::Mean => {
				let mut sum = vec![0f64; dimensions];
				for row in rows {
					sum.iter_mut()
						.zip(row)
						.for_each(|(s, v)| *s += f64::from(*v));
				}
				return Ok(sum
					.into_iter()
					.map(|s| (s / tokens as f64) as f32)
					.collect());
			}
			Pooling::None => None,
		};
		one.map(<[f32]>::to_vec).ok_or_else(wrong)
	}
}
