//! The key-value cache, in the two layouts that graphs have.

use consilience_primitives::{manifest, tensor::DataType};
use half::{bf16, f16};
use ort::{
	memory::MemoryInfo,
	session::{IoBinding, SessionInputValue, SessionOutputs},
	value::DynValue,
};

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
///
/// The canonical layout is written in place where the graph runs on the CPU: past and present are one buffer. ONNX Runtime's
/// ScatterElements then writes the new slots and copies nothing. A graph of this layout may therefore not read the past once it
/// has written the present; the canonical one reads it nowhere else.
pub(crate) struct Cache {
	values: Vec<DynValue>,
	/// Joins the values to the graph's inputs and outputs; made anew when they move.
	binding: Option<IoBinding>,
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
		if self.kind == manifest::Cache::Slots {
			for (layer, value) in caches.clone() {
				let name = Self::past(layer, value);
				if graph.input_type(&name) != Some(DataType::Fp32) {
					return Err(EngineError::Mismatch(format!(
						"{name:?} is not FP32, as a cache of slots is"
					)));
				}
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
					Some(DataType::Fp32) => tensor::zeros(&shape)?,
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
			binding: None,
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
			let mut larger = tensor::zeros(&shape)?;
			let (_, from) = value.try_extract_tensor::<f32>()?;
			let (_, to) = larger.try_extract_tensor_mut::<f32>()?;
			for row in 0..rows {
				to[row * new..row * new + old].copy_from_slice(&from[row * old..(row + 1) * old]);
			}
			*value = larger;
		}
		cache.capacity = capacity;
		cache.binding = None;
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
		let row = |values: Vec<i64>| tensor::from_vec(&[1, values.len()], values);
		let mut inputs = vec![(
			"input_ids",
			row(tokens.iter().map(|t| i64::from(*t)).collect())?,
		)];
		if graph.has_input("position_ids") {
			let positions = (first..first + n).map(|p| p as i64).collect();
			inputs.push(("position_ids", row(positions)?));
		}
		if graph.has_input("attention_mask") {
			inputs.push(("attention_mask", row(vec![1; first + n])?));
		}
		let (shape, logits) = if self.kind == manifest::Cache::Slots && graph.on_cpu() {
			self.run_in_place(graph, cache, inputs)?
		} else {
			self.run(graph, cache, inputs)?
		};
		if shape != [1, n, self.vocabulary] {
			return Err(EngineError::Mismatch(format!(
				"logits are {shape:?}, not [1, {n}, {}]",
				self.vocabulary
			)));
		}
		cache.len += n;
		Ok(logits)
	}

	/// Runs the graph on the cache's own memory. Gives shape and values of the logits.
	fn run_in_place(
		&self,
		graph: &Graph,
		cache: &mut Cache,
		inputs: Vec<(&'static str, DynValue)>,
	) -> Result<(Vec<usize>, Vec<f32>), EngineError> {
		let binding = match &mut cache.binding {
			Some(binding) => binding,
			none => {
				let mut binding = graph.binding()?;
				for (i, value) in cache.values.iter_mut().enumerate() {
					binding.bind_input(Self::past(i / 2, i % 2 == 1), value)?;
					binding.bind_output(Self::present(i / 2, i % 2 == 1), value)?;
				}
				none.insert(binding)
			}
		};
		for (name, value) in &inputs {
			binding.bind_input(*name, value)?;
		}
		// Bound anew for each run: its length differs.
		binding.bind_output_to_device("logits", &MemoryInfo::default())?;
		graph.run_bound(binding, |outputs| Self::logits(&outputs))
	}

	/// Runs the graph, which gives the next cache.
	fn run(
		&self,
		graph: &Graph,
		cache: &mut Cache,
		inputs: Vec<(&'static str, DynValue)>,
	) -> Result<(Vec<usize>, Vec<f32>), EngineError> {
		let past = cache.values.drain(..).enumerate();
		let inputs = inputs
			.into_iter()
			.map(|(name, value)| (name.to_owned(), SessionInputValue::from(value)))
			.chain(past.map(|(i, value)| (Self::past(i / 2, i % 2 == 1), value.into())))
			.collect();
		graph.run(inputs, |mut outputs| {
			let logits = Self::logits(&outputs)?;
			for i in 0..self.layers * 2 {
				let name = Self::present(i / 2, i % 2 == 1);
				let value = outputs
					.remove(&name)
					.ok_or_else(|| EngineError::Mismatch(format!("the graph gave no {name:?}")))?;
				cache.values.push(value);
			}
			Ok(logits)
		})
	}

	fn logits(outputs: &SessionOutputs<'_>) -> Result<(Vec<usize>, Vec<f32>), EngineError> {
		let logits = outputs
			.get("logits")
			.ok_or_else(|| EngineError::Mismatch("the graph gave no logits".into()))?;
		tensor::floats(logits)
	}
}
