//! An honest side wins against whatever the other does.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::HashSet;

use codec::Encode;
use consilience_judge::{
	narrowing::{
		Choice, Claim, Game, Outcome, Pace, Refused, Reply, Side, Stage, Tensor, STATE, TERMS,
	},
	play::{Run, Seen},
	program::{Operator, Program},
	trace::{compute, Committed},
	value::Value,
};
use support::{every_operator, noise::Noise, LENGTHS};

const PACE: Pace = Pace {
	budget: 100,
	margin: 12,
};

/// The roots of what was fed.
fn inputs(tensors: &[Committed]) -> Vec<[u8; 32]> {
	vec![tensors[0].root()]
}

/// Plays to the end: `reply` and `choose` may move or be silent. The outcome or who was silent, moves, and the most bytes of a choice.
fn play(
	claim: &Claim,
	mut reply: impl FnMut(&Game) -> Option<Reply>,
	mut choose: impl FnMut(&Seen, &Game) -> Option<Choice>,
) -> (Result<Outcome, Side>, u32, usize) {
	let mut game = Game::new(claim, &PACE, 0);
	let (mut seen, mut moves, mut bytes, mut now) = (Seen::default(), 0, 0, 0);
	loop {
		now += 1;
		assert!(game.encoded_size() <= STATE);
		match game.stage {
			Stage::Over(outcome) => return (Ok(outcome), moves, bytes),
			// As if it were late.
			Stage::Misspoken { .. } => return (Err(Side::Defender), moves, bytes),
			_ => (),
		}
		let side = game.turn().unwrap();
		let moved = match side {
			Side::Defender => reply(&game).is_some_and(|reply| {
				let stage = game.stage.clone();
				let taken = game.reply(claim, &PACE, now, reply.clone()).is_ok();
				if taken {
					seen.note(&stage, &reply);
				}
				taken
			}),
			Side::Challenger => choose(&seen, &game).is_some_and(|choice| {
				let before = game.clone();
				let taken = game.choose(claim, &PACE, now, &choice);
				if taken.is_err() {
					assert_eq!(game, before);
				}
				bytes = bytes.max(choice.encoded_size());
				taken.is_ok()
			}),
		};
		match moved {
			true => moves += 1,
			false => return (Err(side), moves, bytes),
		}
	}
}

/// A run with one byte of one tensor changed; what follows from it is computed from that, or is as it was.
fn corrupt(
	program: &Program,
	right: &[Committed],
	n: usize,
	at: usize,
	on: bool,
) -> Vec<Committed> {
	let mut wrong = right.to_vec();
	let mut bytes = wrong[n].bytes().to_vec();
	let at = at % bytes.len();
	bytes[at] ^= 1;
	wrong[n] = Committed::of_bytes(bytes);
	let mut touched = HashSet::from([n as u32]);
	for (m, rule) in program.rules.iter().enumerate().skip(n + 1).filter(|_| on) {
		if rule
			.inputs
			.iter()
			.any(|input| touched.contains(&input.tensor))
		{
			// What has no number any more is left as it was.
			if let Ok(made) = compute(&wrong, rule, &LENGTHS) {
				wrong[m] = made;
				touched.insert(m as u32);
			}
		}
	}
	wrong
}

#[test]
fn an_honest_challenger_finds_whatever_is_false() {
	let mut noise = Noise(11);
	let draft = every_operator(5);
	draft.program.check().unwrap();
	let right = Run::new(&draft.program, LENGTHS, &draft.tensors);
	let (mut most, mut bytes) = (0, 0);
	for n in 0..draft.tensors.len() {
		for _ in 0..3 {
			let on = noise.below(2) == 0;
			let at = noise.next() as usize;
			let wrong = corrupt(&draft.program, &draft.tensors, n, at, on);
			let wrong = Run::new(&draft.program, LENGTHS, &wrong);
			let claim = wrong.claim(inputs(&draft.tensors));
			let operator = &draft.program.rules[n].operator;
			// It defends as it can: of a fold with parts that come to what it has claimed, or with the right ones.
			let schemes = noise.below(2) == 0;
			let (outcome, moves, size) = play(
				&claim,
				|game| {
					let reply = wrong.reply(game)?;
					Some(match (reply, &game.stage) {
						(
							Reply::Parts(mut parts),
							Stage::Fold {
								said: Some(said), ..
							},
						) => {
							let sum = parts
								.iter()
								.fold(0i64, |sum, part| sum.wrapping_add(part.value));
							if matches!(operator, Operator::MatMulInteger(_)) || sum != said.value {
								let more = said.value.wrapping_sub(sum);
								parts[7].value = parts[7].value.wrapping_add(more);
							}
							Reply::Parts(parts)
						}
						(Reply::Parts(mut parts), Stage::Fold { bytes, tensor, .. }) if schemes => {
							let kind = tensor.rule.output.kind;
							let claimed = kind.read(bytes).ok().and_then(|v| v.whole().ok());
							let sum = parts
								.iter()
								.fold(0i64, |sum, part| sum.wrapping_add(part.value));
							let more = claimed.unwrap_or(sum).wrapping_sub(sum);
							parts[3].value = parts[3].value.wrapping_add(more);
							Reply::Parts(parts)
						}
						(reply, _) => reply,
					})
				},
				|seen, game| seen.choose(&right, game),
			);
			// Of a long fold it misspeaks, or has nothing to say that is taken.
			let silent = outcome == Err(Side::Defender)
				&& matches!(
					operator,
					Operator::Reduce { .. }
						| Operator::Best | Operator::Scatter(_)
						| Operator::MatMulInteger(_)
				);
			assert!(
				outcome == Ok(Outcome::Refuted) || silent,
				"{n} {operator:?}: {outcome:?} after {moves}"
			);
			most = most.max(moves);
			bytes = bytes.max(size);
		}
	}
	println!(
		"{} tensors: at most {most} moves, {bytes} bytes",
		draft.tensors.len()
	);
	let longest = Game::moves(draft.tensors.len() as u32, 2_500, support::LONG.into());
	assert!(most <= longest, "{most} moves");
}

#[test]
fn a_sham_challenger_finds_nothing_in_a_right_trace() {
	let mut noise = Noise(23);
	let draft = every_operator(6);
	let run = Run::new(&draft.program, LENGTHS, &draft.tensors);
	let claim = run.claim(inputs(&draft.tensors));
	let (mut held, mut silent) = (0, 0);
	for _ in 0..400 {
		let (outcome, ..) = play(
			&claim,
			|game| run.reply(game),
			|seen, game| sham(seen, &run, game, &mut noise),
		);
		match outcome {
			Ok(Outcome::Held) => held += 1,
			Err(Side::Challenger) => silent += 1,
			other => panic!("{other:?}"),
		}
	}
	assert!(held > 200 && silent > 20, "{held} {silent}");
}

/// Names anything that there is, with what proves it; or with what does not.
fn sham(seen: &Seen, run: &Run<'_>, game: &Game, noise: &mut Noise) -> Option<Choice> {
	let mut choice = match &game.stage {
		Stage::Hash { level, .. } => {
			let hashes = match run.reply(&unshown(game)) {
				Some(Reply::Hashes(hashes)) => hashes,
				_ => return None,
			};
			let there = hashes.iter().filter(|h| **h != [0; 32]).count() as u64;
			let which = noise.below(there);
			return Some(named(run, game, &hashes, which, *level));
		}
		Stage::Element { tensor, n, bytes } => {
			let count = bytes.len() / tensor.rule.output.kind.size();
			seen.element(run, tensor, *n, noise.below(count as u64) as usize)?
		}
		Stage::Fold {
			tensor,
			element,
			range,
			said,
			parts: Some(parts),
			..
		} => match said.is_none() && noise.below(4) == 0 {
			true => seen.finish(run, tensor, *element, parts)?,
			false => {
				let n = noise.below(parts.len() as u64) as usize;
				seen.part(run, tensor, *element, *range, n)?
			}
		},
		_ => return None,
	};
	if noise.below(5) == 0 {
		let proof = match &mut choice {
			Choice::Element { proof, .. } | Choice::Part { proof, .. } => proof.as_mut(),
			Choice::Finish(proof) => Some(proof),
			Choice::Below { .. } => None,
		};
		if let Some(opened) = proof.and_then(|proof| proof.opened.first_mut()) {
			match noise.below(3) {
				0 => opened.leaves[0].1[0] ^= 1,
				1 => opened.above.push([7; 32]),
				_ => opened.leaves.clear(),
			}
		}
	}
	Some(choice)
}

fn unshown(game: &Game) -> Game {
	let mut game = game.clone();
	if let Stage::Hash { shown, .. } = &mut game.stage {
		*shown = false;
	}
	game
}

fn named(run: &Run<'_>, game: &Game, hashes: &[[u8; 32]], which: u64, level: u32) -> Choice {
	let tree = consilience_judge::tree::Tree::new(hashes.to_vec());
	let Stage::Hash { tensor, n, .. } = &game.stage else {
		unreachable!()
	};
	let down = level.min(consilience_judge::narrowing::WIDE);
	let at = (n << down) | which;
	Choice::Below {
		n: which as u16,
		hash: hashes[which as usize],
		beside: tree.beside(&[which]),
		rule: (tensor.is_none() && level == down).then(|| run.rule(at as u32)),
	}
}

#[test]
fn what_is_no_move_changes_nothing() {
	let draft = every_operator(7);
	let run = Run::new(&draft.program, LENGTHS, &draft.tensors);
	let claim = run.claim(inputs(&draft.tensors));
	let mut game = Game::new(&claim, &PACE, 0);
	let before = game.clone();
	let Some(Reply::Hashes(mut hashes)) = run.reply(&game) else {
		panic!()
	};
	let refused = |game: &mut Game, reply| game.reply(&claim, &PACE, 1, reply).unwrap_err();
	hashes[0][0] ^= 1;
	assert_eq!(
		refused(&mut game, Reply::Hashes(hashes.clone())),
		Refused::OtherHash
	);
	hashes[0][0] ^= 1;
	let mut more = hashes.clone();
	more.push([0; 32]);
	assert_eq!(refused(&mut game, Reply::Hashes(more)), Refused::OtherHash);
	assert_eq!(refused(&mut game, Reply::Leaf(vec![0])), Refused::OtherMove);
	assert_eq!(game, before);
	let choice = named(&run, &game, &hashes, 0, 7);
	assert_eq!(game.choose(&claim, &PACE, 1, &choice), Err(Refused::NotNow));
	game.reply(&claim, &PACE, 1, Reply::Hashes(hashes.clone()))
		.unwrap();
	// Of another tensor's rule, of one that is not there, and without one.
	let level = consilience_judge::tree::depth(claim.tensors.into());
	let Choice::Below {
		n, hash, beside, ..
	} = named(&run, &game, &hashes, 1, level)
	else {
		panic!()
	};
	let other = |rule| Choice::Below {
		n,
		hash,
		beside: beside.clone(),
		rule,
	};
	let before = game.clone();
	let rule = Some(run.rule(2));
	assert_eq!(
		game.choose(&claim, &PACE, 2, &other(rule)),
		Err(Refused::OtherRule)
	);
	assert_eq!(
		game.choose(&claim, &PACE, 2, &other(None)),
		Err(Refused::OtherMove)
	);
	let last = (1 << level) - 1;
	let beyond = named_without_rule(&hashes, last);
	assert_eq!(game.choose(&claim, &PACE, 2, &beyond), Err(Refused::NoSuch));
	assert_eq!(game, before);
}

fn named_without_rule(hashes: &[[u8; 32]], which: u64) -> Choice {
	let tree = consilience_judge::tree::Tree::new(hashes.to_vec());
	Choice::Below {
		n: which as u16,
		hash: hashes[which as usize],
		beside: tree.beside(&[which]),
		rule: None,
	}
}

#[test]
fn clocks_stand_still_at_first_and_run_out_once() {
	let draft = every_operator(8);
	let run = Run::new(&draft.program, LENGTHS, &draft.tensors);
	let claim = run.claim(inputs(&draft.tensors));
	let mut game = Game::new(&claim, &PACE, 1_000);
	assert_eq!(game.deadline(&PACE), Some(1_112));
	assert_eq!(game.late(&PACE, 1_112), None);
	assert_eq!(game.late(&PACE, 1_113), Some(Side::Defender));
	let reply = run.reply(&game).unwrap();
	assert_eq!(
		game.reply(&claim, &PACE, 1_113, reply.clone()),
		Err(Refused::NotNow)
	);
	// Whoever takes its place has a whole clock, and the game goes on where it was.
	game.take_over(&claim, &PACE, 1_200);
	game.reply(&claim, &PACE, 1_250, reply).unwrap();
	assert_eq!(game.defender, 100 - (50 - 12));
	assert_eq!(
		(game.turn(), game.challenger),
		(Some(Side::Challenger), 100)
	);
	assert_eq!(game.deadline(&PACE), Some(1_362));
	assert_eq!(game.late(&PACE, 1_363), Some(Side::Challenger));
	// A take-over while the challenger is due gives it no time.
	game.take_over(&claim, &PACE, 1_300);
	assert_eq!(game.deadline(&PACE), Some(1_362));
}

/// A trace whose input is not what was posted, or whose weights are not the model's, falls without a look at an element.
#[test]
fn what_was_fed_and_weights_are_bound() {
	let draft = every_operator(9);
	let right = Run::new(&draft.program, LENGTHS, &draft.tensors);
	for (n, moves) in [(0, 2), (1, 2)] {
		let wrong = corrupt(&draft.program, &draft.tensors, n, 0, true);
		let wrong = Run::new(&draft.program, LENGTHS, &wrong);
		let claim = wrong.claim(inputs(&draft.tensors));
		let (outcome, made, _) = play(
			&claim,
			|game| wrong.reply(game),
			|seen, game| seen.choose(&right, game),
		);
		assert_eq!((outcome, made), (Ok(Outcome::Refuted), moves));
	}
}

/// Numbers that are none of the class, in what both sides see, speak against whoever committed to them.
#[test]
fn what_is_no_number_of_the_class_is_the_defender_s_fault() {
	let draft = every_operator(10);
	let right = Run::new(&draft.program, LENGTHS, &draft.tensors);
	let n = draft
		.program
		.rules
		.iter()
		.position(|rule| rule.operator == Operator::Max)
		.unwrap();
	let mut wrong = draft.tensors.clone();
	let mut bytes = wrong[n].bytes().to_vec();
	bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
	wrong[n] = Committed::of_bytes(bytes);
	let of_wrong = Run::new(&draft.program, LENGTHS, &wrong);
	let claim = of_wrong.claim(inputs(&draft.tensors));
	// Even a challenger that names the tensor after it, of which the defender gives no account, is right.
	let (outcome, ..) = play(
		&claim,
		|game| of_wrong.reply(game),
		|seen, game| seen.choose(&right, game),
	);
	assert_eq!(outcome, Ok(Outcome::Refuted));
	assert_eq!(Value::Float(f32::NAN.to_bits()).whole().ok(), None);
}

/// Whoever misspeaks for a right trace has not refuted it: the next one says the parts anew, and the challenger finds nothing.
#[test]
fn nobody_can_misspeak_for_others() {
	let mut noise = Noise(31);
	let draft = every_operator(12);
	let run = Run::new(&draft.program, LENGTHS, &draft.tensors);
	let claim = run.claim(inputs(&draft.tensors));
	let mut misspoken = 0;
	for (n, rule) in draft.program.rules.iter().enumerate() {
		let terms = consilience_judge::element::Definition::new(rule, &LENGTHS)
			.unwrap()
			.terms()
			.unwrap();
		if terms.is_none_or(|terms| terms <= TERMS) {
			continue;
		}
		let tensor = Tensor {
			number: n as u32,
			rule: rule.clone(),
		};
		let mut game = Game::new(&claim, &PACE, 0);
		game.stage = Stage::Element {
			tensor,
			n: 0,
			bytes: draft.tensors[n].leaf(0).to_vec(),
		};
		let (mut seen, mut sabotage) = (Seen::default(), true);
		let outcome = loop {
			match game.turn() {
				Some(Side::Defender) => {
					let mut reply = run.reply(&game).unwrap();
					if let Reply::Parts(parts) = &mut reply {
						if sabotage {
							parts[2].value += 1;
						}
					}
					seen.note(&game.stage, &reply);
					if game.reply(&claim, &PACE, 1, reply).is_err() {
						// Parts that do not come together are not even taken; it would be late.
						assert!(sabotage);
						sabotage = false;
						game.take_over(&claim, &PACE, 1);
					}
				}
				Some(Side::Challenger) => {
					let choice = match sabotage {
						// It works with the one who misspeaks, and names that part.
						true => match &game.stage {
							Stage::Fold {
								tensor,
								element,
								range,
								..
							} => seen.part(&run, tensor, *element, *range, 2),
							Stage::Element { tensor, n, .. } => seen.element(&run, tensor, *n, 0),
							_ => None,
						},
						false => sham(&seen, &run, &game, &mut noise),
					};
					if game.choose(&claim, &PACE, 1, &choice.unwrap()).is_err() {
						break Err(Side::Challenger);
					}
				}
				None => match &game.stage {
					Stage::Over(outcome) => break Ok(*outcome),
					_ => {
						misspoken += 1;
						sabotage = false;
						game.take_over(&claim, &PACE, 1);
						assert_eq!((game.turn(), game.defender), (Some(Side::Defender), 100));
					}
				},
			}
		};
		assert!(
			matches!(outcome, Ok(Outcome::Held) | Err(Side::Challenger)),
			"{n}"
		);
	}
	// The product, both sums, and the place of the largest.
	assert!(misspoken >= 4, "{misspoken}");
}
