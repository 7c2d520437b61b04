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
	let numbers =
		|key: &str| -> Vec<usize> { serde_json::from_value(published[key].clone()).unwrap() };
	let (tokens, positions) = (numbers("tokens"), numbers("positions"));
	let mut failed = Vec::new();
	for case in published["cases"].as_array().unwrap() {
		let name = case["name"].as_str().unwrap();
		let mut config = published["common"].clone();
		let more = case["config"].as_object().unwrap().clone();
		config.as_object_mut().unwrap().extend(more);
		let shape = Shape::of(&config);
		let folder = tempfile::tempdir().unwrap();
		fixtures::hub(folder.path(), &config, &shape.published());
		let out = folder.path().join("out");
		let canonical = match Canonical::open(folder.path(), Weights::Fp32, None) {
			Ok(canonical) => canonical,
			Err(error) => {
				failed.push(format!("{name}: {error}"));
				continue;
			}
		};
		canonical.write(&out, &mut |_| ()).unwrap();
		let logits = Run::new(&out, &shape, 2).step(0, &tokens);
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
