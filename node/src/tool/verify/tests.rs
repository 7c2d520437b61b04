//! Judging made-up requests, and what the command line takes.

#![allow(clippy::unwrap_used)]

use clap::Parser;
use codec::Compact;
use consilience_primitives::{
	evidence::Fingerprint,
	model::Bounds,
	request::{Assurance, FinishReason, Input, Prompt, Sampling, Unanswerable},
	tensor::{DataType, Tensor},
};
use consilience_runtime::AccountId;

use super::{
	judge::{find, first_beyond, Answer, Closeness, Finding, Place, Role},
	report::{Report, Status},
	*,
};
use crate::{
	cli::{Cli, Subcommand},
	tool::chain::Head,
};

const ROUND: H256 = H256::repeat_byte(1);
const JURY: H256 = H256::repeat_byte(2);
/// The block at which all is read.
const NOW: u32 = 100;
const LOGIT: u32 = 1 << 16;

fn account(n: u8) -> AccountId {
	[n; 32].into()
}

fn text(tokens: &[u32], text: &str) -> Output {
	Output::Text {
		tokens: tokens
			.iter()
			.map(|t| Compact(*t))
			.collect::<Vec<_>>()
			.try_into()
			.unwrap(),
		text: text.as_bytes().to_vec().try_into().unwrap(),
		finish: FinishReason::Length,
	}
}

fn tensors(values: &[f32]) -> Output {
	let tensor = Tensor {
		name: b"scores".to_vec().try_into().unwrap(),
		datatype: DataType::Fp32,
		shape: vec![values.len() as u32].try_into().unwrap(),
		data: values
			.iter()
			.flat_map(|v| v.to_le_bytes())
			.collect::<Vec<_>>()
			.try_into()
			.unwrap(),
	};
	Output::Tensors(vec![tensor].try_into().unwrap())
}

fn policy(class: NumericClass) -> VerificationPolicy {
	let (accept, fraud) = match class {
		NumericClass::Exact => Default::default(),
		NumericClass::Tolerant => (
			Bounds {
				mean: 2 * 256,
				max: 4,
				margin_max: LOGIT / 8,
				margin_mean: LOGIT / 16,
			},
			Bounds {
				mean: 20 * 256,
				max: 40,
				margin_max: 2 * LOGIT,
				margin_mean: LOGIT,
			},
		),
	};
	VerificationPolicy {
		class,
		positions: 4,
		entries: 1,
		fraction_bits: 8,
		accept,
		fraud,
		min_verifiers: 1,
		min_sampling: 1_000,
	}
}

fn digest(n: u8) -> Fingerprint {
	Fingerprint::Digest([n; 16])
}

fn values(v: &[i32]) -> Fingerprint {
	Fingerprint::Values {
		tag: 0,
		values: v.to_vec().try_into().unwrap(),
	}
}

fn margin(largest: u32) -> Verdict {
	Verdict {
		margin_max: largest,
		margin_mean: largest / 4,
		deviations: u32::from(largest > 0),
	}
}

fn evidence(fingerprint: Fingerprint, verdict: Verdict) -> Evidence {
	Evidence {
		fingerprint,
		verdict,
		prior: None,
	}
}

fn asked() -> Input {
	Input::TextGeneration {
		prompt: Prompt::Text(b"hello".to_vec().try_into().unwrap()),
		sampling: Sampling::default(),
	}
}

/// Final, by executor 1 and verifier 2, whose evidence is this.
fn request(output: &Output, members: [Evidence; 2]) -> Request {
	let [executor, verifier] = members;
	Request {
		id: 5,
		requester: account(9),
		model: H256::repeat_byte(7),
		input: asked().into(),
		assurance: Assurance::Committee(1),
		state: RequestState::Final,
		seed: Some(H256::repeat_byte(3)),
		challenge: Some(ROUND),
		executor: Some(account(1)),
		verifiers: vec![account(2)],
		jurors: vec![],
		output: Some(output.clone()),
		evidence: vec![(account(1), executor), (account(2), verifier)],
		jury_challenge: None,
		requested_at: 10,
		assigned_at: Some(11),
		provisional_at: Some(12),
		appealable_until: Some(NOW),
		settled_at: Some(15),
		escrow: 100,
		paid: 90,
		surcharge: 0,
		refunded: 10,
	}
}

/// This machine found the text right.
fn agreeing(fingerprint: Fingerprint) -> Own {
	Own {
		verdict: Verdict::default(),
		round: Some(fingerprint),
		jury: None,
		output: None,
		beyond: None,
	}
}

fn found(request: &Request, class: NumericClass, own: &Own) -> Finding {
	let claimed = request.output.clone().unwrap();
	find(request, &claimed, &policy(class), own, NOW)
}

fn report(request: &Request, own: Own, finding: Finding) -> Report {
	let mut report = Report::unchecked(request.id, String::new());
	report.see(&Seen {
		input: Ok(asked().into()),
		head: Head {
			number: NOW,
			hash: H256::repeat_byte(4),
		},
		at: At::Finalized,
		request: request.clone(),
		spec: None,
	});
	report.find(own, finding);
	report
}

fn why(answer: &Answer) -> &str {
	match answer {
		Answer::Wrong { why, .. } | Answer::Undecided(why) => why,
		Answer::Right => panic!("the answer is right"),
	}
}

#[test]
fn exact_and_all_bits_are_the_same() {
	let right = evidence(digest(1), Verdict::default());
	let request = request(&text(&[1, 2, 3], "abc"), [right.clone(), right]);
	let own = agreeing(digest(1));
	let finding = found(&request, NumericClass::Exact, &own);
	assert_eq!(finding.answer, Answer::Right);
	assert!(!finding.is_evidence_false());
	let roles: Vec<_> = finding
		.members
		.iter()
		.map(|m| (m.role, m.fingerprint))
		.collect();
	assert_eq!(
		roles,
		[
			(Role::Executor, Closeness::Equal),
			(Role::Verifier, Closeness::Equal)
		]
	);
	let report = report(&request, own, finding);
	assert_eq!(report.status(), Status::Right);
	let json = report.json();
	assert_eq!(json["verdict"], "right");
	assert_eq!(json["answer"], "abc");
	assert_eq!(json["members"][1]["role"], "verifier");
	assert_eq!(json["members"][1]["fingerprint"], "equal");
	assert!(
		json["appeal"].is_null(),
		"there is nothing to appeal against"
	);
	let people = report.people();
	assert!(people.ends_with("verdict    right"), "{people}");
	assert!(
		people.contains("each of 3 tokens is what the model says"),
		"{people}"
	);
}

#[test]
fn an_exact_answer_is_wrong_where_it_parts_from_the_models_and_who_vouched_lied() {
	let vouched = evidence(digest(1), Verdict::default());
	let honest = evidence(digest(1), margin(3 * LOGIT));
	let request = request(&text(&[1, 2, 9, 4], "abxd"), [vouched, honest]);
	let own = Own {
		verdict: margin(3 * LOGIT),
		output: Some(text(&[1, 2, 3], "abc")),
		..agreeing(digest(1))
	};
	let finding = found(&request, NumericClass::Exact, &own);
	let Answer::Wrong { why, place } = &finding.answer else {
		panic!("{finding:?}")
	};
	assert_eq!(why, "at token 3 of 4, the model says token 3 there, not 9");
	let expected = Place {
		index: 2,
		claimed: Some(9),
		model: Some(3),
	};
	assert_eq!(*place, Some(expected));
	assert!(finding.members[0]
		.falsehood
		.unwrap()
		.contains("calls an answer right"));
	assert_eq!(finding.members[1].falsehood, None);
	let report = report(&request, own, finding);
	assert_eq!(report.status(), Status::Wrong);
	let json = report.json();
	assert_eq!(json["wrong_at"]["index"], 2);
	assert_eq!(json["model_output"], "abc");
	assert_eq!(json["appeal"]["until"], NOW);
	assert_eq!(
		json["appeal"]["command"],
		"consilience request appeal 5 --suri SECRET"
	);
	let people = report.people();
	assert!(
		people.contains("verdict    wrong: at token 3 of 4"),
		"{people}"
	);
	assert!(people.contains("FALSE"), "{people}");
	assert!(people.contains("request appeal 5"), "{people}");
}

#[test]
fn an_end_is_claimed_too() {
	let any = evidence(digest(1), Verdict::default());
	let own = |model: &Output| Own {
		verdict: margin(LOGIT),
		output: Some(model.clone()),
		..agreeing(digest(1))
	};
	let whole = text(&[1, 2, 3], "abc");
	let cut = text(&[1, 2], "ab");
	let of = |claimed: &Output, model: &Output| {
		let request = request(claimed, [any.clone(), any.clone()]);
		let finding = found(&request, NumericClass::Exact, &own(model));
		why(&finding.answer).to_owned()
	};
	assert_eq!(of(&cut, &whole), "at token 3 of 2, the model goes on there");
	assert_eq!(
		of(&whole, &cut),
		"at token 3 of 3, the model has ended there"
	);
	assert!(of(&whole, &text(&[1, 2, 3], "xyz")).contains("not what they say"));
}

#[test]
fn an_appeal_is_offered_only_where_it_is_taken_and_worth_it() {
	let liar = evidence(digest(8), Verdict::default());
	let honest = evidence(digest(1), Verdict::default());
	let mut request = request(&text(&[1], "a"), [honest, liar]);
	let finding = found(&request, NumericClass::Exact, &agreeing(digest(1)));
	assert_eq!(finding.answer, Answer::Right);
	assert!(finding.members[1].falsehood.is_some());
	let told = report(&request, agreeing(digest(1)), finding);
	assert_eq!(told.status(), Status::Right);
	assert!(told.json()["appeal"].is_null(), "its bond would be lost");
	assert!(
		told.people().contains("not all evidence"),
		"{}",
		told.people()
	);
	// Too late.
	let wrong = Own {
		verdict: margin(LOGIT),
		output: Some(text(&[2], "b")),
		..agreeing(digest(1))
	};
	for (until, offered) in [(None, false), (Some(NOW - 1), false), (Some(NOW), true)] {
		request.appealable_until = until;
		let finding = found(&request, NumericClass::Exact, &wrong);
		let told = report(&request, wrong.clone(), finding);
		assert_eq!(told.json()["appeal"].is_null(), !offered, "{until:?}");
	}
}

#[test]
fn tolerant_texts_are_judged_by_the_policys_bounds() {
	let near = evidence(values(&[1, 0, 0, 0]), Verdict::default());
	let far = evidence(values(&[90; 4]), margin(LOGIT / 8));
	let request = request(&text(&[1, 2, 3], "abc"), [near, far]);
	let own = |largest| Own {
		verdict: margin(largest),
		output: Some(text(&[1, 5, 6], "axy")),
		beyond: (largest > 2 * LOGIT).then_some(2),
		..agreeing(values(&[0; 4]))
	};
	// Rounding.
	let finding = found(&request, NumericClass::Tolerant, &own(LOGIT / 8));
	assert_eq!(finding.answer, Answer::Right);
	let [executor, verifier] = &finding.members[..] else {
		panic!("{finding:?}")
	};
	assert_eq!(
		(executor.fingerprint, executor.distance),
		(Closeness::Within, Some(1))
	);
	assert_eq!(
		(verifier.fingerprint, verifier.distance),
		(Closeness::Beyond, Some(90))
	);
	assert!(verifier.falsehood.is_some() && executor.falsehood.is_none());
	// Neither.
	let finding = found(&request, NumericClass::Tolerant, &own(LOGIT));
	assert!(why(&finding.answer).contains("are between"), "{finding:?}");
	let told = report(&request, own(LOGIT), finding);
	assert_eq!(told.status(), Status::Unchecked);
	assert!(told.people().contains("cannot be judged here: its margins"));
	// A lie. What the model says at the place is not known, as this machine parts from the answer at a near tie before.
	let finding = found(&request, NumericClass::Tolerant, &own(3 * LOGIT));
	let Answer::Wrong { why, place } = &finding.answer else {
		panic!("{finding:?}")
	};
	assert!(
		why.starts_with("at token 3 of 3, the model would not"),
		"{why}"
	);
	assert_eq!(place.unwrap().model, None);
}

#[test]
fn jurors_are_compared_under_both_challenges() {
	let vouched = evidence(digest(1), Verdict::default());
	let mut request = request(&text(&[1], "a"), [vouched.clone(), vouched]);
	request.jury_challenge = Some(JURY);
	let juror = |own, prior| Evidence {
		prior: Some(digest(prior)),
		..evidence(digest(own), Verdict::default())
	};
	request.evidence.extend([
		(account(1), juror(2, 1)),
		(account(3), juror(2, 8)),
		(account(4), juror(8, 1)),
	]);
	let own = Own {
		jury: Some(digest(2)),
		..agreeing(digest(1))
	};
	let finding = found(&request, NumericClass::Exact, &own);
	let seen: Vec<_> = finding
		.members
		.iter()
		.map(|m| (m.role, m.fingerprint))
		.collect();
	assert_eq!(seen[0], (Role::Executor, Closeness::Equal));
	assert_eq!(
		seen[2..],
		[
			(Role::Juror, Closeness::Equal),
			(Role::Juror, Closeness::Beyond),
			(Role::Juror, Closeness::Beyond)
		]
	);
	// The jury of an appeal has no round behind it.
	request.challenge = None;
	request.evidence = vec![(account(1), evidence(digest(2), Verdict::default()))];
	let own = Own { round: None, ..own };
	let finding = found(&request, NumericClass::Exact, &own);
	assert_eq!(finding.members[0].role, Role::Juror);
	assert_eq!(finding.members[0].fingerprint, Closeness::Equal);
}

/// This machine gives these tensors.
fn gives(output: &Output, policy: &VerificationPolicy) -> Own {
	let Output::Tensors(tensors) = output else {
		panic!("no tensors")
	};
	Own {
		verdict: Verdict::default(),
		round: Some(
			Evidence::of_tensors(tensors, &ROUND, policy)
				.unwrap()
				.fingerprint,
		),
		jury: None,
		output: Some(output.clone()),
		beyond: None,
	}
}

fn sketched(output: &Output, policy: &VerificationPolicy) -> Evidence {
	evidence(gives(output, policy).round.unwrap(), Verdict::default())
}

#[test]
fn tensors_are_compared_themselves() {
	for class in [NumericClass::Exact, NumericClass::Tolerant] {
		let policy = policy(class);
		let (model, near, far) = (
			tensors(&[1.0, 2.0, 3.0]),
			tensors(&[1.0, 2.0, 3.004]),
			tensors(&[1.0, 9.0, 3.0]),
		);
		let own = gives(&model, &policy);
		let of = |claimed: &Output| {
			let honest = sketched(claimed, &policy);
			let request = request(claimed, [honest, sketched(&model, &policy)]);
			let finding = found(&request, class, &own);
			report(&request, own.clone(), finding.clone());
			finding
		};
		let finding = of(&model);
		assert_eq!(finding.answer, Answer::Right);
		assert!(!finding.is_evidence_false());
		let finding = of(&near);
		match class {
			NumericClass::Exact => assert_eq!(
				why(&finding.answer),
				"its output \"scores\" is another from element 2, where the class is exact"
			),
			NumericClass::Tolerant => assert_eq!(finding.answer, Answer::Right),
		}
		let finding = of(&far);
		assert!(
			why(&finding.answer).contains("from element 1"),
			"{finding:?}"
		);
		// What it measured is what it gave.
		assert_eq!(finding.members[0].fingerprint, Closeness::Beyond);
		assert_eq!(finding.members[1].fingerprint, Closeness::Equal);
		// Evidence of the true output beside a false one: it ran the model and gave something else.
		let claimed = near.clone();
		let request = request(
			&claimed,
			[sketched(&model, &policy), sketched(&model, &policy)],
		);
		let finding = found(&request, class, &own);
		assert!(
			finding.members[0]
				.falsehood
				.unwrap()
				.contains("another output"),
			"{finding:?}"
		);
		assert_eq!(finding.members[1].falsehood, None);
	}
}

#[test]
fn a_claim_that_there_is_no_answer_is_run_like_an_answer() {
	let code = Unanswerable::TemplateRefused;
	let claimed = Output::Unanswerable(code);
	let honest = Evidence::of_claim(code, Some(code), &ROUND);
	let denies = Evidence::of_claim(code, None, &ROUND);
	let mut request = request(&claimed, [honest, denies]);
	request.state = RequestState::Unanswerable;
	let own = |output: Output| Own {
		verdict: Evidence::of_claim(code, output.unanswerable(), &ROUND).verdict,
		round: Some(Evidence::of_claim(code, output.unanswerable(), &ROUND).fingerprint),
		jury: None,
		output: Some(output),
		beyond: None,
	};
	for class in [NumericClass::Exact, NumericClass::Tolerant] {
		let finding = found(&request, class, &own(claimed.clone()));
		assert_eq!(finding.answer, Answer::Right);
		assert_eq!(finding.members[0].falsehood, None);
		assert!(finding.members[1].falsehood.is_some());
		let told = report(&request, own(claimed.clone()), finding);
		assert!(
			told.people().contains("found unanswerable"),
			"{}",
			told.people()
		);
		// The model answers.
		let finding = found(&request, class, &own(text(&[1], "a")));
		assert!(why(&finding.answer).contains("and the model answers"));
		assert!(finding.members[0].falsehood.is_some());
		assert_eq!(finding.members[1].falsehood, None);
		// It does not, and not for that reason.
		let finding = found(
			&request,
			class,
			&own(Output::Unanswerable(Unanswerable::PromptTooLong)),
		);
		assert!(why(&finding.answer).contains("another reason"));
	}
	// An answer where there is none.
	let invented = text(&[1], "a");
	let vouched = evidence(digest(1), Verdict::default());
	request.output = Some(invented);
	request.evidence = vec![(account(2), vouched)];
	let own = Own {
		verdict: Verdict::IMPOSSIBLE,
		round: None,
		..own(claimed)
	};
	let finding = found(&request, NumericClass::Exact, &own);
	assert!(why(&finding.answer).starts_with("there is no answer"));
	assert!(finding.members[0].falsehood.is_some());
}

#[test]
fn the_first_token_beyond_a_bound_is_found_in_few_passes() {
	for count in [1, 2, 9, 10, 100, 4_096] {
		for first in [0, 1, count / 2, count - 1, count] {
			let mut passes = 0;
			let place = first_beyond(count, 10, |lengths: &[u32]| {
				passes += 1;
				assert!(lengths.iter().all(|n| *n as usize <= count && *n > 0));
				let of = |n: &u32| margin(if *n as usize > first { 11 } else { 10 });
				Ok::<_, ()>(lengths.iter().map(of).collect())
			});
			let expected = (first < count).then_some(first);
			assert_eq!(place, Ok(expected), "{first} of {count}");
			assert!(passes <= 6, "{passes} passes over {count}");
		}
	}
}

#[test]
fn what_cannot_be_checked_says_why() {
	let any = evidence(digest(1), Verdict::default());
	let mut request = request(&text(&[1], "a"), [any.clone(), any]);
	request.output = None;
	for (state, part) in [
		(RequestState::Requested, "not answered yet"),
		(RequestState::Provisional, "has not shown yet"),
		(RequestState::Cancelled, "cancelled"),
		(RequestState::Expired, "without an answer"),
	] {
		request.state = state;
		let why = answer(&request).unwrap_err();
		assert!(why.contains(part), "{why}");
	}
	let report = Report::unchecked(5, "no node answers".into());
	assert_eq!(report.status(), Status::Unchecked);
	assert_eq!(report.json()["verdict"], "unchecked");
	assert_eq!(report.json()["reason"], "no node answers");
	assert_eq!(report.people(), "verdict    not checked: no node answers");
}

#[test]
fn only_a_machine_that_reproduces_the_reference_may_judge() {
	let spec = |class, fingerprint| ModelSpec {
		name: b"m".to_vec().try_into().unwrap(),
		task: consilience_primitives::model::Task::TextGeneration,
		size: 1,
		chat: false,
		limits: consilience_primitives::model::Limits {
			max_input_units: 1,
			max_output_units: 1,
		},
		time: consilience_primitives::model::TimeLimit {
			base_blocks: 1,
			output_units_per_block: 1,
		},
		policy: policy(class),
		signature: Default::default(),
		sampling: Default::default(),
		reference: evidence(fingerprint, Verdict::default()),
	};
	let exact = spec(NumericClass::Exact, digest(1));
	assert!(is_reproduced(
		&exact,
		&evidence(digest(1), Verdict::default())
	));
	assert!(!is_reproduced(
		&exact,
		&evidence(digest(2), Verdict::default())
	));
	let tolerant = spec(NumericClass::Tolerant, values(&[0; 4]));
	assert!(is_reproduced(
		&tolerant,
		&evidence(values(&[2; 4]), margin(LOGIT / 8))
	));
	assert!(!is_reproduced(
		&tolerant,
		&evidence(values(&[9; 4]), Verdict::default())
	));
	assert!(!is_reproduced(
		&tolerant,
		&evidence(values(&[0; 4]), margin(LOGIT))
	));
	assert!(!is_reproduced(
		&tolerant,
		&evidence(digest(1), Verdict::default())
	));
}

#[test]
fn an_answer_in_a_file_is_compared_with_the_one_on_chain() {
	let claimed = text(&[1, 2], "ab\n");
	let run = |tokens: &str, text: &str| {
		format!(
			r#"{{"outputs": [{{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["{text}"]}}], "parameters": {{"tokens": {tokens}}}}}"#
		)
	};
	for (file, same) in [
		("ab\n".to_owned(), true),
		("ab\n\n".into(), true),
		("ab".into(), false),
		("{\"block\": 3}\n{\"output\": \"ab\\n\"}\n".into(), true),
		("{\"output\": \"xy\"}".into(), false),
		(run("[1, 2]", "ab\\n"), true),
		(run("[1, 3]", "ab\\n"), false),
		(run("[1, 2]", "xy"), false),
	] {
		assert_eq!(held::is(file.as_bytes(), &claimed), Ok(same), "{file}");
	}
	let scores = tensors(&[1.0, 0.5]);
	let written = watch_output(&scores);
	assert_eq!(held::is(written.as_bytes(), &scores), Ok(true));
	assert_eq!(
		held::is(written.as_bytes(), &tensors(&[1.0, 0.25])),
		Ok(false)
	);
	let code = Output::Unanswerable(Unanswerable::NotFinite);
	assert_eq!(held::is(watch_output(&code).as_bytes(), &code), Ok(true));
	let other = Output::Unanswerable(Unanswerable::TemplateRefused);
	assert_eq!(held::is(watch_output(&code).as_bytes(), &other), Ok(false));
	assert!(held::is(b"{\"x\": 1}", &scores)
		.unwrap_err()
		.contains("infer --json"));
	assert!(held::is(&[0xff], &scores).is_err());
	// Whoever holds another one was told something else than the chain was.
	let right = evidence(digest(1), Verdict::default());
	let request = request(&claimed, [right.clone(), right]);
	let own = agreeing(digest(1));
	let finding = found(&request, NumericClass::Exact, &own);
	let mut report = report(&request, own, finding);
	report.held = Some(false);
	assert_eq!(report.status(), Status::Wrong);
	assert!(
		report.people().contains("another answer"),
		"{}",
		report.people()
	);
}

fn watch_output(output: &Output) -> String {
	crate::tool::watch::output(output).to_string()
}

#[test]
fn the_command_line() {
	let parse = |arguments: &[&str]| {
		let cli = Cli::try_parse_from([&["consilience", "verify"], arguments].concat())?;
		match cli.subcommand {
			Some(Subcommand::Verify(command)) => Ok::<_, clap::Error>(command),
			other => panic!("{other:?}"),
		}
	};
	let command = parse(&["17"]).unwrap();
	assert!(matches!(command.subject, Subject::Request(17)));
	assert_eq!(command.at, At::Finalized);
	assert_eq!(command.provider, Provider::Cpu);
	assert!(!command.format.json && command.output.is_none());
	let command = parse(&[
		"17",
		"--at",
		"best",
		"--json",
		"--output",
		"answer.json",
		"-d",
		"/base",
		"--url",
		"ws://[::1]:1",
	])
	.unwrap();
	assert_eq!(command.at, At::Best);
	assert_eq!(command.node.url, "ws://[::1]:1");
	assert!(command.format.json);
	let command = parse(&["receipt.json"]).unwrap();
	assert!(matches!(command.subject, Subject::Receipt(file) if file == Path::new("receipt.json")));
	for wrong in [
		&[][..],
		&["1", "--at", "latest"],
		&["1", "--provider", "abacus"],
	] {
		assert!(parse(wrong).is_err(), "{wrong:?}");
	}
}
