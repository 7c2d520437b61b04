//! A thread for each language model, which decides what its graph does next.
//!
//! All answers that are being written get their next token in one run of the graph; between two such steps texts join and leave.
//! Prompts, and answers that are checked, are fed in pieces. While there is work of several kinds each gets its share of the
//! time, so that no kind waits for another: writing a quarter, prompts a half (the sooner a text joins, the fuller every later
//! step), checks a quarter. What one kind does not need goes to the others.
//!
//! Who wants an answer's tokens as they are written is told by a channel that never fills up, and finds out on its own thread what
//! they say.

use std::{
	panic::{catch_unwind, AssertUnwindSafe},
	sync::{
		atomic::{AtomicBool, Ordering},
		mpsc::{channel, sync_channel, Receiver, RecvTimeoutError, Sender},
		Arc, Mutex,
	},
	thread::JoinHandle,
	time::{Duration, Instant},
};

use codec::{Decode, Encode};
use consilience_primitives::{
	evidence::Evidence,
	model::VerificationPolicy,
	request::{FullInput, Output, Sampling},
};
use polkadot_sdk::sp_core::H256;

use super::{
	batch::{Batch, Bounds, Work},
	generate::Writer,
	measure::Part,
	sequence::{Done, Outcome, Reader, Sequence},
	stop::Transcript,
	LanguageModel,
};
use crate::{session::Graph, ticket::Ticket, EngineError};

/// Tokens of a piece when nothing else is to be done: bounds the memory of a long text's logits.
const CHUNK: usize = 128;
/// Tokens of a piece while answers are written: bounds how long their next tokens wait.
const SHARED_CHUNK: usize = 32;

/// What a language model has done since it was first loaded, and what it is doing. Times are in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct TextStatistics {
	/// Texts that wait to be fed, now.
	pub waiting: u32,
	/// Answers that are being written, now.
	pub writing: u32,
	/// Answers of which more is written once that is allowed, now.
	pub paused: u32,
	/// Steps in which answers got tokens.
	pub steps: u64,
	/// Tokens of answers, the first of each left out; over `steps` it is the mean size of a batch.
	pub answer_tokens: u64,
	/// Time of these steps.
	pub answer_time: u64,
	/// Tokens of prompts.
	pub prompt_tokens: u64,
	/// Time in which they were fed.
	pub prompt_time: u64,
	/// Tokens of texts that were checked.
	pub check_tokens: u64,
	/// Time in which they were fed.
	pub check_time: u64,
	/// First tokens of answers.
	pub first_tokens: u64,
	/// Sum of the times from an input's arrival to its answer's first token.
	pub first_token_time: u64,
	/// Texts of which a part did not have to be fed, because others had begun alike.
	pub reuses: u64,
	/// Tokens of these parts; they are counted nowhere else.
	pub reused_tokens: u64,
}

impl TextStatistics {
	fn count(&mut self, work: Work, done: &Done, took: Duration) {
		let micros = |time: Duration| time.as_micros() as u64;
		let (tokens, time) = match work {
			Work::Decode => (&mut self.answer_tokens, &mut self.answer_time),
			Work::Prompt => (&mut self.prompt_tokens, &mut self.prompt_time),
			Work::Check => (&mut self.check_tokens, &mut self.check_time),
		};
		*tokens += done.tokens as u64;
		*time += micros(took);
		if work == Work::Decode {
			self.steps += done.runs as u64;
		}
		self.reuses += u64::from(done.reuses);
		self.reused_tokens += done.reused as u64;
		if let Some(arrived) = done.first {
			self.first_tokens += 1;
			self.first_token_time += micros(arrived.elapsed());
		}
	}
}

/// Shares the time between kinds of work: that which had least for its weight is next.
#[derive(Debug, Default)]
struct Shares {
	/// Seconds over weight, for each kind.
	spent: [f64; 3],
	/// Which kinds there was work of.
	ready: [bool; 3],
}

impl Shares {
	fn weight(work: Work) -> f64 {
		match work {
			Work::Decode | Work::Check => 1.0,
			Work::Prompt => 2.0,
		}
	}

	/// The kind that is next, of those there is work of.
	fn next(&mut self, has: impl Fn(Work) -> bool) -> Option<Work> {
		let ready = Work::ALL.map(has);
		let least = |of: &[bool; 3], spent: &[f64; 3]| {
			(0..3)
				.filter(|i| of[*i])
				.map(|i| spent[i])
				.min_by(f64::total_cmp)
		};
		// Who had nothing to do has saved nothing up.
		let went_on: [bool; 3] = std::array::from_fn(|i| ready[i] && self.ready[i]);
		if let Some(floor) = least(&went_on, &self.spent) {
			for i in (0..3).filter(|i| ready[*i] && !went_on[*i]) {
				self.spent[i] = self.spent[i].max(floor);
			}
		}
		self.ready = ready;
		Work::ALL
			.into_iter()
			.filter(|w| ready[*w as usize])
			.min_by(|a, b| self.spent[*a as usize].total_cmp(&self.spent[*b as usize]))
	}

	fn charge(&mut self, work: Work, took: Duration) {
		self.spent[work as usize] += took.as_secs_f64() / Self::weight(work);
	}
}

/// What the thread is told.
enum Message {
	/// A text to be fed.
	Text(Box<Sequence>),
	/// Of a text that it has, more may be written, or nobody waits for it; or those that pause are to go.
	Look,
}

/// A language model, and the thread that runs it. Calls may come from many threads, and wait for their outcomes.
pub(crate) struct Scheduler {
	model: Arc<LanguageModel>,
	/// `None` only while this is dropped.
	sender: Option<Sender<Message>>,
	/// Whether answers that pause are ended.
	yields: Arc<AtomicBool>,
	thread: Option<JoinHandle<()>>,
}

impl Scheduler {
	pub(crate) fn new(
		model: LanguageModel,
		graph: Graph,
		bounds: Bounds,
		statistics: Arc<Mutex<TextStatistics>>,
	) -> Result<Self, EngineError> {
		let model = Arc::new(model);
		let batch = Batch::new(model.clone(), graph, bounds);
		let (sender, receiver) = channel();
		let yields = Arc::<AtomicBool>::default();
		let when = yields.clone();
		let thread = std::thread::Builder::new()
			.name("engine-text".into())
			.spawn(move || work(batch, &receiver, &when, &statistics))
			.map_err(|e| EngineError::Run(format!("no thread could be started: {e}")))?;
		Ok(Self {
			model,
			sender: Some(sender),
			yields,
			thread: Some(thread),
		})
	}

	/// The answer of this model to this input with this seed.
	pub(crate) fn generate(&self, input: &FullInput, seed: &H256) -> Result<Output, EngineError> {
		let asked = self.model.question(input)?;
		let (most, sampling) = (asked.most(), asked.sampling);
		let writer = Writer::new(&self.model, &asked, seed)?;
		let replied = self.send(asked.prompt, most, Reader::Write(writer))?;
		self.answer(&replied, sampling)
	}

	/// The same, and `see` is given the tokens as they are written, all of them, with what each of them adds to the text. That
	/// is what no later token takes back; the answer's text begins with it, and may have more at its end.
	pub(crate) fn stream(
		&self,
		input: &FullInput,
		seed: &H256,
		see: &mut dyn FnMut(Vec<u32>, &str),
	) -> Result<Output, EngineError> {
		let model = &self.model;
		let asked = model.question(input)?;
		let (most, sampling) = (asked.most(), asked.sampling);
		let (told, tokens) = channel();
		let writer = Writer::new(model, &asked, seed)?.telling(told);
		let wake = self.sender.clone();
		// Dropped when the answer is there: whoever keeps a sender keeps the thread.
		let _listens = Ticket::current().listen(move || {
			if let Some(thread) = &wake {
				// It may have ended.
				let _ = thread.send(Message::Look);
			}
		});
		let replied = self.send(asked.prompt, most, Reader::Write(writer))?;
		let mut transcript = Transcript::new(&model.tokens, sampling);
		let (mut shown, mut decodes) = (0, true);
		// Nobody tells any more once the answer is there, or there will be none.
		while let Ok(first) = tokens.recv() {
			let new: Vec<u32> = std::iter::once(first).chain(tokens.try_iter()).collect();
			for token in new.iter().filter(|t| !model.eos.contains(t)) {
				// Why it cannot be decoded is found again at the end.
				decodes = decodes && transcript.push(&model.tokens, *token).is_ok();
			}
			let text = transcript.certain();
			see(new, &text[shown..]);
			shown = text.len();
		}
		self.answer(&replied, sampling)
	}

	/// The answer, once it is written.
	fn answer(&self, replied: &Replied, sampling: &Sampling) -> Result<Output, EngineError> {
		match received(replied)? {
			Outcome::Answer(tokens, finish) => self.model.output(&tokens, finish, sampling),
			Outcome::Evidence(_) => Err(EngineError::Run("evidence instead of an answer".into())),
		}
	}

	/// The answer that is over with the last of these tokens. Runs no graph.
	pub(crate) fn cut(&self, input: &FullInput, tokens: &[u32]) -> Result<Output, EngineError> {
		let question = input.as_text();
		let question =
			question.ok_or_else(|| EngineError::Input("text is asked for otherwise".into()))?;
		self.model.cut(tokens, question.sampling)
	}

	/// Whether answers that pause are ended, with [`EngineError::Busy`]: others want the model's memory.
	pub(crate) fn give_way(&self, yields: bool) {
		self.yields.store(yields, Ordering::Relaxed);
		if let Some(sender) = &self.sender {
			let _ = sender.send(Message::Look);
		}
	}

	/// Evidence about parts of a claimed answer, each under its challenge.
	pub(crate) fn measure(
		&self,
		input: &FullInput,
		seed: &H256,
		claimed: &Output,
		parts: &[Part],
		policy: &VerificationPolicy,
	) -> Result<Vec<Evidence>, EngineError> {
		let (fed, measurement) = self
			.model
			.measurement(input, seed, claimed, parts, policy)?;
		let most = fed.len();
		match received(&self.send(fed, most, Reader::Check(measurement))?)? {
			Outcome::Evidence(evidence) => Ok(evidence),
			Outcome::Answer(..) => Err(EngineError::Run("an answer instead of evidence".into())),
		}
	}

	fn send(&self, tokens: Vec<u32>, most: usize, reader: Reader) -> Result<Replied, EngineError> {
		let (reply, replied) = sync_channel(1);
		let sequence = Sequence {
			tokens,
			most,
			reader,
			arrived: Instant::now(),
			ticket: Ticket::current(),
			reply,
		};
		self.sender
			.as_ref()
			.and_then(|sender| sender.send(Message::Text(Box::new(sequence))).ok())
			.ok_or_else(lost)?;
		Ok(replied)
	}
}

/// Where what came of a text arrives.
type Replied = Receiver<Result<Outcome, EngineError>>;

fn received(replied: &Replied) -> Result<Outcome, EngineError> {
	replied.recv().map_err(|_| lost())?
}

/// Nobody replies where a panic took the text away.
fn lost() -> EngineError {
	EngineError::Run("the engine panicked".into())
}

impl Drop for Scheduler {
	fn drop(&mut self) {
		self.sender = None;
		// Who unloads a model may count on its memory.
		if let Some(thread) = self.thread.take() {
			let _ = thread.join();
		}
	}
}

/// Notes how many texts there are.
fn count_open(batch: &Batch, statistics: &Mutex<TextStatistics>) {
	let mut statistics = statistics.lock().unwrap_or_else(|e| e.into_inner());
	statistics.waiting = batch.waiting() as u32;
	statistics.writing = batch.decoding() as u32;
	statistics.paused = batch.paused() as u32;
}

/// Waits for a message, until then at most. `None` when there come no more.
fn next(messages: &Receiver<Message>, until: Option<Instant>) -> Option<Message> {
	let Some(until) = until else {
		return messages.recv().ok();
	};
	let left = until.saturating_duration_since(Instant::now());
	match messages.recv_timeout(left) {
		Ok(message) => Some(message),
		Err(RecvTimeoutError::Timeout) => Some(Message::Look),
		Err(RecvTimeoutError::Disconnected) => None,
	}
}

/// Runs the graph as long as somebody may send texts.
fn work(
	mut batch: Batch,
	messages: &Receiver<Message>,
	yields: &AtomicBool,
	statistics: &Mutex<TextStatistics>,
) {
	let mut shares = Shares::default();
	loop {
		batch.resume();
		if batch.drop_cancelled() | (yields.load(Ordering::Relaxed) && batch.drop_paused()) {
			count_open(&batch, statistics);
			batch.reply();
		}
		let ready = shares.next(|work| batch.has(work));
		let first = match ready {
			Some(_) => None,
			None => match next(messages, batch.deadline()) {
				None => return,
				message => message,
			},
		};
		for message in first.into_iter().chain(messages.try_iter()) {
			if let Message::Text(sequence) = message {
				batch.add(*sequence);
			}
		}
		let Some(work) = ready.or_else(|| shares.next(|work| batch.has(work))) else {
			continue;
		};
		let chunk = if batch.has(Work::Decode) {
			SHARED_CHUNK
		} else {
			CHUNK
		};
		let began = Instant::now();
		// A panic is a defect of ours or of a library; it costs what is on the graph now, not the model.
		let done = catch_unwind(AssertUnwindSafe(|| batch.step(work, chunk)));
		let took = began.elapsed();
		shares.charge(work, took);
		{
			let mut statistics = statistics.lock().unwrap_or_else(|e| e.into_inner());
			match done {
				Ok(done) => statistics.count(work, &done, took),
				Err(_) => batch.fail(&EngineError::Run("the engine panicked".into())),
			}
		}
		count_open(&batch, statistics);
		// Last, so that who hears of an outcome finds it counted.
		batch.reply();
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	/// What each kind gets of a thousand steps of different lengths, while there is work of these kinds.
	fn shares(of: &[Work]) -> [f64; 3] {
		let mut shares = Shares::default();
		let mut spent = [0.0; 3];
		for i in 0..1_000u64 {
			let work = shares.next(|w| of.contains(&w)).unwrap();
			let took = match work {
				Work::Decode => Duration::from_millis(30),
				Work::Prompt => Duration::from_millis(80 + i % 40),
				Work::Check => Duration::from_millis(200),
			};
			shares.charge(work, took);
			spent[work as usize] += took.as_secs_f64();
		}
		let sum: f64 = spent.iter().sum();
		spent.map(|s| s / sum)
	}

	#[test]
	fn every_kind_gets_its_share_and_no_more_while_others_want_theirs() {
		for (of, expected) in [
			(&Work::ALL[..], [0.25, 0.5, 0.25]),
			(&[Work::Decode, Work::Check], [0.5, 0.0, 0.5]),
			(&[Work::Decode, Work::Prompt], [1.0 / 3.0, 2.0 / 3.0, 0.0]),
			(&[Work::Check], [0.0, 0.0, 1.0]),
		] {
			for (share, expected) in shares(of).into_iter().zip(expected) {
				assert!(
					(share - expected).abs() < 0.02,
					"{of:?}: {share}, {expected}"
				);
			}
		}
	}

	#[test]
	fn nobody_saves_up_a_share() {
		let mut shares = Shares::default();
		let second = Duration::from_secs(1);
		for _ in 0..100 {
			let work = shares.next(|w| w == Work::Decode).unwrap();
			shares.charge(work, second);
		}
		// A hundred seconds of checks are not owed now.
		let mut checks = 0;
		for _ in 0..10 {
			let work = shares.next(|w| w != Work::Prompt).unwrap();
			checks += u32::from(work == Work::Check);
			shares.charge(work, second);
		}
		assert_eq!(checks, 5);
	}
}
