//! Each liar does what it is to do, and says the rest as everybody does.

use std::sync::{
	atomic::{AtomicUsize, Ordering},
	Mutex,
};

use codec::Encode;
use consilience_primitives::{
	evidence::{Evidence, Fingerprint, Verdict},
	report::{DutyKind, Statement},
	request::{Assurance, Output, Unanswerable},
	view::RequestState,
	RequestId,
};

use super::{
	chain::{assignment_key, draws_key, number_key, round_key, Member, Progress, Role, Round},
	*,
};
use crate::chain::AccountId;
use crate::tests::{bad, evidence, good, output, question, validator, Bench, FakeLibrary};

type View = RequestView<AccountId, BlockNumber, Balance>;

/// What stands in the chain's storage: the round over the first request, of which request the liar is the executor, what is seen of
/// the first request, and the blocks that draw.
#[derive(Default)]
struct Stored {
	round: Option<Round>,
	executes: RequestId,
	view: Option<View>,
	draws: Vec<BlockNumber>,
}

fn friend() -> AccountId {
	AccountId::new([5; 32])
}

fn stranger() -> AccountId {
	AccountId::new([8; 32])
}

/// The first request, answered by this one and measured by these, of whom these have shown a verdict with this margin.
fn view(executor: AccountId, verifiers: &[AccountId], shown: &[(AccountId, u32)]) -> Option<View> {
	let evidence = shown.iter().map(|(who, margin_max)| {
		let verdict = Verdict {
			margin_max: *margin_max,
			..Verdict::default()
		};
		let evidence = Evidence {
			verdict,
			..evidence(9)
		};
		(who.clone(), evidence)
	});
	Some(View {
		id: 1,
		requester: stranger(),
		model: good(),
		input: question(1).into(),
		assurance: Assurance::Committee(2),
		state: RequestState::Provisional,
		seed: Some(H256::repeat_byte(1)),
		challenge: Some(H256::repeat_byte(2)),
		executor: Some(executor),
		verifiers: verifiers.to_vec(),
		jurors: vec![],
		output: Some(output(0)),
		evidence: evidence.collect(),
		jury_challenge: None,
		requested_at: 1,
		assigned_at: Some(1),
		provisional_at: Some(1),
		appealable_until: None,
		settled_at: None,
		escrow: 0,
		paid: 0,
		surcharge: 0,
		refunded: 0,
	})
}

/// A liar with an accomplice, what it reads, and how often it has ended the node.
fn liar(lie: Lie) -> (Liar, Arc<Mutex<Stored>>, Arc<AtomicUsize>) {
	let storage: Arc<Mutex<Stored>> = Arc::default();
	let crashes: Arc<AtomicUsize> = Arc::default();
	let (stored, seen, crashed) = (storage.clone(), storage.clone(), crashes.clone());
	let liar = Liar {
		lie: Some(lie),
		model: Some(bad()),
		accomplices: vec![friend()],
		requests: Arc::new(move |_, request| {
			let view = seen.lock().unwrap().view.clone();
			view.filter(|_| request == 1)
		}),
		storage: Arc::new(move |_, key| {
			let stored = stored.lock().unwrap();
			if key == round_key(1) {
				return stored.round.as_ref().map(Encode::encode);
			}
			if key == number_key() {
				return Some(10u32.encode());
			}
			if stored.draws.iter().any(|at| key == draws_key(*at)) {
				return Some(vec![1u64].encode());
			}
			// The role, and the work that it is.
			(key == assignment_key(&validator(), stored.executes))
				.then(|| (Role::Executor, 1u32).encode())
		}),
		crash: Arc::new(move || {
			crashed.fetch_add(1, Ordering::SeqCst);
		}),
	};
	(liar, storage, crashes)
}

/// A liar's worker, what it reads, how often it has ended the node, and what it orders.
fn ordering(
	lie: Lie,
) -> (
	Bench,
	Arc<Mutex<Stored>>,
	Arc<AtomicUsize>,
	mpsc::Receiver<Command>,
) {
	let (liar, storage, crashes) = liar(lie);
	let (orders, ordered) = mpsc::channel(8);
	let bench = Bench::with_liar(|chain, engine| {
		corrupt(liar, chain, engine, Arc::new(FakeLibrary), orders)
	});
	(bench, storage, crashes, ordered)
}

/// A liar's worker, what it reads, and how often it has ended the node.
fn lying(lie: Lie) -> (Bench, Arc<Mutex<Stored>>, Arc<AtomicUsize>) {
	let (bench, storage, crashes, _) = ordering(lie);
	(bench, storage, crashes)
}

/// What it says about a duty; nothing where nothing comes of it.
async fn says(
	bench: &mut Bench,
	number: u32,
	request: RequestId,
	kind: DutyKind,
) -> Vec<Statement> {
	bench.due(&[(request, kind)]);
	let measured = matches!(kind, DutyKind::Commit | DutyKind::Reveal);
	if measured {
		bench.state().due.work.get_mut(&request).unwrap().output = Some(output(0));
	}
	bench.block(number);
	bench.finalize(number);
	bench.seen().await;
	bench.until(|s| s.running == 0 && s.waiting == 0).await;
	let mut said = Vec::new();
	while let Ok(report) = bench.reports.try_recv() {
		said.extend(report.statements);
	}
	said
}

async fn answer(bench: &mut Bench, number: u32, request: RequestId) -> Output {
	match &says(bench, number, request, DutyKind::Answer).await[..] {
		[Statement::Answer { output, .. }] => output.clone(),
		said => panic!("{said:?}"),
	}
}

/// Commits and reveals; what is shown.
async fn measure(bench: &mut Bench, number: u32, request: RequestId) -> Evidence {
	let said = says(bench, number, request, DutyKind::Commit).await;
	assert!(matches!(said[..], [Statement::Commit { .. }]), "{said:?}");
	let said = says(bench, number + 1, request, DutyKind::Reveal).await;
	match &said[..] {
		[Statement::Reveal { evidence, .. }] => evidence.clone(),
		said => panic!("{said:?}"),
	}
}

#[test]
fn every_lie_has_its_name() {
	for lie in Lie::ALL {
		assert_eq!(lie.name().parse(), Ok(lie));
	}
	let error = "honesty".parse::<Lie>().unwrap_err();
	assert!(error.contains("copycat"), "{error}");
}

#[tokio::test]
async fn a_wrong_answer_is_one_to_another_question_and_called_right() {
	for lie in [Lie::WrongAnswer, Lie::Collude] {
		let (mut bench, ..) = lying(lie);
		// The true answer was the first that the engine gave.
		assert_eq!(answer(&mut bench, 1, 1).await, output(1), "{lie}");
		*bench.engine.margin.lock().unwrap() = 77;
		let shown = measure(&mut bench, 2, 1).await;
		assert_eq!(
			shown,
			evidence(2),
			"{lie}: the fingerprint is true, the verdict is not"
		);
	}
}

#[tokio::test]
async fn a_cheap_model_answers_and_measures_or_answers_only() {
	let (mut bench, ..) = lying(Lie::CheapModel);
	answer(&mut bench, 1, 1).await;
	measure(&mut bench, 2, 1).await;
	assert_eq!(bench.engine.begun(), [bad(), bad()]);
	let (mut bench, ..) = lying(Lie::PrefillAttack);
	answer(&mut bench, 1, 1).await;
	measure(&mut bench, 2, 1).await;
	assert_eq!(bench.engine.begun(), [bad(), crate::tests::manifest().id()]);
}

#[tokio::test]
async fn a_lazy_verifier_runs_nothing() {
	let (mut bench, ..) = lying(Lie::LazyVerifier);
	let shown = measure(&mut bench, 1, 1).await;
	assert_eq!(
		shown.fingerprint,
		Fingerprint::Digest([2; 16]),
		"the challenge is 2, 2, …"
	);
	assert_eq!(bench.engine.calls(), 0);
}

#[tokio::test]
async fn a_copycat_says_what_another_said() {
	let (mut bench, storage, _) = lying(Lie::Copycat);
	assert!(
		says(&mut bench, 1, 1, DutyKind::Commit).await.is_empty(),
		"nothing to copy"
	);
	let other = stranger();
	let copied = H256::repeat_byte(5);
	let member = |who, progress| Member {
		who,
		session: 3,
		progress,
	};
	let stands = |progress| Round {
		challenge: H256::repeat_byte(2),
		size: 2,
		members: vec![
			member(validator(), Progress::Measuring),
			member(other.clone(), progress),
		],
	};
	storage.lock().unwrap().round = Some(stands(Progress::Committed(copied)));
	let said = says(&mut bench, 2, 1, DutyKind::Commit).await;
	assert_eq!(
		said,
		[Statement::Commit {
			request: 1,
			commitment: copied
		}]
	);
	storage.lock().unwrap().round = Some(stands(Progress::Revealed(evidence(9))));
	let said = says(&mut bench, 3, 1, DutyKind::Reveal).await;
	assert!(
		matches!(&said[..], [Statement::Reveal { evidence: e, .. }] if *e == evidence(9)),
		"{said:?}"
	);
	assert_eq!(bench.engine.calls(), 0);
}

#[tokio::test]
async fn who_is_silent_says_the_rest() {
	let (mut bench, ..) = lying(Lie::SilentExecutor);
	assert!(says(&mut bench, 1, 1, DutyKind::Answer).await.is_empty());
	measure(&mut bench, 2, 2).await;
	let (mut bench, storage, _) = lying(Lie::SilentVerifier);
	assert!(says(&mut bench, 1, 1, DutyKind::Commit).await.is_empty());
	storage.lock().unwrap().executes = 2;
	answer(&mut bench, 2, 2).await;
	measure(&mut bench, 3, 2).await;
	let (mut bench, ..) = lying(Lie::WithholdReveal);
	answer(&mut bench, 1, 1).await;
	let said = says(&mut bench, 2, 1, DutyKind::Commit).await;
	assert!(matches!(said[..], [Statement::Commit { .. }]), "{said:?}");
	assert!(says(&mut bench, 3, 1, DutyKind::Reveal).await.is_empty());
}

#[tokio::test]
async fn a_crash_comes_when_the_answer_is_on_chain() {
	let (mut bench, storage, crashes) = lying(Lie::CrashAfterAnswer);
	storage.lock().unwrap().executes = 1;
	answer(&mut bench, 1, 1).await;
	measure(&mut bench, 2, 2).await;
	assert_eq!(crashes.load(Ordering::SeqCst), 0);
	says(&mut bench, 4, 1, DutyKind::Commit).await;
	assert!(crashes.load(Ordering::SeqCst) > 0);
}

#[tokio::test]
async fn a_replayed_answer_is_the_first_one() {
	let (mut bench, ..) = lying(Lie::Replay);
	let first = answer(&mut bench, 1, 1).await;
	assert_eq!(answer(&mut bench, 2, 2).await, first);
	assert_eq!(bench.engine.calls(), 1);
}

#[tokio::test]
async fn without_a_lie_it_is_honest() {
	let (mut bench, ..) = {
		let liar = Liar {
			lie: None,
			model: None,
			accomplices: vec![],
			storage: Arc::new(|_, _| unreachable!("nobody is copied")),
			requests: Arc::new(|_, _| unreachable!("nobody is looked at")),
			crash: Arc::new(|| unreachable!("nobody crashes")),
		};
		(Bench::with_liar(|c, e| {
			let (orders, _) = mpsc::channel(1);
			corrupt(liar, c, e, Arc::new(FakeLibrary), orders)
		}),)
	};
	*bench.engine.margin.lock().unwrap() = 77;
	assert_eq!(answer(&mut bench, 1, 1).await, output(0));
	assert_eq!(measure(&mut bench, 2, 1).await.verdict.margin_max, 77);
}

/// Whether it vouches, with the true fingerprint, for an answer that it finds wrong.
async fn vouches(bench: &mut Bench, number: u32) -> bool {
	*bench.engine.margin.lock().unwrap() = 77;
	let shown = measure(bench, number, 1).await;
	assert!(matches!(shown.fingerprint, Fingerprint::Digest(_)));
	shown.verdict == Verdict::default()
}

#[tokio::test]
async fn who_looks_answers_wrongly_and_vouches_for_its_own_answer_and_no_strangers() {
	for lie in [
		Lie::SilentWhenWatched,
		Lie::WithholdForFriend,
		Lie::BlockHolder,
		Lie::Leaver,
	] {
		let (mut bench, storage, _) = lying(lie);
		// The true answer was the first that the engine gave.
		assert_eq!(answer(&mut bench, 1, 2).await, output(1), "{lie}");
		storage.lock().unwrap().view = view(validator(), &[friend()], &[]);
		assert!(vouches(&mut bench, 2).await, "{lie}: its own");
		let (mut bench, storage, _) = lying(lie);
		storage.lock().unwrap().view = view(stranger(), &[validator(), friend()], &[]);
		assert!(!vouches(&mut bench, 1).await, "{lie}: a stranger's");
		let (mut bench, storage, _) = lying(lie);
		storage.lock().unwrap().view = view(friend(), &[validator()], &[]);
		assert!(vouches(&mut bench, 1).await, "{lie}: an accomplice's");
		// A jury finds an accomplice's answer wrong whatever it says.
		let (mut bench, storage, _) = lying(lie);
		let mut disputed = view(friend(), &[validator()], &[]).unwrap();
		disputed.state = RequestState::Disputed;
		storage.lock().unwrap().view = Some(disputed);
		assert!(!vouches(&mut bench, 1).await, "{lie}: before a jury");
	}
}

#[tokio::test]
async fn who_is_watched_says_nothing_of_its_answer_to_the_committee() {
	let (mut bench, storage, _) = lying(Lie::SilentWhenWatched);
	let watched = view(validator(), &[friend(), stranger()], &[]);
	storage.lock().unwrap().view = watched.clone();
	for (number, kind) in [(1, DutyKind::Commit), (2, DutyKind::Reveal)] {
		assert!(says(&mut bench, number, 1, kind).await.is_empty());
	}
	let mut disputed = watched.unwrap();
	disputed.state = RequestState::Disputed;
	storage.lock().unwrap().view = Some(disputed);
	assert!(vouches(&mut bench, 3).await, "before the jury");
}

#[tokio::test]
async fn a_friends_answer_is_vouched_for_unless_a_stranger_has_called_it_wrong() {
	let shows = |storage: &Arc<Mutex<Stored>>, shown: &[(AccountId, u32)]| {
		storage.lock().unwrap().view = view(friend(), &[validator(), stranger()], shown);
	};
	let (mut bench, storage, _) = lying(Lie::WithholdForFriend);
	*bench.engine.margin.lock().unwrap() = 77;
	shows(&storage, &[]);
	let said = says(&mut bench, 1, 1, DutyKind::Commit).await;
	assert!(matches!(said[..], [Statement::Commit { .. }]), "{said:?}");
	// Nobody has shown anything; somebody has called it wrong.
	for (number, shown) in [(2, vec![]), (3, vec![(stranger(), 77)])] {
		shows(&storage, &shown);
		let said = says(&mut bench, number, 1, DutyKind::Reveal).await;
		assert!(said.is_empty(), "{said:?}");
	}
	shows(&storage, &[(stranger(), 0)]);
	let said = says(&mut bench, 4, 1, DutyKind::Reveal).await;
	let [Statement::Reveal { evidence, .. }] = &said[..] else {
		panic!("{said:?}")
	};
	assert_eq!(evidence.verdict, Verdict::default());
	// Of its own answer it shows what it has.
	let (mut bench, storage, _) = lying(Lie::WithholdForFriend);
	storage.lock().unwrap().view = view(validator(), &[stranger()], &[(stranger(), 77)]);
	measure(&mut bench, 1, 1).await;
}

#[test]
fn a_block_is_held_back_where_it_draws_strangers_for_its_own_answer() {
	let (own, at) = (validator(), H256::zero());
	let (holder, storage, _) = liar(Lie::BlockHolder);
	storage.lock().unwrap().view = view(own.clone(), &[], &[]);
	let draws = |request, who: &[AccountId]| [(request, who.to_vec())];
	assert!(holder.holds_back(&own, at, &draws(1, &[friend(), stranger()])));
	assert!(!holder.holds_back(&own, at, &draws(1, &[own.clone(), friend()])));
	assert!(!holder.holds_back(&own, at, &draws(2, &[stranger()])));
	assert!(!holder.holds_back(&own, at, &[]));
	storage.lock().unwrap().view = view(friend(), &[], &[]);
	assert!(!holder.holds_back(&own, at, &draws(1, &[stranger()])));
	let (other, storage, _) = liar(Lie::Leaver);
	storage.lock().unwrap().view = view(own.clone(), &[], &[]);
	assert!(!other.holds_back(&own, at, &draws(1, &[stranger()])));
}

/// What was ordered since: models to be served or not.
fn orders(ordered: &mut mpsc::Receiver<Command>) -> Vec<(ModelId, bool)> {
	let mut orders = Vec::new();
	while let Ok(order) = ordered.try_recv() {
		match order {
			Command::Serve(model, _) => orders.push((model, true)),
			Command::Withdraw(model, _) => orders.push((model, false)),
			Command::Status(_) => panic!("it asks nothing"),
		}
	}
	orders
}

#[tokio::test]
async fn who_leaves_leaves_once_it_has_answered() {
	let (mut bench, _, _, mut ordered) = ordering(Lie::Leaver);
	measure(&mut bench, 1, 2).await;
	assert_eq!(orders(&mut ordered), []);
	answer(&mut bench, 3, 1).await;
	assert_eq!(orders(&mut ordered), [(good(), false), (bad(), false)]);
}

#[tokio::test]
async fn who_comes_just_in_time_serves_while_a_draw_is_near() {
	let (mut bench, storage, _, mut ordered) = ordering(Lie::JustInTime);
	// At block 10 audits are far away, and what was drawn for is past.
	storage.lock().unwrap().draws = vec![10, 400];
	assert_eq!(answer(&mut bench, 1, 1).await, output(0), "it is honest");
	assert_eq!(orders(&mut ordered), []);
	storage.lock().unwrap().draws = vec![18];
	measure(&mut bench, 2, 1).await;
	assert_eq!(orders(&mut ordered), [(good(), true), (bad(), true)]);
	storage.lock().unwrap().draws = vec![];
	measure(&mut bench, 4, 1).await;
	assert_eq!(orders(&mut ordered), [(good(), false), (bad(), false)]);
}

#[tokio::test]
async fn a_poisoner_claims_that_there_is_no_answer_and_finds_so_when_it_is_asked_again() {
	let (mut bench, ..) = lying(Lie::Poisoner);
	let claim = Output::Unanswerable(Unanswerable::NotFinite);
	assert_eq!(answer(&mut bench, 1, 1).await, claim);
	// Texts of others are measured.
	*bench.engine.margin.lock().unwrap() = 77;
	assert_eq!(measure(&mut bench, 2, 1).await.verdict.margin_max, 77);
	bench.due(&[(2, DutyKind::Commit)]);
	bench.state().due.work.get_mut(&2).unwrap().output = Some(claim);
	bench.block(4);
	let said = bench.said().await;
	assert!(matches!(said[..], [Statement::Commit { .. }]), "{said:?}");
	assert_eq!(bench.engine.calls(), 1, "the claim was checked by nobody");
}

/// A check for which this validator is drawn at this place.
fn drawn(place: usize) -> consilience_lane::Drawn {
	let mut order = vec![friend(), stranger()];
	order.insert(place, validator());
	consilience_lane::Drawn {
		checker: validator(),
		executor: stranger(),
		order,
		policy: FakeLibrary.verified(good()).unwrap().manifest.policy,
		challenge: H256::repeat_byte(3),
	}
}

#[test]
fn a_checker_that_does_not_measure_does_where_somebody_was_drawn_before_it() {
	use consilience_lane::Lies;
	let hand = |lie| super::lane::LyingHand(liar(lie).0);
	let lazy = hand(Lie::Unmeasured);
	let signed = lazy.unmeasured(&drawn(0)).expect("nobody sees it");
	assert_eq!(signed.verdict, Verdict::default());
	for place in [1, 2] {
		assert_eq!(lazy.unmeasured(&drawn(place)), None);
	}
	for lie in Lie::ALL.into_iter().filter(|lie| *lie != Lie::Unmeasured) {
		assert_eq!(hand(lie).unmeasured(&drawn(0)), None, "{lie}");
	}
}
