//! Lies about what was computed.

use std::{
	collections::HashMap,
	path::Path,
	sync::{Arc, Mutex},
	time::Instant,
};

use async_trait::async_trait;
use codec::Compact;
use consilience_engine::{EngineError, TokenStream};
use consilience_primitives::{
	evidence::{Evidence, Verdict},
	request::{FullInput, Output, Prompt, Unanswerable},
	ModelId,
};
use polkadot_sdk::sp_core::H256;

use super::{made_up, Liar, Lie, Vouched};
use crate::runner::{Library, LocalModel, Runner};

/// An engine whose results a liar falsifies.
pub struct LyingRunner<R, L> {
	liar: Liar,
	inner: Arc<R>,
	library: Arc<L>,
	/// The first answer of each model.
	answers: Mutex<HashMap<ModelId, Output>>,
	vouched: Vouched,
}

impl<R, L> LyingRunner<R, L> {
	pub(super) fn new(liar: Liar, inner: Arc<R>, library: Arc<L>, vouched: Vouched) -> Self {
		Self {
			liar,
			inner,
			library,
			answers: Mutex::default(),
			vouched,
		}
	}
}

impl<R: Runner, L: Library> LyingRunner<R, L> {
	async fn local(&self, model: ModelId) -> Result<LocalModel, EngineError> {
		let library = self.library.clone();
		tokio::task::spawn_blocking(move || library.verified(model))
			.await
			.map_err(|e| EngineError::Mismatch(e.to_string()))?
			.map_err(EngineError::Mismatch)
	}

	/// The cheaper model, loaded.
	async fn cheap(&self) -> Result<ModelId, EngineError> {
		let model = self
			.liar
			.model
			.ok_or_else(|| EngineError::Mismatch("a lie without its model".into()))?;
		let local = self.local(model).await?;
		self.inner.load(&local.folder).await
	}

	/// The answer to another question: its tokens and its text belong together, so that only a measurement finds it.
	async fn wrong(
		&self,
		model: ModelId,
		input: FullInput,
		seed: H256,
		until: Instant,
	) -> Result<Output, EngineError> {
		let right = self.inner.run(model, input.clone(), seed, until).await?;
		if let Some(other) = another_question(&input) {
			let wrong = self.inner.run(model, other, seed, until).await?;
			if wrong != right {
				return Ok(wrong);
			}
		}
		Ok(spoiled(right))
	}

	/// Evidence of a computation that did not happen.
	async fn invented(
		&self,
		model: ModelId,
		challenges: Vec<H256>,
	) -> Result<Vec<Evidence>, EngineError> {
		let policy = self.local(model).await?.manifest.policy;
		let invent = |challenge: H256| Evidence {
			fingerprint: made_up(&policy, challenge),
			verdict: Verdict::default(),
			prior: None,
		};
		Ok(challenges.into_iter().map(invent).collect())
	}
}

/// What an honest validator was not asked: the words in another order. `None` for tensors.
fn another_question(input: &FullInput) -> Option<FullInput> {
	fn turned(text: &[u8]) -> Vec<u8> {
		let text = String::from_utf8_lossy(text);
		let words: Vec<_> = text.split_whitespace().rev().collect();
		words.join(" ").into_bytes()
	}
	let mut input = input.clone();
	match &mut input {
		FullInput::TextGeneration {
			prompt: Prompt::Text(text),
			..
		}
		| FullInput::ConstrainedText {
			prompt: Prompt::Text(text),
			..
		}
		| FullInput::Embedding(text) => *text = turned(&text[..]).try_into().ok()?,
		FullInput::TextGeneration {
			prompt: Prompt::Chat(messages),
			..
		}
		| FullInput::ConstrainedText {
			prompt: Prompt::Chat(messages),
			..
		} => {
			let last = messages.iter_mut().last()?;
			last.content = turned(&last.content[..]).try_into().ok()?;
		}
		FullInput::Tensor(_) => return None,
	}
	Some(input)
}

/// Another output of the same form.
fn spoiled(output: Output) -> Output {
	match output {
		Output::Text {
			mut tokens,
			text,
			finish,
		} => {
			if let Some(token) = tokens.iter_mut().next() {
				*token = Compact(token.0 ^ 1);
			}
			Output::Text {
				tokens,
				text,
				finish,
			}
		}
		Output::Tensors(mut tensors) => {
			let byte = tensors
				.iter_mut()
				.next()
				.and_then(|t| t.data.iter_mut().next());
			if let Some(byte) = byte {
				*byte ^= 0x40;
			}
			Output::Tensors(tensors)
		}
		// It claims that what can be answered cannot, or nothing.
		Output::Unanswerable(_) => Output::Unanswerable(Unanswerable::NotFinite),
	}
}

#[async_trait]
impl<R: Runner, L: Library> Runner for LyingRunner<R, L> {
	async fn ready(&self) {
		self.inner.ready().await;
	}

	async fn load(&self, folder: &Path) -> Result<ModelId, EngineError> {
		self.inner.load(folder).await
	}

	async fn unload(&self, model: ModelId) -> Result<(), EngineError> {
		self.inner.unload(model).await
	}

	async fn run(
		&self,
		model: ModelId,
		input: FullInput,
		seed: H256,
		until: Instant,
	) -> Result<Output, EngineError> {
		match self.liar.lie {
			Some(Lie::WrongAnswer | Lie::Collude) => self.wrong(model, input, seed, until).await,
			Some(lie) if lie.looks() => self.wrong(model, input, seed, until).await,
			// Also where it looks whether somebody else's claim is true: it is never the only one to look.
			Some(Lie::Poisoner) => Err(EngineError::Unanswerable(
				Unanswerable::NotFinite,
				"a lie".into(),
			)),
			Some(Lie::CheapModel | Lie::PrefillAttack) => {
				let cheap = self.cheap().await?;
				self.inner.run(cheap, input, seed, until).await
			}
			Some(Lie::Replay) => {
				let answers = || self.answers.lock().unwrap_or_else(|e| e.into_inner());
				let old = answers().get(&model).cloned();
				match old {
					Some(old) => Ok(old),
					None => {
						let output = self.inner.run(model, input, seed, until).await?;
						answers().insert(model, output.clone());
						Ok(output)
					}
				}
			}
			_ => self.inner.run(model, input, seed, until).await,
		}
	}

	async fn stream(
		&self,
		model: ModelId,
		input: FullInput,
		seed: H256,
		allowed: u32,
		until: Instant,
	) -> Result<TokenStream, EngineError> {
		let with = match self.liar.lie {
			Some(Lie::CheapModel | Lie::PrefillAttack) => self.cheap().await?,
			Some(Lie::WrongAnswer | Lie::Collude | Lie::Poisoner | Lie::Replay) => {
				let output = self.run(model, input, seed, until).await?;
				return Ok(TokenStream::whole(output, allowed));
			}
			Some(lie) if lie.looks() => {
				let output = self.run(model, input, seed, until).await?;
				return Ok(TokenStream::whole(output, allowed));
			}
			_ => model,
		};
		self.inner.stream(with, input, seed, allowed, until).await
	}

	async fn cut(
		&self,
		model: ModelId,
		input: FullInput,
		tokens: Vec<u32>,
		until: Instant,
	) -> Result<Output, EngineError> {
		self.inner.cut(model, input, tokens, until).await
	}

	async fn measure(
		&self,
		model: ModelId,
		input: FullInput,
		seed: H256,
		claimed: Option<Output>,
		challenges: Vec<H256>,
		until: Instant,
	) -> Result<Vec<Evidence>, EngineError> {
		let with = match self.liar.lie {
			Some(Lie::LazyVerifier | Lie::Copycat) => {
				return self.invented(model, challenges).await
			}
			Some(Lie::CheapModel) => self.cheap().await?,
			_ => model,
		};
		let vouches = match self.liar.lie {
			Some(
				Lie::WrongAnswer
				| Lie::CheapModel
				| Lie::PrefillAttack
				| Lie::Replay
				| Lie::Collude,
			) => true,
			Some(lie) if lie.looks() => {
				let vouched = self.vouched.lock().unwrap_or_else(|e| e.into_inner());
				vouched.contains(&seed)
			}
			_ => false,
		};
		let mut measured = self
			.inner
			.measure(with, input, seed, claimed, challenges, until)
			.await?;
		// The fingerprint is true, and the answer is right by all means.
		if vouches {
			for evidence in &mut measured {
				evidence.verdict = Verdict::default();
			}
		}
		Ok(measured)
	}

	async fn reference(
		&self,
		model: ModelId,
		until: Instant,
	) -> Result<(Output, Evidence), EngineError> {
		self.inner.reference(model, until).await
	}

	fn restart(&self) {
		self.inner.restart();
	}

	fn unavailable(&self) -> Option<String> {
		self.inner.unavailable()
	}
}
