//! Pictures and sound as tensors, and scores as words, as a model's manifest says ([`Media`]).

use std::path::Path;

use consilience_primitives::{
	manifest::TaskDetails,
	media::{Labels, Media},
	request::{FullInput, Output},
	tensor::{DataType, NamedSpec, Tensor, MAX_DATA},
	List,
};

use serde_json::{json, Value};

use super::Result;

mod picture;
mod sound;

/// Most bytes of a file that is read.
const LONGEST_FILE: u64 = 64 << 20;
/// Labels that are shown.
const SHOWN: usize = 5;

/// Whether a file holds JSON, by its first byte that is no white space.
pub(super) fn is_json(path: &Path) -> Result<bool> {
	use std::io::Read;
	let mut start = [0u8; 64];
	let mut file = std::fs::File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
	let read = file
		.read(&mut start)
		.map_err(|e| format!("{}: {e}", path.display()))?;
	let start = &start[..read];
	Ok(start.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{'))
}

/// What a graph takes, and what becomes of it.
pub(super) struct Asked<'a> {
	/// The graph's inputs.
	pub(super) inputs: &'a [NamedSpec],
	/// How pictures and sound become one of them.
	pub(super) media: &'a Media,
}

impl Asked<'_> {
	/// The input that a picture or a recording is for a model.
	pub(super) fn input(&self, path: &Path) -> Result<FullInput> {
		let at = |e: String| format!("{}: {e}", path.display());
		let length = std::fs::metadata(path)
			.map_err(|e| at(e.to_string()))?
			.len();
		if length > LONGEST_FILE {
			return Err(at(format!(
				"{length} bytes are more than the {LONGEST_FILE} that are read of a picture or a recording"
			)));
		}
		let bytes = std::fs::read(path).map_err(|e| at(e.to_string()))?;
		let tensor = match (&self.media.picture, &self.media.sound) {
			(_, Some(sound)) if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WAVE") => {
				sound::tensor(&bytes, sound, self.spec(&sound.input)?).map_err(at)?
			}
			(Some(picture), _) => {
				picture::tensor(&bytes, picture, self.spec(&picture.input)?.datatype).map_err(at)?
			}
			(None, Some(_)) => return Err(at("is not a WAV file, which is what the model takes".into())),
			(None, None) => {
				return Err(at(
					"is not JSON, and the model's manifest does not say how pictures or sound become its tensors: give the tensors as \
					 Open Inference Protocol JSON"
						.into(),
				))
			}
		};
		if let Some(other) = self
			.inputs
			.iter()
			.find(|i| i.name.as_bytes() != &tensor.name[..])
		{
			return Err(format!(
				"the model also takes {:?}, which this file cannot provide: give all tensors as Open Inference Protocol JSON",
				other.name
			));
		}
		Ok(FullInput::Tensor(List::truncate_from(vec![tensor])))
	}

	fn spec(&self, name: &str) -> Result<&NamedSpec> {
		let found = self.inputs.iter().find(|i| i.name == name);
		found.ok_or_else(|| format!("the graph has no input {name:?}"))
	}
}

/// A tensor from its parts.
fn tensor(
	name: &str,
	datatype: DataType,
	shape: &[u32],
	data: Vec<u8>,
) -> Result<Tensor<MAX_DATA>> {
	let bytes = data.len();
	let long = || format!("{bytes} bytes are more than the {MAX_DATA} that a request carries");
	Ok(Tensor {
		name: List::truncate_from(name.as_bytes().to_vec()),
		datatype,
		shape: List::truncate_from(shape.to_vec()),
		data: data.try_into().map_err(|_| long())?,
	})
}

/// What an answer says in words, where the model's manifest names its scores.
pub(super) fn labels(task: &TaskDetails, output: &Output) -> Option<Vec<(String, f64)>> {
	match task {
		TaskDetails::Tensor { media, .. } => labelled(media.labels.as_ref()?, output),
		_ => None,
	}
}

/// Labels for programs.
pub(super) fn json(labels: &[(String, f64)]) -> Value {
	let one = |(label, score): &(String, f64)| json!({ "label": label, "score": score });
	labels.iter().map(one).collect()
}

/// Labels for people, one a line.
pub(super) fn people(labels: &[(String, f64)]) -> String {
	let line = |(label, score): &(String, f64)| format!("{:>7.3}  {label}", score);
	labels.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The likeliest labels and their scores, the likeliest first, where the answer holds scores.
fn labelled(labels: &Labels, output: &Output) -> Option<Vec<(String, f64)>> {
	let Output::Tensors(tensors) = output else {
		return None;
	};
	let scores = tensors
		.iter()
		.find(|t| t.name[..] == *labels.output.as_bytes() && t.datatype == DataType::Fp32)?;
	let (words, rest) = scores.data.as_chunks::<4>();
	if !rest.is_empty() || words.len() != labels.names.len() {
		return None;
	}
	let mut scores: Vec<f64> = words
		.iter()
		.map(|w| f32::from_le_bytes(*w).into())
		.collect();
	if labels.logits {
		let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
		scores.iter_mut().for_each(|s| *s = (*s - most).exp());
		let sum: f64 = scores.iter().sum();
		scores.iter_mut().for_each(|s| *s /= sum);
	}
	let mut named: Vec<_> = labels.names.iter().cloned().zip(scores).collect();
	named.sort_by(|a, b| b.1.total_cmp(&a.1));
	named.truncate(SHOWN);
	Some(named)
}

#[cfg(test)]
mod tests {
	use super::*;

	fn scores(values: &[f32]) -> Output {
		let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
		Output::Tensors(List::truncate_from(vec![Tensor {
			name: b"y".to_vec().try_into().unwrap(),
			datatype: DataType::Fp32,
			shape: vec![1, values.len() as u32].try_into().unwrap(),
			data: data.try_into().unwrap(),
		}]))
	}

	#[test]
	fn scores_become_words_the_likeliest_first() {
		let mut labels = Labels {
			output: "y".into(),
			names: ["cat", "dog", "cow"].map(String::from).into(),
			logits: false,
		};
		let of = |labels: &Labels, values: &[f32]| labelled(labels, &scores(values));
		let found = of(&labels, &[0.25, 0.5, 0.125]).unwrap();
		assert_eq!(
			found,
			[("dog", 0.5), ("cat", 0.25), ("cow", 0.125)].map(|(n, s)| (n.into(), s))
		);
		labels.logits = true;
		let found = of(&labels, &[1_000.0, 1_000.0, -1_000.0]).unwrap();
		assert_eq!((found[0].1, found[2].1), (0.5, 0.0));
		// An answer that is not what the manifest says has no words.
		assert_eq!(of(&labels, &[1.0, 2.0]), None);
		labels.output = "z".into();
		assert_eq!(of(&labels, &[1.0, 2.0, 3.0]), None);
	}
}
