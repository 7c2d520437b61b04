//! The worker against a chain, an engine and a store that tests control.

mod contribute;
mod duties;
mod engine;
mod rounds;
mod serving;
mod unanswerable;

use std::{
	collections::{BTreeSet, HashMap, VecDeque},
	path::{Path, PathBuf},
	sync::{
		atomic::{AtomicUsize, Ordering},
		Arc, LazyLock, Mutex,
	},
	time::{Duration, Instant},
};

use async_trait::async_trait;
use consilience_engine::{EngineError, TokenStream};
use consilience_primitives::{
	crypto::{InferenceId, InferencePair, InferenceSignature},
	evidence::{output_commitment, Evidence, Fingerprint, Verdict},
	manifest::{Cache, File, Manifest, Numerics, Reference, ReferenceInput, TaskDetails, VERSION},
	model::{
		Bounds, Limits as ModelLimits, ModelStatus, NumericClass, Price, TimeLimit,
		VerificationPolicy,
	},
	report::{Duties, Duty, DutyKind, Report, Statement, Work},
	request::{FinishReason, FullInput, Input, Output, Prompt, Sampling},
	sampling::CONSTRAINT_RULES,
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
	journal::{failing::Disk, Journal},
	metrics::Metrics,
	runner::{Library, LocalModel, Runner},
	serving::{Serving, ServingState},
};

/// A test that waits longer has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn validator() -> AccountId {
	AccountId32::new([7; 32])
}

pub(crate) fn pair() -> InferencePair {
	static PAIR: LazyLock<InferencePair> =
		LazyLock::new(|| InferencePair::from_string("//Alice", None).unwrap());
	PAIR.clone()
}

/// A block on the one before it.
pub(crate) fn head(number: BlockNumber) -> Head {
	let hash = |number: BlockNumber| H256::from_low_u64_be(number.into());
	Head {
		hash: hash(number),
		number,
		parent: number.checked_sub(1).map(hash),
	}
}

#[derive(Clone, Default)]
pub(crate) struct Due {
	pub(crate) duties: Vec<Duty<BlockNumber>>,
	pub(crate) work: HashMap<RequestId, Work>,
}

#[derive(Default)]
pub(crate) struct ChainState {
	pub(crate) finalized: BlockNumber,
	pub(crate) syncing: bool,
	pub(crate) serving: Vec<ModelId>,
	/// What is due at the next block.
	pub(crate) due: Due,
	/// What was due at the blocks so far.
	pub(crate) blocks: HashMap<H256, Due>,
	pub(crate) models: HashMap<ModelId, ModelView<AccountId, Balance>>,
	/// Statements that a block takes in one report.
	pub(crate) most: Option<usize>,
	/// Requests whose statements are not due after all.
	pub(crate) refused: BTreeSet<RequestId>,
	/// Whether the validator may announce nothing.
	pub(crate) disabled: bool,
	/// Reports that were refused.
	pub(crate) refusals: usize,
	/// Calls of the runtime for duties, and for work.
	pub(crate) asked: (usize, usize),
	/// Whether an answer is taken where a commitment to one is due.
	pub(crate) claims: bool,
	/// Rules of constraints, if they are not this program's.
	pub(crate) rules: Option<u16>,
	/// Data that transactions brought.
	pub(crate) data: HashMap<H256, Vec<u8>>,
	/// How often it was looked for.
	pub(crate) looked: usize,
}

pub(crate) struct MockChain {
	pub(crate) state: Mutex<ChainState>,
	pub(crate) heads: Mutex<Option<mpsc::UnboundedReceiver<Head>>>,
	pub(crate) finality: Mutex<Option<mpsc::UnboundedReceiver<Head>>>,
	pub(crate) reports: mpsc::UnboundedSender<Report<BlockNumber>>,
}

pub(crate) fn request_of(statement: &Statement) -> Option<RequestId> {
	match statement {
		Statement::Serve { .. } | Statement::Withdraw { .. } | Statement::Differ { .. } => None,
		Statement::Answer { request, .. }
		| Statement::CommitOutput { request, .. }
		| Statement::Commit { request, .. }
		| Statement::Reveal { request, .. }
		| Statement::RevealOutput { request, .. } => Some(*request),
	}
}

/// Whether a statement discharges a duty of this kind.
pub(crate) fn answers(statement: &Statement, kind: DutyKind) -> bool {
	match kind {
		DutyKind::Answer => matches!(statement, Statement::Answer { .. }),
		DutyKind::CommitOutput => matches!(statement, Statement::CommitOutput { .. }),
		DutyKind::Commit => matches!(statement, Statement::Commit { .. }),
		DutyKind::Reveal => matches!(
			statement,
			Statement::Reveal { .. } | Statement::RevealOutput { .. }
		),
		DutyKind::LateReveal => matches!(statement, Statement::Reveal { .. }),
		DutyKind::RevealOutput => matches!(statement, Statement::RevealOutput { .. }),
	}
}

pub(crate) fn stream(
	receiver: &Mutex<Option<mpsc::UnboundedReceiver<Head>>>,
) -> BoxStream<'static, Head> {
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
		let mut state = self.state.lock().unwrap();
		state.asked.0 += 1;
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
			accused: Vec::new(),
			rules: state.rules.unwrap_or(CONSTRAINT_RULES),
		}))
	}

	fn data(&self, hash: H256) -> Result<Option<Vec<u8>>, ChainError> {
		let mut state = self.state.lock().unwrap();
		state.looked += 1;
		Ok(state.data.get(&hash).cloned())
	}

	fn work(&self, at: H256, request: RequestId) -> Result<Option<Work>, ChainError> {
		let mut state = self.state.lock().unwrap();
		state.asked.1 += 1;
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
		let mut state = self.state.lock().unwrap();
		let bad = |s: &Statement| {
			let Some(request) = request_of(s) else {
				return state.disabled;
			};
			let mut due = state.blocks[&at].duties.iter();
			state.refused.contains(&request)
				|| !due.any(|d| {
					let claim = state.claims && matches!(s, Statement::Answer { .. });
					d.request == request && (answers(s, d.kind) || claim)
				})
		};
		if state
			.most
			.is_some_and(|most| report.statements.len() > most)
		{
			return Err(ChainError::TooLarge);
		}
		if report.statements.iter().any(bad) {
			state.refusals += 1;
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
pub(crate) struct FakeEngine {
	pub(crate) calls: AtomicUsize,
	/// What the jobs were given, in their order.
	pub(crate) asked: Mutex<Vec<FullInput>>,
	/// Models of the jobs that began, in their order.
	pub(crate) begun: Mutex<Vec<ModelId>>,
	/// Jobs wait here.
	pub(crate) gate: Semaphore,
	/// So many of the next jobs end the process.
	pub(crate) crashes: AtomicUsize,
	/// Models whose jobs end the process.
	pub(crate) poisonous: Mutex<BTreeSet<ModelId>>,
	/// Models whose jobs have no end.
	pub(crate) endless: Mutex<BTreeSet<ModelId>>,
	/// The process, which all jobs share.
	pub(crate) process: watch::Sender<u64>,
	/// So many of the next jobs are refused for want of time.
	pub(crate) busy: AtomicUsize,
	/// What comes of the next jobs instead.
	pub(crate) errors: Mutex<VecDeque<EngineError>>,
	/// Inputs whose jobs end the process.
	pub(crate) poison: Mutex<Vec<FullInput>>,
	/// Jobs whose futures were dropped before their end.
	pub(crate) cancelled: Arc<AtomicUsize>,
	/// Until when the jobs were waited for, from when they began.
	pub(crate) patience: Mutex<Vec<Duration>>,
	/// Largest margin that measurements give.
	pub(crate) margin: Mutex<u32>,
	/// Challenges of the measurements, in their order.
	pub(crate) challenges: Mutex<Vec<H256>>,
	pub(crate) unloaded: Mutex<Vec<ModelId>>,
	pub(crate) reference: Mutex<Evidence>,
}

impl FakeEngine {
	pub(crate) async fn job(
		&self,
		model: ModelId,
		input: FullInput,
		until: Instant,
	) -> Result<usize, EngineError> {
		struct Cancelled(Arc<AtomicUsize>);
		impl Drop for Cancelled {
			fn drop(&mut self) {
				self.0.fetch_add(1, Ordering::SeqCst);
			}
		}
		let cancelled = Cancelled(self.cancelled.clone());
		let done = self.tried(model, input, until).await;
		std::mem::forget(cancelled);
		done
	}

	async fn tried(
		&self,
		model: ModelId,
		input: FullInput,
		until: Instant,
	) -> Result<usize, EngineError> {
		let left = until.saturating_duration_since(Instant::now());
		self.patience.lock().unwrap().push(left);
		let n = self.calls.fetch_add(1, Ordering::SeqCst);
		self.begun.lock().unwrap().push(model);
		self.asked.lock().unwrap().push(input.clone());
		let mut process = self.process.subscribe();
		tokio::select! {
			biased;
			_ = process.changed() => Err(EngineError::Gone),
			result = self.work(model, input) => result.map(|()| n),
		}
	}

	pub(crate) async fn work(&self, model: ModelId, input: FullInput) -> Result<(), EngineError> {
		let poison = self.poison.lock().unwrap().contains(&input);
		if poison || self.poisonous.lock().unwrap().contains(&model) {
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
		if let Some(error) = self.errors.lock().unwrap().pop_front() {
			return Err(error);
		}
		if next(&self.crashes) {
			self.restart();
			return Err(EngineError::Gone);
		}
		Ok(())
	}

	pub(crate) fn calls(&self) -> usize {
		self.calls.load(Ordering::SeqCst)
	}

	pub(crate) fn begun(&self) -> Vec<ModelId> {
		self.begun.lock().unwrap().clone()
	}
}

pub(crate) fn output(n: usize) -> Output {
	Output::Text {
		tokens: vec![codec::Compact(n as u32)].try_into().unwrap(),
		text: b"Paris".to_vec().try_into().unwrap(),
		finish: FinishReason::EndOfText,
	}
}

/// What is asked: of each request something else.
pub(crate) fn question(request: RequestId) -> Input {
	let prompt = format!("a{request}").into_bytes();
	Input::TextGeneration {
		prompt: Prompt::Text(prompt.try_into().unwrap()),
		sampling: Sampling::default(),
	}
}

pub(crate) fn evidence(n: usize) -> Evidence {
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
		let is_bad = folder == Path::new("bad");
		Ok(if is_bad { bad() } else { good() })
	}

	async fn unload(&self, model: ModelId) -> Result<(), EngineError> {
		self.unloaded.lock().unwrap().push(model);
		Ok(())
	}

	async fn run(
		&self,
		model: ModelId,
		input: FullInput,
		_: H256,
		until: Instant,
	) -> Result<Output, EngineError> {
		self.job(model, input, until).await.map(output)
	}

	async fn stream(
		&self,
		model: ModelId,
		input: FullInput,
		seed: H256,
		allowed: u32,
		until: Instant,
	) -> Result<TokenStream, EngineError> {
		let output = self.run(model, input, seed, until).await?;
		Ok(TokenStream::whole(output, allowed))
	}

	async fn cut(
		&self,
		model: ModelId,
		input: FullInput,
		_: Vec<u32>,
		until: Instant,
	) -> Result<Output, EngineError> {
		self.job(model, input, until).await.map(output)
	}

	async fn measure(
		&self,
		model: ModelId,
		input: FullInput,
		_: H256,
		_: Option<Output>,
		challenges: Vec<H256>,
		until: Instant,
	) -> Result<Vec<Evidence>, EngineError> {
		self.challenges.lock().unwrap().extend(&challenges);
		let n = self.job(model, input, until).await?;
		// Another challenge of the same pass gives other evidence.
		let measured = (0..challenges.len()).map(|i| Evidence {
			verdict: Verdict {
				margin_max: *self.margin.lock().unwrap(),
				..Verdict::default()
			},
			..evidence(n + 100 * i)
		});
		Ok(measured.collect())
	}

	async fn reference(
		&self,
		model: ModelId,
		_: Instant,
	) -> Result<(Output, Evidence), EngineError> {
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

pub(crate) fn manifest() -> Manifest {
	named("tiny")
}

pub(crate) fn good() -> ModelId {
	static ID: LazyLock<ModelId> = LazyLock::new(|| manifest().id());
	*ID
}

pub(crate) fn bad() -> ModelId {
	static ID: LazyLock<ModelId> = LazyLock::new(|| named("bad").id());
	*ID
}

pub(crate) fn named(name: &str) -> Manifest {
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
			sampling: Default::default(),
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

pub(crate) struct FakeLibrary;

impl Library for FakeLibrary {
	fn list(&self) -> Vec<ModelId> {
		vec![good(), bad()]
	}

	fn contains(&self, model: ModelId) -> bool {
		self.list().contains(&model)
	}

	fn fetch(&self, _: ModelId, _: &consilience_primitives::model::ModelSpec) -> bool {
		false
	}

	fn forget(&self, _: ModelId) {}

	fn fetching(&self, _: ModelId) -> Option<crate::runner::Fetching> {
		None
	}

	fn damaged(&self) -> std::collections::HashSet<ModelId> {
		Default::default()
	}

	fn verified(&self, model: ModelId) -> Result<LocalModel, String> {
		let name = if model == bad() { "bad" } else { "tiny" };
		Ok(LocalModel {
			manifest: named(name),
			folder: PathBuf::from(name),
		})
	}
}

pub(crate) struct Bench {
	pub(crate) folder: tempfile::TempDir,
	pub(crate) chain: Arc<MockChain>,
	pub(crate) engine: Arc<FakeEngine>,
	pub(crate) heads: mpsc::UnboundedSender<Head>,
	pub(crate) finality: mpsc::UnboundedSender<Head>,
	pub(crate) reports: mpsc::UnboundedReceiver<Report<BlockNumber>>,
	pub(crate) commands: mpsc::Sender<Command>,
	pub(crate) worker: JoinHandle<()>,
}

impl Bench {
	pub(crate) fn new() -> Self {
		Self::on(tempfile::tempdir().unwrap(), Semaphore::MAX_PERMITS / 2)
	}

	/// A worker whose jobs wait until `release` lets them go.
	pub(crate) fn held() -> Self {
		Self::on(tempfile::tempdir().unwrap(), 0)
	}

	pub(crate) fn on(folder: tempfile::TempDir, permits: usize) -> Self {
		Self::with(folder, permits, Limits::default())
	}

	pub(crate) fn with(folder: tempfile::TempDir, permits: usize, limits: Limits) -> Self {
		Self::around(folder, permits, limits, |chain, engine| (chain, engine))
	}

	/// A liar's worker.
	#[cfg(feature = "liars")]
	pub(crate) fn with_liar<C: Chain, R: Runner>(
		between: impl FnOnce(Arc<MockChain>, Arc<FakeEngine>) -> (Arc<C>, Arc<R>),
	) -> Self {
		let folder = tempfile::tempdir().unwrap();
		Self::around(
			folder,
			Semaphore::MAX_PERMITS / 2,
			Limits::default(),
			between,
		)
	}

	/// A worker with something between it and the chain and the engine.
	pub(crate) fn around<C: Chain, R: Runner>(
		folder: tempfile::TempDir,
		permits: usize,
		limits: Limits,
		between: impl FnOnce(Arc<MockChain>, Arc<FakeEngine>) -> (Arc<C>, Arc<R>),
	) -> Self {
		let path = folder.path().join("journal.redb");
		let journal = Journal::open(&path, Metrics::default()).unwrap();
		Self::on_journal(folder, journal, permits, limits, between)
	}

	/// A worker with this journal.
	pub(crate) fn on_journal<C: Chain, R: Runner>(
		folder: tempfile::TempDir,
		journal: Journal,
		permits: usize,
		limits: Limits,
		between: impl FnOnce(Arc<MockChain>, Arc<FakeEngine>) -> (Arc<C>, Arc<R>),
	) -> Self {
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
			asked: Mutex::default(),
			begun: Mutex::default(),
			crashes: AtomicUsize::new(0),
			poisonous: Mutex::default(),
			endless: Mutex::default(),
			process: watch::Sender::new(0),
			busy: AtomicUsize::new(0),
			errors: Mutex::default(),
			poison: Mutex::default(),
			cancelled: Arc::default(),
			patience: Mutex::default(),
			margin: Mutex::default(),
			challenges: Mutex::default(),
			unloaded: Mutex::default(),
			reference: Mutex::new(evidence(42)),
		});
		let (seen_chain, seen_engine) = between(chain.clone(), engine.clone());
		let worker = Worker::new(
			seen_chain,
			seen_engine,
			Arc::new(FakeLibrary),
			journal,
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

	pub(crate) fn state(&self) -> std::sync::MutexGuard<'_, ChainState> {
		self.chain.state.lock().unwrap()
	}

	pub(crate) fn due(&self, duties: &[(RequestId, DutyKind)]) {
		let model = good();
		let duties: Vec<_> = duties.iter().map(|(r, k)| (*r, model, *k)).collect();
		self.due_for(&duties);
	}

	pub(crate) fn due_for(&self, duties: &[(RequestId, ModelId, DutyKind)]) {
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
					input: question(*request).into(),
					seed: H256::repeat_byte(1),
					output: None,
					challenge: measuring.then(|| H256::repeat_byte(2)),
					prior: None,
				},
			);
		}
	}

	pub(crate) fn block(&self, number: BlockNumber) {
		let mut state = self.state();
		let due = state.due.clone();
		state.blocks.insert(head(number).hash, due);
		drop(state);
		self.heads.send(head(number)).unwrap();
	}

	pub(crate) fn finalize(&self, number: BlockNumber) {
		self.state().finalized = number;
		self.finality.send(head(number)).unwrap();
	}

	pub(crate) async fn report(&mut self) -> Report<BlockNumber> {
		timeout(PATIENCE, self.reports.recv())
			.await
			.expect("a report is due")
			.unwrap()
	}

	pub(crate) async fn said(&mut self) -> Vec<Statement> {
		self.report().await.statements.into_inner()
	}

	pub(crate) fn silent(&mut self) -> bool {
		self.reports.try_recv().is_err()
	}

	pub(crate) async fn status(&self) -> Status {
		let (reply, replied) = oneshot::channel();
		self.commands.send(Command::Status(reply)).await.unwrap();
		timeout(PATIENCE, replied).await.unwrap().unwrap()
	}

	/// Returns when the worker has looked at everything that the chain told it so far.
	pub(crate) async fn seen(&self) {
		self.status().await;
	}

	/// Returns when the worker's status is as wanted.
	pub(crate) async fn until(&self, wanted: impl Fn(&Status) -> bool) -> Status {
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

	/// Returns when the engine has been called so often.
	pub(crate) async fn called(&self, times: usize) {
		timeout(PATIENCE, async {
			while self.engine.calls() < times {
				tokio::task::yield_now().await;
			}
		})
		.await
		.expect("they begin");
	}

	pub(crate) async fn serve(&self) -> Result<ServingState, String> {
		self.serve_model(manifest().id()).await
	}

	pub(crate) async fn serve_model(&self, model: ModelId) -> Result<ServingState, String> {
		let (reply, replied) = oneshot::channel();
		self.commands
			.send(Command::Serve(model, reply))
			.await
			.unwrap();
		timeout(PATIENCE, replied).await.unwrap().unwrap()
	}

	pub(crate) fn register(&self) {
		self.register_as("tiny");
	}

	pub(crate) fn register_as(&self, name: &str) {
		let manifest = named(name);
		let view = ModelView {
			id: manifest.id(),
			owner: validator(),
			spec: manifest.spec().unwrap(),
			price: Price::default(),
			status: ModelStatus::Registered,
			serving: vec![],
			differing: vec![],
		};
		self.state().models.insert(manifest.id(), view);
	}

	/// Kills the worker wherever it is, and starts another on its disk.
	pub(crate) async fn killed_and_restarted(self) -> Self {
		self.worker.abort();
		let _ = self.worker.await;
		Self::on(self.folder, Semaphore::MAX_PERMITS / 2)
	}
}
