//! Models of tensors and text encoders: sessions, and batches of copies.

use std::path::Path;

use codec::Encode;
use consilience_primitives::{
	manifest::{Manifest, TaskDetails},
	request::FullInput,
	tensor::DataType,
};
use polkadot_sdk::sp_crypto_hashing::blake2_256;

use super::{
	reference::{distance, Differences},
	trace::{number, Axis},
	Cause, Measurement, Outcome, Setting, LOAD,
};
use crate::{
	engine::{embedder, reference_input},
	session::Graph,
	tensor::Raw,
	EngineError,
};

/// Inputs of a graph by name, or outputs.
type Named = Vec<(String, Raw)>;

/// Inputs beside the manifest's reference input.
const OTHERS: usize = 2;
/// Copies in a batch.
const BATCHES: [usize; 2] = [2, 5];

/// Texts that are embedded beside the reference.
const TEXTS: [&str; OTHERS] = [
	"Tides rise and fall twice a day because the Moon pulls at the ocean.",
	"Drei Flüsse in Österreich: Donau, Mur und Inn; 日本語も少し。 The violin, the printing press and the offside rule have little \
	 in common, and yet people have argued about each of them for as long as anybody remembers.",
];

/// What a graph is fed: the manifest's reference input, and others like it.
fn inputs(folder: &Path, manifest: &Manifest, graph: &Graph) -> Result<Vec<Named>, EngineError> {
	match reference_input(manifest)? {
		FullInput::Embedding(text) => {
			let model = embedder(folder, &manifest.task)?;
			let reference = String::from_utf8_lossy(&text).into_owned();
			std::iter::once(&reference[..])
				.chain(TEXTS)
				.map(|text| model.inputs(graph, text))
				.collect()
		}
		FullInput::Tensor(tensors) => {
			let reference: Named = tensors
				.iter()
				.map(|t| {
					let raw = Raw {
						datatype: t.datatype,
						shape: t.shape.iter().map(|d| *d as usize).collect(),
						data: t.data.to_vec(),
					};
					(String::from_utf8_lossy(&t.name).into_owned(), raw)
				})
				.collect();
			let turned = |n: usize| {
				let turn = |(name, raw): &(String, Raw)| (name.clone(), turned(raw, n));
				reference.iter().map(turn).collect()
			};
			let others = (1..=OTHERS).map(turned);
			Ok(std::iter::once(reference.clone()).chain(others).collect())
		}
		FullInput::TextGeneration { .. } | FullInput::ConstrainedText { .. } => Err(
			EngineError::Mismatch("the reference input is text to be continued".into()),
		),
	}
}

/// The same elements, each further on: what values a model takes, only its reference input says.
fn turned(raw: &Raw, n: usize) -> Raw {
	let mut turned = raw.clone();
	if let Some(size) = raw.datatype.bits().filter(|b| b % 8 == 0) {
		let (size, bytes) = ((size / 8) as usize, raw.data.len());
		let elements = bytes / size;
		if elements > 1 {
			turned.data.rotate_right(elements * n / (OTHERS + 1) * size);
		}
	}
	turned
}

fn run_graph(
	graph: &Graph,
	inputs: &[(String, Raw)],
	wanted: &[String],
) -> Result<Named, EngineError> {
	let inputs = inputs
		.iter()
		.map(|(name, raw)| Ok((name.clone(), raw.value()?.into())))
		.collect::<Result<_, EngineError>>()?;
	graph.run(inputs, |outputs| {
		wanted
			.iter()
			.map(|name| {
				let value = outputs.get(name).ok_or_else(|| {
					EngineError::Mismatch(format!("the graph has no output {name:?}"))
				})?;
				Ok((name.clone(), Raw::of(value)?))
			})
			.collect()
	})
}

/// Elements of all outputs.
fn elements(outputs: &Named) -> usize {
	let of = |(_, raw): &(String, Raw)| raw.shape.iter().product::<usize>();
	outputs.iter().map(of).sum()
}

impl Differences {
	/// Takes outputs of one input.
	fn see(&mut self, text: usize, expected: &Named, found: &Named) {
		let mut before = 0;
		for ((_, a), (_, b)) in expected.iter().zip(found) {
			let elements = a.shape.iter().product::<usize>();
			let mut note = |position, distance: f64| {
				self.first = self.first.or(Some((text, position)));
				self.differing += 1;
				self.largest = self.largest.max(distance);
			};
			let size = a.datatype.bits().filter(|b| b % 8 == 0);
			match size.map(|bits| (bits / 8) as usize) {
				_ if a == b => (),
				Some(size) if a.shape == b.shape => {
					let pairs = a.data.chunks_exact(size).zip(b.data.chunks_exact(size));
					for (i, (x, y)) in pairs.enumerate().filter(|(_, (x, y))| x != y) {
						let d = distance(number(a.datatype, x), number(a.datatype, y));
						note(before + i, d);
					}
				}
				_ => note(before, f64::INFINITY),
			}
			before += elements;
		}
	}
}

/// So many copies of inputs along their first dimension, if they have one and no element is smaller than a byte.
fn copies(inputs: &Named, count: usize) -> Option<Named> {
	inputs
		.iter()
		.map(|(name, raw)| {
			let whole = raw.datatype == DataType::Bytes || raw.datatype.bits()? % 8 == 0;
			let mut shape = raw.shape.clone();
			*shape.first_mut()? *= count;
			whole.then(|| {
				let raw = Raw {
					datatype: raw.datatype,
					shape,
					data: raw.data.repeat(count),
				};
				(name.clone(), raw)
			})
		})
		.collect()
}

/// One copy's part of a batch's outputs, by their first dimension. An output that does not grow with the batch is for all.
fn part(outputs: &Named, alone: &Named, count: usize, copy: usize) -> Named {
	outputs
		.iter()
		.zip(alone)
		.map(|((name, raw), (_, alone))| {
			let grown = match (alone.shape.first(), raw.shape.first()) {
				(Some(a), Some(b)) => a * count == *b && alone.shape[1..] == raw.shape[1..],
				_ => false,
			};
			let raw = match grown.then(|| raw.data.len() / count) {
				Some(bytes) => Raw {
					datatype: raw.datatype,
					shape: alone.shape.clone(),
					data: raw.data[copy * bytes..(copy + 1) * bytes].to_vec(),
				},
				None => raw.clone(),
			};
			(name.clone(), raw)
		})
		.collect()
}

/// Runs every way. Gives the reference's digest and the elements of each input's outputs.
pub(super) fn run(
	m: &mut Measurement<'_>,
	folder: &Path,
	manifest: &Manifest,
) -> Result<(String, Vec<usize>), EngineError> {
	let wanted: Vec<String> = match &manifest.task {
		TaskDetails::Tensor { outputs, .. } => outputs.iter().map(|o| o.name.clone()).collect(),
		TaskDetails::Embedding { output, .. } => vec![output.clone()],
		TaskDetails::TextGeneration { .. } => Vec::new(),
	};
	let settings = m.settings.clone();
	m.total = settings.len() as u64 * (LOAD + 30) + 100;
	let base = &settings[0];
	let graph = m.load(base)?;
	let mut all = Vec::new();
	let mut expected: Vec<Named> = Vec::new();
	for (n, inputs) in inputs(folder, manifest, &graph)?.into_iter().enumerate() {
		match run_graph(&graph, &inputs, &wanted) {
			Ok(outputs) => {
				all.push(inputs);
				expected.push(outputs);
			}
			// The reference has to run; what was made from it may be nonsense to the model.
			Err(e) if n == 0 => return Err(e),
			Err(_) => (),
		}
		m.at("the reference", 10);
	}
	let texts: Vec<usize> = expected.iter().map(elements).collect();
	let digest = {
		let data: Vec<_> = expected
			.iter()
			.flatten()
			.map(|(name, raw)| (name, &raw.data))
			.collect();
		hex::encode(&blake2_256(&data.encode())[..16])
	};

	batches(m, base, &graph, &all, &expected, &wanted);
	drop(graph);
	for setting in &settings[1..] {
		let cause = setting.cause(base).unwrap_or(Cause::Threads);
		let way = format!("{}: alone", setting.name());
		let positions = texts.iter().sum();
		if m.late() {
			let why = "there was no time left".into();
			m.note((setting, "alone"), cause, 0, Outcome::Skipped { why });
			continue;
		}
		let mut differences = Differences::default();
		let mut ran = || -> Result<(), EngineError> {
			let graph = m.load(setting)?;
			for (n, inputs) in all.iter().enumerate() {
				let found = run_graph(&graph, inputs, &wanted)?;
				differences.see(n, &expected[n], &found);
				m.at(&way, 10);
			}
			Ok(())
		};
		let outcome = match ran() {
			Ok(()) => differences.outcome(),
			Err(e) => Outcome::Skipped { why: e.to_string() },
		};
		let first = match &outcome {
			Outcome::Differs(d) => Some(d.text),
			_ => None,
		};
		m.note((setting, "alone"), cause, positions, outcome);
		if let Some(n) = first.filter(|_| m.looks_for(cause)) {
			let found = m.between((base, &all[n]), (setting, &all[n]), None, cause);
			m.blame(&way, cause, found);
		}
	}
	Ok((digest, texts))
}

/// Several copies of each input at once, in the reference's session.
fn batches(
	m: &mut Measurement<'_>,
	base: &Setting,
	graph: &Graph,
	all: &[Named],
	expected: &[Named],
	wanted: &[String],
) {
	let open = graph.info().is_ok_and(|info| {
		info.inputs
			.iter()
			.all(|i| i.shape.first().is_some_and(Option::is_none))
	});
	for count in BATCHES {
		let name = format!("batch of {count} copies");
		let way = format!("{}: {name}", base.name());
		let mut differences = Differences::default();
		let mut positions = 0;
		let mut place = None;
		let mut ran = || -> Result<(), String> {
			if !open {
				return Err("the first dimension of its inputs is not open".into());
			}
			for (n, inputs) in all.iter().enumerate() {
				let batch = copies(inputs, count)
					.ok_or("its inputs have no dimension to stack copies in")?;
				let outputs = run_graph(graph, &batch, wanted).map_err(|e| e.to_string())?;
				for copy in 0..count {
					let of_copy = part(&outputs, &expected[n], count, copy);
					let before = differences.differing;
					differences.see(n, &expected[n], &of_copy);
					positions += elements(&of_copy);
					if differences.differing > before && place.is_none() {
						place = Some((n, copy, batch.clone()));
					}
				}
			}
			Ok(())
		};
		let outcome = match ran() {
			Ok(()) => differences.outcome(),
			Err(why) => Outcome::Inapplicable { why },
		};
		m.note((base, &name), Cause::Batch, positions, outcome);
		m.at(&way, 10);
		let Some((n, copy, batch)) = place.filter(|_| m.looks_for(Cause::Batch)) else {
			continue;
		};
		let rows = all[n].first().map_or(1, |(_, raw)| raw.shape[0]);
		let axis = Axis {
			lengths: (rows, rows * count),
			starts: (0, copy * rows),
			count: rows,
		};
		let found = m.between((base, &all[n]), (base, &batch), Some(axis), Cause::Batch);
		m.blame(&way, Cause::Batch, found);
	}
}
