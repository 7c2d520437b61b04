//! The party: several validators and accounts with one mind, which does what its policy says.

use std::{
	cell::Cell,
	collections::{BTreeMap, BTreeSet},
};

use codec::Encode;
use consilience_primitives::{
	evidence::{Evidence, Fingerprint, Verdict},
	report::{Duty, DutyKind, Statement, Work},
	request::{Assurance, Output, Unanswerable},
	view::RequestView,
	ModelId, RequestId,
};
use consilience_runtime::{AccountId, Balance, BlockNumber, UNIT};
use polkadot_sdk::sp_core::H256;

use crate::{
	honest,
	policy::{
		Answer, Appeal, Author, Contribute, Flood, Leave, Member, OwnModel, Point, Policy, Return,
		Reveal, Serve, Timing,
	},
	world::{self, Chain, Due, Model, COST_OF_ANSWER, COST_OF_MEASURING},
};

/// The small tip and the large.
const TIPS: [Balance; 2] = [10 * UNIT, 1_000_000 * UNIT];
/// Blocks from one request for the party's own model to the next.
const OWN_EVERY: u32 = 12;
/// Requests with which the others are loaded, and blocks from one such wave to the next.
const LOAD: (u32, u32) = (10, 8);
/// Requests taken back in a block.
const CHURN: u32 = 2;

type View = RequestView<AccountId, BlockNumber, Balance>;

/// What everybody knows of the time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
	/// Blocks since the play began.
	pub block: u32,
	/// Sessions since the play began: the era ends with the second.
	pub session: u32,
	/// The era ends within a minute.
	pub closing: bool,
	/// Nobody asks any more.
	pub over: bool,
}

/// What the party knows and did.
#[derive(Clone)]
pub struct Party {
	policy: Policy,
	consulted: Cell<u64>,
	/// Requests that a member answered falsely.
	pub lies: BTreeSet<RequestId>,
	/// What running models has cost the party, on no chain.
	pub spent: Balance,
	/// Requests of the party.
	own: BTreeSet<RequestId>,
	outputs: BTreeMap<RequestId, Output>,
	evidence: BTreeMap<(usize, RequestId, bool), Evidence>,
	ran: BTreeSet<(RequestId, Option<H256>)>,
	liars: BTreeSet<usize>,
	leaving: BTreeSet<usize>,
	wanted: BTreeSet<(usize, ModelId)>,
	/// Whom the network turned away, and who stays away.
	away: BTreeSet<(usize, ModelId)>,
	taken_back: Vec<(AccountId, RequestId)>,
	appealed: BTreeSet<RequestId>,
	/// Whether its own model is on chain.
	pub has_model: bool,
	asked: u32,
	asked_own: u64,
}

impl Party {
	/// A party that has done nothing yet.
	pub fn new(policy: Policy) -> Self {
		Self {
			policy,
			consulted: Cell::new(0),
			lies: BTreeSet::new(),
			spent: 0,
			own: BTreeSet::new(),
			outputs: BTreeMap::new(),
			evidence: BTreeMap::new(),
			ran: BTreeSet::new(),
			liars: BTreeSet::new(),
			leaving: BTreeSet::new(),
			wanted: BTreeSet::new(),
			away: BTreeSet::new(),
			taken_back: Vec::new(),
			appealed: BTreeSet::new(),
			has_model: false,
			asked: 0,
			asked_own: 0,
		}
	}

	/// Notes that a decision was made. The others could have been made in any other way, with the same result.
	fn consult(&self, point: Point) -> Point {
		self.note(1 << point as usize);
		point
	}

	/// Notes decisions, a bit for each.
	pub fn note(&self, decisions: u64) {
		self.consulted.set(self.consulted.get() | decisions);
	}

	/// Decisions that were made, a bit for each.
	pub fn consulted(&self) -> u64 {
		self.consulted.get()
	}

	/// Requests for the party's own model.
	pub fn asked_own(&self) -> u64 {
		self.asked_own
	}

	/// Whether the party's blocks leave out the reports of this validator.
	pub fn censors(&self, chain: &Chain, validator: usize) -> bool {
		match self.policy.author(self.consult(Point::Author)) {
			Author::Include | Author::HoldBack => false,
			Author::Censor => validator >= chain.party,
			// The first of them.
			Author::CensorOne => validator == chain.party,
		}
	}

	/// Whether the party leaves slots empty whose blocks it does not like.
	pub fn holds_back(&self) -> bool {
		self.policy.author(self.consult(Point::Author)) == Author::HoldBack
	}

	/// Whether the last block drew strangers to check a lie.
	pub fn dislikes(&self, chain: &Chain) -> bool {
		chain
			.seen
			.drawn
			.iter()
			.filter(|id| self.lies.contains(id))
			.filter_map(|id| chain.view(*id))
			.any(|view| view.verifiers.iter().any(|v| !chain.is_party(v)))
	}

	/// What the members contribute to tosses, when they have seen what the others do.
	pub fn contribute(&self, chain: &Chain) {
		let asked = (0..chain.party).any(|member| chain.is_asked(member));
		if !asked {
			return;
		}
		let contributes = match self.policy.contribute(self.consult(Point::Toss)) {
			Contribute::Always => true,
			Contribute::Likes => !chain.would_draw_strangers(chain.party, &self.lies),
			Contribute::Never => false,
		};
		if contributes {
			(0..chain.party).for_each(|member| chain.contribute(member));
		}
	}

	/// Transactions of the party's accounts. What is refused is refused.
	pub fn transact(&mut self, chain: &Chain, clock: Clock) {
		self.leave(chain, clock);
		self.appeal(chain);
		for (who, request) in std::mem::take(&mut self.taken_back) {
			let _ = chain.cancel(&who, request);
		}
		if clock.over {
			return;
		}
		self.ask_own(chain, clock);
		self.flood(chain, clock);
	}

	fn leave(&mut self, chain: &Chain, clock: Clock) {
		let leaving: Vec<_> = match self.policy.leave(self.consult(Point::Leave)) {
			Leave::Stay => return,
			Leave::Beforehand if clock.session == 0 => (0..chain.party).collect(),
			Leave::Beforehand => return,
			Leave::AfterLie => self.liars.iter().copied().collect(),
		};
		for member in leaving {
			if !self.leaving.contains(&member) && chain.chill(member).is_ok() {
				self.leaving.insert(member);
			}
		}
	}

	fn appeal(&mut self, chain: &Chain) {
		let choices = [Point::AppealStranger, Point::AppealFriend]
			.map(|p| self.policy.appeal(self.consult(p)));
		if choices.iter().all(|c| *c == Appeal::Never) {
			return;
		}
		for id in chain.seen.unchecked.clone() {
			let by_friend = self.lies.contains(&id);
			let chosen = choices[usize::from(by_friend)] == Appeal::Always;
			if chosen && self.appealed.insert(id) {
				let _ = chain.appeal(&chain.members()[0].account, id);
			}
		}
	}

	fn ask_own(&mut self, chain: &Chain, clock: Clock) {
		let tip = match self.policy.own_model(self.consult(Point::OwnModel)) {
			OwnModel::None => return,
			OwnModel::SmallTip => TIPS[0],
			OwnModel::LargeTip => TIPS[1],
		};
		if !self.has_model {
			self.has_model = chain.register_own().is_ok();
		} else if clock.block % OWN_EVERY == 4 {
			self.ask(chain, 0, Model::Own, Assurance::Committee(1), tip);
			self.asked_own += 1;
		}
	}

	fn flood(&mut self, chain: &Chain, clock: Clock) {
		let checked = Assurance::Committee(2);
		match self.policy.flood(self.consult(Point::Flood)) {
			Flood::None => (),
			Flood::Load if clock.block.is_multiple_of(LOAD.1) => {
				for i in 0..LOAD.0 {
					self.ask(chain, i, Model::Text, checked, 0);
				}
			}
			Flood::Load => (),
			Flood::Churn => {
				for i in 0..CHURN {
					if let Some(request) = self.ask(chain, i, Model::Text, checked, 0) {
						self.taken_back.push((world::purse(i), request));
					}
				}
			}
			Flood::Impossible if clock.block == 1 => {
				let (of_one, of_all) = world::most_open();
				let verifiers = consilience_primitives::model::MAX_VERIFIERS;
				for i in 0..of_all {
					let checked = Assurance::Committee(verifiers);
					let who = i / of_one.max(1);
					if self.ask(chain, who, Model::Text, checked, 0).is_none() {
						break;
					}
				}
			}
			Flood::Impossible => (),
		}
	}

	fn ask(
		&mut self,
		chain: &Chain,
		purse: u32,
		model: Model,
		assurance: Assurance,
		tip: Balance,
	) -> Option<RequestId> {
		self.asked += 1;
		let number = 1_000_000 + self.asked;
		let request = chain
			.ask(&world::purse(purse), model, number, assurance, tip)
			.ok()?;
		self.own.insert(request);
		Some(request)
	}

	/// What a member says in a block.
	pub fn statements(
		&mut self,
		chain: &Chain,
		member: usize,
		duties: &Due,
		clock: Clock,
	) -> Vec<Statement> {
		let who = duties.validator.clone();
		let mut statements = Vec::new();
		for duty in &duties.duties {
			let (Some(work), Some(view)) = (chain.work(duty.request), chain.view(duty.request))
			else {
				continue;
			};
			let situation = Situation {
				chain,
				member,
				who: &who,
				duty,
				work: &work,
				view: &view,
			};
			statements.extend(match duty.kind {
				DutyKind::Answer | DutyKind::CommitOutput => self.answer(&situation, clock),
				DutyKind::Commit => self.commit(&situation),
				DutyKind::Reveal | DutyKind::RevealOutput => self.show(&situation),
				// What was hidden stays hidden.
				DutyKind::LateReveal => Vec::new(),
			});
		}
		for model in [Model::Text, Model::Tensor, Model::Own] {
			let serves = duties.serving.contains(&model.id());
			statements.extend(self.serve(chain, member, model, serves));
		}
		statements
	}

	fn serve(
		&mut self,
		chain: &Chain,
		member: usize,
		model: Model,
		serves: bool,
	) -> Option<Statement> {
		let key = (member, model.id());
		let waits = |id: &RequestId| !self.own.contains(id);
		let wants = match (model, self.policy.serve(self.consult(Point::Serve))) {
			(Model::Own, _) => self.has_model,
			(_, Serve::Always) => true,
			(_, Serve::JustInTime) => chain.seen.undrawn.iter().any(waits),
			(_, Serve::Never) => false,
		};
		if self.wanted.contains(&key)
			&& !serves
			&& self.policy.come_back(self.consult(Point::Return)) == Return::Never
		{
			self.away.insert(key);
		}
		if serves && !wants {
			self.wanted.remove(&key);
			return Some(Statement::Withdraw { model: model.id() });
		}
		if serves {
			self.wanted.insert(key);
		}
		(wants && !serves && !self.away.contains(&key)).then(|| chain.serve(model))
	}

	fn answer(&mut self, s: &Situation, clock: Clock) -> Vec<Statement> {
		let request = s.duty.request;
		let model = Model::of(s.work.model);
		let blamed = s.chain.seen.troubled.contains_key(s.who);
		let leaving = clock.closing && self.leaving.contains(&s.member);
		let sampled = matches!(s.view.assurance, Assurance::Sampled(_));
		let point = match (model, sampled) {
			(Model::Own, _) => Point::AnswerOwn,
			(Model::Tensor, _) => Point::AnswerTensor,
			(_, true) if leaving => Point::AnswerSampledLeaving,
			(_, true) if blamed => Point::AnswerSampledBlamed,
			(_, true) => Point::AnswerSampled,
			(_, false) if leaving => Point::AnswerCheckedLeaving,
			(_, false) if blamed => Point::AnswerCheckedBlamed,
			(_, false) => Point::AnswerChecked,
		};
		let output = match self.policy.answer(self.consult(point)) {
			Answer::Right => {
				if self.ran.insert((request, None)) {
					self.spent += COST_OF_ANSWER;
				}
				honest::truth(&s.work.input, &s.work.seed)
			}
			Answer::Silent => return Vec::new(),
			_ if !self.is_time(s) => return Vec::new(),
			Answer::Wrong => honest::lie(&s.work.input, &s.work.seed),
			Answer::Unanswerable => Output::Unanswerable(Unanswerable::GraphRefused),
		};
		if output != honest::truth(&s.work.input, &s.work.seed) {
			self.lies.insert(request);
			self.liars.insert(s.member);
		}
		self.outputs.insert(request, output.clone());
		vec![honest::answering(s.who, request, model, output)]
	}

	/// Whether a lie is posted now.
	fn is_time(&self, s: &Situation) -> bool {
		let last = s.duty.deadline <= s.chain.number() + 1;
		match self.policy.timing(self.consult(Point::When)) {
			Timing::AtOnce => true,
			Timing::BeforeOwnSlot => {
				last || s
					.chain
					.author_after_next()
					.is_some_and(|a| a < s.chain.party)
			}
			Timing::AtDeadline => last,
		}
	}

	fn commit(&mut self, s: &Situation) -> Vec<Statement> {
		let request = s.duty.request;
		let Some(challenge) = s.work.challenge else {
			return Vec::new();
		};
		let lie = self.lies.contains(&request);
		let point = if s.judges() {
			match (Model::of(s.work.model), s.executor_is_friend()) {
				(Model::Own, _) => Point::JudgeOwn,
				(_, false) => Point::JudgeStranger,
				(_, true) if s.friends_in_jury() * 2 >= s.view.jurors.len() => {
					Point::JudgeFriendStrong
				}
				(_, true) => Point::JudgeFriendWeak,
			}
		} else {
			match (s.is_executor(), s.executor_is_friend(), lie) {
				(true, _, false) => Point::ExecutorTrue,
				(true, _, true) if s.is_watched() => Point::ExecutorWatched,
				(true, _, true) => Point::ExecutorAmongFriends,
				(false, false, _) if s.is_watched() => Point::VerifyStranger,
				(false, false, _) => Point::VerifyStrangerUnwatched,
				(false, true, false) => Point::VerifyFriendTrue,
				(false, true, true) if s.is_watched() => Point::VerifyFriendWatched,
				(false, true, true) => Point::VerifyFriendAlone,
			}
		};
		let choice = self.policy.member(self.consult(point));
		let Some(evidence) = self.evidence(s, &challenge, choice) else {
			return Vec::new();
		};
		let salt = honest::salt(s.who, request);
		let commitment = evidence.commitment(request, &challenge, s.who, &salt);
		self.evidence
			.insert((s.member, request, s.judges()), evidence);
		vec![Statement::Commit {
			request,
			commitment,
		}]
	}

	fn evidence(&mut self, s: &Situation, challenge: &H256, choice: Member) -> Option<Evidence> {
		let request = s.duty.request;
		let runs = matches!(choice, Member::Honest | Member::Vouch | Member::Slander);
		if runs && self.ran.insert((request, Some(*challenge))) {
			self.spent += COST_OF_MEASURING;
		}
		let invented =
			|challenge: &H256| (b"invented", request, challenge).using_encoded(Fingerprint::digest);
		let friendly = if s.executor_is_friend() {
			Verdict::default()
		} else {
			Verdict::IMPOSSIBLE
		};
		let measured = honest::measure(s.work)?;
		Some(match choice {
			Member::Honest => measured,
			Member::Vouch => self.vouched(s, challenge, measured),
			Member::Slander => Evidence {
				verdict: Verdict::IMPOSSIBLE,
				..measured
			},
			Member::Invent => Evidence {
				fingerprint: invented(challenge),
				verdict: friendly,
				prior: s.work.prior.as_ref().map(invented),
			},
			Member::Copy => {
				let shown = s.view.evidence.first().map(|(_, e)| e.fingerprint.clone());
				let copy =
					shown.unwrap_or_else(|| Model::of(s.work.model).spec().reference.fingerprint);
				Evidence {
					fingerprint: copy.clone(),
					verdict: friendly,
					prior: s.work.prior.map(|_| copy),
				}
			}
			Member::Silent => return None,
		})
	}

	/// Evidence that finds the answer right. Where the output is the evidence, it is what the friend's output gives.
	fn vouched(&self, s: &Situation, challenge: &H256, measured: Evidence) -> Evidence {
		let output = self.outputs.get(&s.duty.request);
		let policy = Model::of(s.work.model).spec().policy;
		let of = |challenge: &H256| match output {
			Some(Output::Tensors(tensors)) => Evidence::of_tensors(tensors, challenge, &policy)
				.ok()
				.map(|e| e.fingerprint),
			_ => None,
		};
		Evidence {
			fingerprint: of(challenge).unwrap_or(measured.fingerprint),
			verdict: Verdict::default(),
			prior: match &s.work.prior {
				Some(prior) => of(prior).or(measured.prior),
				None => None,
			},
		}
	}

	fn show(&mut self, s: &Situation) -> Vec<Statement> {
		let request = s.duty.request;
		let Some(evidence) = self.evidence.get(&(s.member, request, s.judges())) else {
			return Vec::new();
		};
		let lie = self.lies.contains(&request);
		let point = match (s.judges(), lie, s.is_executor(), s.is_exposed()) {
			(true, ..) => Point::ShowJuror,
			(_, false, ..) => Point::ShowTrue,
			(_, _, true, false) => Point::ShowExecutor,
			(_, _, true, true) => Point::ShowExecutorExposed,
			(_, _, false, false) => Point::ShowVerifier,
			(_, _, false, true) => Point::ShowVerifierExposed,
		};
		let shows = match self.policy.reveal(self.consult(point)) {
			Reveal::Show => honest::may_show(s.chain, request),
			Reveal::Wait => s.duty.deadline <= s.chain.number() + 1,
			Reveal::Withhold => false,
		};
		if !shows {
			return Vec::new();
		}
		let output = self.outputs.get(&request).cloned();
		honest::showing(s.chain, s.who, request, evidence.clone(), output)
	}
}

/// Where a member stands when it decides.
struct Situation<'a> {
	chain: &'a Chain,
	member: usize,
	who: &'a AccountId,
	duty: &'a Duty<BlockNumber>,
	work: &'a Work,
	view: &'a View,
}

impl Situation<'_> {
	fn is_executor(&self) -> bool {
		self.view.executor.as_ref() == Some(self.who)
	}

	fn executor_is_friend(&self) -> bool {
		let executor = self.view.executor.as_ref();
		executor.is_some_and(|e| self.chain.is_party(e))
	}

	/// Whether this is a jury.
	fn judges(&self) -> bool {
		self.view.jury_challenge.is_some()
	}

	fn friends_in_jury(&self) -> usize {
		let jurors = self.view.jurors.iter();
		jurors.filter(|j| self.chain.is_party(j)).count()
	}

	/// Whether a stranger is among the verifiers.
	fn is_watched(&self) -> bool {
		let mut verifiers = self.view.verifiers.iter();
		verifiers.any(|v| !self.chain.is_party(v))
	}

	/// Whether a stranger has called the answer wrong.
	fn is_exposed(&self) -> bool {
		self.view
			.evidence
			.iter()
			.any(|(who, e)| !self.chain.is_party(who) && e.verdict != Verdict::default())
	}
}
