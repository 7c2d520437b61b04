//! Sampling on the real models: whatever a request asks for, one pass over prompt and answer finds every token again.
//!
//! Needs what `scripts/setup` makes, and fails without it.

use consilience_primitives::{
	evidence::Verdict,
	model::{Bounds, NumericClass, VerificationPolicy},
	request::{FullInput, LogitsProcessing, Prompt, Sampling},
};
use polkadot_sdk::sp_core::H256;

use super::{
	exactness::{Model, Run},
	generate::Writer,
	measure::Part,
};

/// Nothing, and more and more of what there is.
fn samplings() -> Vec<Sampling> {
	let plain = Sampling {
		max_tokens: 12,
		temperature: 900,
		..Default::default()
	};
	let all = LogitsProcessing {
		top_k: 50,
		min_p: 20,
		repetition_penalty: 1_150,
		presence_penalty: 300,
		frequency_penalty: 200,
		// The end of a turn, and " the".
		logit_bias: vec![(2, -3_000), (260, -1_000)].try_into().unwrap(),
	};
	let with = |temperature, top_p, processing| Sampling {
		temperature,
		top_p,
		processing: Some(processing),
		..plain.clone()
	};
	vec![
		with(
			900,
			1_000,
			LogitsProcessing {
				top_k: 40,
				..Default::default()
			},
		),
		with(
			1_300,
			1_000,
			LogitsProcessing {
				min_p: 50,
				..Default::default()
			},
		),
		with(
			0,
			1_000,
			LogitsProcessing {
				repetition_penalty: 1_300,
				..Default::default()
			},
		),
		with(
			700,
			950,
			LogitsProcessing {
				repetition_penalty: 800,
				..Default::default()
			},
		),
		with(1_000, 900, all.clone()),
		with(2_000, 990, all),
	]
}

/// Writes answers token by token, and checks each in one run of the graph. Gives the verdicts on them.
fn replayed(model: &Model, run: &Run, policy: &VerificationPolicy) -> Vec<Verdict> {
	let (language, layout) = (&model.language, &run.layout);
	let mut verdicts = Vec::new();
	for (n, sampling) in (1u8..).zip(samplings()) {
		let text = b"Once upon a time, in a village by the sea, there lived".to_vec();
		let input = FullInput::TextGeneration {
			prompt: Prompt::Text(text.try_into().unwrap()),
			sampling: sampling.clone(),
		};
		let seed = H256::repeat_byte(n);
		let asked = language.question(&input).unwrap();
		let mut writer = Writer::new(language, &asked, &seed).unwrap();
		let prompt = asked.prompt;
		let mut cache = layout.empty(&run.graph, prompt.len() + 12).unwrap();
		let mut logits = layout.step(&run.graph, &mut cache, &prompt).unwrap();
		let (tokens, finish) = loop {
			let last = &logits[logits.len() - layout.vocabulary..];
			let at = cache.lengths()[0] - 1;
			if let Some(answer) = writer.see(language, at, last).unwrap() {
				break answer;
			}
			let next = *writer.tokens().last().unwrap();
			logits = layout.step(&run.graph, &mut cache, &[next]).unwrap();
		};
		let claimed = language.output(&tokens, finish, &sampling).unwrap();
		let part = Part {
			tokens: None,
			challenge: H256::repeat_byte(9),
		};
		let of = |input: &FullInput| {
			let parts = [part];
			let (fed, mut measurement) = language
				.measurement(input, &seed, &claimed, &parts, policy)
				.unwrap();
			assert_eq!(fed.len(), prompt.len() + tokens.len() - 1);
			let mut cache = layout.empty(&run.graph, fed.len()).unwrap();
			// The only run.
			let logits = layout.step(&run.graph, &mut cache, &fed).unwrap();
			let mut rows = logits.chunks_exact(layout.vocabulary).enumerate();
			let found = rows.find_map(|(i, row)| measurement.see(i, row)).unwrap();
			found[0].verdict
		};
		verdicts.push(of(&input));
		// Sold as plain, it shows.
		let mut plain = input.clone();
		if let Some((_, sampling)) = plain.as_text_mut() {
			sampling.processing = None;
		}
		let lie = of(&plain);
		println!("{n}: {:?}; without processing {lie:?}", verdicts.last());
		if sampling.temperature > 1_000 {
			assert!(lie.deviations > 0, "{n}: {lie:?}");
		}
	}
	verdicts
}

fn policy(class: NumericClass, accept: u32, fraud: u32) -> VerificationPolicy {
	let bounds = |margin_max| Bounds {
		margin_max,
		..Default::default()
	};
	VerificationPolicy {
		class,
		positions: 8,
		entries: 2,
		fraction_bits: 13,
		accept: bounds(accept),
		fraud: bounds(fraud),
		min_verifiers: 1,
		min_sampling: 1_000,
	}
}

#[test]
fn the_exact_model_says_every_token_again() {
	let model = Model::open("smollm2-135m-instruct-int8");
	let run = model.run(2, "disable");
	let found = replayed(&model, &run, &policy(NumericClass::Exact, 0, 0));
	assert!(found.iter().all(|v| *v == Verdict::default()), "{found:?}");
}

#[test]
fn the_hubs_model_says_every_token_again_or_nearly() {
	let model = Model::open("smollm2-135m-instruct-hub");
	let run = model.run(2, "all");
	let policy = policy(NumericClass::Tolerant, 512, 8_192);
	let found = replayed(&model, &run, &policy);
	assert!(
		found
			.iter()
			.all(|v| v.margin_max <= 512 && v.deviations == 0),
		"{found:?}"
	);
}
