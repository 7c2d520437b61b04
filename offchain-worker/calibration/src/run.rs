//! The measurements, from questions to a report.

use std::{path::PathBuf, time::Instant};

use consilience_engine::Provider;
use consilience_primitives::{
	evidence::Evidence,
	model::{NumericClass, Task, VerificationPolicy},
	request::{FinishReason, FullInput, Output},
};
use futures::stream::{self, StreamExt, TryStreamExt};
use indicatif::ProgressBar;

use crate::{
	configuration::{Configuration, Variations},
	distance::{differs, largest_value, same_tags, spread, unequal, Measurements},
	engines::Loaded,
	liars::{self, Claim},
	model::{tokens, Model},
	policy::{propose, Slack, Spread},
	process::EngineProgram,
	questions::{self, number, Question},
	report::{ConfigurationReport, Machine, Report, Sample},
	tally::{honest_rows, Kind, Tally},
	CalibrationError,
};

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Options {
	/// Folder of the model.
	pub model: PathBuf,
	/// Folders of models that stand in for it.
	pub substitutes: Vec<PathBuf>,
	/// File of prompts, texts or requests, one a line.
	pub prompts: Option<PathBuf>,
	/// Questions; at least two. Half of them make a policy, which may have been done before, and the others judge it. In the exact
	/// class there is nothing to make, and all judge.
	pub answers: usize,
	/// To how many of the questions by which is judged liars answer.
	pub lies: usize,
	/// Numbers of tokens asked for at which rates are reported, ascending; the last is what is asked for.
	pub lengths: Vec<u32>,
	/// Challenges for each answer; at least two.
	pub challenges: usize,
	/// Ways of running.
	pub variations: Variations,
	/// Whether each answer is measured by the first way of running and only one of the others, which take turns.
	pub in_turns: bool,
	/// Questions that an engine works on at a time; at least one.
	pub jobs: usize,
	/// How thresholds are made.
	pub slack: Slack,
	/// The largest honest differences that other machines are known to make; thresholds are made from them, too.
	pub known: Spread,
	/// Judge by the policy that stands in the manifest, and propose none.
	pub keep_policy: bool,
	/// What becomes an engine.
	pub program: EngineProgram,
}

/// Fraction bits with which differences are looked at before there is a policy: as many as a policy may have.
const FINEST: u8 = 24;

/// Values below this leave room for others that are eight times as large.
const ROOM: u32 = 1 << 28;

/// Measures and reports. `progress` is given its length here.
pub async fn calibrate(
	options: &Options,
	progress: &ProgressBar,
) -> Result<Report, CalibrationError> {
	let started = Instant::now();
	if options.answers < 2
		|| options.challenges < 2
		|| options.lengths.is_empty()
		|| options.jobs == 0
	{
		return Err(CalibrationError::Input(
			"at least two answers, two challenges, one length and one job are needed".into(),
		));
	}
	progress.set_message("reading models");
	let model = Model::read(&options.model)?;
	let substitutes = options
		.substitutes
		.iter()
		.map(|folder| Model::read(folder))
		.collect::<Result<Vec<_>, _>>()?;
	for substitute in &substitutes {
		model.check_substitute(substitute)?;
	}
	let class = model.manifest.policy.class;
	let proposes = !options.keep_policy && class == NumericClass::Tolerant;
	if proposes && options.in_turns {
		return Err(CalibrationError::Input(
			"a policy is made from differences between all ways of running, and in turns only the first is compared with each other: \
			 leave out --in-turns, or keep the policy that stands (--keep-policy)"
				.into(),
		));
	}
	let run = Run {
		task: model.manifest.task(),
		configurations: options
			.variations
			.configurations(&model.manifest.numerics.optimization),
		lengths: if model.manifest.task() == Task::TextGeneration {
			options.lengths.clone()
		} else {
			vec![1]
		},
		questions: questions::questions(
			&model.manifest,
			options.answers,
			options.lengths.last().copied().unwrap_or(1),
			options.prompts.as_deref(),
		)?,
		proposes,
		class,
		options,
		progress,
		model,
		substitutes,
	};
	run.report(started).await
}

struct Run<'a> {
	options: &'a Options,
	progress: &'a ProgressBar,
	model: Model,
	substitutes: Vec<Model>,
	task: Task,
	configurations: Vec<Configuration>,
	lengths: Vec<u32>,
	questions: Vec<Question>,
	/// Whether a policy is made.
	proposes: bool,
	class: NumericClass,
}

/// What a model says, and its end; `None` for tasks without tokens.
type Said = Option<(Vec<u32>, FinishReason)>;

/// Questions, what the model itself says, and what each way of running it measured of that.
struct Split {
	claims: Vec<Claim>,
	/// For each claim.
	said: Vec<Said>,
	/// For each configuration.
	measured: Vec<Measurements>,
}

impl Split {
	/// How far each way of running was from the first at most.
	fn spreads(&self, fraction_bits: u8) -> Vec<Spread> {
		let first = &self.measured[0];
		let ways = self.measured.iter();
		ways.map(|way| spread(first, way, fraction_bits)).collect()
	}
}

/// Honest answers that liars start from: the first of those by which is judged.
struct Honest<'a> {
	claims: &'a [Claim],
	said: &'a [Said],
	/// Answers of a lazy executor that altered the prompt, or the temperature.
	altered: [Vec<Claim>; 2],
	/// Tensors that answer the questions, and those questions altered; empty for text generation.
	tensors: Vec<[Option<Output>; 2]>,
}

impl Run<'_> {
	fn text(&self) -> bool {
		self.task == Task::TextGeneration
	}

	async fn load(
		&self,
		configuration: &Configuration,
		policy: &VerificationPolicy,
	) -> Result<Loaded, CalibrationError> {
		self.load_other(configuration, &self.model, policy).await
	}

	async fn load_other(
		&self,
		configuration: &Configuration,
		model: &Model,
		policy: &VerificationPolicy,
	) -> Result<Loaded, CalibrationError> {
		self.progress
			.set_message(format!("{}: {}", model.name, configuration.name));
		let (program, jobs) = (&self.options.program, self.options.jobs);
		Loaded::new(program, configuration, model, policy, jobs).await
	}

	/// Questions that make the policy, or those that judge it.
	fn questions(&self, held_out: bool) -> impl Iterator<Item = (usize, &Question)> {
		let all = self.questions.iter().enumerate();
		let exact = self.class == NumericClass::Exact;
		all.filter(move |(_, q)| (q.held_out || exact) == held_out)
	}

	/// Sets the length of the bar: answers written and claims measured, about.
	fn expect_work(&self) {
		let judging = self.questions(true).count();
		let all = match self.proposes {
			true => self.questions.len(),
			false => judging,
		};
		let ways = match self.configurations.len() {
			n if self.options.in_turns => n.min(2),
			n => n,
		};
		let lies = self.options.lies.min(judging);
		let substitutes = self.substitutes.len();
		let each = if self.text() {
			// Two altered; one by each substitute, which also measures it; both honest machines' measurements.
			2 + substitutes * 2 + 2 * (4 + substitutes)
		} else {
			2 + substitutes
		};
		self.progress.set_length((all * ways + lies * each) as u64);
	}

	async fn report(self, started: Instant) -> Result<Report, CalibrationError> {
		self.expect_work();
		let standing = self.model.manifest.policy;
		let base = self
			.configurations
			.first()
			.ok_or_else(|| CalibrationError::Input("no configuration".into()))?;

		let calibration = match self.proposes {
			true => {
				// In the finest steps that hold the model's values.
				let (first, finest) = self.load_finest(base, &standing).await?;
				let fine = fine_policy(&standing, finest);
				Some((self.split(first, &fine, false).await?, finest))
			}
			false => None,
		};
		let mut seen = Spread::default();
		let mut policy = standing;
		if let Some((split, finest)) = &calibration {
			check(&split.measured)?;
			for (i, a) in split.measured.iter().enumerate() {
				for b in &split.measured[i..] {
					seen = seen.join(spread(a, b, *finest));
				}
			}
			let all = seen.join(self.options.known);
			policy = propose(&all, self.options.slack, *finest, self.task, &standing);
		}

		// What judges a policy is measured under it.
		let first = self.load(base, &policy).await?;
		let judging = self.split(first, &policy, true).await?;
		check(&judging.measured)?;
		let spreads = match &calibration {
			Some((split, finest)) => split.spreads(*finest),
			None => judging.spreads(policy.fraction_bits),
		};
		if calibration.is_none() {
			seen = spreads.iter().fold(seen, |all, one| all.join(*one));
		}
		let mut tally = Tally::default();
		if self.options.lies > 0 {
			self.lie(&judging, &spreads, &policy, &mut tally).await?;
		}
		self.progress.finish_and_clear();

		let calibration = calibration.map(|(split, _)| split);
		let splits = calibration.iter().chain([&judging]);
		let (compared, different) = splits
			.map(|split| unequal(&split.measured))
			.fold((0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1));
		Ok(Report {
			model: self.model.name.clone(),
			id: self.model.manifest.id(),
			task: self.task,
			machine: Machine::this(),
			configurations: self
				.configurations
				.iter()
				.zip(&spreads)
				.map(|(c, spread)| ConfigurationReport::new(c, *spread))
				.collect(),
			sample: Sample {
				calibration: calibration.map_or(0, |split| split.claims.len()),
				held_out: judging.claims.len(),
				challenges: self.options.challenges,
				slack: self.options.slack,
				known: self.options.known,
			},
			seen,
			standing,
			policy,
			proposed: self.proposes,
			compared,
			different,
			honest: honest_rows(
				&policy,
				self.task,
				&judging.measured,
				&self.lengths,
				self.options.challenges,
			),
			dishonest: tally.kinds,
			wrong_tokens: self.text().then_some(tally.wrong_tokens),
			deviations: tally.deviations,
			seconds: started.elapsed().as_secs_f64(),
		})
	}

	/// Asks the questions of a split. `first` is the base under `policy`: it answers, and measures what it wrote as an executor
	/// does. Then the others measure.
	async fn split(
		&self,
		first: Loaded,
		policy: &VerificationPolicy,
		held_out: bool,
	) -> Result<Split, CalibrationError> {
		let asked: Vec<(Claim, Said, Vec<Evidence>)> = stream::iter(self.questions(held_out))
			.map(|(n, question)| self.ask(&first, n, question))
			.buffered(self.options.jobs)
			.try_collect()
			.await?;
		drop(first);
		let mut split = Split {
			claims: Vec::new(),
			said: Vec::new(),
			measured: vec![Vec::new()],
		};
		for (claim, said, measured) in asked {
			split.claims.push(claim);
			split.said.push(said);
			split.measured[0].push(measured);
		}
		let others = &self.configurations[1..];
		for (turn, configuration) in others.iter().enumerate() {
			let engine = self.load(configuration, policy).await?;
			// By chance, so that no kind of question falls to one way alone.
			let mine = |claim: &Claim| {
				let drawn = number("turn", claim.question, others.len() as u32);
				!self.options.in_turns || drawn as usize == turn
			};
			let measured = self.measure(&engine, &split.claims, mine).await?;
			split.measured.push(measured);
		}
		Ok(split)
	}

	/// Has the model answer a question, and measure its answer.
	async fn ask(
		&self,
		engine: &Loaded,
		n: usize,
		question: &Question,
	) -> Result<(Claim, Said, Vec<Evidence>), CalibrationError> {
		let asked = (&question.input, question.seed);
		let (claim, said) = if self.text() {
			let output = engine.answer(asked.0, asked.1).await?;
			let Output::Text { finish, .. } = output else {
				return Err(CalibrationError::Input("tensors from a text model".into()));
			};
			let said = tokens(&output);
			let claim = Claim::text(n, asked, output, &said, &self.lengths, 0);
			(claim, Some((said, finish)))
		} else {
			(Claim::whole(n, asked.0, asked.1), None)
		};
		let measured = engine.measure(&claim, self.options.challenges).await?;
		self.progress.inc(1);
		Ok((claim, said, measured))
	}

	/// Has those claims measured whose turn it is.
	async fn measure(
		&self,
		engine: &Loaded,
		claims: &[Claim],
		turn: impl Fn(&Claim) -> bool,
	) -> Result<Measurements, CalibrationError> {
		stream::iter(claims)
			.map(|claim| {
				let turn = turn(claim);
				async move {
					if !turn {
						return Ok(Vec::new());
					}
					let measured = engine.measure(claim, self.options.challenges).await;
					self.progress.inc(1);
					measured
				}
			})
			.buffered(self.options.jobs)
			.try_collect()
			.await
	}

	/// Has liars answer, and counts what becomes of that.
	async fn lie(
		&self,
		judging: &Split,
		spreads: &[Spread],
		policy: &VerificationPolicy,
		tally: &mut Tally,
	) -> Result<(), CalibrationError> {
		let base = &self.configurations[0];
		let lies = self.options.lies.min(judging.claims.len());
		// The honest machine that is farthest from the base.
		let far = (1..spreads.len())
			.max_by(|a, b| spreads[*a].max.total_cmp(&spreads[*b].max))
			.unwrap_or(0);
		let engine = self.load(base, policy).await?;
		let honest = self.honest(&engine, judging, lies).await?;
		drop(engine);
		let mut kinds = self.kinds(&honest, policy).await?;
		// What honest machines measure of the lies: of a text two of them, of another task the base, for who lies about the input.
		let machines = match self.text() {
			true if far > 0 => vec![0, far],
			_ => vec![0],
		};
		let mut measured: Vec<Vec<Measurements>> = Vec::new();
		for machine in machines {
			let engine = self.load(&self.configurations[machine], policy).await?;
			if !self.text() {
				for kind in kinds.iter_mut().filter(|k| k.own.is_none()) {
					kind.own = Some(self.measure(&engine, &kind.claims, |_| true).await?);
				}
				continue;
			}
			let mut of_kinds: Vec<Measurements> = Vec::new();
			for (k, kind) in kinds.iter().enumerate() {
				// What a substitute wrote is claimed twice, with evidence of two origins: to others it is the same.
				let same = kinds[..k].iter().position(|other| {
					other.own.is_some() && !kind.claims.is_empty() && same(other, kind)
				});
				of_kinds.push(match same {
					Some(other) => of_kinds[other].clone(),
					None => self.measure(&engine, &kind.claims, |_| true).await?,
				});
			}
			measured.push(of_kinds);
		}
		for (k, kind) in kinds.iter().enumerate() {
			let others = |n: usize, claim: &Claim| -> Vec<&[Evidence]> {
				if self.text() {
					return measured.iter().map(|m| &m[k][n][..]).collect();
				}
				let place = honest.place(claim.question);
				let ways = judging.measured.iter();
				ways.map(|way| &way[place][..])
					.filter(|way| !way.is_empty())
					.collect()
			};
			let challenges = self.options.challenges;
			tally.add(policy, &self.model, kind, others, &self.lengths, challenges);
		}
		Ok(())
	}

	/// Loads the base with the finest steps in which the values of a few answers fit, with room for others that are larger.
	async fn load_finest(
		&self,
		base: &Configuration,
		standing: &VerificationPolicy,
	) -> Result<(Loaded, u8), CalibrationError> {
		let mut bits = FINEST;
		loop {
			let policy = fine_policy(standing, bits);
			let engine = self.load(base, &policy).await?;
			if bits == 0 || policy.class == NumericClass::Exact {
				return Ok((engine, bits));
			}
			let mut largest = 0;
			// Logits of one model are alike, whatever it is asked; outputs of tensor models need not be.
			let looked_at = if self.text() { 2 } else { self.questions.len() };
			for (n, question) in self.questions.iter().enumerate().take(looked_at) {
				// One token is enough of an answer to see how large a model's values are.
				let output = if self.text() {
					let mut short = question.input.clone();
					if let Some((_, sampling)) = short.as_text_mut() {
						sampling.max_tokens = 1;
					}
					Some((engine.answer(&short, question.seed).await?, short))
				} else {
					None
				};
				let claim = match output {
					Some((output, short)) => {
						let said = tokens(&output);
						Claim::text(n, (&short, question.seed), output, &said, &[1], 1)
					}
					None => Claim::whole(n, &question.input, question.seed),
				};
				let measured = engine.measure(&claim, self.options.challenges).await?;
				largest = largest.max(largest_value(&measured));
			}
			if largest < ROOM {
				return Ok((engine, bits));
			}
			bits -= 4;
		}
	}

	/// What liars start from, and what a lazy executor answers in the model's place.
	async fn honest<'s>(
		&self,
		engine: &Loaded,
		judging: &'s Split,
		lies: usize,
	) -> Result<Honest<'s>, CalibrationError> {
		let mut honest = Honest {
			claims: &judging.claims[..lies],
			said: &judging.said[..lies],
			altered: Default::default(),
			tensors: Vec::new(),
		};
		for (claim, said) in honest.claims.iter().zip(honest.said) {
			let Some((said, _)) = said else {
				let altered = match questions::altered(&claim.input) {
					Some(input) => Some(engine.answer(&input, claim.seed).await?),
					None => None,
				};
				let output = engine.answer(&claim.input, claim.seed).await?;
				honest.tensors.push([Some(output), altered]);
				continue;
			};
			let lies = [
				questions::altered(&claim.input),
				questions::reheated(&claim.input),
			];
			for (to, lie) in honest.altered.iter_mut().zip(lies) {
				let Some(lie) = lie else { continue };
				let output = engine.answer(&lie, claim.seed).await?;
				self.progress.inc(1);
				let asked = (&claim.input, claim.seed);
				to.push(Claim::text(
					claim.question,
					asked,
					output,
					said,
					&self.lengths,
					0,
				));
			}
		}
		Ok(honest)
	}

	/// Every kind of dishonest answer to those questions.
	async fn kinds(
		&self,
		honest: &Honest<'_>,
		policy: &VerificationPolicy,
	) -> Result<Vec<Kind>, CalibrationError> {
		let base = &self.configurations[0];
		let mut kinds = Vec::new();
		for substitute in &self.substitutes {
			let plain = Configuration {
				engine: consilience_engine::EngineConfig {
					optimization: Some(substitute.manifest.numerics.optimization.clone()),
					provider: Provider::Cpu,
					..base.engine.clone()
				},
				..base.clone()
			};
			let engine = self.load_other(&plain, substitute, policy).await?;
			let mut claims = Vec::new();
			for (n, claim) in honest.claims.iter().enumerate() {
				let output = engine.answer(&claim.input, claim.seed).await?;
				claims.push(match &honest.said[n] {
					Some((said, _)) => {
						self.progress.inc(1);
						let asked = (&claim.input, claim.seed);
						Claim::text(claim.question, asked, output, said, &self.lengths, 0)
					}
					None => Claim {
						wrong: vec![differs(
							policy,
							Some(&output),
							honest.tensors[n][0].as_ref(),
						)],
						..claim.clone()
					},
				});
			}
			let own = self.measure(&engine, &claims, |_| true).await?;
			kinds.push(Kind {
				name: format!("{} writes and measures", substitute.name),
				claims: claims.clone(),
				own: Some(own),
				fabricated: false,
			});
			if self.text() {
				kinds.push(Kind {
					name: format!("{} writes, the model measures", substitute.name),
					claims,
					own: None,
					fabricated: true,
				});
			}
		}
		if !self.text() {
			kinds.extend(self.other_inputs(honest, policy));
			return Ok(kinds);
		}
		let [prompt, temperature] = &honest.altered;
		let mut add = |name: &str, claims: Vec<Claim>| {
			kinds.push(Kind {
				name: name.into(),
				claims,
				own: None,
				fabricated: true,
			})
		};
		add("another prompt", prompt.clone());
		add("another temperature", temperature.clone());
		let (mut replaced, mut cut, mut padded) = (Vec::new(), Vec::new(), Vec::new());
		for (claim, said) in honest.claims.iter().zip(honest.said) {
			let Some((said, finish)) = said else { continue };
			let (n, asked) = (claim.question, (&claim.input, claim.seed));
			if let Some(output) = liars::replaced(&self.model, n, said, *finish)? {
				let mut claim = Claim::text(n, asked, output, said, &self.lengths, 0);
				// Before the replaced token there is nothing to find.
				let wrong = claim.wrong.clone();
				let mut keep = wrong.iter();
				claim.columns.retain(|_| *keep.next().unwrap_or(&false));
				claim.wrong.retain(|w| *w);
				replaced.push(claim);
			}
			for (column, length) in self.lengths.iter().enumerate() {
				if let Some(output) = liars::cut(&self.model, said, *length)? {
					cut.push(Claim {
						columns: vec![(column, None)],
						wrong: vec![true],
						..Claim::text(n, asked, output, said, &self.lengths, 0)
					});
				}
			}
			let most = self.lengths.last().copied().unwrap_or(1);
			if let Some(output) = liars::padded(&self.model, said, *finish, most)? {
				let from = said.len() as u32;
				padded.push(Claim::text(n, asked, output, said, &self.lengths, from));
			}
		}
		add("one token replaced", replaced);
		add("cut short", cut);
		add("padded", padded);
		Ok(kinds)
	}

	/// Evidence of other inputs than the one that was asked about.
	fn other_inputs(&self, honest: &Honest<'_>, policy: &VerificationPolicy) -> Vec<Kind> {
		let count = honest.claims.len();
		let of = |name: &str, other: &dyn Fn(usize) -> (Option<FullInput>, Option<Output>)| Kind {
			name: name.into(),
			claims: honest
				.claims
				.iter()
				.enumerate()
				.filter_map(|(n, claim)| {
					let (input, output) = other(n);
					Some(Claim {
						input: input?,
						wrong: vec![differs(
							policy,
							output.as_ref(),
							honest.tensors[n][0].as_ref(),
						)],
						..claim.clone()
					})
				})
				.collect(),
			own: None,
			fabricated: false,
		};
		let altered = of("altered input", &|n| {
			(
				questions::altered(&honest.claims[n].input),
				honest.tensors[n][1].clone(),
			)
		});
		let another = of("another input", &|n| {
			let next = (n + 1) % count;
			(
				(next != n).then(|| honest.claims[next].input.clone()),
				honest.tensors[next][0].clone(),
			)
		});
		[altered, another]
			.into_iter()
			.filter(|k| !k.claims.is_empty())
			.collect()
	}
}

impl Honest<'_> {
	/// Place of a question among these.
	fn place(&self, question: usize) -> usize {
		let mut claims = self.claims.iter();
		claims
			.position(|c| c.question == question)
			.unwrap_or_default()
	}
}

/// Refuses measurements from which no policy can be made.
fn check(measured: &[Measurements]) -> Result<(), CalibrationError> {
	let mut all = measured.iter().flatten();
	if all.any(|evidence| largest_value(evidence) >= i32::MAX as u32) {
		return Err(CalibrationError::Input(
			"some values are infinite, not a number, or far larger than those of the first answers: what differs there cannot be \
			 seen"
				.into(),
		));
	}
	if !same_tags(measured) {
		return Err(CalibrationError::Input(
			"outputs that are no floats, or which floats are not finite, depend on how the model is run: they are compared \
			 exactly, so that this model belongs in the exact class, or should give the numbers from which they are made"
				.into(),
		));
	}
	Ok(())
}

/// Whether two kinds claim the same answers.
fn same(a: &Kind, b: &Kind) -> bool {
	a.claims.len() == b.claims.len()
		&& a.claims.iter().zip(&b.claims).all(|(a, b)| {
			a.question == b.question && a.output == b.output && a.columns == b.columns
		})
}

/// The policy under which differences are looked at.
fn fine_policy(standing: &VerificationPolicy, fraction_bits: u8) -> VerificationPolicy {
	match standing.class {
		NumericClass::Exact => *standing,
		NumericClass::Tolerant => VerificationPolicy {
			fraction_bits,
			..*standing
		},
	}
}
