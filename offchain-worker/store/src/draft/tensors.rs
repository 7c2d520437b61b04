//! A reference input for a graph of tensors: one that the graph takes.
//!
//! A graph often leaves sizes open. They are what a person gives, or guesses: sizes that are common for what the input looks like,
//! tried until the graph takes one. Values follow names where these say what is meant.

use consilience_primitives::tensor::{DataType, NamedSpec, Tensor, MAX_DATA};
use serde_json::json;

use super::{Inspected, Wishes};
use crate::open_inference::{to_tensor, JsonTensor};

/// Most guesses that are tried.
const TRIES: usize = 40;
/// Common heights and widths of images that fit a request.
const IMAGES: [u32; 9] = [224, 64, 32, 48, 128, 96, 72, 16, 112];
/// Common lengths: windows of speech models, frames, features.
const LENGTHS: [u32; 18] = [
	512, 576, 256, 160, 400, 1_024, 1_536, 4_000, 8_000, 16_000, 80, 64, 128, 100, 32, 16, 8, 4,
];
/// Common lengths of texts as tokens.
const TOKENS: [u32; 8] = [8, 16, 4, 32, 2, 64, 128, 256];
/// What a rate of samples is, unless something else is said.
const RATE: u32 = 16_000;
/// Bytes of an error that are quoted.
const QUOTED: usize = 400;

/// Which sizes an axis may have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Axis {
	/// The graph says.
	Fixed(u32),
	/// So many inputs together: one.
	Batch,
	/// An image's height or width.
	Space,
	/// An image's colours.
	Colours,
	/// A length.
	Length,
	/// One that is not the input's last: a layer, a state's batch.
	Inner,
}

/// What an input looks like.
fn axes(spec: &NamedSpec, symbols: &[String]) -> Vec<Axis> {
	let rank = spec.shape.len();
	let few = |d: Option<u32>| matches!(d, None | Some(1 | 3 | 4));
	let dense = !matches!(
		spec.datatype,
		DataType::Int64 | DataType::Int32 | DataType::Bool | DataType::Bytes
	);
	let first = rank == 4 && dense && few(spec.shape[1]);
	let last = rank == 4 && dense && !first && few(spec.shape[3]);
	let axis = |(i, size): (usize, &Option<u32>)| {
		let symbol = symbols.get(i).map(|s| s.to_lowercase()).unwrap_or_default();
		match size {
			Some(n) => Axis::Fixed(*n),
			None if ["batch", "batch_size", "bs", "b", "n"].contains(&symbol.as_str()) => {
				Axis::Batch
			}
			None if i == 0 && rank > 1 => Axis::Batch,
			None if first && i == 1 || last && i == 3 => Axis::Colours,
			None if first || last => Axis::Space,
			None if i + 1 == rank => Axis::Length,
			None if rank == 3
				&& spec.shape[rank - 1].is_some_and(|n| n >= 40)
				&& symbol.is_empty() =>
			{
				Axis::Inner
			}
			None => Axis::Length,
		}
	};
	spec.shape.iter().enumerate().map(axis).collect()
}

/// Sizes for the axes that are open.
#[derive(Clone, Copy, Debug)]
struct Guess {
	space: u32,
	colours: u32,
	length: u32,
	inner: u32,
}

impl Guess {
	const ONES: Self = Self {
		space: 1,
		colours: 1,
		length: 1,
		inner: 1,
	};

	fn size(&self, axis: Axis) -> u32 {
		match axis {
			Axis::Fixed(n) => n,
			Axis::Batch => 1,
			Axis::Space => self.space,
			Axis::Colours => self.colours,
			Axis::Length => self.length,
			Axis::Inner => self.inner,
		}
	}
}

/// Guesses in the order in which they are tried.
fn guesses(inputs: &[(&NamedSpec, Vec<Axis>)]) -> Vec<Guess> {
	let open = |axis: Axis| inputs.iter().any(|(_, axes)| axes.contains(&axis));
	let ints = |spec: &NamedSpec| matches!(spec.datatype, DataType::Int64 | DataType::Int32);
	let mut lengths: Vec<u32> = match inputs
		.iter()
		.any(|(s, a)| !ints(s) && a.contains(&Axis::Length))
	{
		true => LENGTHS.into(),
		false => TOKENS.into(),
	};
	lengths.insert(0, 1);
	let colours: &[u32] = if open(Axis::Colours) { &[3, 1] } else { &[1] };
	let spaces: Vec<u32> = if open(Axis::Space) {
		IMAGES.into_iter().chain([1]).collect()
	} else {
		vec![1]
	};
	if !open(Axis::Length) {
		lengths.truncate(1);
	}
	let mut all = Vec::new();
	for length in lengths {
		for &colours in colours {
			for &space in &spaces {
				all.push(Guess {
					space,
					colours,
					length,
					..Guess::ONES
				});
			}
		}
	}
	if open(Axis::Inner) {
		let more: Vec<_> = all
			.iter()
			.filter(|g| g.length > 1)
			.map(|g| Guess {
				inner: g.length,
				..*g
			})
			.collect();
		all.extend(more);
	}
	all.truncate(TRIES);
	all
}

/// The shape that a person gave for an input, or why it cannot be.
fn given(spec: &NamedSpec, wishes: &Wishes) -> Result<Option<Vec<u32>>, String> {
	let Some((_, shape)) = wishes.shapes.iter().find(|(name, _)| *name == spec.name) else {
		return Ok(None);
	};
	let fits = shape.len() == spec.shape.len()
		&& shape
			.iter()
			.zip(&spec.shape)
			.all(|(n, known)| known.is_none_or(|k| k == *n));
	if !fits {
		return Err(format!(
			"--shape {}={}: the graph takes {}",
			spec.name,
			list(shape),
			shown(spec)
		));
	}
	Ok(Some(shape.clone()))
}

fn list(shape: &[u32]) -> String {
	let sizes: Vec<_> = shape.iter().map(u32::to_string).collect();
	sizes.join(",")
}

/// An input's shape as people write it, open sizes as question marks.
fn shown(spec: &NamedSpec) -> String {
	let sizes = spec
		.shape
		.iter()
		.map(|d| d.map_or("?".into(), |n| n.to_string()));
	format!(
		"{}[{}]",
		spec.name,
		sizes.collect::<Vec<String>>().join(",")
	)
}

/// Refuses a tensor of more than so many bytes, which no request or answer can carry.
pub(super) fn fits(spec: &NamedSpec, shape: &[u32], most: u32) -> Result<(), String> {
	let elements = shape
		.iter()
		.map(|n| u64::from(*n))
		.fold(1, u64::saturating_mul);
	// A string has its length before it.
	let bits = spec.datatype.bits().unwrap_or(40);
	if elements > u64::from(most) * 8 / bits {
		return Err(format!(
			"{}: {elements} elements of {} are more than the {most} bytes that the chain carries of one",
			spec.name,
			spec.datatype.name(),
		));
	}
	Ok(())
}

/// A tensor of this shape whose values mean something where its name says what: masks let everything through, lengths are those of
/// the guess. Otherwise floats between -1 and 1, integers 0 and 1, which are entries of every table.
fn filled(spec: &NamedSpec, shape: Vec<u32>, longest: u32) -> JsonTensor {
	let name = spec.name.to_lowercase();
	let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
	let float = matches!(
		spec.datatype,
		DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64
	);
	let word = |words: &[&str]| name.split(['_', '.', ':', '/']).any(|w| words.contains(&w));
	let value = |i: u64| match spec.datatype {
		DataType::Bool if has(&["mask"]) => json!(true),
		DataType::Bool => json!(i % 2 == 1),
		DataType::Bytes => json!("consilience"),
		_ if word(&["sr", "rate"]) || has(&["samplerate"]) => json!(RATE),
		_ if has(&["mask"]) => json!(1),
		_ if has(&["scale"]) && float => json!(1.0),
		_ if word(&["length", "lengths", "len", "lens", "size", "sizes"]) => json!(longest),
		// Eight bits: exact in every one of these types.
		_ if float => json!((i * 37 % 256) as f64 / 128.0 - 1.0),
		_ => json!(i % 2),
	};
	let count = shape
		.iter()
		.map(|n| u64::from(*n))
		.fold(1, u64::saturating_mul);
	JsonTensor {
		name: spec.name.clone(),
		datatype: spec.datatype,
		data: (0..count).map(value).collect(),
		shape,
	}
}

/// What is wrong with an output, if something is.
fn wrong_output(outputs: &[Tensor]) -> Option<String> {
	let output = outputs.iter().find(|t| crate::import::not_finite(t))?;
	let name = String::from_utf8_lossy(&output.name);
	Some(format!("its output {name:?} holds NaN or infinity"))
}

fn quoted(why: &str) -> String {
	why.chars().take(QUOTED).collect()
}

/// A reference input that the graph takes. `run` runs the graph.
pub(super) fn reference(
	inspected: &Inspected,
	wishes: &Wishes,
	run: impl Fn(&[Tensor<MAX_DATA>]) -> Result<Vec<Tensor>, String>,
) -> Result<Vec<JsonTensor>, String> {
	let inputs = &inspected.signature.inputs;
	if let Some((name, _)) = wishes
		.shapes
		.iter()
		.find(|(name, _)| !inputs.iter().any(|i| i.name == *name))
	{
		let names: Vec<_> = inputs.iter().map(shown).collect();
		return Err(format!(
			"--shape {name}: the graph takes {}",
			names.join(", ")
		));
	}
	let answer = |tensors: &[JsonTensor]| {
		let wire = tensors
			.iter()
			.map(to_tensor)
			.collect::<Result<Vec<_>, _>>()?;
		match wrong_output(&run(&wire)?) {
			Some(wrong) => Err(wrong),
			None => Ok(()),
		}
	};
	if let Some(tensors) = &wishes.reference {
		return match answer(tensors) {
			Ok(()) => Ok(tensors.clone()),
			Err(why) => Err(format!(
				"the graph does not take the reference that was given: {}",
				quoted(&why)
			)),
		};
	}
	let mut looks = Vec::new();
	for (i, spec) in inputs.iter().enumerate() {
		let axes = match given(spec, wishes)? {
			Some(shape) => {
				fits(spec, &shape, MAX_DATA)?;
				shape.into_iter().map(Axis::Fixed).collect()
			}
			None => axes(spec, inspected.symbols.get(i).map_or(&[], |s| s)),
		};
		looks.push((spec, axes));
	}
	let guesses = guesses(&looks);
	let guessed = looks.iter().any(|(_, axes)| {
		axes.iter()
			.any(|a| !matches!(a, Axis::Fixed(_) | Axis::Batch))
	});
	let mut last = None;
	let mut tried = 0;
	for guess in guesses {
		let shapes: Vec<Vec<u32>> = looks
			.iter()
			.map(|(_, axes)| axes.iter().map(|a| guess.size(*a)).collect())
			.collect();
		if let Some(why) = looks
			.iter()
			.zip(&shapes)
			.find_map(|((spec, _), shape)| fits(spec, shape, MAX_DATA).err())
		{
			last.get_or_insert((String::new(), why));
			continue;
		}
		let main = shapes
			.iter()
			.max_by_key(|s| s.iter().map(|n| u64::from(*n)).product::<u64>());
		let longest = main
			.and_then(|s| s.iter().skip(1).max().or(s.first()))
			.copied()
			.unwrap_or(1);
		let tensors: Vec<_> = looks
			.iter()
			.zip(shapes)
			.map(|((spec, _), shape)| filled(spec, shape, longest))
			.collect();
		tried += 1;
		match answer(&tensors) {
			Ok(()) => return Ok(tensors),
			Err(why) => {
				let named: Vec<_> = tensors
					.iter()
					.map(|t| format!("{}={}", t.name, list(&t.shape)))
					.collect();
				last = Some((named.join(" "), why));
			}
		}
	}
	let (shapes, why) = last.unwrap_or_default();
	let open: Vec<_> = inputs
		.iter()
		.filter(|i| i.shape.iter().any(Option::is_none))
		.map(shown)
		.collect();
	Err(if guessed && tried > 0 {
		format!(
			"no reference input was found: sizes that the graph leaves open were guessed, and it took none of {tried} guesses, the \
			 last of them {shapes}: {}. It takes {}: say what it is made for, as in --shape {}=1,3,320,320, or give a whole input \
			 with --reference FILE",
			quoted(&why),
			open.join(", "),
			open.first().and_then(|o| o.split('[').next()).unwrap_or("NAME"),
		)
	} else if tried == 0 {
		why
	} else {
		format!(
			"no reference input was found: its values were guessed, and the graph does not take {shapes}: {}. Give an input that \
			 it takes with --reference FILE (Open Inference Protocol JSON)",
			quoted(&why)
		)
	})
}
