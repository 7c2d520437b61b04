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
	channels::Channels,
	config::Config,
	error::Error,
	fields::{self, Own},
	jobs::{Heard, Job, Jobs, Repeat, Way},
	metrics::Metrics,
	network::{Ask, Input, Model, Network, Sampling, Step, Task},
	relay::Relays,
	status::Wait,
	talk::Listener,
	watch::{Following, Said, Terms, Watcher},
	web::Page,
	LOG_TARGET,
};

/// A list of models.
type Models = Arc<Vec<Arc<Model>>>;

/// Most requests of one call.
const MOST_AT_ONCE: usize = 64;
/// Validators that check an answer of the session lane, where the call does not say.
const CHECKERS: u8 = 2;

/// Where requests go.
#[derive(Clone)]
pub(crate) struct Upstream {
	/// The chain.
	pub(crate) network: Arc<dyn Network>,
	/// Its channels in the session lane, which pay.
	pub(crate) channels: Channels,
}

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
	pub(crate) network: Arc<dyn Network>,
	/// Its channels in the session lane, which pay.
	pub(crate) channels: Channels,
	/// Web pages that speak to validators themselves.
	pub(crate) relays: Relays,
	jobs: Jobs,
	models: Mutex<Option<(Instant, Models)>>,
	pub(crate) stopping: watch::Receiver<bool>,
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
	/// Returns what the headers tell the gateway itself.
	pub(crate) fn own(&self) -> Result<Own, Error> {
		Ok(Own {
			wait: self
				.word("consilience-wait", Wait::WORDS, Wait::parse)?
				.unwrap_or_default(),
			lane: self.word("consilience-lane", fields::Lane::WORDS, fields::Lane::parse)?,
			record: self
				.word("consilience-record", "true or false", |word| {
					word.parse().ok()
				})?
				.unwrap_or_default(),
			..Own::default()
		})
	}

	fn word<T>(
		&self,
		name: &str,
		words: &str,
		parse: impl FnOnce(&str) -> Option<T>,
	) -> Result<Option<T>, Error> {
		let Some(value) = self.headers.get(name) else {
			return Ok(None);
		};
		let found = parse(value.to_str().unwrap_or_default());
		found
			.map(Some)
			.ok_or_else(|| Error::invalid(name, format!("the header {name} may be {words}")))
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
		upstream: Upstream,
		jobs: Jobs,
		stopping: watch::Receiver<bool>,
	) -> Self {
		Self(Arc::new(Inner {
			calls: Arc::new(Semaphore::new(config.concurrency)),
			relays: Relays::new(config.relays),
			config,
			keys,
			page,
			metrics,
			network: upstream.network,
			channels: upstream.channels,
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

	/// Makes requests on chain, and waits until all are there.
	pub(crate) async fn ask(
		&self,
		call: &Call,
		model: Arc<Model>,
		inputs: Vec<Input>,
		own: Own,
	) -> Result<Vec<Watcher>, Error> {
		let made = self.make(call, &model, inputs, own, Way::Chain).await?;
		let watch = |following| match following {
			Following::Chain(watcher) => Ok(*watcher),
			Following::Lane(_) => Err(Error::KeyReused),
		};
		let mut watchers = made
			.into_iter()
			.map(watch)
			.collect::<Result<Vec<_>, Error>>()?;
		for watcher in &mut watchers {
			watcher.submitted().await?;
		}
		Ok(watchers)
	}

	/// Has text generated, in the session lane where that can be and the call does not say otherwise, and waits until somebody is at it:
	/// where the reply `streams`, in the session lane no longer than until it would ping.
	pub(crate) async fn say(
		&self,
		call: &Call,
		model: Arc<Model>,
		inputs: Vec<Input>,
		own: Own,
		streams: bool,
	) -> Result<Vec<Following>, Error> {
		let patience = streams.then_some(self.config.ping);
		if self.is_for_session(&model, own).await? {
			let way = Way::Lane { goes_on: !streams };
			match self
				.begun(call, &model, inputs.clone(), own, way, patience)
				.await
			{
				Err(e @ (Error::NoExecutor(_) | Error::Channel(_)))
					if own.lane.is_none() && !own.record =>
				{
					tracing::warn!(target: LOG_TARGET, "{e}: a call goes the direct lane");
				}
				begun => return begun,
			}
		}
		let own = own.direct("this one goes the direct lane")?;
		self.begun(call, &model, inputs, own, Way::Chain, patience)
			.await
	}

	/// Returns whether a call goes the session lane.
	async fn is_for_session(&self, model: &Model, own: Own) -> Result<bool, Error> {
		let wanted = own.lane == Some(fields::Lane::Session);
		let unsupported = |parameter: &str, why: &str| {
			Err(Error::Unsupported {
				parameter: parameter.into(),
				why: why.into(),
			})
		};
		if self.channels.is_empty() {
			let why = "this gateway has no channel: whoever runs it starts it with --session-deposit; until then use lane direct";
			return match wanted {
				true => unsupported("consilience.lane", why),
				false => Ok(false),
			};
		}
		if own.lane == Some(fields::Lane::Direct) {
			return Ok(false);
		}
		if own.wait == Wait::Final {
			let why =
				"what is answered in the session lane is settled on chain later: use lane direct";
			return match wanted {
				true => unsupported("consilience.wait", why),
				false => Ok(false),
			};
		}
		match self.channels.serving(&model.id).await {
			Ok(Some((channel, 0))) if wanted => Err(Error::NoExecutor(format!(
				"no validator of {:?} takes part in it and is paid by channel {channel}. Use lane direct",
				model.name,
			))),
			Ok(serving) => Ok(serving.is_some_and(|(_, serving)| serving > 0)),
			Err(e) if wanted => Err(Error::refusal(e, &model.name)),
			Err(_) => Ok(false),
		}
	}

	async fn begun(
		&self,
		call: &Call,
		model: &Arc<Model>,
		inputs: Vec<Input>,
		own: Own,
		way: Way,
		patience: Option<std::time::Duration>,
	) -> Result<Vec<Following>, Error> {
		let mut made = self.make(call, model, inputs, own, way).await?;
		for following in &mut made {
			following.begun(patience).await?;
		}
		Ok(made)
	}

	async fn make(
		&self,
		call: &Call,
		model: &Arc<Model>,
		inputs: Vec<Input>,
		own: Own,
		way: Way,
	) -> Result<Vec<Following>, Error> {
		if inputs.len() > MOST_AT_ONCE {
			return Err(Error::Invalid {
				parameter: None,
				message: format!(
					"{} inputs, and a call may have {MOST_AT_ONCE}",
					inputs.len()
				),
			});
		}
		let verifiers = match way {
			Way::Chain => own.verifiers,
			Way::Lane { .. } => Some(own.verifiers.unwrap_or(CHECKERS)),
		};
		let ask = |input| Ask {
			model: model.id.clone(),
			input,
			verifiers,
		};
		let asks = inputs.into_iter().map(ask).collect();
		let repeat = call.repeat()?;
		let made = self
			.jobs
			.request(call.key.clone(), model.clone(), asks, repeat, way);
		let follow = |made| self.follow(made, &model.name, own);
		Ok(made.await?.into_iter().map(follow).collect())
	}

	fn follow(&self, (job, heard): (Job, Heard), model: &str, own: Own) -> Following {
		let terms = Terms {
			metrics: self.metrics.clone(),
			model: model.into(),
			own,
			deadline: tokio::time::Instant::now() + self.config.reply_timeout,
			patience: self.config.outage_patience,
			stopping: self.stopping.clone(),
		};
		match heard {
			Heard::Chain(progress) => {
				Following::Chain(Box::new(Watcher::new(job, progress, terms)))
			}
			Heard::Lane(talk) => Following::Lane(Box::new(Listener::new(
				job,
				talk,
				self.channels.clone(),
				terms,
			))),
		}
	}

	/// Waits until no question of the session lane is open.
	pub(crate) async fn answered(&self) {
		self.jobs.answered().await;
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

/// Waits for what each of several requests waits for. If one fails, the others go on without being waited for; in the session lane they end
/// then, unless their call has an idempotency key.
pub(crate) async fn all_said(following: &mut [Following]) -> Result<Vec<Said>, Error> {
	futures::future::try_join_all(following.iter_mut().map(Following::reached)).await
}

/// Waits for what each of several requests on chain waits for. If one fails, the others go on without being waited for.
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
