//! Listening: routes, who is let in, limits, and the end.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
	body::Body,
	extract::{MatchedPath, Request, State},
	http::{header, HeaderName, HeaderValue, Method},
	middleware::{self, Next},
	response::{IntoResponse, Response},
	routing::{get, post},
	Router,
};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::{
	rt::{TokioExecutor, TokioIo, TokioTimer},
	server::{conn::auto, graceful::GracefulShutdown},
};
use serde_json::json;
use tokio::{
	net::TcpListener,
	sync::{watch, OwnedSemaphorePermit, Semaphore},
};
use tower::ServiceExt;
use tower_http::cors::{AllowOrigin, Any, CorsLayer};

use crate::{
	anthropic,
	app::{json, App, Upstream},
	auth::{Keys, KeysError},
	channels::Channels,
	config::Config,
	error::{Error, Interface},
	inference_protocol,
	jobs::Jobs,
	journal::JournalError,
	lane::Lane,
	metrics::Metrics,
	network::Network,
	openai::{chat, completions, embeddings, models, responses},
	relay,
	sse::{Outcome, Streams},
	web::Page,
	LOG_TARGET,
};

/// Connections for every call that is taken at once: clients keep some open between calls.
const CONNECTIONS_A_CALL: usize = 4;
/// Time for replies to leave when the gateway stops and their wait was cut short.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Why the gateway does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
	/// Without keys everybody who reaches it could spend.
	#[error("{0} is not a loopback address: without a file of API keys the gateway listens on loopback alone")]
	NotLoopback(SocketAddr),
	/// Without keys every web page could spend.
	#[error("CORS for every origin needs a file of API keys: any web page could spend otherwise")]
	OpenCors,
	/// An origin that is none.
	#[error("{0:?} is not an origin, such as https://example.org")]
	BadOrigin(String),
	/// The keys.
	#[error(transparent)]
	Keys(#[from] KeysError),
	/// The journal.
	#[error("the journal: {0}")]
	Journal(#[from] JournalError),
	/// The figures.
	#[error("the metrics: {0}")]
	Metrics(#[from] prometheus::Error),
	/// The web page.
	#[error("the web page in {0}: {1}")]
	Web(String, std::io::Error),
	/// The address cannot be listened on.
	#[error("{0}: {1}")]
	Listen(SocketAddr, std::io::Error),
}

/// A gateway that listens.
pub struct Gateway {
	app: App,
	listener: TcpListener,
	address: SocketAddr,
	stop: watch::Sender<bool>,
}

impl Gateway {
	/// Opens the journal, goes on with what is in it, and listens. With `lanes`, a
	/// channel each, it answers in the session lane too.
	///
	/// # Errors
	/// Why it does not start.
	pub async fn bind(
		config: Config,
		network: Arc<dyn Network>,
		lanes: Vec<Arc<dyn Lane>>,
	) -> Result<Self, StartError> {
		let keys = match &config.keys {
			Some(path) => Keys::read(path)?,
			None => Keys::none(),
		};
		if !keys.are_needed() {
			if !config.listen.ip().is_loopback() {
				return Err(StartError::NotLoopback(config.listen));
			}
			if config.cors.iter().any(|origin| origin == "*") {
				return Err(StartError::OpenCors);
			}
		}
		let bad = |o: &&String| o.as_str() != "*" && !(o.contains("://") && o.is_ascii());
		if let Some(bad) = config.cors.iter().find(bad) {
			return Err(StartError::BadOrigin(bad.clone()));
		}
		let page = config.web.as_ref().map(|folder| {
			Page::read(folder, config.web_node.as_deref())
				.map_err(|e| StartError::Web(folder.display().to_string(), e))
		});
		let page = page.transpose()?;
		let listen = |e| StartError::Listen(config.listen, e);
		let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
		let address = listener.local_addr().map_err(listen)?;
		let metrics = Metrics::new()?;
		let channels = Channels::new(lanes);
		let upstream = Upstream { network, channels };
		let jobs = Jobs::open(upstream.clone(), metrics.clone(), config.clone())?;
		let (stop, stopping) = watch::channel(false);
		Ok(Self {
			app: App::new(config, keys, page, metrics, upstream, jobs, stopping),
			listener,
			address,
			stop,
		})
	}

	/// Returns the address that it listens on.
	pub fn address(&self) -> SocketAddr {
		self.address
	}

	/// Serves until `shutdown` is done, and then lets open replies end for a while. What is on chain goes on, and is found again when a
	/// gateway starts on the same folder.
	pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
		let Self {
			app,
			listener,
			stop,
			..
		} = self;
		let connections = Arc::new(Semaphore::new(app.config.concurrency * CONNECTIONS_A_CALL));
		let router = router(app.clone());
		let graceful = GracefulShutdown::new();
		let mut builder = auto::Builder::new(TokioExecutor::new());
		builder
			.http1()
			.timer(TokioTimer::new())
			.header_read_timeout(app.config.head_timeout);
		builder
			.http2()
			.timer(TokioTimer::new())
			.keep_alive_interval(app.config.head_timeout)
			.max_concurrent_streams(100);
		tokio::pin!(shutdown);
		loop {
			let place = connections.clone().acquire_owned();
			let accepted = async { (place.await, listener.accept().await) };
			let (place, accepted) = tokio::select! {
				accepted = accepted => accepted,
				() = &mut shutdown => break,
			};
			let (stream, peer) = match accepted {
				Ok(accepted) => accepted,
				Err(e) => {
					// Too many open files, as a rule: others may be closed meanwhile.
					tracing::warn!(target: LOG_TARGET, "a connection was not taken: {e}");
					tokio::time::sleep(Duration::from_millis(100)).await;
					continue;
				}
			};
			let _ = stream.set_nodelay(true);
			let router = router.clone();
			let service =
				hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
					request.extensions_mut().insert(Peer(peer));
					router.clone().oneshot(request.map(Body::new))
				});
			let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
			let connection = graceful.watch(connection.into_owned());
			tokio::spawn(async move {
				let _place = place;
				if let Err(e) = connection.await {
					tracing::debug!(target: LOG_TARGET, "connection of {peer}: {e}");
				}
			});
		}
		drop(listener);
		let closed = graceful.shutdown();
		tokio::pin!(closed);
		let done = async {
			closed.as_mut().await;
			// What its client may ask for again has nobody who waits for it, and would be cut.
			app.answered().await;
		};
		if tokio::time::timeout(app.config.drain, done).await.is_err() {
			// Streams end with an error, and not as if the answer were whole.
			let _ = stop.send(true);
			let _ = tokio::time::timeout(LAST_WORDS, closed).await;
		}
		app.stop();
	}
}

/// Where a call comes from.
#[derive(Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

fn router(app: App) -> Router {
	let router = Router::new()
		.route("/health", get(health))
		.route("/metrics", get(metrics))
		.route("/v1/models", get(models::list))
		.route("/v1/models/{*id}", get(models::get))
		.route("/v1/chat/completions", post(chat::create))
		.route("/v1/completions", post(completions::create))
		.route("/v1/responses", post(responses::create))
		.route("/v1/embeddings", post(embeddings::create))
		.route("/v1/messages", post(anthropic::create))
		.route("/v1/lane/{model}/{validator}", get(relay::open))
		.route("/v2", get(inference_protocol::server))
		.route("/v2/", get(inference_protocol::server))
		.route("/v2/health/live", get(inference_protocol::live))
		.route("/v2/health/ready", get(inference_protocol::ready))
		.route("/v2/models/{name}", get(inference_protocol::model))
		.route(
			"/v2/models/{name}/ready",
			get(inference_protocol::model_ready),
		)
		.route("/v2/models/{name}/infer", post(inference_protocol::infer))
		.fallback(no_route)
		.method_not_allowed_fallback(no_method)
		.layer(middleware::from_fn_with_state(app.clone(), guard));
	let router = match cors(&app.config.cors) {
		Some(cors) => router.layer(cors),
		None => router,
	};
	router.with_state(app)
}

/// What is no route of an interface may be a file of the web page.
async fn no_route(State(app): State<App>, request: Request) -> Result<Response, Error> {
	let page = app.page.as_ref();
	page.and_then(|page| page.answer(request.method(), request.uri()))
		.ok_or_else(|| Error::NoRoute(request.uri().path().into()))
}

async fn no_method() -> Error {
	Error::NoMethod
}

/// Says whether the gateway runs and the node answers.
async fn health(State(app): State<App>) -> Result<Response, Error> {
	app.is_ready().await?;
	Ok(json(&json!({ "status": "ok" })))
}

async fn metrics(State(app): State<App>) -> Result<Response, Error> {
	let text = app
		.metrics
		.text()
		.map_err(|e| Error::Refused(e.to_string()))?;
	let mut response = text.into_response();
	response.headers_mut().insert(
		header::CONTENT_TYPE,
		HeaderValue::from_static("text/plain; version=0.0.4"),
	);
	Ok(response)
}

fn cors(origins: &[String]) -> Option<CorsLayer> {
	let origin = match origins {
		[] => return None,
		list if list.iter().any(|o| o == "*") => AllowOrigin::any(),
		list => AllowOrigin::list(list.iter().filter_map(|o| o.parse().ok())),
	};
	Some(
		CorsLayer::new()
			.allow_origin(origin)
			.allow_methods([Method::GET, Method::POST])
			.allow_headers(Any)
			.expose_headers([
				header::RETRY_AFTER,
				HeaderName::from_static("inference-header-content-length"),
			]),
	)
}

/// Lets a call in or not, renders errors in the interface's shape, and counts.
async fn guard(State(app): State<App>, mut request: Request, next: Next) -> Response {
	let interface = Interface::of(request.uri().path());
	let endpoint = request.extensions().get::<MatchedPath>();
	let endpoint = endpoint.map_or("other", |path| path.as_str()).to_owned();
	// A call that is dropped before its reply has lost its client.
	let mut outcome = Outcome {
		app: app.clone(),
		endpoint,
		outcome: "hung_up",
	};
	let (place, mut response) = match admit(&app, &mut request) {
		Ok(place) => {
			app.metrics.calls.inc();
			let open = Open(app.clone(), place);
			(Some(open), next.run(request).await)
		}
		Err(error) => (None, error.into_response()),
	};
	outcome.outcome = "ok";
	if let Some(error) = response.extensions_mut().remove::<Arc<Error>>() {
		if error.status().is_server_error() {
			tracing::warn!(target: LOG_TARGET, "{}: {error}", outcome.endpoint);
		}
		outcome.outcome = error.code();
		response = error.render(interface);
	}
	if let Some(streams) = response.extensions_mut().remove::<Streams>() {
		outcome.outcome = "hung_up";
		// Nothing panics while it is held.
		*streams.0.lock().unwrap_or_else(|e| e.into_inner()) = Some(outcome);
	}
	// The place is given back when the whole reply is sent.
	response.map(|body| {
		Body::new(body.map_frame(move |frame| {
			let _ = &place;
			frame
		}))
	})
}

/// A call that is being answered.
struct Open(App, #[allow(dead_code)] Option<OwnedSemaphorePermit>);

impl Drop for Open {
	fn drop(&mut self) {
		self.0.metrics.calls.dec();
	}
}

fn admit(app: &App, request: &mut Request) -> Result<Option<OwnedSemaphorePermit>, Error> {
	let peer = request.extensions().get::<Peer>().map(|Peer(peer)| *peer);
	let path = request.uri().path();
	if !app.keys.are_needed() {
		from_here(app, request)?;
	}
	if path == "/health" || path.starts_with("/v2/health/") {
		return Ok(None);
	}
	if path == "/metrics" {
		// It names all keys and what they spend.
		return match peer.is_some_and(|p| p.ip().to_canonical().is_loopback()) {
			true => Ok(None),
			false => Err(Error::Forbidden(
				"metrics are shown on loopback alone".into(),
			)),
		};
	}
	// Whoever has no key yet sees the page that asks for one.
	if is_of_page(app, request) {
		return Ok(None);
	}
	let key = app.keys.find(request.headers())?;
	request.extensions_mut().insert(key);
	let place = app.calls.clone().try_acquire_owned();
	place.map(Some).map_err(|_| Error::TooMany)
}

/// Whether a call is for the web page, or for something that is nowhere, and not for an interface.
fn is_of_page(app: &App, request: &Request) -> bool {
	app.page.is_some()
		&& request.extensions().get::<MatchedPath>().is_none()
		&& [Method::GET, Method::HEAD].contains(request.method())
}

/// Refuses, where there are no keys, what a web page of somebody else has a browser send: its origin says so, or, where a name was made to lead
/// here, its host.
fn from_here(app: &App, request: &Request) -> Result<(), Error> {
	let host = request
		.headers()
		.get(header::HOST)
		.and_then(|h| h.to_str().ok());
	let host = host.or(request.uri().authority().map(|a| a.as_str()));
	let name = host.map(|h| match h.rsplit_once(':') {
		Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
		_ => h,
	});
	let is_loopback = |name: &str| {
		let address = name.trim_start_matches('[').trim_end_matches(']');
		name.eq_ignore_ascii_case("localhost")
			|| address
				.parse::<std::net::IpAddr>()
				.is_ok_and(|a| a.is_loopback())
	};
	if name.is_some_and(|name| !is_loopback(name)) {
		return Err(Error::Forbidden(
			"without API keys the gateway is called as localhost alone".into(),
		));
	}
	let Some(origin) = request.headers().get(header::ORIGIN) else {
		return Ok(());
	};
	let origin = origin.to_str().unwrap_or_default();
	let own = origin
		.split_once("://")
		.is_some_and(|(_, o)| Some(o) == host);
	if own || app.config.cors.iter().any(|allowed| allowed == origin) {
		return Ok(());
	}
	Err(Error::Forbidden(format!(
		"web pages of {origin:?} may not use this gateway"
	)))
}
