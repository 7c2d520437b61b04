//! The key-value cache, in the two layouts that graphs have.

use consilience_primitives::{manifest, tensor::DataType};
use half::{bf16, f16};
use ort::{session::SessionInputValue, value::DynValue};

use crate::{session::Graph, tensor, EngineError};

/// Positions in a block of the canonical graph's cache.
const BLOCK: usize = 128;

/// How a graph's cache is laid out.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
	pub(crate) kind: manifest::Cache,
	pub(crate) layers: usize,
	pub(crate) kv_heads: usize,
	pub(crate) head_dim: usize,
	pub(crate) vocabulary: usize,
}

/// What a graph remembers of the tokens it has seen: a key and a value for each layer, as the graph gave them.
pub(crate) struct Cache {
	values: Vec<DynValue>,
	len: usize,
	/// Slots of the canonical layout.
	capacity: usize,
}

impl Cache {
	/// Tokens seen.
	pub(crate) fn len(&self) -> usize {
		self.len
	}
}

impl Layout {
	fn past(layer: usize, value: bool) -> String {
		format!(
			"past_key_values.{layer}.{}",
			if value { "value" } else { "key" }
		)
	}

	fn present(layer: usize, value: bool) -> String {
		format!("present.{layer}.{}", if value { "value" } else { "key" })
	}

	/// Checks that a graph has the inputs and outputs of this layout.
	pub(crate) fn check(&self, graph: &Graph) -> Result<(), EngineError> {
		let inputs = ["input_ids", "position_ids"]
			.into_iter()
			.filter(|n| *n == "input_ids" || self.kind == manifest::Cache::Slots)
			.map(str::to_owned);
		let caches = (0..self.layers).flat_map(|l| [false, true].map(|v| (l, v)));
		let past = caches.clone().map(|(l, v)| Self::past(l, v));
		for name in inputs.chain(past) {
			if !graph.has_input(&name) {
				return Err(EngineError::Mismatch(format!(
					"the graph has no input {name:?}"
				)));
			}
		}
		let present = caches.map(|(l, v)| Self::present(l, v));
		for name in std::iter::once("logits".to_owned()).chain(present) {
			if !graph.has_output(&name) {
				return Err(EngineError::Mismatch(format!(
					"the graph has no output {name:?}"
				)));
			}
		}
		Ok(())
	}

	/// A cache that has seen nothing, with room for so many tokens.
	pub(crate) fn empty(&self, graph: &Graph, tokens: usize) -> Result<Cache, EngineError> {
		let capacity = match self.kind {
			manifest::Cache::Slots => tokens.div_ceil(BLOCK).max(1) * BLOCK,
			manifest::Cache::Growing => 0,
		};
		let mut values = Vec::with_capacity(self.layers * 2);
		for layer in 0..self.layers {
			for value in [false, true] {
				let shape = match (&self.kind, value) {
					(manifest::Cache::Slots, false) => [1, self.kv_heads, self.head_dim, capacity],
					_ => [1, self.kv_heads, capacity, self.head_dim],
				};
				let n = shape.iter().product();
				values.push(match graph.input_type(&Self::past(layer, value)) {
					Some(DataType::Fp32) => tensor::from_vec(&shape, vec![0f32; n])?,
					Some(DataType::Fp16) => tensor::from_vec(&shape, vec![f16::ZERO; n])?,
					Some(DataType::Bf16) => tensor::from_vec(&shape, vec![bf16::ZERO; n])?,
					other => {
						return Err(EngineError::Mismatch(format!(
							"the cache of layer {layer} is {other:?}, not floats"
						)))
					}
				});
			}
		}
		Ok(Cache {
			values,
			len: 0,
			capacity,
		})
	}

	/// Adds empty blocks at the end. What is there does not change, nor does any result.
	fn grow(&self, cache: &mut Cache, tokens: usize) -> Result<(), EngineError> {
		if self.kind == manifest::Cache::Growing || tokens <= cache.capacity {
			return Ok(());
		}
		let capacity = tokens.div_ceil(BLOCK) * BLOCK;
		for (i, value) in cache.values.iter_mut().enumerate() {
			let is_value = i % 2 == 1;
			// Rows of the last dimension that moves: a key's slots, a value's slots times its dimension.
			let (rows, old, new) = if is_value {
				(
					self.kv_heads,
					cache.capacity * self.head_dim,
					capacity * self.head_dim,
				)
			} else {
				(self.kv_heads * self.head_dim, cache.capacity, capacity)
			};
			let shape = if is_value {
				[1, self.kv_heads, capacity, self.head_dim]
			} else {
				[1, self.kv_heads, self.head_dim, capacity]
			};
			let (_, from) = value.try_extract_tensor::<f32>()?;
			let mut to = vec![0f32; rows * new];
			for row in 0..rows {
				to[row * new..row * new + old].copy_from_slice(&from[row * old..(row + 1) * old]);
			}
			*value = tensor::from_vec(&shape, to)?;
		}
		cache.capacity = capacity;
		Ok(())
	}

	/// Feeds the next tokens. Gives a row of logits for each.
	pub(crate) fn step(
		&self,
		graph: &Graph,
		cache: &mut Cache,
		tokens: &[u32],
	) -> Result<Vec<f32>, EngineError> {
		let (first, n) = (cache.len, tokens.len());
		self.grow(cache, first + n)?;
		let row = |values: Vec<i64>| -> Result<SessionInputValue<'static>, EngineError> {
			Ok(tensor::from_vec(&[1, values.len()], values)?.into())
		};
		let mut inputs = Vec::with_capacity(cache.values.len() + 3);
		inputs.push((
			"input_ids".to_owned(),
			row(tokens.iter().map(|t| i64::from(*t)).collect())?,
		));
		if graph.has_input("position_ids") {
			let positions = (first..first + n).map(|p| p as i64).collect();
			inputs.push(("position_ids".to_owned(), row(positions)?));
		}
		if graph.has_input("attention_mask") {
			inputs.push(("attention_mask".to_owned(), row(vec![1; first + n])?));
		}
		for (i, value) in cache.values.drain(..).enumerate() {
			inputs.push((Self::past(i / 2, i % 2 == 1), value.into()));
		}
		let (shape, logits) = graph.run(inputs, |mut outputs| {
			let logits = outputs
				.get("logits")
				.ok_or_else(|| EngineError::Mismatch("the graph gave no logits".into()))?;
			let logits = tensor::floats(logits)?;
			for i in 0..self.layers * 2 {
				let name = Self::present(i / 2, i % 2 == 1);
				let value = outputs
					.remove(&name)
					.ok_or_else(|| EngineError::Mismatch(format!("the graph gave no {name:?}")))?;
				cache.values.push(value);
			}
			Ok(logits)
		})?;
		if shape != [1, n, self.vocabulary] {
			return Err(EngineError::Mismatch(format!(
				"logits are {shape:?}, not [1, {n}, {}]",
				self.vocabulary
			)));
		}
		cache.len += n;
		Ok(logits)
	}
}
