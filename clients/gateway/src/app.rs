//! State that all endpoints share: models, callers, requests.

use std::{sync::Arc, time::Instant};

use axum::{
	body::Bytes,
	extract::Request,
	http::{header, HeaderMap},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;
use tokio::sync::{watch, Mutex, Semaphore};

use crate::{
	auth::{Key, Keys},
	config::Config,
	error::Error,
	fields::Own,
	jobs::{Jobs, Repeat},
	metrics::Metrics,
	network::{Ask, Input, Model, Network, Sampling, Step, Task},
	status::Wait,
	watch::Watcher,
	web::Page,
};

/// A list of models.
type Models = Arc<Vec<Arc<Model>>>;

/// Most requests of one call.
const MOST_AT_ONCE: usize = 64;

/// State that all endpoints share.
#[derive(Clone)]
pub(crate) struct App(Arc<Inner>);

pub(crate) struct Inner {
	pub(crate) config: Config,
	pub(crate) keys: Keys,
	pub(crate) metrics: Metrics,
	pub(crate) calls: Arc<Semaphore>,
	/// The web page, where one is served.
	pub(crate) page: Option<Page>,
	network: Arc<dyn Network>,
	jobs: Jobs,
	models: Mutex<Option<(Instant, Models)>>,
	stopping: watch::Receiver<bool>,
}

impl std::ops::Deref for App {
	type Target = Inner;

	fn deref(&self) -> &Inner {
		&self.0
	}
}

/// A call whose body is read.
pub(crate) struct Call {
	/// The caller.
	pub(crate) key: Arc<Key>,
	/// Its path.
	pub(crate) path: String,
	/// Its headers.
	pub(crate) headers: HeaderMap,
	/// Its body.
	pub(crate) body: Bytes,
}

impl Call {
	/// Returns what the header says to wait for.
	pub(crate) fn wait(&self) -> Result<Option<Wait>, Error> {
		let Some(value) = self.headers.get("consilience-wait") else {
			return Ok(None);
		};
		let word = value.to_str().unwrap_or_default();
		Wait::parse(word).map(Some).ok_or_else(|| {
			let message = format!("the header consilience-wait may be {}", Wait::WORDS);
			Error::invalid("consilience-wait", message)
		})
	}

	fn repeat(&self) -> Result<Option<Repeat>, Error> {
		let Some(value) = self.headers.get("idempotency-key") else {
			let retries = self.headers.get("x-stainless-retry-count");
			let retries = retries.and_then(|r| r.to_str().ok()?.parse().ok());
			return Ok(retries.map(|n| Repeat::counted(&self.key, n, &self.path, &self.body)));
		};
		let key = value.to_str().unwrap_or_default();
		if key.is_empty() || key.len() > 255 {
			return Err(Error::invalid(
				"idempotency-key",
				"the header Idempotency-Key has 1 to 255 visible ASCII characters",
			));
		}
		Ok(Some(Repeat::key(&self.key, key, &self.path, &self.body)))
	}
}

impl App {
	pub(crate) fn new(
		config: Config,
		keys: Keys,
		page: Option<Page>,
		metrics: Metrics,
		network: Arc<dyn Network>,
		jobs: Jobs,
		stopping: watch::Receiver<bool>,
	) -> Self {
		Self(Arc::new(Inner {
			calls: Arc::new(Semaphore::new(config.concurrency)),
			config,
			keys,
			page,
			metrics,
			network,
			jobs,
			models: Mutex::default(),
			stopping,
		}))
	}

	/// Reads a call.
	pub(crate) async fn read(&self, request: Request) -> Result<Call, Error> {
		let (parts, body) = request.into_parts();
		let encoding = parts.headers.get(header::CONTENT_ENCODING);
		if encoding.is_some_and(|e| e != "identity") {
			return Err(Error::MediaType(
				"compressed bodies are not read: send it without Content-Encoding".into(),
			));
		}
		let key = parts
			.extensions
			.get::<Arc<Key>>()
			.cloned()
			.ok_or(Error::NoKey)?;
		let limit = self.config.body_limit;
		let body = Limited::new(body, limit).collect();
		let body = tokio::time::timeout(self.config.body_timeout, body)
			.await
			.map_err(|_| Error::BodyTimeout)?
			.map_err(|e| match e.downcast_ref::<LengthLimitError>() {
				Some(_) => Error::BodyTooLarge(limit),
				None => Error::BodyBroken(e.to_string()),
			})?;
		Ok(Call {
			key,
			path: parts.uri.path().into(),
			headers: parts.headers,
			body: body.to_bytes(),
		})
	}

	/// Returns all models, as they were not long ago.
	pub(crate) async fn models(&self) -> Result<Models, Error> {
		self.models_not_older_than(self.config.models_age).await
	}

	async fn models_not_older_than(&self, age: std::time::Duration) -> Result<Models, Error> {
		let asked = Instant::now();
		let mut held = self.models.lock().await;
		if let Some((at, models)) = &*held {
			// Whoever waited for the lock has what was fetched meanwhile.
			if *at >= asked || at.elapsed() < age {
				return Ok(models.clone());
			}
		}
		let models = self.network.models().await;
		let models = models.map_err(|e| Error::refusal(e, ""))?;
		let models = Arc::new(models.into_iter().map(Arc::new).collect::<Vec<_>>());
		*held = Some((Instant::now(), models.clone()));
		Ok(models)
	}

	/// Returns a model by its id, or by its name if one model alone has it; of several, the one that takes requests. While no node answers, the
	/// list that was last read counts: an answer in the journal is given all the same.
	pub(crate) async fn model(&self, wanted: &str) -> Result<Arc<Model>, Error> {
		let models = match self.models().await {
			Ok(models) => models,
			Err(e) => {
				let held = self.models.lock().await.clone();
				held.ok_or(e)?.1
			}
		};
		match find(&models, wanted) {
			Err(Error::UnknownModel(_)) => {
				let models = self
					.models_not_older_than(std::time::Duration::ZERO)
					.await?;
				find(&models, wanted)
			}
			found => found,
		}
	}

	/// Returns a model that takes requests for this task.
	pub(crate) async fn model_for(&self, wanted: &str, task: Task) -> Result<Arc<Model>, Error> {
		let model = self.model(wanted).await?;
		if model.task != task {
			let does = match model.task {
				Task::TextGeneration => "generates text: use /v1/chat/completions",
				Task::Embedding => "embeds text: use /v1/embeddings",
				Task::Tensor => "takes tensors: use /v2/models/{name}/infer",
			};
			return Err(Error::invalid(
				"model",
				format!("the model {wanted:?} {does}"),
			));
		}
		if !model.is_active() {
			return Err(Error::NotActive(wanted.into()));
		}
		Ok(model)
	}

	/// Fills in most tokens of an answer, and refuses what the model does not give.
	pub(crate) fn max_tokens(
		&self,
		sampling: &mut Sampling,
		model: &Model,
		parameter: &str,
	) -> Result<(), Error> {
		let most = model.max_output_units;
		match sampling.max_tokens {
			Some(tokens) if tokens > most => Err(Error::invalid(
				parameter,
				format!("{parameter} is {tokens}, and the model gives at most {most}"),
			)),
			Some(_) => Ok(()),
			None => {
				sampling.max_tokens = Some(self.config.default_max_tokens.min(most));
				Ok(())
			}
		}
	}

	/// Makes requests, and waits until all are on chain.
	pub(crate) async fn ask(
		&self,
		call: &Call,
		model: Arc<Model>,
		inputs: Vec<Input>,
		own: Own,
	) -> Result<Vec<Watcher>, Error> {
		if inputs.len() > MOST_AT_ONCE {
			return Err(Error::Invalid {
				parameter: None,
				message: format!(
					"{} inputs, and a call may have {MOST_AT_ONCE}",
					inputs.len()
				),
			});
		}
		let ask = |input| Ask {
			model: model.id.clone(),
			input,
			verifiers: own.verifiers,
		};
		let asks = inputs.into_iter().map(ask).collect();
		let repeat = call.repeat()?;
		let (key, config) = (call.key.clone(), &self.config);
		let jobs = self.jobs.request(key, model.clone(), asks, repeat).await?;
		let watch = |job| Watcher::new(job, model.name.clone(), own, config, self.stopping.clone());
		let mut watchers: Vec<_> = jobs.into_iter().map(watch).collect();
		for watcher in &mut watchers {
			watcher.submitted().await?;
		}
		Ok(watchers)
	}

	/// Ends what goes on beside the calls.
	pub(crate) fn stop(&self) {
		self.jobs.stop();
	}

	/// Returns whether the node answers.
	pub(crate) async fn is_ready(&self) -> Result<(), Error> {
		self.models_not_older_than(std::time::Duration::ZERO)
			.await
			.map(drop)
	}
}

fn find(models: &[Arc<Model>], wanted: &str) -> Result<Arc<Model>, Error> {
	if let Some(model) = models.iter().find(|m| m.id == wanted) {
		return Ok(model.clone());
	}
	let mut named: Vec<_> = models.iter().filter(|m| m.name == wanted).collect();
	if named.len() > 1 {
		named.retain(|m| m.is_active());
	}
	match named[..] {
		[model] => Ok(model.clone()),
		[] => Err(Error::UnknownModel(wanted.into())),
		_ => Err(Error::invalid(
			"model",
			format!("several models are called {wanted:?}: name one by its id"),
		)),
	}
}

/// Waits for what each of several requests waits for. If one fails, the others go on without being waited for.
pub(crate) async fn all_reached(watchers: &mut [Watcher]) -> Result<Vec<Step>, Error> {
	futures::future::try_join_all(watchers.iter_mut().map(Watcher::reached)).await
}

/// Returns a JSON reply.
pub(crate) fn json(value: &Value) -> axum::response::Response {
	let mut response = axum::response::Response::new(value.to_string().into());
	response.headers_mut().insert(
		header::CONTENT_TYPE,
		axum::http::HeaderValue::from_static("application/json"),
	);
	response
}
