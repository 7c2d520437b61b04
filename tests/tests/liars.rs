//! Validators that lie, in networks of real ones: nobody gains by it, and nobody else loses.
//!
//! The honest ones run the shipped program, the liars `consilience-liars`. Everything is asserted on events of final blocks.

use std::collections::{BTreeMap, BTreeSet};

use consilience_primitives::{comparison::AnswerJudgement, ModelId, RequestId};
use consilience_rpc::ModelsRpcClient;
use consilience_runtime::{AccountId, BlockNumber, Runtime, RuntimeEvent};
use consilience_tests::{
	cheap_model, liars_binary, quick, tiny_model, within, Client, Header, Network, Node, Options,
	RequestEvent, Story,
};
use jsonrpsee::rpc_params;
use pallet_inference::{features::offence::OffenceKind, ExpiryReason};
use polkadot_sdk::{
	pallet_staking,
	sp_core::{sr25519, Pair},
	sp_runtime::traits::Header as _,
};

const REQUESTER: &str = "//Ferdie";
const OTHER_REQUESTER: &str = "//Charlie";
/// Batches of requests after which a liar must have been drawn.
const BATCHES: usize = 12;

/// Where a liar stands, how it lies, and what it needs for that.
type Lying<'a> = (usize, &'a str, &'a [&'a str]);

/// A network that serves the tiny model, with liars in it.
struct Trial {
	network: Network,
	model: ModelId,
	asked: usize,
}

impl Trial {
	/// Everybody serves the model, the liars too. Gives their accounts.
	async fn among<const N: usize>(
		network: Network,
		liars: [Lying<'_>; N],
	) -> (Self, [AccountId; N]) {
		let all: Vec<_> = (0..network.nodes.len()).collect();
		Self::of(network, &all, liars).await
	}

	/// These serve the model.
	async fn of<const N: usize>(
		mut network: Network,
		serving: &[usize],
		liars: [Lying<'_>; N],
	) -> (Self, [AccountId; N]) {
		for (index, lie, arguments) in liars {
			corrupt(&mut network, index, lie, arguments).await;
		}
		let folder = network.folder.path().join("models");
		let model = quick(tiny_model(&folder, "tiny"));
		let model = network.bring_up(&model, serving).await;
		let accounts = liars.map(|(index, ..)| network.nodes[index].account());
		let accounts = futures::future::join_all(accounts).await;
		let trial = Self {
			model: model.parse().expect("an id is a hash"),
			network,
			asked: 0,
		};
		(trial, accounts.try_into().expect("as many as liars; qed"))
	}

	fn first(&self) -> &Node {
		&self.network.nodes[0]
	}

	/// Asks so many questions at once, as often as it takes until `wanted` holds of all that happened. Gives that.
	async fn ask_until(
		&mut self,
		questions: usize,
		wanted: impl Fn(&[Story]) -> bool,
	) -> Vec<Story> {
		let mut stories = Vec::new();
		for _ in 0..BATCHES {
			let prompts = prompts(self.asked, questions);
			self.asked += questions;
			let client = &self.first().client;
			let mut story = Story::ask(client, REQUESTER, self.model, &prompts, 2).await;
			story.to_the_end(client).await;
			stories.push(story);
			if wanted(&stories) {
				return stories;
			}
		}
		panic!("not every liar was drawn in {BATCHES} batches of {questions} requests");
	}

	/// The model is imported where it is not served yet.
	async fn store_at(&self, nodes: &[usize]) {
		let stored = self.first().stored(&format!("{:?}", self.model));
		for index in nodes {
			let imported = self.network.nodes[*index].import(&stored).await;
			imported.expect("the others import the model");
		}
	}

	/// Asks so many questions at once, and a few more as often as it takes until each of these has been drawn to answer so many.
	async fn ask_of(&mut self, executors: &[AccountId], each: usize, questions: usize) -> Story {
		let first = prompts(self.asked, questions);
		self.asked += questions;
		let client = &self.network.nodes[0].client;
		let mut story = Story::ask(client, REQUESTER, self.model, &first, 2).await;
		for _ in 0..BATCHES {
			let drawn = story.executors_drawn(client).await;
			let times = |who| drawn.iter().filter(|other| *other == who).count();
			if executors.iter().all(|who| times(who) >= each) {
				return story;
			}
			// One account gets half of the capacity.
			let more = prompts(self.asked, 2);
			self.asked += 2;
			story
				.ask_more(client, OTHER_REQUESTER, self.model, &more, 2)
				.await;
		}
		panic!(
			"not every liar was drawn for one of {} requests",
			self.asked
		);
	}

	/// These serve the model from now on, too late to be drawn for a committee, and are the juries. Gives what happens until all is
	/// settled.
	async fn judged_by(&self, mut story: Story, others: &[usize]) -> [Story; 1] {
		let client = &self.first().client;
		let serve = |index: &usize| self.network.nodes[*index].client.rpc.serve(self.model);
		for served in futures::future::join_all(others.iter().map(serve)).await {
			served.expect("a stored model can be served");
		}
		story.to_the_end(client).await;
		[story]
	}

	/// Whether a validator serves the model after a block.
	async fn serves(&self, who: &AccountId, block: BlockNumber) -> bool {
		let client = &self.first().client;
		let at = client.hash(block).await;
		let model = client.rpc.get(self.model, Some(at)).await;
		let model = model.expect("the node answers").expect("it is registered");
		model.serving.contains(who)
	}
}

/// Asks so many questions at once, or until each has so many to answer, while two liars, the validators 3 and 4, and an honest one serve
/// the model: every committee is these three. The others serve it once all is asked, and are the juries. Gives what happened, and the liars' accounts.
async fn against_one(
	network: Network,
	liars: [Lying<'_>; 2],
	(each, questions): (usize, usize),
) -> ([Story; 1], [AccountId; 2]) {
	let others = [1, 2, 5, 6];
	let (mut trial, accounts) = Trial::of(network, &[0, 3, 4], liars).await;
	trial.store_at(&others).await;
	let story = trial.ask_of(&accounts, each, questions).await;
	(trial.judged_by(story, &others).await, accounts)
}

/// Has a validator, that does not serve anything yet, lie from now on.
async fn corrupt(network: &mut Network, index: usize, lie: &str, arguments: &[&str]) {
	let mut options = Options {
		program: liars_binary(),
		arguments: vec!["--liar".into(), lie.into()],
		..Default::default()
	};
	let more = arguments.iter().map(|a| (*a).to_owned());
	options.arguments.extend(more);
	network.restart(index, &options).await;
	network.nodes[index].await_line("THIS VALIDATOR LIES").await;
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

/// Requests whose answers a validator was drawn to check.
fn checked(stories: &[Story], who: &AccountId) -> BTreeSet<RequestId> {
	let drawn = events(stories, |e| match e {
		RequestEvent::CommitteeDrawn {
			request, verifiers, ..
		} => verifiers.contains(who).then_some(*request),
		_ => None,
	});
	drawn.into_iter().collect()
}

/// Whether a validator was drawn to check an answer.
fn verified(stories: &[Story], who: &AccountId) -> bool {
	!checked(stories, who).is_empty()
}

fn was_executor(stories: &[Story], who: &AccountId) -> bool {
	!executed(stories, who).is_empty()
}

/// What a validator was reported for.
fn reported(stories: &[Story], who: &AccountId) -> Vec<(RequestId, OffenceKind)> {
	offences(stories)
		.into_iter()
		.filter_map(|(request, offender, kind)| (offender == *who).then_some((request, kind)))
		.collect()
}

fn was_reported(stories: &[Story], who: &AccountId) -> bool {
	!reported(stories, who).is_empty()
}

/// Nobody but these is reported, and each for nothing but that.
fn only_these_are_reported(stories: &[Story], allowed: &[(&AccountId, &[OffenceKind])]) {
	for (request, offender, kind) in offences(stories) {
		let expected = allowed
			.iter()
			.any(|(who, kinds)| **who == offender && kinds.contains(&kind));
		assert!(expected, "request {request}: {offender} for {kind:?}");
	}
}

/// Requests that were rejected, with what was found of their answers.
fn rejected(stories: &[Story]) -> BTreeMap<RequestId, AnswerJudgement> {
	let rejected = events(stories, |e| match e {
		RequestEvent::RequestRejected {
			request, answer, ..
		} => Some((*request, *answer)),
		_ => None,
	});
	rejected.into_iter().collect()
}

/// These requests were rejected and returned because their answers were wrong, and all others are final.
fn exactly_these_are_rejected(stories: &[Story], lied: &BTreeSet<RequestId>) {
	these_are_rejected_and_these_expired(stories, lied, &BTreeSet::new());
}

/// The same with requests that came to nothing.
fn these_are_rejected_and_these_expired(
	stories: &[Story],
	lied: &BTreeSet<RequestId>,
	nothing: &BTreeSet<RequestId>,
) {
	let wrong = |request: &RequestId| (*request, AnswerJudgement::Wrong);
	assert_eq!(rejected(stories), lied.iter().map(wrong).collect());
	let expired = events(stories, |e| match e {
		RequestEvent::RequestExpired { request, .. } => Some(*request),
		_ => None,
	});
	assert_eq!(&expired.into_iter().collect::<BTreeSet<_>>(), nothing);
	let finals: BTreeSet<_> = finals(stories).into_iter().map(|f| f.0).collect();
	let others = &(&requests(stories) - lied) - nothing;
	assert_eq!(finals, others);
}

/// Who was paid.
fn paid(stories: &[Story]) -> Vec<(RequestId, AccountId)> {
	events(stories, |e| match e {
		RequestEvent::Paid { request, who, .. } => Some((*request, who.clone())),
		_ => None,
	})
}

/// Whose commitments were not followed by evidence.
fn withheld(stories: &[Story]) -> Vec<(RequestId, AccountId)> {
	events(stories, |e| match e {
		RequestEvent::RevealMissing {
			request, member, ..
		} => Some((*request, member.clone())),
		_ => None,
	})
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_silent_or_gone_or_copies_is_replaced_and_costs_the_requester_nothing() {
	let liars: [Lying; 4] = [
		(3, "silent-executor", &[]),
		(4, "silent-verifier", &[]),
		(5, "crash-after-answer", &[]),
		(6, "copycat", &[]),
	];
	let (mut trial, [mute, blind, gone, copier]) =
		Trial::among(Network::of_seven().await, liars).await;
	let stories = trial
		.ask_until(6, |s| {
			was_executor(s, &mute)
				&& verified(s, &blind)
				&& was_executor(s, &gone)
				&& reported(s, &copier)
					.iter()
					.any(|(_, kind)| *kind == OffenceKind::WithheldReveal)
		})
		.await;
	trial.network.nodes[5].ended().await;

	exactly_these_are_rejected(&stories, &BTreeSet::new());
	for (request, executor, verifiers) in finals(&stories) {
		assert_eq!(verifiers.len(), 2, "request {request}");
		// Who went away after its answer, or has no evidence of its own, is judged by that answer.
		assert_ne!(executor, mute, "request {request}: it said nothing");
		for idle in [&blind, &copier] {
			assert!(
				!verifiers.contains(idle),
				"request {request}: {idle} did not check"
			);
		}
	}
	let replaced = events(&stories, |e| match e {
		RequestEvent::ExecutorReplaced { request, executor } => Some((*request, executor.clone())),
		_ => None,
	});
	for (request, executor) in &replaced {
		assert!(
			[&mute, &gone].contains(&executor),
			"request {request}: {executor}"
		);
	}
	let of_mute = replaced.iter().filter(|(_, e)| *e == mute).map(|r| r.0);
	assert_eq!(of_mute.collect::<BTreeSet<_>>(), executed(&stories, &mute));
	let replaced = events(&stories, |e| match e {
		RequestEvent::VerifierReplaced { request, verifier } => Some((*request, verifier.clone())),
		_ => None,
	});
	assert!(replaced.iter().any(|(_, v)| *v == blind), "{replaced:?}");
	for (request, verifier) in &replaced {
		assert!(
			[&blind, &gone, &copier].contains(&verifier),
			"request {request}: {verifier}"
		);
	}
	assert!(!paid(&stories).iter().any(|(_, who)| *who == copier));
	// Who was there before it was gone may have committed, and who is absent for the fourth time is reported. The copier is absent
	// where nobody else commits before it has to.
	use OffenceKind::{Absence, WithheldReveal};
	let allowed: [(&AccountId, &[OffenceKind]); 4] = [
		(&mute, &[Absence]),
		(&blind, &[Absence]),
		(&gone, &[Absence, WithheldReveal]),
		(&copier, &[Absence, WithheldReveal]),
	];
	only_these_are_reported(&stories, &allowed);
	// Six of seven still finalise.
	let client = &trial.first().client;
	let head = client.await_head("a block", false, |_| true).await;
	client.await_finalized(*head.number()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispute_among_four_ends_in_a_refund_and_nobody_is_blamed() {
	let liars: [Lying; 1] = [(3, "wrong-answer", &[])];
	let (mut trial, [liar]) = Trial::among(Network::start(&[]).await, liars).await;
	let stories = trial.ask_until(4, |s| was_executor(s, &liar)).await;
	let lied = executed(&stories, &liar);
	let undecided = |request: &RequestId| (*request, AnswerJudgement::Undecided);
	assert_eq!(rejected(&stories), lied.iter().map(undecided).collect());
	assert_eq!(
		finals(&stories).len() + lied.len(),
		requests(&stories).len()
	);
	assert_eq!(offences(&stories), []);
	let paid = paid(&stories);
	assert!(
		!paid.iter().any(|(request, _)| lied.contains(request)),
		"nobody is paid for a lie: {paid:?}"
	);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_answers_are_found_by_a_jury_and_invented_evidence_is_not_paid() {
	let liars: [Lying; 2] = [(3, "wrong-answer", &[]), (4, "lazy-verifier", &[])];
	let (mut trial, [writer, lazy]) = Trial::among(Network::of_seven().await, liars).await;
	// Who is found to have vouched for a lie as a juror is drawn for no committee any more.
	let stories = trial
		.ask_until(6, |s| {
			was_reported(s, &writer) && (verified(s, &lazy) || was_reported(s, &lazy))
		})
		.await;
	let lied = executed(&stories, &writer);
	exactly_these_are_rejected(&stories, &lied);
	// Bits that nobody shares could be another machine's: they are not paid, and cost no stake unless they come with a lie.
	let allowed: [(&AccountId, &[OffenceKind]); 2] = [
		(&writer, &[OffenceKind::FraudulentResult]),
		(&lazy, &[OffenceKind::FraudulentEvidence]),
	];
	only_these_are_reported(&stories, &allowed);
	assert!(!paid(&stories)
		.iter()
		.any(|(request, who)| *who == lazy && !executed(&stories, &lazy).contains(request)));
	let found: BTreeSet<_> = reported(&stories, &writer)
		.into_iter()
		.map(|r| r.0)
		.collect();
	assert_eq!(found, lied, "each of its lies");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_model_is_found_with_its_own_evidence_or_with_that_of_the_true_one() {
	let network = Network::of_seven().await;
	let folder = network.folder.path().join("cheap");
	let cheap = quick(cheap_model(&folder, "cheap"));
	let mut model = String::new();
	for index in [3, 4] {
		let imported = network.nodes[index].import(&cheap).await;
		model = imported.expect("the cheap model can be imported");
	}
	let with = ["--liar-model", &model];
	let liars: [Lying; 2] = [(3, "cheap-model", &with), (4, "prefill-attack", &with)];
	// A short answer of the cheap model can be what the true one says: each is to give two. All are asked at once, for whoever has checked
	// with the cheap model is drawn no more, and three are needed.
	let (stories, [cheap, prefill]) = against_one(network, liars, (2, 20)).await;
	// As verifiers they vouch for each other, and one of them measures another model. Where the cheap model said what the true
	// one says, there was no lie.
	let kinds = &[
		OffenceKind::FraudulentResult,
		OffenceKind::FraudulentEvidence,
	];
	only_these_are_reported(&stories, &[(&cheap, kinds), (&prefill, kinds)]);
	let lied: BTreeMap<_, _> = offences(&stories)
		.into_iter()
		.filter_map(|(request, who, kind)| {
			(kind == OffenceKind::FraudulentResult).then_some((request, who))
		})
		.collect();
	for liar in [&cheap, &prefill] {
		assert!(lied.values().any(|who| who == liar), "{liar}: {lied:?}");
	}
	// Where it only checks, the cheap model has digests that nobody shares: it is drawn no more, another is to measure in its place, and
	// nobody else served the model when the question was asked.
	let expired = events(&stories, |e| match e {
		RequestEvent::RequestExpired {
			request, reason, ..
		} => Some((*request, *reason)),
		_ => None,
	});
	let short = |e: &(RequestId, ExpiryReason)| e.1 == ExpiryReason::TooFewVerifiers;
	assert!(expired.iter().all(short), "{expired:?}");
	let nothing = expired.into_iter().map(|e| e.0).collect();
	these_are_rejected_and_these_expired(&stories, &lied.into_keys().collect(), &nothing);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_answers_are_no_answers_and_withheld_evidence_is_none() {
	let liars: [Lying; 2] = [(3, "replay", &[]), (4, "withhold-reveal", &[])];
	let (mut trial, [replayer, silent]) = Trial::among(Network::of_seven().await, liars).await;
	let stories = trial
		.ask_until(6, |s| {
			was_reported(s, &replayer) && was_reported(s, &silent)
		})
		.await;
	use OffenceKind::{FraudulentEvidence, FraudulentResult, WithheldReveal};
	// Who says nothing of what then is found to be a lie pays as one that vouched for it, too.
	let allowed: [(&AccountId, &[OffenceKind]); 2] = [
		(&replayer, &[FraudulentResult]),
		(&silent, &[WithheldReveal, FraudulentEvidence]),
	];
	only_these_are_reported(&stories, &allowed);
	// What it answered afresh, the first and whatever ran beside it, was no lie, and is final; unless a fork without that answer won,
	// where even the first is repeated.
	let found: BTreeSet<_> = reported(&stories, &replayer)
		.into_iter()
		.map(|r| r.0)
		.collect();
	exactly_these_are_rejected(&stories, &found);
	let withheld = withheld(&stories);
	assert!(withheld.iter().all(|(_, m)| *m == silent), "{withheld:?}");
	let of_silent = |kind| {
		let of = reported(&stories, &silent).into_iter();
		let of = of.filter(move |(_, other)| *other == kind);
		of.map(|(request, _)| request).collect::<BTreeSet<_>>()
	};
	let withheld: BTreeSet<_> = withheld.into_iter().map(|(request, _)| request).collect();
	assert_eq!(of_silent(WithheldReveal), withheld);
	assert!(of_silent(FraudulentEvidence).is_subset(&(&withheld & &found)));
	assert!(!paid(&stories).iter().any(|(_, who)| *who == silent));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_liars_who_vouch_for_each_other_lose_to_one_honest_verifier() {
	let liars: [Lying; 2] = [(3, "collude", &[]), (4, "collude", &[])];
	let (stories, liars) = against_one(Network::of_seven().await, liars, (1, 6)).await;

	let lied: BTreeSet<_> = liars.iter().flat_map(|l| executed(&stories, l)).collect();
	assert!(lied.len() >= 2, "{lied:?}");
	exactly_these_are_rejected(&stories, &lied);
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

/// Blocks in which something happened.
fn blocks(stories: &[Story], wanted: impl Fn(&RequestEvent) -> bool) -> Vec<BlockNumber> {
	let events = stories.iter().flat_map(|s| &s.events);
	events
		.filter(|(_, event)| wanted(event))
		.map(|(block, _)| *block)
		.collect()
}

/// What was reported is this, and nobody is paid in a request in which it was found to have lied, nor anybody for such an answer.
fn exactly_these_are_reported(
	stories: &[Story],
	expected: BTreeSet<(RequestId, AccountId, OffenceKind)>,
) {
	let found: BTreeSet<_> = offences(stories).into_iter().collect();
	assert_eq!(found, expected);
	let measured = events(stories, |e| match e {
		RequestEvent::MeasurementPaid { request, who, .. } => Some((*request, who.clone())),
		_ => None,
	});
	for (request, offender, kind) in &expected {
		let unpaid = (*request, offender.clone());
		assert!(
			!kind.is_fraud() || !measured.contains(&unpaid),
			"request {request}: {offender} is paid for {kind:?}"
		);
		assert!(!paid(stories).iter().any(|(r, _)| r == request));
	}
}

#[tokio::test(flavor = "multi_thread")]
async fn who_looks_who_checks_and_is_silent_or_withholds_is_found_and_who_comes_then_is_not_drawn()
{
	let network = Network::of_seven().await;
	let friends = [
		network.nodes[3].account().await.to_string(),
		network.nodes[4].account().await.to_string(),
	];
	let with = |friend| ["--accomplice", friend];
	let (first, second) = (with(&*friends[1]), with(&*friends[0]));
	let liars: [Lying; 3] = [
		(3, "silent-when-watched", &first),
		(4, "withhold-for-friend", &second),
		(5, "just-in-time", &[]),
	];
	let (mut trial, [silent, friend, late]) = Trial::of(network, &[0, 3, 4], liars).await;
	// The third liar begins to serve when it sees that somebody has asked.
	trial.store_at(&[1, 2, 5, 6]).await;
	let story = trial.ask_of(&[silent.clone(), friend.clone()], 1, 8).await;
	let stories = trial.judged_by(story, &[1, 2, 6]).await;

	// Every committee has somebody honest, who is a stranger to both.
	let by = |who: &AccountId| executed(&stories, who).into_iter();
	let lied = by(&silent).chain(by(&friend)).collect();
	exactly_these_are_rejected(&stories, &lied);
	use OffenceKind::{FraudulentEvidence, FraudulentResult, WithheldReveal};
	let wrote = |who: &AccountId| {
		let who = who.clone();
		by(&who).map(move |r| (r, who.clone(), FraudulentResult))
	};
	let vouched = |by: &AccountId, of: &AccountId| {
		let both = &checked(&stories, by) & &executed(&stories, of);
		both.into_iter()
	};
	let mut expected: BTreeSet<_> = wrote(&silent).chain(wrote(&friend)).collect();
	// To say nothing costs what to vouch for it does, and more.
	expected.extend(
		vouched(&friend, &silent).flat_map(|r| {
			[WithheldReveal, FraudulentEvidence].map(|kind| (r, friend.clone(), kind))
		}),
	);
	expected.extend(vouched(&silent, &friend).map(|r| (r, silent.clone(), FraudulentEvidence)));
	// Its silence is an absence too, once it has used up what everybody has free.
	let absent = |r| (r, silent.clone(), OffenceKind::Absence);
	let found = offences(&stories);
	expected.extend(by(&silent).map(absent).filter(|deed| found.contains(deed)));
	exactly_these_are_reported(&stories, expected);
	let fell_silent = events(&stories, |e| match e {
		RequestEvent::ExecutorSilent { request, executor } if *executor == silent => Some(*request),
		_ => None,
	});
	assert_eq!(
		fell_silent.into_iter().collect::<BTreeSet<_>>(),
		executed(&stories, &silent)
	);

	// It was there at some of the draws for requests that were made when it was not, as the first were, and was not drawn for those.
	let submitted = stories.iter().flat_map(|s| &s.events);
	let submitted: BTreeMap<_, _> = submitted
		.filter_map(|(block, event)| match event {
			RequestEvent::RequestSubmitted { request, .. } => Some((*request, *block)),
			_ => None,
		})
		.collect();
	let drawn = &executed(&stories, &late) | &checked(&stories, &late);
	let mut there = false;
	for request in requests(&stories) {
		if let Some(block) = submitted.get(&request) {
			if trial.serves(&late, *block).await {
				continue;
			}
		}
		assert!(!drawn.contains(&request), "request {request}");
		for block in blocks(
			&stories,
			|e| matches!(e, RequestEvent::CommitteeDrawn { request: of, .. } if *of == request),
		) {
			there |= trial.serves(&late, block).await;
		}
	}
	assert!(there, "it came in time for a draw");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_or_holds_blocks_back_or_denies_that_there_is_an_answer_is_found() {
	let liars: [Lying; 3] = [
		(3, "leaver", &[]),
		(4, "block-holder", &[]),
		(5, "poisoner", &[]),
	];
	let network = Network::of_seven().await;
	let (mut trial, accounts) = Trial::of(network, &[0, 3, 4, 5], liars).await;
	let others = [1, 2, 6];
	trial.store_at(&others).await;
	let story = trial.ask_of(&accounts, 1, 8).await;
	// The one who leaves stands for no election any more, either.
	let stash = sr25519::Pair::from_string("//Dave//stash", None).expect("a development key");
	let chill = pallet_staking::Call::<Runtime>::chill {};
	let client = &trial.first().client;
	let chilled = client.submit(&stash, chill.into()).await;
	let chilled = chilled.expect("the node takes it").events;
	let is_chilled = |e: &RuntimeEvent| {
		matches!(
			e,
			RuntimeEvent::Staking(pallet_staking::Event::Chilled { .. })
		)
	};
	assert!(chilled.iter().any(is_chilled), "{chilled:?}");
	let stories = trial.judged_by(story, &others).await;

	let [leaver, holder, _] = &accounts;
	let by = |who: &AccountId| executed(&stories, who).into_iter();
	let lied = accounts.iter().flat_map(by).collect();
	exactly_these_are_rejected(&stories, &lied);
	let result = |who: &AccountId| {
		let who = who.clone();
		by(&who).map(move |r| (r, who.clone(), OffenceKind::FraudulentResult))
	};
	let expected = accounts.iter().flat_map(result).collect();
	exactly_these_are_reported(&stories, expected);

	// It was gone before anybody had found it out, and its stake answers.
	let disputed = blocks(
		&stories,
		|e| matches!(e, RequestEvent::RequestDisputed { request } if by(leaver).any(|r| r == *request)),
	);
	for block in disputed {
		assert!(!trial.serves(leaver, block).await, "#{block}");
	}
	let client = &trial.first().client;
	let mut block = blocks(
		&stories,
		|e| matches!(e, RequestEvent::OffenceReported { offender, .. } if offender == leaver),
	)[0];
	loop {
		client.await_finalized(block).await;
		let events = client.events(client.hash(block).await).await;
		let slashed = events.iter().any(|(_, e)| {
			matches!(
				e,
				RuntimeEvent::Staking(pallet_staking::Event::SlashReported { validator, .. })
					if validator == leaver
			)
		});
		if slashed {
			break;
		}
		block += 1;
		let last = stories[0].events.last().expect("much has happened").0;
		assert!(block < last + 20, "its stake does not answer");
	}

	// No block of its own draws somebody to check its answers.
	let drawing = blocks(&stories, |e| match e {
		RequestEvent::CommitteeDrawn { request, .. } | RequestEvent::JuryDrawn { request, .. } => {
			by(holder).any(|r| r == *request)
		}
		_ => false,
	});
	assert!(!drawing.is_empty());
	for block in drawing {
		let at = client.hash(block).await;
		let header: Header = client.call("chain_getHeader", rpc_params![at]).await;
		let author = Client::author(&header).expect("a block has an author");
		let validators = client.validators(at).await;
		assert_ne!(validators.get(author as usize), Some(holder), "#{block}");
	}
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
