//! The worker against a chain, an engine and a store that tests control.

use std::{
	collections::{BTreeSet, HashMap},
	path::{Path, PathBuf},
	sync::{
		atomic::{AtomicUsize, Ordering},
		Arc, Mutex,
	},
	time::Duration,
};

use async_trait::async_trait;
use consilience_engine::EngineError;
use consilience_primitives::{
	crypto::{InferenceId, InferencePair, InferenceSignature},
	evidence::{output_commitment, Evidence, Fingerprint, Verdict},
	manifest::{Cache, File, Manifest, Numerics, Reference, ReferenceInput, TaskDetails, VERSION},
	model::{
		Bounds, Limits as ModelLimits, ModelStatus, NumericClass, Price, TimeLimit,
		VerificationPolicy,
	},
	report::{Duties, Duty, DutyKind, Report, Statement, Work},
	request::{FinishReason, Input, Output, Prompt, Sampling},
	view::ModelView,
	ModelId, RequestId,
};
use futures::{stream::BoxStream, StreamExt};
use polkadot_sdk::{sp_application_crypto::Pair, sp_core::H256, sp_runtime::AccountId32};
use tokio::{
	sync::{mpsc, oneshot, watch, Semaphore},
	task::JoinHandle,
	time::timeout,
};

use crate::{
	chain::{AccountId, Balance, BlockNumber, Chain, ChainError, Head},
	follow::{Command, Limits, Status, Worker},
	journal::Journal,
	metrics::Metrics,
	runner::{Library, LocalModel, Runner},
	serving::{Serving, ServingState},
};

/// A test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn validator() -> AccountId {
	AccountId32::new([7; 32])
}

fn pair() -> InferencePair {
	InferencePair::from_string("//Alice", None).unwrap()
}

fn head(number: BlockNumber) -> Head {
	Head {
		hash: H256::from_low_u64_be(number.into()),
		number,
	}
}

#[derive(Clone, Default)]
struct Due {
	duties: Vec<Duty<BlockNumber>>,
	work: HashMap<RequestId, Work>,
}

#[derive(Default)]
struct ChainState {
	finalized: BlockNumber,
	syncing: bool,
	serving: Vec<ModelId>,
	/// What is due at the next block.
	due: Due,
	/// What was due at the blocks so far.
	blocks: HashMap<H256, Due>,
	models: HashMap<ModelId, ModelView<AccountId, Balance>>,
	/// Requests whose statements are not due after all.
	refused: BTreeSet<RequestId>,
}

struct MockChain {
	state: Mutex<ChainState>,
	heads: Mutex<Option<mpsc::UnboundedReceiver<Head>>>,
	finality: Mutex<Option<mpsc::UnboundedReceiver<Head>>>,
	reports: mpsc::UnboundedSender<Report<BlockNumber>>,
}

fn request_of(statement: &Statement) -> Option<RequestId> {
	match statement {
		Statement::Serve { .. } | Statement::Withdraw { .. } => None,
		Statement::Answer { request, .. }
		| Statement::CommitOutput { request, .. }
		| Statement::Commit { request, .. }
		| Statement::Reveal { request, .. }
		| Statement::RevealOutput { request, .. } => Some(*request),
	}
}

/// Whether a statement discharges a duty of this kind.
fn answers(statement: &Statement, kind: DutyKind) -> bool {
	match kind {
		DutyKind::Answer => matches!(statement, Statement::Answer { .. }),
		DutyKind::CommitOutput => matches!(statement, Statement::CommitOutput { .. }),
		DutyKind::Commit => matches!(statement, Statement::Commit { .. }),
		DutyKind::Reveal => matches!(
			statement,
			Statement::Reveal { .. } | Statement::RevealOutput { .. }
		),
	}
}

fn stream(receiver: &Mutex<Option<mpsc::UnboundedReceiver<Head>>>) -> BoxStream<'static, Head> {
	let receiver = receiver.lock().unwrap().take().unwrap();
	futures::stream::unfold(
		receiver,
		|mut r| async move { r.recv().await.map(|h| (h, r)) },
	)
	.boxed()
}

#[async_trait]
impl Chain for MockChain {
	fn heads(&self) -> BoxStream<'static, Head> {
		stream(&self.heads)
	}

	fn finality(&self) -> BoxStream<'static, Head> {
		stream(&self.finality)
	}

	fn finalized(&self) -> Head {
		head(self.state.lock().unwrap().finalized)
	}

	fn is_major_syncing(&self) -> bool {
		self.state.lock().unwrap().syncing
	}

	fn genesis(&self) -> H256 {
		H256::repeat_byte(9)
	}

	fn keys(&self) -> Vec<InferenceId> {
		vec![pair().public()]
	}

	fn duties(
		&self,
		at: H256,
		key: InferenceId,
	) -> Result<Option<Duties<AccountId, BlockNumber>>, ChainError> {
		assert_eq!(key, pair().public());
		let state = self.state.lock().unwrap();
		Ok(Some(Duties {
			validator: validator(),
			session: 3,
			index: 2,
			serving: state.serving.clone(),
			duties: state
				.blocks
				.get(&at)
				.map(|b| b.duties.clone())
				.unwrap_or_default(),
		}))
	}

	fn work(&self, at: H256, request: RequestId) -> Result<Option<Work>, ChainError> {
		let state = self.state.lock().unwrap();
		Ok(state
			.blocks
			.get(&at)
			.and_then(|b| b.work.get(&request).cloned()))
	}

	fn model(
		&self,
		_at: H256,
		model: ModelId,
	) -> Result<Option<ModelView<AccountId, Balance>>, ChainError> {
		Ok(self.state.lock().unwrap().models.get(&model).cloned())
	}

	fn sign(&self, _key: &InferenceId, payload: &[u8]) -> Result<InferenceSignature, ChainError> {
		Ok(pair().sign(payload))
	}

	fn check(
		&self,
		at: H256,
		report: Report<BlockNumber>,
		signature: InferenceSignature,
	) -> Result<(), ChainError> {
		let made_on = head(report.at).hash;
		assert!(InferencePair::verify(
			&signature,
			report.payload(&self.genesis(), &made_on),
			&pair().public()
		));
		let state = self.state.lock().unwrap();
		let bad = |s: &Statement| {
			let Some(request) = request_of(s) else {
				return false;
			};
			let mut due = state.blocks[&at].duties.iter();
			state.refused.contains(&request)
				|| !due.any(|d| d.request == request && answers(s, d.kind))
		};
		if report.statements.iter().any(bad) {
			return Err(ChainError::Refused("not due".into()));
		}
		Ok(())
	}

	async fn submit(
		&self,
		at: H256,
		report: Report<BlockNumber>,
		signature: InferenceSignature,
	) -> Result<(), ChainError> {
		self.check(at, report.clone(), signature)?;
		self.reports
			.send(report)
			.map_err(|e| ChainError::Pool(e.to_string()))
	}
}

/// Every result is another, so that computing twice shows.
struct FakeEngine {
	calls: AtomicUsize,
	/// Models of the jobs that began, in their order.
	begun: Mutex<Vec<ModelId>>,
	/// Jobs wait here.
	gate: Semaphore,
	/// So many of the next jobs end the process.
	crashes: AtomicUsize,
	/// Models whose jobs end the process.
	poisonous: Mutex<BTreeSet<ModelId>>,
	/// Models whose jobs have no end.
	endless: Mutex<BTreeSet<ModelId>>,
	/// The process, which all jobs share.
	process: watch::Sender<u64>,
	/// So many of the next jobs are refused for want of time.
	busy: AtomicUsize,
	/// Challenges of the measurements, in their order.
	challenges: Mutex<Vec<H256>>,
	unloaded: Mutex<Vec<ModelId>>,
	reference: Mutex<Evidence>,
}

impl FakeEngine {
	async fn job(&self, model: ModelId) -> Result<usize, EngineError> {
		let n = self.calls.fetch_add(1, Ordering::SeqCst);
		self.begun.lock().unwrap().push(model);
		let mut process = self.process.subscribe();
		tokio::select! {
			biased;
			_ = process.changed() => Err(EngineError::Gone),
			result = self.work(model) => result.map(|()| n),
		}
	}

	async fn work(&self, model: ModelId) -> Result<(), EngineError> {
		if self.poisonous.lock().unwrap().contains(&model) {
			self.restart();
			return Err(EngineError::Gone);
		}
		if self.endless.lock().unwrap().contains(&model) {
			std::future::pending::<()>().await;
		}
		self.gate.acquire().await.unwrap().forget();
		let one = |left: usize| left.checked_sub(1);
		let next = |left: &AtomicUsize| {
			left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one)
				.is_ok()
		};
		if next(&self.busy) {
			return Err(EngineError::Busy);
		}
		if next(&self.crashes) {
			self.restart();
			return Err(EngineError::Gone);
		}
		Ok(())
	}

	fn calls(&self) -> usize {
		self.calls.load(Ordering::SeqCst)
	}

	fn begun(&self) -> Vec<ModelId> {
		self.begun.lock().unwrap().clone()
	}
}

fn output(n: usize) -> Output {
	Output::Text {
		tokens: vec![codec::Compact(n as u32)].try_into().unwrap(),
		text: b"Paris".to_vec().try_into().unwrap(),
		finish: FinishReason::EndOfText,
	}
}

fn evidence(n: usize) -> Evidence {
	Evidence {
		fingerprint: Fingerprint::Digest([n as u8; 16]),
		verdict: Verdict::default(),
		prior: None,
	}
}

#[async_trait]
impl Runner for FakeEngine {
	async fn ready(&self) {}

	async fn load(&self, folder: &Path) -> Result<ModelId, EngineError> {
		Ok(named(folder.to_str().unwrap()).id())
	}

	async fn unload(&self, model: ModelId) -> Result<(), EngineError> {
		self.unloaded.lock().unwrap().push(model);
		Ok(())
	}

	async fn run(&self, model: ModelId, _: Input, _: H256) -> Result<Output, EngineError> {
		self.job(model).await.map(output)
	}

	async fn measure(
		&self,
		model: ModelId,
		_: Input,
		_: H256,
		_: Option<Output>,
		challenge: H256,
	) -> Result<Evidence, EngineError> {
		self.challenges.lock().unwrap().push(challenge);
		self.job(model).await.map(evidence)
	}

	async fn reference(&self, model: ModelId) -> Result<(Output, Evidence), EngineError> {
		if self.poisonous.lock().unwrap().contains(&model) {
			self.begun.lock().unwrap().push(model);
			self.restart();
			return Err(EngineError::Gone);
		}
		Ok((output(0), self.reference.lock().unwrap().clone()))
	}

	fn restart(&self) {
		self.process.send_modify(|process| *process += 1);
	}

	fn unavailable(&self) -> Option<String> {
		None
	}
}

fn manifest() -> Manifest {
	named("tiny")
}

fn bad() -> ModelId {
	named("bad").id()
}

fn named(name: &str) -> Manifest {
	Manifest {
		version: VERSION,
		name: name.into(),
		license: "Apache-2.0".into(),
		source: "a test".into(),
		task: TaskDetails::TextGeneration {
			tokenizer: "tokenizer.json".into(),
			chat_template: None,
			bos_token: None,
			eos_token: None,
			eos_token_ids: vec![0],
			context: 128,
			vocabulary: 16,
			layers: 1,
			kv_heads: 1,
			head_dim: 4,
			cache: Cache::Slots,
		},
		graph: "model.onnx".into(),
		files: ["model.onnx", "tokenizer.json"]
			.map(|path| File {
				path: path.into(),
				size: 0,
				chunks: vec![],
			})
			.to_vec(),
		numerics: Numerics {
			element_type: "fp32".into(),
			opset: 17,
			onnxruntime_min: "1.31.1".into(),
			onnxruntime_max: "1.31.1".into(),
			providers: vec!["CPUExecutionProvider".into()],
			optimization: "disable".into(),
		},
		limits: ModelLimits {
			max_input_units: 100,
			max_output_units: 100,
		},
		time: TimeLimit {
			base_blocks: 10,
			output_units_per_block: 4,
		},
		policy: VerificationPolicy {
			class: NumericClass::Exact,
			positions: 16,
			entries: 1,
			fraction_bits: 0,
			accept: Bounds::default(),
			fraud: Bounds::default(),
			min_verifiers: 2,
			min_sampling: 1_000,
		},
		reference: Reference {
			input: ReferenceInput::Text {
				text: "a".into(),
				max_tokens: 1,
			},
			output: H256::zero(),
			evidence: evidence(42),
		},
	}
}

struct FakeLibrary;

impl Library for FakeLibrary {
	fn list(&self) -> Vec<ModelId> {
		vec![manifest().id(), bad()]
	}

	fn verified(&self, model: ModelId) -> Result<LocalModel, String> {
		let name = if model == bad() { "bad" } else { "tiny" };
		Ok(LocalModel {
			manifest: named(name),
			folder: PathBuf::from(name),
		})
	}
}

struct Bench {
	folder: tempfile::TempDir,
	chain: Arc<MockChain>,
	engine: Arc<FakeEngine>,
	heads: mpsc::UnboundedSender<Head>,
	finality: mpsc::UnboundedSender<Head>,
	reports: mpsc::UnboundedReceiver<Report<BlockNumber>>,
	commands: mpsc::Sender<Command>,
	worker: JoinHandle<()>,
}

impl Bench {
	fn new() -> Self {
		Self::on(tempfile::tempdir().unwrap(), Semaphore::MAX_PERMITS / 2)
	}

	/// A worker whose jobs wait until `release` lets them go.
	fn held() -> Self {
		Self::on(tempfile::tempdir().unwrap(), 0)
	}

	fn on(folder: tempfile::TempDir, permits: usize) -> Self {
		Self::with(folder, permits, Limits::default())
	}

	fn with(folder: tempfile::TempDir, permits: usize, limits: Limits) -> Self {
		let (reports, received) = mpsc::unbounded_channel();
		let (heads, stream) = mpsc::unbounded_channel();
		let (finality, finalized) = mpsc::unbounded_channel();
		let (commands, receiver) = mpsc::channel(4);
		let chain = Arc::new(MockChain {
			state: Mutex::default(),
			heads: Mutex::new(Some(stream)),
			finality: Mutex::new(Some(finalized)),
			reports,
		});
		let engine = Arc::new(FakeEngine {
			calls: AtomicUsize::new(0),
			gate: Semaphore::new(permits),
			begun: Mutex::default(),
			crashes: AtomicUsize::new(0),
			poisonous: Mutex::default(),
			endless: Mutex::default(),
			process: watch::Sender::new(0),
			busy: AtomicUsize::new(0),
			challenges: Mutex::default(),
			unloaded: Mutex::default(),
			reference: Mutex::new(evidence(42)),
		});
		let worker = Worker::new(
			chain.clone(),
			engine.clone(),
			Arc::new(FakeLibrary),
			Journal::open(&folder.path().join("journal.redb")).unwrap(),
			Serving::open(folder.path().join("serving.json")).unwrap(),
			Metrics::default(),
			limits,
			receiver,
		);
		Self {
			folder,
			chain,
			engine,
			heads,
			finality,
			reports: received,
			commands,
			worker: tokio::spawn(worker.run()),
		}
	}

	fn state(&self) -> std::sync::MutexGuard<'_, ChainState> {
		self.chain.state.lock().unwrap()
	}

	fn due(&self, duties: &[(RequestId, DutyKind)]) {
		let model = manifest().id();
		let duties: Vec<_> = duties.iter().map(|(r, k)| (*r, model, *k)).collect();
		self.due_for(&duties);
	}

	fn due_for(&self, duties: &[(RequestId, ModelId, DutyKind)]) {
		let mut state = self.state();
		state.due.duties = duties
			.iter()
			.map(|(request, model, kind)| Duty {
				request: *request,
				model: *model,
				kind: *kind,
				deadline: 100,
			})
			.collect();
		for (request, model, kind) in duties {
			let measuring = matches!(kind, DutyKind::Commit | DutyKind::Reveal);
			state.due.work.insert(
				*request,
				Work {
					model: *model,
					input: Input::TextGeneration {
						prompt: Prompt::Text(b"a".to_vec().try_into().unwrap()),
						sampling: Sampling::default(),
					},
					seed: H256::repeat_byte(1),
					output: None,
					challenge: measuring.then(|| H256::repeat_byte(2)),
					prior: None,
				},
			);
		}
	}

	fn block(&self, number: BlockNumber) {
		let mut state = self.state();
		let due = state.due.clone();
		state.blocks.insert(head(number).hash, due);
		drop(state);
		self.heads.send(head(number)).unwrap();
	}

	fn finalize(&self, number: BlockNumber) {
		self.state().finalized = number;
		self.finality.send(head(number)).unwrap();
	}

	async fn report(&mut self) -> Report<BlockNumber> {
		timeout(PATIENCE, self.reports.recv())
			.await
			.expect("a report is due")
			.unwrap()
	}

	async fn said(&mut self) -> Vec<Statement> {
		self.report().await.statements.into_inner()
	}

	fn silent(&mut self) -> bool {
		self.reports.try_recv().is_err()
	}

	async fn status(&self) -> Status {
		let (reply, replied) = oneshot::channel();
		self.commands.send(Command::Status(reply)).await.unwrap();
		timeout(PATIENCE, replied).await.unwrap().unwrap()
	}

	/// Returns when the worker has looked at everything that the chain told it so far.
	async fn seen(&self) {
		self.status().await;
	}

	/// Returns when the worker's status is as wanted.
	async fn until(&self, wanted: impl Fn(&Status) -> bool) -> Status {
		timeout(PATIENCE, async {
			loop {
				let status = self.status().await;
				if wanted(&status) {
					return status;
				}
				tokio::task::yield_now().await;
			}
		})
		.await
		.expect("the worker never gets there")
	}

	async fn serve(&self) -> Result<ServingState, String> {
		self.serve_model(manifest().id()).await
	}

	async fn serve_model(&self, model: ModelId) -> Result<ServingState, String> {
		let (reply, replied) = oneshot::channel();
		self.commands
			.send(Command::Serve(model, reply))
			.await
			.unwrap();
		timeout(PATIENCE, replied).await.unwrap().unwrap()
	}

	fn register(&self) {
		self.register_as("tiny");
	}

	fn register_as(&self, name: &str) {
		let manifest = named(name);
		let view = ModelView {
			id: manifest.id(),
			owner: validator(),
			spec: manifest.spec().unwrap(),
			price: Price::default(),
			status: ModelStatus::Registered,
			serving: vec![],
		};
		self.state().models.insert(manifest.id(), view);
	}

	/// Kills the worker wherever it is, and starts another on its disk.
	async fn killed_and_restarted(self) -> Self {
		self.worker.abort();
		let _ = self.worker.await;
		Self::on(self.folder, Semaphore::MAX_PERMITS / 2)
	}
}

#[tokio::test]
async fn a_duty_is_done_once_and_said_again_while_it_is_due() {
	let mut bench = Bench::new();
	bench.due(&[(1, DutyKind::Answer)]);
	bench.block(1);
	let report = bench.report().await;
	assert_eq!((report.session, report.validator, report.at), (3, 2, 1));
	let first = report.statements.into_inner();
	assert_eq!(
		first,
		[Statement::Answer {
			request: 1,
			output: output(0)
		}]
	);
	for number in 2..=3 {
		bench.block(number);
		bench.seen().await;
	}
	// Not in a block after three: it was lost.
	bench.block(4);
	let again = bench.report().await;
	assert_eq!((again.at, again.statements.into_inner()), (4, first));
	assert_eq!(bench.engine.calls(), 1);
	assert!(bench.silent());
}

#[tokio::test]
async fn a_report_lost_to_one_statement_is_said_again_without_it_at_once() {
	let mut bench = Bench::held();
	bench.due(&[(1, DutyKind::Commit), (2, DutyKind::Commit)]);
	bench.block(1);
	bench.until(|s| s.running == 2).await;
	// No report of this block takes the first that is done: both come with the next.
	bench.state().refused.extend([1, 2]);
	bench.engine.gate.add_permits(2);
	bench.until(|s| s.running == 0).await;
	bench.state().refused.clear();
	bench.block(2);
	let both = bench.said().await;
	assert_eq!(both.len(), 2);
	// The same again: nothing happened to it.
	bench.block(3);
	bench.seen().await;
	assert!(bench.silent());
	bench.due(&[(2, DutyKind::Commit)]);
	bench.block(4);
	assert_eq!(bench.said().await, both[1..]);
}

#[tokio::test]
async fn nothing_is_due_while_the_node_catches_up() {
	let mut bench = Bench::new();
	bench.due(&[(1, DutyKind::Answer)]);
	bench.state().syncing = true;
	for number in 1..=3 {
		bench.block(number);
		let status = bench.status().await;
		assert_eq!((status.running, status.waiting), (0, 0));
	}
	assert_eq!(bench.engine.calls(), 0);
	bench.state().syncing = false;
	bench.block(4);
	let report = bench.report().await;
	assert_eq!((report.at, report.statements.len()), (4, 1));
	// A node that falls behind again does not go on with what it knew.
	bench.state().syncing = true;
	bench.block(20);
	bench.seen().await;
	assert!(bench.silent());
}

#[tokio::test]
async fn what_was_committed_is_revealed_after_a_kill() {
	let mut bench = Bench::new();
	bench.due(&[(5, DutyKind::Commit)]);
	bench.block(1);
	let said = bench.said().await;
	let [Statement::Commit {
		request: 5,
		commitment,
	}] = said[..]
	else {
		panic!("{said:?}")
	};

	let mut bench = bench.killed_and_restarted().await;
	bench.due(&[(5, DutyKind::Reveal)]);
	bench.block(2);
	bench.finalize(2);
	let said = bench.said().await;
	let [Statement::Reveal {
		request: 5,
		evidence,
		salt,
	}] = &said[..]
	else {
		panic!("{said:?}")
	};
	let challenge = H256::repeat_byte(2);
	assert_eq!(
		evidence.commitment(5, &challenge, &validator(), salt),
		commitment
	);
	assert_eq!(bench.engine.calls(), 0, "nothing is computed a second time");
}

#[tokio::test]
async fn a_kill_between_computing_and_saying_changes_nothing_that_is_said() {
	let mut bench = Bench::new();
	bench.due(&[(5, DutyKind::Commit)]);
	bench.block(1);
	let before = bench.said().await;
	let mut bench = bench.killed_and_restarted().await;
	bench.due(&[(5, DutyKind::Commit)]);
	bench.block(2);
	assert_eq!(bench.said().await, before);
}

#[tokio::test]
async fn another_challenge_is_another_measurement() {
	let mut bench = Bench::new();
	bench.due(&[(5, DutyKind::Commit)]);
	bench.block(1);
	let first = bench.said().await;
	bench.state().due.work.get_mut(&5).unwrap().challenge = Some(H256::repeat_byte(3));
	bench.block(2);
	assert_ne!(bench.said().await, first);
	assert_eq!(bench.engine.calls(), 2);
}

/// A juror's duty in the dispute about request 5, whose first round asked another question.
fn jury(bench: &Bench, kind: DutyKind) -> (H256, H256) {
	let (prior, challenge) = (H256::repeat_byte(2), H256::repeat_byte(3));
	bench.due(&[(5, kind)]);
	let mut state = bench.state();
	let work = state.due.work.get_mut(&5).unwrap();
	work.output = Some(output(0));
	(work.challenge, work.prior) = (Some(challenge), Some(prior));
	(prior, challenge)
}

#[tokio::test]
async fn a_juror_measures_under_both_challenges_and_reuses_nothing_of_the_first_round() {
	let mut bench = Bench::new();
	// It was a member of the disputed round.
	bench.due(&[(5, DutyKind::Commit)]);
	bench.block(1);
	let first = bench.said().await;
	bench.due(&[(5, DutyKind::Reveal)]);
	bench.block(2);
	bench.finalize(2);
	let of_first_round = bench.said().await;
	let [Statement::Reveal { salt: old, .. }] = &of_first_round[..] else {
		panic!("{of_first_round:?}")
	};

	let (prior, challenge) = jury(&bench, DutyKind::Commit);
	bench.block(3);
	let [Statement::Commit { commitment, .. }] = bench.said().await[..] else {
		panic!("a commitment is due")
	};
	assert_ne!(
		first,
		[Statement::Commit {
			request: 5,
			commitment
		}]
	);
	assert_eq!(
		bench.engine.challenges.lock().unwrap()[1..],
		[prior, challenge]
	);

	// The commitment is kept over a restart, with both fingerprints, and they are shown when its block is final.
	let mut bench = bench.killed_and_restarted().await;
	jury(&bench, DutyKind::Commit);
	bench.block(3);
	assert_eq!(
		bench.said().await,
		[Statement::Commit {
			request: 5,
			commitment
		}]
	);
	jury(&bench, DutyKind::Reveal);
	bench.block(4);
	bench.seen().await;
	assert!(bench.silent());
	bench.finalize(4);
	let said = bench.said().await;
	let [Statement::Reveal {
		evidence: shown,
		salt,
		..
	}] = &said[..]
	else {
		panic!("{said:?}")
	};
	assert_eq!(
		shown.commitment(5, &challenge, &validator(), salt),
		commitment
	);
	// The engine's results are numbered: the first round had 0, the jury 1 for the disputed challenge and 2 for its own.
	assert_eq!(shown.fingerprint, evidence(2).fingerprint);
	assert_eq!(shown.prior, Some(evidence(1).fingerprint));
	assert_ne!(salt, old);
	assert_eq!(bench.engine.calls(), 0, "nothing is measured again");
}

#[tokio::test]
async fn an_executor_shows_output_and_evidence_in_one_report() {
	let mut bench = Bench::new();
	bench.due(&[(1, DutyKind::CommitOutput)]);
	bench.block(1);
	let said = bench.said().await;
	let [Statement::CommitOutput { commitment, .. }] = said[..] else {
		panic!("{said:?}")
	};
	bench.due(&[(1, DutyKind::Commit)]);
	bench.block(2);
	bench.said().await;
	bench.due(&[(1, DutyKind::Reveal)]);
	bench.block(3);
	bench.seen().await;
	assert!(
		bench.silent(),
		"the output is not shown before its fork is the only one"
	);
	bench.finalize(3);
	let said = bench.said().await;
	let [Statement::RevealOutput { output, salt, .. }, Statement::Reveal { .. }] = &said[..] else {
		panic!("{said:?}")
	};
	assert_eq!(output_commitment(output, 1, &validator(), salt), commitment);
}

#[tokio::test]
async fn evidence_is_shown_only_when_the_end_of_the_commitments_is_final() {
	let mut bench = Bench::new();
	bench.due(&[(5, DutyKind::Commit)]);
	bench.block(1);
	let [Statement::Commit { commitment, .. }] = bench.said().await[..] else {
		panic!("a commitment is due")
	};
	bench.due(&[(5, DutyKind::Reveal)]);
	// The finalised chain still takes commitments: there may be a fork on which somebody has not committed.
	for (best, finalized) in [(2, 0), (3, 1)] {
		bench.block(best);
		bench.finalize(finalized);
		bench.seen().await;
		assert!(bench.silent(), "shown at #{best} with #{finalized} final");
	}
	// Finality alone is enough: no further block is waited for.
	bench.finalize(2);
	let report = bench.report().await;
	assert_eq!(report.at, 3);
	let [Statement::Reveal { evidence, salt, .. }] = &report.statements[..] else {
		panic!("{report:?}")
	};
	let challenge = H256::repeat_byte(2);
	assert_eq!(
		evidence.commitment(5, &challenge, &validator(), salt),
		commitment
	);
}

#[tokio::test]
async fn a_reveal_of_an_earlier_challenge_does_not_show_the_evidence_of_a_later_one() {
	let mut bench = Bench::new();
	bench.due(&[(5, DutyKind::Reveal)]);
	bench.block(1);
	bench.finalize(1);
	// The round was repeated: the best chain has closed the commitments to another challenge.
	bench.due(&[(5, DutyKind::Commit)]);
	let again = Some(H256::repeat_byte(3));
	bench.state().due.work.get_mut(&5).unwrap().challenge = again;
	bench.block(2);
	bench.said().await;
	bench.due(&[(5, DutyKind::Reveal)]);
	bench.state().due.work.get_mut(&5).unwrap().challenge = again;
	bench.block(3);
	bench.finalize(1);
	bench.seen().await;
	assert!(bench.silent());
	bench.finalize(3);
	let said = bench.said().await;
	assert!(matches!(said[..], [Statement::Reveal { .. }]), "{said:?}");
}

#[tokio::test]
async fn a_job_in_flight_at_a_crash_is_done_by_the_next_engine() {
	let mut bench = Bench::new();
	bench.engine.crashes.store(2, Ordering::SeqCst);
	bench.due(&[(1, DutyKind::Answer)]);
	bench.block(1);
	let said = bench.said().await;
	assert!(
		matches!(said[..], [Statement::Answer { request: 1, .. }]),
		"{said:?}"
	);
	assert_eq!(bench.engine.calls(), 3);
}

#[tokio::test]
async fn a_job_that_a_busy_engine_refused_is_tried_again_at_the_next_block() {
	let mut bench = Bench::new();
	bench.engine.busy.store(1, Ordering::SeqCst);
	bench.due(&[(1, DutyKind::Answer)]);
	bench.block(1);
	bench
		.until(|s| s.validator.is_some() && s.running == 0)
		.await;
	assert_eq!(bench.engine.calls(), 1);
	assert!(bench.silent());
	bench.block(2);
	let said = bench.said().await;
	assert!(
		matches!(said[..], [Statement::Answer { request: 1, .. }]),
		"{said:?}"
	);
	assert_eq!(bench.engine.calls(), 2);
}

#[tokio::test]
async fn a_model_that_crashes_the_engine_again_and_again_is_withdrawn() {
	let mut bench = Bench::new();
	let number = serve_both(&mut bench).await;
	bench.engine.crashes.store(100, Ordering::SeqCst);
	bench.due(&[(1, DutyKind::Answer)]);
	bench.block(number);
	assert_eq!(
		bench.said().await,
		[Statement::Withdraw {
			model: manifest().id()
		}]
	);
	assert_eq!(bench.engine.calls(), 3);
	let status = bench.status().await;
	let state = &status.models[&manifest().id()];
	assert!(
		matches!(state, ServingState::Refused(why) if why.contains("3 times")),
		"{state:?}"
	);
}

/// Has both models checked, announced and served. Gives the number of the next block.
async fn serve_both(bench: &mut Bench) -> BlockNumber {
	let mut number = 1;
	for name in ["tiny", "bad"] {
		bench.register_as(name);
		let model = named(name).id();
		bench.serve_model(model).await.unwrap();
		bench.block(number);
		let said = bench.said().await;
		assert!(matches!(said[..], [Statement::Serve { .. }]), "{said:?}");
		bench.state().serving.push(model);
		number += 1;
	}
	number
}

/// Returns when these jobs and no others have begun.
async fn begun(bench: &Bench, models: &[ModelId]) {
	timeout(PATIENCE, async {
		while bench.engine.begun() != models {
			tokio::task::yield_now().await;
		}
	})
	.await
	.expect("they begin")
}

fn is_refused(status: &Status, model: ModelId) -> bool {
	matches!(status.models[&model], ServingState::Refused(_))
}

#[tokio::test]
async fn a_crash_is_held_against_the_model_that_was_alone() {
	let mut bench = Bench::held();
	let good = manifest().id();
	let number = serve_both(&mut bench).await;
	bench.due(&[(1, DutyKind::Answer)]);
	bench.block(number);
	begun(&bench, &[good]).await;
	bench.engine.poisonous.lock().unwrap().insert(bad());
	bench.due_for(&[(2, bad(), DutyKind::Answer), (1, good, DutyKind::Answer)]);
	bench.block(number + 1);
	assert_eq!(
		bench.said().await,
		[Statement::Withdraw { model: bad() }],
		"the good one stays"
	);
	bench.engine.gate.add_permits(100);
	bench.until(|s| s.running == 0 && s.waiting == 0).await;
	bench.block(number + 2);
	let said = bench.said().await;
	assert!(
		matches!(said[..], [Statement::Answer { request: 1, .. }]),
		"{said:?}"
	);
	let status = bench.status().await;
	assert!(is_refused(&status, bad()) && !is_refused(&status, good));
	// Beside each other once; then the bad one alone until it was blamed, and the good one.
	let order = [good, bad(), bad(), bad(), bad(), good];
	assert_eq!(bench.engine.begun(), order);
}

#[tokio::test]
async fn a_job_without_end_is_held_against_its_model_and_not_against_another() {
	let limits = Limits {
		job: Duration::from_secs(1),
		..Default::default()
	};
	let mut bench = Bench::with(tempfile::tempdir().unwrap(), 0, limits);
	let good = manifest().id();
	let number = serve_both(&mut bench).await;
	bench.engine.endless.lock().unwrap().insert(bad());
	bench.due_for(&[(2, bad(), DutyKind::Answer)]);
	bench.block(number);
	begun(&bench, &[bad()]).await;
	bench.due_for(&[(2, bad(), DutyKind::Answer), (1, good, DutyKind::Answer)]);
	bench.block(number + 1);
	begun(&bench, &[bad(), good]).await;
	begun(&bench, &[bad(), good, bad()]).await;
	bench.engine.gate.add_permits(100);
	let order = [bad(), good, bad(), bad(), bad(), good];
	begun(&bench, &order).await;
	let status = bench.until(|s| s.running == 0 && s.waiting == 0).await;
	assert!(is_refused(&status, bad()) && !is_refused(&status, good));
	assert_eq!(bench.engine.begun(), order);
}

#[tokio::test]
async fn a_quarantine_outlives_the_node_and_ends_on_command() {
	let mut bench = Bench::new();
	bench.engine.poisonous.lock().unwrap().insert(bad());
	bench.register_as("bad");
	bench.serve_model(bad()).await.unwrap();
	bench.block(1);
	bench.until(|s| is_refused(s, bad())).await;
	assert_eq!(bench.engine.begun(), [bad(); 3], "the check was the crash");
	assert!(bench.silent(), "it was never announced");

	let mut bench = bench.killed_and_restarted().await;
	bench.register_as("bad");
	bench.state().serving = vec![bad()];
	bench.block(2);
	assert_eq!(bench.said().await, [Statement::Withdraw { model: bad() }]);
	let status = bench.status().await;
	let ServingState::Refused(why) = &status.models[&bad()] else {
		panic!("{:?}", status.models)
	};
	assert!(
		why.contains("3 times") && why.contains("model serve"),
		"{why}"
	);
	assert_eq!(bench.engine.calls(), 0);

	bench.state().serving.clear();
	assert!(!matches!(
		bench.serve_model(bad()).await,
		Ok(ServingState::Refused(_))
	));
	bench.block(3);
	let said = bench.said().await;
	assert!(
		matches!(&said[..], [Statement::Serve { model, .. }] if *model == bad()),
		"{said:?}"
	);
}

#[tokio::test]
async fn what_is_not_due_any_more_is_dropped() {
	let mut bench = Bench::held();
	bench.due(&[
		(1, DutyKind::Answer),
		(2, DutyKind::Answer),
		(3, DutyKind::Answer),
	]);
	bench.block(1);
	bench.until(|s| (s.running, s.waiting) == (2, 1)).await;
	bench.due(&[]);
	bench.block(2);
	bench.until(|s| s.waiting == 0).await;
	bench.engine.gate.add_permits(100);
	bench.until(|s| s.running == 0).await;
	assert_eq!(bench.engine.calls(), 2, "the third was never begun");
	assert!(bench.silent());
	bench.due(&[(4, DutyKind::Answer)]);
	bench.block(3);
	let said = bench.said().await;
	assert!(
		matches!(said[..], [Statement::Answer { request: 4, .. }]),
		"{said:?}"
	);
}

#[tokio::test]
async fn the_queue_is_bounded_and_everything_is_done_in_the_end() {
	let mut bench = Bench::held();
	let due: Vec<_> = (0..200)
		.map(|request| (request, DutyKind::Commit))
		.collect();
	bench.due(&due);
	bench.block(1);
	let status = bench.until(|s| s.running == 2).await;
	assert_eq!(status.waiting, 62);
	bench.engine.gate.add_permits(1_000);
	let mut said = BTreeSet::new();
	let mut number = 1;
	while said.len() < 200 {
		number += 1;
		bench.block(number);
		let report = bench.report().await;
		assert!(report.statements.len() <= 32);
		said.extend(report.statements.iter().filter_map(request_of));
		// What was said is in a block now.
		let left: Vec<_> = due
			.iter()
			.filter(|(r, _)| !said.contains(r))
			.copied()
			.collect();
		bench.due(&left);
	}
	assert_eq!(bench.engine.calls(), 200);
}

#[tokio::test]
async fn one_refused_statement_does_not_silence_the_others() {
	let mut bench = Bench::held();
	bench.due(&[(1, DutyKind::Commit), (2, DutyKind::Commit)]);
	bench.state().refused.insert(1);
	bench.block(1);
	bench.until(|s| s.running == 2).await;
	bench.engine.gate.add_permits(2);
	bench.until(|s| s.running == 0).await;
	bench.block(2);
	let said = bench.said().await;
	assert_eq!(said.iter().filter_map(request_of).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn a_model_is_announced_when_it_is_registered_and_its_reference_reproduced() {
	let mut bench = Bench::new();
	assert_eq!(bench.serve().await, Ok(ServingState::Waiting));
	bench.block(1);
	bench.until(|s| s.validator.is_some()).await;
	assert!(bench.silent());
	bench.register();
	bench.block(2);
	let model = manifest().id();
	assert_eq!(
		bench.said().await,
		[Statement::Serve {
			model,
			evidence: evidence(42)
		}]
	);
	// It is remembered on disk.
	let mut bench = bench.killed_and_restarted().await;
	bench.register();
	bench.block(3);
	assert_eq!(
		bench.said().await,
		[Statement::Serve {
			model,
			evidence: evidence(42)
		}]
	);
}

#[tokio::test]
async fn a_model_is_withdrawn_on_command_and_unloaded_when_nothing_is_due_for_it() {
	let mut bench = Bench::new();
	let model = manifest().id();
	bench.register();
	bench.serve().await.unwrap();
	bench.block(1);
	bench.said().await;
	bench.state().serving = vec![model];
	bench.due(&[(1, DutyKind::Answer)]);
	bench.block(2);
	bench.said().await;
	let (reply, replied) = oneshot::channel();
	bench
		.commands
		.send(Command::Withdraw(model, reply))
		.await
		.unwrap();
	assert_eq!(timeout(PATIENCE, replied).await.unwrap().unwrap(), Ok(true));
	bench.block(3);
	assert_eq!(bench.said().await, [Statement::Withdraw { model }]);
	assert!(bench.engine.unloaded.lock().unwrap().is_empty());
	bench.state().serving.clear();
	bench.due(&[]);
	bench.block(4);
	timeout(PATIENCE, async {
		while *bench.engine.unloaded.lock().unwrap() != [model] {
			tokio::task::yield_now().await;
		}
	})
	.await
	.expect("the model is unloaded");
}

#[tokio::test]
async fn a_machine_that_computes_other_bits_says_so_and_is_never_announced() {
	let mut bench = Bench::new();
	*bench.engine.reference.lock().unwrap() = evidence(41);
	bench.register();
	bench.serve().await.unwrap();
	bench.block(1);
	let model = manifest().id();
	let status = bench
		.until(|s| matches!(s.models[&model], ServingState::Refused(_)))
		.await;
	let ServingState::Refused(why) = &status.models[&model] else {
		unreachable!()
	};
	assert!(why.contains("does not reproduce"), "{why}");
	bench.block(2);
	bench.seen().await;
	assert!(bench.silent());
	// It does not go on serving either.
	bench.state().serving = vec![model];
	bench.block(3);
	assert_eq!(bench.said().await, [Statement::Withdraw { model }]);
}

#[tokio::test]
async fn what_the_chain_says_of_a_model_must_be_what_its_manifest_says() {
	let bench = Bench::new();
	bench.register();
	let model = manifest().id();
	bench.state().models.get_mut(&model).unwrap().spec.size += 1;
	bench.serve().await.unwrap();
	bench.block(1);
	let status = bench
		.until(|s| matches!(s.models[&model], ServingState::Refused(_)))
		.await;
	let ServingState::Refused(why) = &status.models[&model] else {
		unreachable!()
	};
	assert!(why.contains("manifest"), "{why}");
}
