//! The measurements, from questions to a report.

use std::{path::PathBuf, time::Instant};

use consilience_engine::Provider;
use consilience_primitives::{
	evidence::Evidence,
	model::{NumericClass, Task, VerificationPolicy},
	request::{FinishReason, Input, Output},
};
use indicatif::ProgressBar;

use crate::{
	configuration::{Configuration, Variations},
	distance::{differs, largest_value, same_tags, spread, unequal},
	engines::Loaded,
	liars::{self, Claim},
	model::{tokens, Model},
	policy::{propose, Slack, Spread},
	process::EngineProgram,
	questions::{self, Question},
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
	/// Questions, half of them held out; at least two.
	pub answers: usize,
	/// Numbers of tokens asked for at which rates are reported, ascending; the last is what is asked for.
	pub lengths: Vec<u32>,
	/// Challenges for each answer; at least two.
	pub challenges: usize,
	/// Ways of running.
	pub variations: Variations,
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
	if options.answers < 2 || options.challenges < 2 || options.lengths.is_empty() {
		return Err(CalibrationError::Input(
			"at least two answers, two challenges and one length are needed".into(),
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
}

/// What the model itself says.
struct Truth {
	claims: Vec<Claim>,
	held_out: Vec<Claim>,
	/// For each question; empty for tasks without tokens.
	answers: Vec<Option<(Vec<u32>, FinishReason)>>,
	/// Answers to held-out questions as a lazy executor altered them: prompt, temperature.
	altered: [Vec<Claim>; 2],
	/// Tensors that answer the held-out questions, and those questions altered; empty for text generation.
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
		Loaded::new(&self.options.program, configuration, model, policy).await
	}

	/// Sets the length of the bar: answers written and claims measured, about.
	fn expect_work(&self) {
		let (all, ways) = (
			self.questions.len() as u64,
			self.configurations.len() as u64,
		);
		let held_out = all / 2;
		let others = self.substitutes.len() as u64;
		let work = if self.text() {
			// The truth; two altered; one by each substitute, which also measures it; honest and dishonest measurements.
			all + held_out * 2 + held_out * others * 2 + all * ways + held_out * 2 * (4 + others)
		} else {
			all * ways + held_out * (2 + others)
		};
		self.progress.set_length(work);
	}

	async fn report(self, started: Instant) -> Result<Report, CalibrationError> {
		self.expect_work();
		let standing = self.model.manifest.policy;
		let (base, others) = self
			.configurations
			.split_first()
			.ok_or_else(|| CalibrationError::Input("no configuration".into()))?;
		let challenges = self.options.challenges;

		// The calibration split, in the finest steps that hold the model's values.
		let (first, finest) = self.load_finest(base, &standing).await?;
		let truth = self.truth(&first).await?;
		let fine = fine_policy(&standing, finest);
		let mut calibration = vec![
			first
				.measure_all(&truth.claims, challenges, self.progress)
				.await?,
		];
		drop(first);
		for configuration in others {
			let engine = self.load(configuration, &fine).await?;
			calibration.push(
				engine
					.measure_all(&truth.claims, challenges, self.progress)
					.await?,
			);
		}
		if calibration
			.iter()
			.flatten()
			.any(|measured| largest_value(measured) >= i32::MAX as u32)
		{
			return Err(CalibrationError::Input(
				"some values are infinite, not a number, or far larger than those of the first answers: what differs there cannot \
				 be seen"
					.into(),
			));
		}
		if !same_tags(&calibration) {
			return Err(CalibrationError::Input(
				"outputs that are no floats, or which floats are not finite, depend on how the model is run: they are compared \
				 exactly, so that this model belongs in the exact class, or should give the numbers from which they are made"
					.into(),
			));
		}
		let spreads: Vec<Spread> = calibration
			.iter()
			.map(|c| spread(&calibration[0], c, finest))
			.collect();
		let mut seen = Spread::default();
		for (i, a) in calibration.iter().enumerate() {
			for b in &calibration[i..] {
				seen = seen.join(spread(a, b, finest));
			}
		}
		let policy = if self.options.keep_policy {
			standing
		} else {
			let all = seen.join(self.options.known);
			propose(&all, self.options.slack, finest, self.task, &standing)
		};
		// The honest machine that is farthest from the base.
		let far = (1..spreads.len())
			.max_by(|a, b| spreads[*a].max.total_cmp(&spreads[*b].max))
			.unwrap_or(0);

		// The held-out split, under the policy itself.
		let mut kinds = self.kinds(&truth, &policy).await?;
		let mut honest = Vec::new();
		let mut measured: Vec<Vec<Vec<Vec<Evidence>>>> = Vec::new();
		for (i, configuration) in self.configurations.iter().enumerate() {
			let engine = self.load(configuration, &policy).await?;
			honest.push(
				engine
					.measure_all(&truth.held_out, challenges, self.progress)
					.await?,
			);
			if i == 0 {
				for kind in kinds.iter_mut().filter(|k| !self.text() && k.own.is_none()) {
					kind.own = Some(
						engine
							.measure_all(&kind.claims, challenges, self.progress)
							.await?,
					);
				}
			}
			if self.text() && (i == 0 || i == far) {
				let mut of_kinds: Vec<Vec<Vec<Evidence>>> = Vec::new();
				for (k, kind) in kinds.iter().enumerate() {
					// What a substitute wrote is claimed twice, with evidence of two origins: to others it is the same.
					let same = kinds[..k].iter().position(|other| {
						other.own.is_some() && !kind.claims.is_empty() && same(other, kind)
					});
					of_kinds.push(match same {
						Some(other) => of_kinds[other].clone(),
						None => {
							engine
								.measure_all(&kind.claims, challenges, self.progress)
								.await?
						}
					});
				}
				measured.push(of_kinds);
			}
		}
		self.progress.finish_and_clear();

		let splits = [unequal(&calibration), unequal(&honest)];
		let mut tally = Tally::default();
		for (k, kind) in kinds.iter().enumerate() {
			let others = |n: usize, claim: &Claim| -> Vec<&[Evidence]> {
				if self.text() {
					measured.iter().map(|m| &m[k][n][..]).collect()
				} else {
					let n = self.place(&truth, claim.question);
					[0, far].iter().map(|c| &honest[*c][n][..]).collect()
				}
			};
			tally.add(
				&policy,
				&self.model,
				kind,
				others,
				&self.lengths,
				challenges,
			);
		}
		let honest_rows = honest_rows(&policy, self.task, &honest, &self.lengths, challenges);
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
				calibration: truth.claims.len(),
				held_out: truth.held_out.len(),
				challenges,
				slack: self.options.slack,
				known: self.options.known,
			},
			seen,
			standing,
			policy,
			proposed: !self.options.keep_policy,
			compared: splits.iter().map(|s| s.0).sum(),
			different: splits.iter().map(|s| s.1).sum(),
			honest: honest_rows,
			dishonest: tally.kinds,
			wrong_tokens: self.text().then_some(tally.wrong_tokens),
			deviations: tally.deviations,
			seconds: started.elapsed().as_secs_f64(),
		})
	}

	/// Place of a question in the held-out split.
	fn place(&self, truth: &Truth, question: usize) -> usize {
		truth
			.held_out
			.iter()
			.position(|c| c.question == question)
			.unwrap_or_default()
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
					if let Input::TextGeneration { sampling, .. } = &mut short {
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

	/// Asks the model everything, and a lazy executor what it answers in its place.
	async fn truth(&self, engine: &Loaded) -> Result<Truth, CalibrationError> {
		let mut truth = Truth {
			claims: Vec::new(),
			held_out: Vec::new(),
			answers: Vec::new(),
			altered: Default::default(),
			tensors: Vec::new(),
		};
		for (n, question) in self.questions.iter().enumerate() {
			let asked = (&question.input, question.seed);
			let claim = if self.text() {
				let output = engine.answer(asked.0, asked.1).await?;
				self.progress.inc(1);
				let said = tokens(&output);
				let Output::Text { finish, .. } = &output else {
					return Err(CalibrationError::Input("tensors from a text model".into()));
				};
				truth.answers.push(Some((said.clone(), *finish)));
				Claim::text(n, asked, output, &said, &self.lengths, 0)
			} else {
				truth.answers.push(None);
				Claim::whole(n, asked.0, asked.1)
			};
			if !question.held_out {
				truth.claims.push(claim);
				continue;
			}
			truth.held_out.push(claim);
			if !self.text() {
				let altered = match questions::altered(asked.0) {
					Some(input) => Some(engine.answer(&input, asked.1).await?),
					None => None,
				};
				let output = engine.answer(asked.0, asked.1).await?;
				truth.tensors.push([Some(output), altered]);
			}
			if let Some((said, _)) = &truth.answers[n] {
				let lies = [questions::altered(asked.0), questions::reheated(asked.0)];
				for (to, lie) in truth.altered.iter_mut().zip(lies) {
					let Some(lie) = lie else { continue };
					let output = engine.answer(&lie, question.seed).await?;
					self.progress.inc(1);
					to.push(Claim::text(n, asked, output, said, &self.lengths, 0));
				}
			}
		}
		Ok(truth)
	}

	/// Every kind of dishonest answer to the held-out questions.
	async fn kinds(
		&self,
		truth: &Truth,
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
			for (n, claim) in truth.held_out.iter().enumerate() {
				let output = engine.answer(&claim.input, claim.seed).await?;
				claims.push(match &truth.answers[claim.question] {
					Some((said, _)) => {
						self.progress.inc(1);
						let asked = (&claim.input, claim.seed);
						Claim::text(claim.question, asked, output, said, &self.lengths, 0)
					}
					None => Claim {
						wrong: vec![differs(policy, Some(&output), truth.tensors[n][0].as_ref())],
						..claim.clone()
					},
				});
			}
			let own = engine
				.measure_all(&claims, self.options.challenges, self.progress)
				.await?;
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
			kinds.extend(self.other_inputs(truth, policy));
			return Ok(kinds);
		}
		let [prompt, temperature] = &truth.altered;
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
		for claim in &truth.held_out {
			let Some((said, finish)) = &truth.answers[claim.question] else {
				continue;
			};
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
	fn other_inputs(&self, truth: &Truth, policy: &VerificationPolicy) -> Vec<Kind> {
		let count = truth.held_out.len();
		let of = |name: &str, other: &dyn Fn(usize) -> (Option<Input>, Option<Output>)| Kind {
			name: name.into(),
			claims: truth
				.held_out
				.iter()
				.enumerate()
				.filter_map(|(n, claim)| {
					let (input, output) = other(n);
					Some(Claim {
						input: input?,
						wrong: vec![differs(
							policy,
							output.as_ref(),
							truth.tensors[n][0].as_ref(),
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
				questions::altered(&truth.held_out[n].input),
				truth.tensors[n][1].clone(),
			)
		});
		let another = of("another input", &|n| {
			let next = (n + 1) % count;
			(
				(next != n).then(|| truth.held_out[next].input.clone()),
				truth.tensors[next][0].clone(),
			)
		});
		[altered, another]
			.into_iter()
			.filter(|k| !k.claims.is_empty())
			.collect()
	}
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
