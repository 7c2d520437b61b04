//! Validators that lie, in networks of real ones: nobody gains by it, and nobody else loses.
//!
//! The honest ones run the shipped program, the liars `consilience-liars`. Everything is asserted on events of final blocks.

use std::collections::BTreeSet;

use consilience_primitives::{comparison::AnswerJudgement, ModelId, RequestId};
use consilience_rpc::{InferenceRpcClient, ModelsRpcClient};
use consilience_runtime::AccountId;
use consilience_tests::{
	cheap_model, liars_binary, quick, tiny_model, within, Network, Node, Options, RequestEvent,
	Story,
};
use pallet_inference::features::offence::OffenceKind;
use polkadot_sdk::sp_runtime::traits::Header as _;

const REQUESTER: &str = "//Ferdie";
/// Batches of requests after which a liar must have been drawn.
const BATCHES: usize = 12;

/// A network that serves the tiny model.
struct Trial {
	network: Network,
	model: ModelId,
	asked: usize,
}

impl Trial {
	/// Everybody serves the model.
	async fn among(network: Network) -> Self {
		let all: Vec<_> = (0..network.nodes.len()).collect();
		Self::of(network, &all).await
	}

	/// These serve the model.
	async fn of(network: Network, serving: &[usize]) -> Self {
		let folder = network.folder.path().join("models");
		let model = quick(tiny_model(&folder, "tiny"));
		let model = network.bring_up(&model, serving).await;
		Self {
			model: model.parse().expect("an id is a hash"),
			network,
			asked: 0,
		}
	}

	fn first(&self) -> &Node {
		&self.network.nodes[0]
	}

	/// Has a validator lie from now on. Gives its account.
	async fn corrupt(&mut self, index: usize, lie: &str, arguments: &[&str]) -> AccountId {
		let mut options = Options {
			program: liars_binary(),
			arguments: vec!["--liar".into(), lie.into()],
			..Default::default()
		};
		options
			.arguments
			.extend(arguments.iter().map(|a| (*a).to_owned()));
		self.network.restart(index, &options).await;
		let node = &self.network.nodes[index];
		node.await_line("THIS VALIDATOR LIES").await;
		// It is ready: it has caught up and checked the model that it serves.
		node.await_line("reference evidence reproduced").await;
		let engine = node.client.rpc.engine().await;
		let engine = engine.expect("the node runs a worker");
		engine.validator.expect("the liar is in the session")
	}

	/// Has a validator work honestly again.
	async fn reform(&mut self, index: usize) {
		self.network.restart(index, &Options::default()).await;
		let node = &self.network.nodes[index];
		node.await_line("reference evidence reproduced").await;
	}

	/// Asks so many questions at once, as often as it takes until `wanted` holds of what happened to them. Gives all that happened.
	async fn ask_until(&mut self, questions: usize, wanted: impl Fn(&Story) -> bool) -> Vec<Story> {
		let mut stories = Vec::new();
		for _ in 0..BATCHES {
			let prompts = prompts(self.asked, questions);
			self.asked += questions;
			let client = &self.first().client;
			let mut story = Story::ask(client, REQUESTER, self.model, &prompts, 2).await;
			story.to_the_end(client).await;
			let enough = wanted(&story);
			stories.push(story);
			if enough {
				return stories;
			}
		}
		panic!("the liar was not drawn in {BATCHES} batches of {questions} requests");
	}
}

fn prompts(first: usize, count: usize) -> Vec<String> {
	let prompt = |n| format!("t{} t{} t{}", 2 + n % 40, 3 + n % 37, 5 + n % 31);
	(first..first + count).map(prompt).collect()
}

/// Everything that happened.
fn events<T>(stories: &[Story], wanted: impl Fn(&RequestEvent) -> Option<T>) -> Vec<T> {
	stories.iter().flat_map(|s| s.all(&wanted)).collect()
}

fn requests(stories: &[Story]) -> BTreeSet<RequestId> {
	stories
		.iter()
		.flat_map(|s| s.requests.iter().copied())
		.collect()
}

/// Requests that ended Final, with their committees.
fn finals(stories: &[Story]) -> Vec<(RequestId, AccountId, Vec<AccountId>)> {
	events(stories, |e| match e {
		RequestEvent::RequestFinal {
			request,
			executor,
			verifiers,
			..
		} => Some((*request, executor.clone(), verifiers.clone())),
		_ => None,
	})
}

/// Who was reported for what.
fn offences(stories: &[Story]) -> Vec<(RequestId, AccountId, OffenceKind)> {
	events(stories, |e| match e {
		RequestEvent::OffenceReported {
			request,
			offender,
			kind,
			..
		} => Some((*request, offender.clone(), *kind)),
		_ => None,
	})
}

/// Requests that a validator was drawn to answer.
fn executed(stories: &[Story], who: &AccountId) -> BTreeSet<RequestId> {
	let drawn = events(stories, |e| match e {
		RequestEvent::ExecutorDrawn {
			request, executor, ..
		} if executor == who => Some(*request),
		_ => None,
	});
	drawn.into_iter().collect()
}

/// Whether a validator was drawn to check an answer.
fn verified(story: &Story, who: &AccountId) -> bool {
	!story
		.all(|e| match e {
			RequestEvent::CommitteeDrawn { verifiers, .. } => verifiers.contains(who).then_some(()),
			_ => None,
		})
		.is_empty()
}

fn was_executor(story: &Story, who: &AccountId) -> bool {
	!executed(std::slice::from_ref(story), who).is_empty()
}

/// All requests are final, and who was silent is in no committee that was paid.
fn all_final_without(stories: &[Story], liar: &AccountId) {
	let finals = finals(stories);
	let asked = requests(stories);
	assert_eq!(
		finals.iter().map(|f| f.0).collect::<BTreeSet<_>>(),
		asked,
		"every request is final"
	);
	for (request, executor, verifiers) in &finals {
		assert_eq!(verifiers.len(), 2, "request {request}");
		assert_ne!(executor, liar, "request {request}");
	}
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_silent_or_gone_is_replaced_and_costs_the_requester_nothing() {
	let mut trial = Trial::among(Network::start(&[]).await).await;

	let silent = trial.corrupt(3, "silent-executor", &[]).await;
	let stories = trial.ask_until(4, |s| was_executor(s, &silent)).await;
	all_final_without(&stories, &silent);
	let replaced = events(&stories, |e| match e {
		RequestEvent::ExecutorReplaced { request, executor } => Some((*request, executor.clone())),
		_ => None,
	});
	assert!(
		replaced.iter().all(|(_, executor)| *executor == silent),
		"{replaced:?}"
	);
	let replaced: BTreeSet<_> = replaced.into_iter().map(|r| r.0).collect();
	assert_eq!(replaced, executed(&stories, &silent));
	assert_eq!(offences(&stories), [], "it was not absent often enough");
	trial.reform(3).await;

	let silent = trial.corrupt(2, "silent-verifier", &[]).await;
	let stories = trial.ask_until(2, |s| verified(s, &silent)).await;
	let replaced = events(&stories, |e| match e {
		RequestEvent::VerifierReplaced { verifier, .. } => Some(verifier.clone()),
		_ => None,
	});
	assert!(!replaced.is_empty());
	assert!(replaced.iter().all(|v| *v == silent), "{replaced:?}");
	let finals = finals(&stories);
	assert_eq!(finals.len(), requests(&stories).len());
	assert!(
		finals.iter().all(|(_, _, v)| !v.contains(&silent)),
		"who did not check is not paid for it: {finals:?}"
	);
	assert_eq!(offences(&stories), []);
	trial.reform(2).await;

	let gone = trial.corrupt(1, "crash-after-answer", &[]).await;
	let stories = trial.ask_until(4, |s| was_executor(s, &gone)).await;
	trial.network.nodes[1].ended().await;
	all_final_without(&stories, &gone);
	// It had other duties too, and who is absent for the fourth time is reported.
	for (request, offender, kind) in offences(&stories) {
		assert_eq!(
			(offender, kind),
			(gone.clone(), OffenceKind::Absence),
			"request {request}"
		);
	}
	// Three of four still finalise.
	let client = &trial.first().client;
	let head = client.await_head("a block", false, |_| true).await;
	client.await_finalized(*head.number()).await;
}

/// A validator that commits and does not show its evidence is reported, and the answer checked by others.
async fn withheld(lie: &str) {
	let mut trial = Trial::among(Network::start(&[]).await).await;
	let liar = trial.corrupt(3, lie, &[]).await;
	let stories = trial.ask_until(2, |s| was_reported(s, &liar)).await;
	let missing = events(&stories, |e| match e {
		RequestEvent::RevealMissing { member, .. } => Some(member.clone()),
		_ => None,
	});
	assert!(!missing.is_empty());
	assert!(missing.iter().all(|m| *m == liar), "{missing:?}");
	let offences = offences(&stories);
	assert_eq!(offences.len(), missing.len(), "{offences:?}");
	for (_, offender, kind) in offences {
		assert_eq!(
			(offender, kind),
			(liar.clone(), OffenceKind::WithheldReveal)
		);
	}
	assert_eq!(finals(&stories).len(), requests(&stories).len());
	let paid = events(&stories, |e| match e {
		RequestEvent::Paid { who, .. } => Some(who.clone()),
		_ => None,
	});
	assert!(!paid.contains(&liar), "{paid:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_withholds_its_reveal_is_reported() {
	withheld("withhold-reveal").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_copies_has_nothing_to_show_and_is_reported() {
	withheld("copycat").await;
}

/// What a request that a liar answered comes to, and whether everybody else was left in peace.
fn lies_are_found(stories: &[Story], liar: &AccountId, kinds: &[OffenceKind]) {
	let offences = offences(stories);
	assert!(!offences.is_empty());
	for (request, offender, kind) in &offences {
		assert_eq!(offender, liar, "request {request}: {kind:?}");
		assert!(kinds.contains(kind), "request {request}: {kind:?}");
	}
	// Nobody loses by the lie: everything is returned where the answer was wrong.
	let rejected = events(stories, |e| match e {
		RequestEvent::RequestRejected {
			request,
			answer,
			executor,
			..
		} => Some((*request, *answer, executor.0.clone())),
		_ => None,
	});
	for (request, answer, executor) in &rejected {
		assert_eq!(
			(answer, executor),
			(&AnswerJudgement::Wrong, liar),
			"request {request}"
		);
	}
	let settled = finals(stories).len() + rejected.len();
	assert_eq!(settled, requests(stories).len(), "nothing expired");
}

fn was_reported(story: &Story, who: &AccountId) -> bool {
	let offences = offences(std::slice::from_ref(story));
	offences.iter().any(|(_, offender, _)| offender == who)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispute_among_four_ends_in_a_refund_and_nobody_is_blamed() {
	let mut trial = Trial::among(Network::start(&[]).await).await;
	let liar = trial.corrupt(3, "wrong-answer", &[]).await;
	let stories = trial.ask_until(4, |s| was_executor(s, &liar)).await;
	let lied = executed(&stories, &liar);
	let rejected = events(&stories, |e| match e {
		RequestEvent::RequestRejected {
			request,
			answer: AnswerJudgement::Undecided,
			..
		} => Some(*request),
		_ => None,
	});
	assert_eq!(rejected.into_iter().collect::<BTreeSet<_>>(), lied);
	assert_eq!(
		finals(&stories).len() + lied.len(),
		requests(&stories).len()
	);
	assert_eq!(offences(&stories), []);
	let paid = events(&stories, |e| match e {
		RequestEvent::Paid { request, .. } if lied.contains(request) => Some(*request),
		_ => None,
	});
	assert!(paid.is_empty(), "nobody is paid for {paid:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_answers_and_invented_evidence_are_found_by_a_jury() {
	let mut trial = Trial::among(Network::of_seven().await).await;
	let liar = trial.corrupt(3, "wrong-answer", &[]).await;
	let stories = trial.ask_until(6, |s| was_reported(s, &liar)).await;
	lies_are_found(&stories, &liar, &[OffenceKind::FraudulentResult]);
	let answers = executed(&stories, &liar).len();
	assert_eq!(offences(&stories).len(), answers, "each of its lies");

	let lazy = trial.corrupt(4, "lazy-verifier", &[]).await;
	let stories = trial.ask_until(2, |s| was_reported(s, &lazy)).await;
	lies_are_found(&stories, &lazy, &[OffenceKind::FraudulentEvidence]);
	assert_eq!(
		finals(&stories).len(),
		requests(&stories).len(),
		"the answers were right"
	);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_model_is_found_with_its_own_evidence_or_with_that_of_the_true_one() {
	let mut trial = Trial::among(Network::of_seven().await).await;
	let folder = trial.network.folder.path().join("cheap");
	let cheap = quick(cheap_model(&folder, "cheap"));
	for (index, lie) in [(3, "cheap-model"), (4, "prefill-attack")] {
		let model = trial.network.nodes[index]
			.import(&cheap)
			.await
			.expect("the cheap model can be imported");
		let liar = trial.corrupt(index, lie, &["--liar-model", &model]).await;
		let stories = trial.ask_until(6, |s| was_reported(s, &liar)).await;
		let kinds = [
			OffenceKind::FraudulentResult,
			OffenceKind::FraudulentEvidence,
		];
		lies_are_found(&stories, &liar, &kinds);
	}
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_answer_is_no_answer() {
	let mut trial = Trial::among(Network::of_seven().await).await;
	let liar = trial.corrupt(3, "replay", &[]).await;
	let stories = trial.ask_until(6, |s| was_reported(s, &liar)).await;
	lies_are_found(&stories, &liar, &[OffenceKind::FraudulentResult]);
	// What it answered afresh, the first and whatever ran beside it, was no lie, and is final.
	let found: BTreeSet<_> = offences(&stories).into_iter().map(|o| o.0).collect();
	let honest: BTreeSet<_> = finals(&stories).into_iter().map(|f| f.0).collect();
	let answered = executed(&stories, &liar);
	assert_eq!(found, answered.difference(&honest).copied().collect());
	assert!(!answered.is_disjoint(&honest), "{answered:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_liars_who_vouch_for_each_other_lose_to_one_honest_verifier() {
	// At first three serve the model, so that every committee is the two liars and an honest one.
	let mut trial = Trial::of(Network::of_seven().await, &[0, 3, 4]).await;
	let liars = [
		trial.corrupt(3, "collude", &[]).await,
		trial.corrupt(4, "collude", &[]).await,
	];
	let stored = trial.first().stored(&format!("{:?}", trial.model));
	let others = [1, 2, 5, 6];
	for index in others {
		let imported = trial.network.nodes[index].import(&stored).await;
		imported.expect("the others import the model");
	}
	// A validator is executor in two of them at most: two are the liars'.
	let client = &trial.first().client;
	let mut story = Story::ask(client, REQUESTER, trial.model, &prompts(0, 4), 2).await;
	story.committees_drawn(client).await;
	for index in others {
		let node = &trial.network.nodes[index];
		let served = node.client.rpc.serve(trial.model).await;
		served.expect("a stored model can be served");
	}
	story.to_the_end(client).await;
	let stories = [story];

	let lied: BTreeSet<_> = liars.iter().flat_map(|l| executed(&stories, l)).collect();
	assert!(lied.len() >= 2, "{lied:?}");
	let wrong = events(&stories, |e| match e {
		RequestEvent::RequestRejected {
			request,
			answer: AnswerJudgement::Wrong,
			..
		} => Some(*request),
		_ => None,
	});
	assert_eq!(wrong.into_iter().collect::<BTreeSet<_>>(), lied);
	let finals: BTreeSet<_> = finals(&stories).into_iter().map(|f| f.0).collect();
	assert_eq!(
		finals,
		requests(&stories).difference(&lied).copied().collect()
	);
	// The one who answered and the one who vouched for it.
	let found: BTreeSet<_> = offences(&stories).into_iter().collect();
	let expected = lied
		.iter()
		.flat_map(|request| {
			let answered = executed(&stories, &liars[0]).contains(request);
			let kind = |wrote| {
				if wrote {
					OffenceKind::FraudulentResult
				} else {
					OffenceKind::FraudulentEvidence
				}
			};
			[
				(*request, liars[0].clone(), kind(answered)),
				(*request, liars[1].clone(), kind(!answered)),
			]
		})
		.collect();
	assert_eq!(found, expected);
}

#[tokio::test]
async fn the_shipped_program_cannot_lie() {
	let run = |program, flag: &'static str| async move {
		let mut command = tokio::process::Command::new(program);
		command.args(["--liar", flag, "--help"]).kill_on_drop(true);
		within("help", command.output()).await.expect("it runs")
	};
	let shipped = run(consilience_tests::binary(), "copycat").await;
	let said = String::from_utf8_lossy(&shipped.stderr).into_owned();
	assert!(
		!shipped.status.success() && said.contains("--liar"),
		"{said}"
	);
	let liars = run(liars_binary(), "copycat").await;
	assert!(liars.status.success());
}
