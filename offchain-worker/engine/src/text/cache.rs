//! The key-value cache, in the two layouts that graphs have.

use std::ops::Range;

use consilience_primitives::{manifest, request::Unanswerable, tensor::DataType};
use half::{bf16, f16};
use ort::{
	memory::MemoryInfo,
	session::{IoBinding, SessionOutputs},
	value::DynValue,
};

use crate::{
	session::{bind_borrowed, bind_shared, Graph},
	tensor::{self, Number, Raw},
	EngineError,
};

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
	/// What the numbers of a cache of slots are: FP32, or what [`Self::check`] has found in the graph.
	pub(crate) element: DataType,
	/// What the graph may be fed with, where it is known of it.
	pub(crate) tables: Option<Tables>,
}

/// Rows of the tables in which a graph looks up what it is fed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tables {
	/// Numbers of tokens are below this.
	pub(crate) tokens: usize,
	/// Positions are below this.
	pub(crate) positions: usize,
}

/// Calls a function for the type of the numbers in a cache of slots.
macro_rules! of_element {
	($element:expr, $function:ident($($argument:expr),* $(,)?)) => {
		match $element {
			DataType::Int8 => $function::<i8>($($argument),*),
			_ => $function::<f32>($($argument),*),
		}
	};
}

/// What a graph remembers of the texts it has seen: a key and a value for each layer, a row for each text.
///
/// The canonical layout is written in place where the graph runs on the CPU: past and present are one buffer. ONNX Runtime's
/// ScatterElements then writes the new slots and copies nothing. A graph of this layout may therefore not read the past once it
/// has written the present; the canonical one reads it nowhere else. There may be memory for more rows than are in use: a graph
/// is shown those in use.
pub(crate) struct Cache {
	/// Joins the rows in use to the graph's inputs and outputs; made anew when they move. It points into `values` and does not
	/// own them, so it comes first, to be dropped first.
	binding: Option<IoBinding>,
	values: Vec<DynValue>,
	/// Tokens seen, for each row in use.
	lengths: Vec<usize>,
	/// Rows there is memory for.
	rows: usize,
	/// Slots of a row of the canonical layout.
	capacity: usize,
}

/// Where a row's slots are in a tensor of the canonical layout: so many lines, each with all slots, each of so many numbers.
#[derive(Clone, Copy)]
struct Lines {
	count: usize,
	width: usize,
}

impl Lines {
	/// Where the slots of a line begin.
	fn start(self, row: usize, line: usize, capacity: usize) -> usize {
		(row * self.count + line) * capacity * self.width
	}
}

impl Tables {
	/// Refuses, as the graph itself would, what is not in its tables: other numbers of tokens, and more positions.
	fn check(self, tokens: &[u32], positions: usize) -> Result<(), EngineError> {
		let there = |token: &u32| (*token as usize) < self.tokens;
		let why = if !tokens.iter().all(there) {
			"a token is not in the graph's table"
		} else if positions > self.positions {
			"the text is longer than the graph's tables of positions"
		} else {
			return Ok(());
		};
		Err(EngineError::Unanswerable(
			Unanswerable::GraphRefused,
			why.into(),
		))
	}
}

impl Layout {
	pub(crate) fn past_name(layer: usize, value: bool) -> String {
		format!(
			"past_key_values.{layer}.{}",
			if value { "value" } else { "key" }
		)
	}

	fn present_name(layer: usize, value: bool) -> String {
		format!("present.{layer}.{}", if value { "value" } else { "key" })
	}

	/// Names of the input and the output of the cache's value with this number.
	pub(crate) fn names(i: usize) -> (String, String) {
		(
			Self::past_name(i / 2, i % 2 == 1),
			Self::present_name(i / 2, i % 2 == 1),
		)
	}

	/// Checks that a graph has the inputs and outputs of this layout, and notes what its caches are made of.
	pub(crate) fn check(&mut self, graph: &Graph) -> Result<(), EngineError> {
		let inputs = ["input_ids", "position_ids"]
			.into_iter()
			.filter(|n| *n == "input_ids" || self.kind == manifest::Cache::Slots)
			.map(str::to_owned);
		let caches = (0..self.layers).flat_map(|l| [false, true].map(|v| (l, v)));
		let past = caches.clone().map(|(l, v)| Self::past_name(l, v));
		for name in inputs.chain(past) {
			if !graph.has_input(&name) {
				return Err(EngineError::Mismatch(format!(
					"the graph has no input {name:?}"
				)));
			}
		}
		if self.kind == manifest::Cache::Slots {
			let mut first = None;
			for (layer, value) in caches.clone() {
				let name = Self::past_name(layer, value);
				let found = graph.input_type(&name);
				match found {
					Some(element @ (DataType::Fp32 | DataType::Int8))
						if *first.get_or_insert(element) == element =>
					{
						self.element = element;
					}
					_ => {
						let found = found.map_or("no tensor", |found| found.name());
						return Err(EngineError::Mismatch(format!(
							"{name:?} is {found}: all of a cache of slots is FP32, or all is INT8"
						)));
					}
				}
			}
		}
		let fed = [
			"input_ids",
			"position_ids",
			"attention_mask",
			"use_cache_branch",
			"num_logits_to_keep",
		];
		let past: Vec<_> = caches.clone().map(|(l, v)| Self::past_name(l, v)).collect();
		graph.only_needs(|name| fed.contains(&name) || past.iter().any(|p| p == name))?;
		let present = caches.map(|(l, v)| Self::present_name(l, v));
		for name in std::iter::once("logits".to_owned()).chain(present) {
			if !graph.has_output(&name) {
				return Err(EngineError::Mismatch(format!(
					"the graph has no output {name:?}"
				)));
			}
		}
		Ok(())
	}

	/// Whether texts can share a cache, and with it a run of the graph. In the other layout every text would have to be as long
	/// as the longest.
	pub(crate) fn shares(&self, graph: &Graph) -> bool {
		self.kind == manifest::Cache::Slots && graph.on_cpu()
	}

	/// Bytes that a cache for so many tokens takes, of one row.
	pub(crate) fn bytes(&self, tokens: usize) -> usize {
		let number = match self.element {
			DataType::Int8 => size_of::<i8>(),
			_ => size_of::<f32>(),
		};
		self.layers * 2 * self.kv_heads * self.head_dim * slots(tokens) * number
	}

	/// Most slots of a row of a text of so many tokens.
	pub(crate) fn most_slots(tokens: usize) -> usize {
		slots(tokens + 1)
	}

	fn lines(&self, i: usize) -> Lines {
		if i % 2 == 1 {
			Lines {
				count: self.kv_heads,
				width: self.head_dim,
			}
		} else {
			Lines {
				count: self.kv_heads * self.head_dim,
				width: 1,
			}
		}
	}

	fn shape(&self, i: usize, rows: usize, capacity: usize) -> [usize; 4] {
		match (&self.kind, i % 2) {
			(manifest::Cache::Slots, 0) => [rows, self.kv_heads, self.head_dim, capacity],
			_ => [rows, self.kv_heads, capacity, self.head_dim],
		}
	}

	/// A cache of one row that has seen nothing, with room for so many tokens.
	pub(crate) fn empty(&self, graph: &Graph, tokens: usize) -> Result<Cache, EngineError> {
		let capacity = match self.kind {
			manifest::Cache::Slots => slots(tokens),
			manifest::Cache::Growing => 0,
		};
		let mut values = Vec::with_capacity(self.layers * 2);
		for i in 0..self.layers * 2 {
			let shape = self.shape(i, 1, capacity);
			let n = shape.iter().product();
			values.push(match (graph.input_type(&Self::names(i).0), &self.kind) {
				(Some(DataType::Fp32), _) => tensor::zeros::<f32>(&shape)?,
				(Some(DataType::Int8), manifest::Cache::Slots) => tensor::zeros::<i8>(&shape)?,
				(Some(DataType::Fp16), _) => tensor::from_vec(&shape, vec![f16::ZERO; n])?,
				(Some(DataType::Bf16), _) => tensor::from_vec(&shape, vec![bf16::ZERO; n])?,
				(other, _) => {
					return Err(EngineError::Mismatch(format!(
						"the cache of layer {} is {other:?}, not floats",
						i / 2
					)))
				}
			});
		}
		Ok(Cache {
			binding: None,
			values,
			lengths: vec![0],
			rows: 1,
			capacity,
		})
	}

	/// Moves the rows in use to memory for so many rows and slots. What they hold does not change, nor does any result.
	fn resize(&self, cache: &mut Cache, rows: usize, capacity: usize) -> Result<(), EngineError> {
		cache.binding = None;
		for (i, value) in cache.values.iter_mut().enumerate() {
			let shape = self.shape(i, rows, capacity);
			let mut other = of_element!(self.element, zeros(&shape))?;
			for (row, length) in cache.lengths.iter().enumerate() {
				let place = (row, cache.capacity, row, capacity);
				let (lines, slots) = (self.lines(i), 0..*length);
				of_element!(self.element, copy(lines, value, &mut other, place, slots))?;
			}
			*value = other;
		}
		(cache.rows, cache.capacity) = (rows, capacity);
		Ok(())
	}

	/// Adds the only row of another cache as the last. Both are of a layout that shares.
	pub(crate) fn join(&self, cache: &mut Cache, other: Cache) -> Result<(), EngineError> {
		let (row, length) = (cache.lengths.len(), other.lengths[0]);
		let capacity = cache.capacity.max(slots(length + 1));
		let rows = cache.rows.max((row + 1).next_power_of_two());
		if (rows, capacity) != (cache.rows, cache.capacity) {
			self.resize(cache, rows, capacity)?;
		}
		for (i, (to, from)) in cache.values.iter_mut().zip(&other.values).enumerate() {
			let place = (0, other.capacity, row, capacity);
			of_element!(
				self.element,
				copy(self.lines(i), from, to, place, 0..length)
			)?;
		}
		cache.binding = None;
		cache.lengths.push(length);
		Ok(())
	}

	/// Gives the only row of a cache what a row of another has of a text that begins with the same tokens, up to so many of them.
	/// Both are of a layout that shares. What it has already it keeps.
	pub(crate) fn lend(
		&self,
		from: &Cache,
		row: usize,
		to: &mut Cache,
		tokens: usize,
	) -> Result<(), EngineError> {
		let tokens = tokens.min(from.lengths[row]);
		let first = to.lengths[0];
		if tokens <= first {
			return Ok(());
		}
		if tokens > to.capacity {
			self.resize(to, to.rows, slots(tokens))?;
		}
		for (i, (source, target)) in from.values.iter().zip(&mut to.values).enumerate() {
			let place = (row, from.capacity, 0, to.capacity);
			let (lines, slots) = (self.lines(i), first..tokens);
			of_element!(self.element, copy(lines, source, target, place, slots))?;
		}
		to.lengths[0] = tokens;
		Ok(())
	}

	/// A row of a cache, of a layout that shares, as a cache of its own.
	pub(crate) fn single(
		&self,
		graph: &Graph,
		cache: &Cache,
		row: usize,
	) -> Result<Cache, EngineError> {
		let length = cache.lengths[row];
		let mut single = self.empty(graph, length)?;
		self.lend(cache, row, &mut single, length)?;
		Ok(single)
	}

	/// Removes a row; the last takes its place. At least one other is in use.
	pub(crate) fn leave(&self, cache: &mut Cache, row: usize) -> Result<(), EngineError> {
		let last = cache.lengths.len() - 1;
		if row != last {
			for (i, value) in cache.values.iter_mut().enumerate() {
				let (lines, slots) = (self.lines(i), cache.lengths[last]);
				let place = (last, row, cache.capacity);
				of_element!(self.element, move_row(lines, value, place, slots))?;
			}
		}
		cache.binding = None;
		cache.lengths.swap_remove(row);
		// Every row pays for the slots of the longest, so a long one that left is not paid for much longer.
		let needed = slots(cache.longest() + 1);
		if needed * 2 <= cache.capacity {
			self.resize(cache, last.next_power_of_two(), needed)?;
		}
		Ok(())
	}

	/// Feeds the next tokens, as many for each row, row after row. Hands a row of logits for each token to `see`, in this order.
	pub(crate) fn run<R>(
		&self,
		graph: &Graph,
		cache: &mut Cache,
		tokens: &[u32],
		see: impl FnOnce(&[f32]) -> R,
	) -> Result<R, EngineError> {
		let n = tokens.len() / cache.lengths.len();
		let of_row = |first: &usize| *first..first + n;
		let positions: Vec<_> = cache.lengths.iter().flat_map(of_row).collect();
		self.run_at(graph, cache, tokens, &positions, see)
	}

	/// [`Self::run`], with the position of each token; they rise in a row. In a layout that shares, a position may be one that the
	/// row has: its slots are then written again, with the same bits where the graph is exact. All that are below must be there.
	pub(crate) fn run_at<R>(
		&self,
		graph: &Graph,
		cache: &mut Cache,
		tokens: &[u32],
		positions: &[usize],
		see: impl FnOnce(&[f32]) -> R,
	) -> Result<R, EngineError> {
		let rows = cache.lengths.len();
		let n = tokens.len() / rows;
		let end = |row: usize| positions[(row + 1) * n - 1] + 1;
		let needed = (0..rows).map(end).fold(cache.longest(), usize::max);
		if let Some(tables) = self.tables {
			tables.check(tokens, needed)?;
		}
		if self.kind == manifest::Cache::Slots && needed > cache.capacity {
			self.resize(cache, cache.rows, slots(needed))?;
		}
		let tokens = tokens.iter().map(|t| i64::from(*t)).collect();
		let positions = positions.iter().map(|p| *p as i64).collect();
		let mut inputs = Vec::new();
		for (name, shape, values) in [
			("input_ids", [rows, n], tokens),
			("position_ids", [rows, n], positions),
			("attention_mask", [rows, needed], vec![1; rows * needed]),
		] {
			if graph.has_input(name) {
				inputs.push((name, graph.integers(name, &shape, values)?.value()?));
			}
		}
		// Exports of two graphs in one: whether there is a past. Others: of how many tokens logits are wanted, zero for all.
		if graph.has_input("use_cache_branch") {
			let past = vec![cache.longest() > 0];
			inputs.push(("use_cache_branch", tensor::from_vec(&[1], past)?));
		}
		if graph.has_input("num_logits_to_keep") {
			let all = graph.integers("num_logits_to_keep", &[], vec![0])?;
			inputs.push(("num_logits_to_keep", all.value()?));
		}
		let take = |outputs: &SessionOutputs<'_>| {
			let logits = outputs
				.get("logits")
				.ok_or_else(|| EngineError::Mismatch("the graph gave no logits".into()))?;
			tensor::with_floats(logits, |shape, logits| {
				if shape == [rows as i64, n as i64, self.vocabulary as i64] {
					return Ok(see(logits));
				}
				Err(EngineError::Mismatch(format!(
					"logits are {shape:?}, not [{rows}, {n}, {}]",
					self.vocabulary
				)))
			})?
		};
		let seen = if self.shares(graph) {
			self.run_in_place(graph, cache, inputs, take)?
		} else {
			self.run_alone(graph, cache, inputs, take)?
		};
		for (row, length) in cache.lengths.iter_mut().enumerate() {
			*length = (*length).max(end(row));
		}
		Ok(seen)
	}

	/// What a cache of one row holds, by the names of the graph's inputs.
	pub(crate) fn past(&self, cache: &Cache) -> Result<Vec<(String, Raw)>, EngineError> {
		let named = |(i, value)| Ok((Self::names(i).0, Raw::of(value)?));
		cache.values.iter().enumerate().map(named).collect()
	}

	/// [`Self::run`] that gives the logits.
	#[cfg(test)]
	pub(crate) fn step(
		&self,
		graph: &Graph,
		cache: &mut Cache,
		tokens: &[u32],
	) -> Result<Vec<f32>, EngineError> {
		self.run(graph, cache, tokens, <[f32]>::to_vec)
	}

	/// Runs the graph on the cache's own memory.
	fn run_in_place<R>(
		&self,
		graph: &Graph,
		cache: &mut Cache,
		inputs: Vec<(&'static str, DynValue)>,
		take: impl FnOnce(&SessionOutputs<'_>) -> Result<R, EngineError>,
	) -> Result<R, EngineError> {
		let rows = cache.lengths.len();
		let binding = match &mut cache.binding {
			Some(binding) => binding,
			none => {
				let mut binding = graph.binding()?;
				for (i, value) in cache.values.iter_mut().enumerate() {
					let (names, shape) = (Self::names(i), self.shape(i, rows, cache.capacity));
					// SAFETY: the memory is the cache's. It drops the binding before it moves or frees any of it, and nobody else
					// reads or writes it while the graph runs.
					unsafe { of_element!(self.element, bind(&mut binding, names, value, &shape))? };
				}
				none.insert(binding)
			}
		};
		for (name, value) in &inputs {
			binding.bind_input(*name, value)?;
		}
		// Bound anew for each run: its length differs.
		binding.bind_output_to_device("logits", &MemoryInfo::default())?;
		graph.run_bound(binding, |outputs| take(&outputs))
	}

	/// Runs the graph, which gives the next cache. A growing one stays on the device where the graph runs.
	fn run_alone<R>(
		&self,
		graph: &Graph,
		cache: &mut Cache,
		inputs: Vec<(&'static str, DynValue)>,
		take: impl FnOnce(&SessionOutputs<'_>) -> Result<R, EngineError>,
	) -> Result<R, EngineError> {
		let memory = match self.kind {
			manifest::Cache::Growing => graph.memory()?,
			// Slots are moved by the CPU when there are too few.
			manifest::Cache::Slots => MemoryInfo::default(),
		};
		let mut binding = graph.binding()?;
		for (name, value) in &inputs {
			binding.bind_input(*name, value)?;
		}
		for (i, value) in cache.values.iter().enumerate() {
			let (past, present) = Self::names(i);
			// SAFETY: the cache changes only when the binding has been run and is gone.
			unsafe { bind_shared(&mut binding, &past, value)? };
			binding.bind_output_to_device(present, &memory)?;
		}
		binding.bind_output_to_device("logits", &MemoryInfo::default())?;
		let (taken, values) = graph.run_bound(&binding, |mut outputs| {
			let taken = take(&outputs)?;
			let values = (0..self.layers * 2)
				.map(|i| {
					let name = Self::names(i).1;
					outputs
						.remove(&name)
						.ok_or_else(|| EngineError::Mismatch(format!("the graph gave no {name:?}")))
				})
				.collect::<Result<_, _>>()?;
			Ok((taken, values))
		})?;
		drop(binding);
		cache.values = values;
		Ok(taken)
	}
}

impl Cache {
	/// Tokens seen, for each row.
	pub(crate) fn lengths(&self) -> &[usize] {
		&self.lengths
	}

	/// Slots that there is memory for, of all rows together.
	pub(crate) fn slots(&self) -> usize {
		self.rows * self.capacity
	}

	/// Tokens that the longest row has seen.
	fn longest(&self) -> usize {
		self.lengths.iter().copied().max().unwrap_or_default()
	}
}

/// Slots for so many tokens: whole blocks.
fn slots(tokens: usize) -> usize {
	tokens.div_ceil(BLOCK).max(1) * BLOCK
}

/// [`tensor::zeros`], where [`of_element`] sees it.
fn zeros<T: Number>(shape: &[usize]) -> Result<DynValue, EngineError> {
	tensor::zeros::<T>(shape)
}

/// Copies slots of a row. The place is row and capacity where they are, then row and capacity where they go.
fn copy<T: Number>(
	lines: Lines,
	from: &DynValue,
	to: &mut DynValue,
	(row, capacity, to_row, to_capacity): (usize, usize, usize, usize),
	slots: Range<usize>,
) -> Result<(), EngineError> {
	let (_, from) = from.try_extract_tensor::<T>()?;
	let (_, to) = to.try_extract_tensor_mut::<T>()?;
	let (skipped, n) = (slots.start * lines.width, slots.len() * lines.width);
	for line in 0..lines.count {
		let (a, b) = (
			lines.start(row, line, capacity) + skipped,
			lines.start(to_row, line, to_capacity) + skipped,
		);
		to[b..b + n].copy_from_slice(&from[a..a + n]);
	}
	Ok(())
}

/// Copies the first slots of a row over those of another. The place is the row where they are, the one where they go, and capacity.
fn move_row<T: Number>(
	lines: Lines,
	value: &mut DynValue,
	(from, to, capacity): (usize, usize, usize),
	slots: usize,
) -> Result<(), EngineError> {
	let (_, data) = value.try_extract_tensor_mut::<T>()?;
	for line in 0..lines.count {
		let first = lines.start(from, line, capacity);
		let to = lines.start(to, line, capacity);
		data.copy_within(first..first + slots * lines.width, to);
	}
	Ok(())
}

/// Binds the first rows of a value as past and as present.
///
/// # Safety
/// The value's memory must be there, and belong to nobody else, whenever the binding is run.
unsafe fn bind<T: Number>(
	binding: &mut IoBinding,
	(past, present): (String, String),
	value: &mut DynValue,
	shape: &[usize],
) -> Result<(), EngineError> {
	let of_rows = tensor::first_rows::<T>(value, shape)?;
	// SAFETY: the caller's promise.
	unsafe { bind_borrowed(binding, &past, &of_rows)? };
	Ok(binding.bind_output(present, of_rows)?)
}
