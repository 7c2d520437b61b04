//! Traces that the engine computes, before the judge: an honest side wins with what it makes here.

use consilience_engine::judged::Judged;
use consilience_judge::{
	narrowing::{Game, Outcome, Pace, Side, Stage},
	play::{Run, Seen},
	program::Operator,
	trace::{compute, Committed},
};

use crate::fixtures::folder;

const TOKENS: [u32; 7] = [3, 1, 4, 1, 5, 9, 2];
const PACE: Pace = Pace {
	budget: 100,
	margin: 12,
};

fn judged(tokens: &[u32]) -> (Judged, Vec<Committed>) {
	let graph = folder("llama-integer").join("model.onnx");
	let judged = Judged::open(&graph, tokens, 1).unwrap();
	let mut tensors = Vec::new();
	judged
		.commit(&mut |n, tensor| {
			assert_eq!(n as usize, tensors.len());
			tensors.push(tensor);
		})
		.unwrap();
	(judged, tensors)
}

#[test]
fn every_number_of_a_run_is_what_the_judge_says() {
	let (judged, tensors) = judged(&TOKENS);
	let mut again = 0;
	for (n, rule) in judged.program().rules.iter().enumerate() {
		if rule.inputs.is_empty() {
			continue;
		}
		let made = compute(&tensors, rule, &judged.lengths()).unwrap();
		assert!(made == tensors[n], "{:?}", judged.name(n as u32));
		again += 1;
	}
	assert!(again > 300, "{again}");
	// One by one they are the same as together.
	for n in (0..tensors.len()).step_by(29) {
		assert!(judged.tensor(n as u32).unwrap() == tensors[n], "{n}");
	}
}

/// The same text but for its last token: what the other would have computed is false from the first tensor on, and is told so.
#[test]
fn a_text_that_was_not_asked_for_is_refuted() {
	let (judged, right) = judged(&TOKENS);
	let (other, wrong) = self::judged(&[3, 1, 4, 1, 5, 9, 3]);
	let right = Run::new(judged.program(), judged.lengths(), &right);
	let wrong = Run::new(other.program(), other.lengths(), &wrong);
	let inputs = vec![judged.tensor(input(&judged)).unwrap().root()];
	let claim = wrong.claim(inputs);
	assert_eq!(play(&claim, &wrong, &right), Outcome::Refuted);
}

fn input(judged: &Judged) -> u32 {
	let mut rules = judged.program().rules.iter();
	let found = rules.position(|rule| matches!(rule.operator, Operator::Input(_)));
	found.unwrap() as u32
}

fn play(claim: &consilience_judge::narrowing::Claim, wrong: &Run<'_>, right: &Run<'_>) -> Outcome {
	let (mut game, mut seen) = (Game::new(claim, &PACE, 0), Seen::default());
	loop {
		match game.turn() {
			Some(Side::Defender) => {
				let reply = wrong.reply(&game).unwrap();
				seen.note(&game.stage, &reply);
				game.reply(claim, &PACE, 1, reply).unwrap();
			}
			Some(Side::Challenger) => {
				let choice = seen.choose(right, &game).unwrap();
				game.choose(claim, &PACE, 1, &choice).unwrap();
			}
			None => match game.stage {
				Stage::Over(outcome) => return outcome,
				_ => unreachable!(),
			},
		}
	}
}

/// A number that is false somewhere in the model, and right everywhere else.
#[test]
fn a_number_that_is_false_is_found_wherever_it_is() {
	let (judged, tensors) = judged(&TOKENS);
	let right = Run::new(judged.program(), judged.lengths(), &tensors);
	let inputs = vec![tensors[input(&judged) as usize].root()];
	for n in (0..tensors.len()).step_by(37) {
		let mut wrong = tensors.clone();
		let mut bytes = wrong[n].bytes().to_vec();
		let at = bytes.len() / 2;
		bytes[at] ^= 1;
		wrong[n] = Committed::of_bytes(bytes);
		let wrong = Run::new(judged.program(), judged.lengths(), &wrong);
		let claim = wrong.claim(inputs.clone());
		assert_eq!(
			play(&claim, &wrong, &right),
			Outcome::Refuted,
			"{:?}",
			judged.name(n as u32)
		);
	}
}
