//! The graphs' logits against those of Hugging Face transformers, for every architecture and every way in which positions are
//! scaled. `transformers.json` is what `scripts/models/transformers_logits.py` wrote; it names the versions.

use serde_json::Value;

use super::{
	architectures::Run,
	fixtures::{self, Shape},
};
use crate::{Canonical, Weights};

/// Both compute in single precision; transformers its positions' angles, too.
const APART: f64 = 5e-5;

#[test]
fn logits_are_those_of_transformers() {
	let published: Value = serde_json::from_str(include_str!("transformers.json")).unwrap();
	let mut failed = Vec::new();
	for case in published["cases"].as_array().unwrap() {
		let name = case["name"].as_str().unwrap();
		let mut config = published["common"].clone();
		let more = case["config"].as_object().unwrap().clone();
		config.as_object_mut().unwrap().extend(more);
		let shape = Shape::of(&config);
		let count = case["tokens"].as_u64().unwrap() as usize;
		let tokens: Vec<_> = (0..count)
			.map(|i| (5 * i * i + 3 * i + i / 19) % fixtures::VOCABULARY)
			.collect();
		let positions: Vec<usize> = serde_json::from_value(case["positions"].clone()).unwrap();
		let number = |key: &str| config[key].as_u64().map(|n| n as usize);
		// A graph of LongRoPE has one list of factors, and transformers chooses by the text's length.
		let short = number("original_max_position_embeddings").filter(|n| count <= *n);
		let context = short.or(number("max_position_embeddings"));
		let folder = tempfile::tempdir().unwrap();
		fixtures::hub(folder.path(), &config, &shape.published());
		let out = folder.path().join("out");
		let canonical = match Canonical::with_context(folder.path(), Weights::Fp32, None, context) {
			Ok(canonical) => canonical,
			Err(error) => {
				failed.push(format!("{name}: {error}"));
				continue;
			}
		};
		canonical.write(&out, &mut |_| ()).unwrap();
		let mut run = Run::with(&out, &shape, 2, count.next_multiple_of(128));
		let pieces = (0..).step_by(500).zip(tokens.chunks(500));
		let logits: Vec<_> = pieces
			.flat_map(|(first, piece)| run.step(first, piece))
			.collect();
		let expected: Vec<Vec<f64>> = serde_json::from_value(case["logits"].clone()).unwrap();
		let mut apart = 0f64;
		for (position, row) in positions.iter().zip(&expected) {
			let made = &logits[position * row.len()..][..row.len()];
			for (made, expected) in made.iter().zip(row) {
				apart = apart.max((f64::from(*made) - expected).abs());
			}
		}
		println!("{name}: {apart:.1e}");
		if apart.is_nan() || apart > APART {
			failed.push(format!("{name}: {apart:.1e}"));
		}
	}
	assert!(failed.is_empty(), "{failed:#?}");
}
