//! Many requests with liars among the validators: how often what happens, against what `docs/threat-model.md` says.

use consilience_primitives::{report::Statement, request::Assurance, view::RequestState};

use crate::{mock::*, OffenceKind, Outputs};

/// What became of the requests.
#[derive(Default, Debug)]
struct Rates {
	requests: u32,
	/// The executor was of the party.
	lies: u32,
	/// So was every verifier.
	captured: u32,
	/// A false answer became final.
	false_final: u32,
}

fn rounds() -> u32 {
	std::env::var("SIMULATED_ROUNDS")
		.ok()
		.and_then(|n| n.parse().ok())
		.unwrap_or(400)
}

/// Requests checked by two, while these validators are one party: it writes falsely, vouches for what it wrote, and slanders what
/// others did.
fn simulate(party: &[u64]) -> Rates {
	let mut rates = Rates::default();
	for _ in 0..rounds() {
		// Who was caught comes back at once: the worst case.
		let _ = crate::Barred::<Test>::clear(u32::MAX, None);
		for v in VALIDATORS {
			Inference::end_suspension(&v);
			let serve = Statement::Serve {
				model: id(TEXT),
				evidence: digest(7),
				speed: Speed::default(),
			};
			let _ = report(v, vec![serve]);
		}
		next_block();
		let request = Inference::do_request(
			ALICE,
			id(TEXT),
			text("hi", 4),
			Assurance::Committee(2),
			1_000,
			0,
		)
		.unwrap();
		blocks(2);
		let writer = executor(request);
		let lies = party.contains(&writer);
		let habit = if lies {
			Habit::Vouching
		} else {
			Habit::Slandering
		};
		let odd: Vec<_> = party.iter().map(|v| (*v, habit)).collect();
		work_block(&odd);
		next_block();
		let captured = lies && verifiers(request).iter().all(|v| party.contains(v));
		settle_within(request, 20, &odd);
		blocks(4);
		let wrong = Outputs::<Test>::get(request) == Some(wrong_answer());
		let end = state(request);
		assert_eq!(wrong, lies);
		assert!(matches!(end, RequestState::Final | RequestState::Rejected));
		rates.requests += 1;
		rates.lies += u32::from(lies);
		rates.captured += u32::from(captured);
		rates.false_final += u32::from(wrong && end == RequestState::Final);
		assert_eq!(
			wrong && end == RequestState::Final,
			captured,
			"a lie gets through where everybody drawn is of the party, and nowhere else"
		);
		// The executor does not count in the judgement of its answer: half of the others can leave a right one undecided, which
		// costs nobody but the executor its work. Fewer cannot.
		let half = party.len() * 2 >= VALIDATORS.len() - 1;
		assert!(
			wrong || end == RequestState::Final || half,
			"slander gets nothing rejected"
		);
		for offence in reported() {
			assert!(
				party.contains(&offence.offender.0),
				"somebody honest was blamed: {offence:?}"
			);
			assert_ne!(offence.kind, OffenceKind::Absence);
		}
	}
	rates
}

#[test]
fn one_liar_never_gets_anything_through() {
	run(|| {
		let rates = simulate(&VALIDATORS[..1]);
		assert!(rates.lies > 0);
		assert_eq!(rates.false_final, 0, "{rates:?}");
		println!(
			"figure mock_lies_final_one_of_seven = {} [at most 0] {rates:?}",
			rates.false_final
		);
	});
}

#[test]
fn a_party_gets_through_as_often_as_chance_gives_it_the_whole_committee() {
	run(|| {
		let rates = simulate(&VALIDATORS[..3]);
		// 3 of 7 write; of the 6 others 2 are of the party: 3/7 · 2/6 · 1/5.
		let n = rates.requests;
		let expected = n / 35;
		println!(
			"figure mock_lies_final_three_of_seven = {} [] two verifiers, {expected} expected: {rates:?}",
			rates.false_final
		);
		// Five standard deviations of a rare event: five times the root of what is expected.
		let slack = 5 * expected.max(1).isqrt() + 1;
		assert!(
			rates.false_final.abs_diff(expected) <= slack,
			"{rates:?}, expected {expected}"
		);
		assert!(
			rates.lies.abs_diff(n * 3 / 7) <= 5 * (n / 4).isqrt(),
			"{rates:?}"
		);
	});
}
