//! The graphs' logits against those of Hugging Face transformers, for every architecture and every way in which positions are
//! scaled. `transformers.json` is what `scripts/models/transformers_logits.py` wrote; it names the versions.

use serde_json::Value;

use super::{
	architectures::Run,
	fixtures::{self, Shape},
};
use crate::{Canonical, Weights};

/// Both compute in single precision; transformers its positions' angles, too.
const APART: f64 = 1e-4;

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
		let context = config["max_position_embeddings"].as_u64();
		let context = context.map(|n| n as usize);
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
		// The angles of single precision are coarser where positions are large.
		let most = if count > 1_000 { 10.0 * APART } else { APART };
		if apart.is_nan() || apart > most {
			failed.push(format!("{name}: {apart:.1e}"));
		}
	}
	assert!(failed.is_empty(), "{failed:#?}");
}
