//! Answers counted, by what became of them.

use consilience_primitives::{
	evidence::Evidence,
	model::{Task, VerificationPolicy},
};

use crate::{
	distance::Measurements,
	judge,
	liars::Claim,
	model::Model,
	report::{Column, DeviationReport, HonestRow, KindReport, WrongTokens},
	statistics::Rate,
};

/// A kind of dishonesty.
pub(crate) struct Kind {
	pub(crate) name: String,
	pub(crate) claims: Vec<Claim>,
	/// What the executor measured of each, where it is not what an honest machine measures.
	pub(crate) own: Option<Measurements>,
	/// Whether the executor shows evidence that it fabricated with the true model, so that only the answer speaks against it.
	pub(crate) fabricated: bool,
}

/// Dishonest answers, counted.
#[derive(Default)]
pub(crate) struct Tally {
	pub(crate) kinds: Vec<KindReport>,
	pub(crate) wrong_tokens: WrongTokens,
	pub(crate) deviations: Vec<DeviationReport>,
}

impl Tally {
	/// Counts all claims of a kind. `others` is what honest members measured of a claim.
	pub(crate) fn add<'e>(
		&mut self,
		policy: &VerificationPolicy,
		model: &Model,
		kind: &Kind,
		others: impl Fn(usize, &Claim) -> Vec<&'e [Evidence]>,
		lengths: &[u32],
		challenges: usize,
	) {
		let mut columns = vec![Counts::default(); lengths.len()];
		for (n, claim) in kind.claims.iter().enumerate() {
			let others = others(n, claim);
			let own = kind.own.as_ref().map_or(others[0], |own| &own[n]);
			for (i, (column, _)) in claim.columns.iter().enumerate() {
				let part = i * challenges..(i + 1) * challenges;
				let members: Vec<_> = others.iter().map(|o| &o[part.clone()]).collect();
				let found = judge::dishonest(policy, model.manifest.task(), &own[part], &members);
				let counts = &mut columns[*column];
				counts.answers += 1;
				counts.caught += u64::from(found.caught);
				counts.punished += u64::from(found.punished);
				counts.wrong += u64::from(claim.wrong[i]);
				counts.wrong_caught += u64::from(claim.wrong[i] && found.caught);
				if kind.fabricated {
					self.wrong_tokens.right += u64::from(!claim.wrong[i]);
					self.wrong_tokens.false_alarms += u64::from(!claim.wrong[i] && found.caught);
				}
			}
			if kind.fabricated {
				let extra = claim.columns.len() * challenges;
				self.locate(policy, model, kind, claim, &others[0][extra..]);
			}
		}
		self.kinds.push(KindReport {
			kind: kind.name.clone(),
			columns: columns
				.iter()
				.zip(lengths)
				.map(|(c, length)| c.report(*length))
				.collect(),
		});
	}

	/// Looks at the first wrong token of a claim: `measured` is what was measured of the answer up to it, if there is any, and
	/// with it.
	fn locate(
		&mut self,
		policy: &VerificationPolicy,
		model: &Model,
		kind: &Kind,
		claim: &Claim,
		measured: &[Evidence],
	) {
		let (Some(deviation), Some((with, before))) = (claim.deviation, measured.split_last())
		else {
			return;
		};
		let accepted = |e: &Evidence| e.verdict.within(&policy.accept);
		let found = !accepted(with);
		self.wrong_tokens.wrong += 1;
		self.wrong_tokens.found += u64::from(found);
		self.wrong_tokens.misplaced += u64::from(!before.iter().all(accepted));
		self.deviations.push(DeviationReport {
			kind: kind.name.clone(),
			question: claim.question,
			position: deviation.position,
			said: deviation.said,
			said_word: model.word(deviation.said),
			should: deviation.should,
			should_word: model.word(deviation.should),
			margin: f64::from(with.verdict.margin_max) / 65_536.0,
			found,
		});
	}
}

/// Honest answers, counted: `honest` is what each way of running measured of each.
pub(crate) fn honest_rows(
	policy: &VerificationPolicy,
	task: Task,
	honest: &[Measurements],
	lengths: &[u32],
	challenges: usize,
) -> Vec<HonestRow> {
	let held_out = honest.first().map_or(0, Vec::len);
	lengths
		.iter()
		.enumerate()
		.map(|(column, tokens)| {
			let part = column * challenges..(column + 1) * challenges;
			let (mut committees, mut disputed, mut blamed) = (0, 0, 0);
			for n in 0..held_out {
				let members: Vec<_> = honest
					.iter()
					.filter_map(|h| h[n].get(part.clone()))
					.collect();
				let found = judge::honest(policy, task, &members);
				committees += found.committees;
				disputed += u64::from(found.disputed > 0);
				blamed += u64::from(found.blamed > 0);
			}
			HonestRow {
				tokens: *tokens,
				committees,
				disputed: Rate::new(disputed, held_out as u64),
				blamed: Rate::new(blamed, held_out as u64),
			}
		})
		.collect()
}

#[derive(Clone, Default)]
struct Counts {
	answers: u64,
	caught: u64,
	punished: u64,
	wrong: u64,
	wrong_caught: u64,
}

impl Counts {
	fn report(&self, tokens: u32) -> Column {
		let caught = Rate::new(self.caught, self.answers);
		Column {
			tokens,
			caught,
			punished: Rate::new(self.punished, self.answers),
			of_wrong: Rate::new(self.wrong_caught, self.wrong),
			of_ten: caught.in_any_of(10),
		}
	}
}
