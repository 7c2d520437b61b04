//! How the gateway runs.

use std::{
	net::SocketAddr,
	path::PathBuf,
	sync::Arc,
	time::{Duration, SystemTime},
};

/// Tells the time, in seconds since 1970. Days of budgets and of idempotency keys are counted with it.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// How the gateway runs.
#[derive(Clone)]
pub struct Config {
	/// Where it listens.
	pub listen: SocketAddr,
	/// File with the API keys. Without one no key is needed, and the gateway listens on loopback alone.
	pub keys: Option<PathBuf>,
	/// Folder of its journal.
	pub data: PathBuf,
	/// Folder of a web page that is served at `/`, as `clients/web` builds it.
	pub web: Option<PathBuf>,
	/// Address of the node from which that page reads the chain, as the reader's browser reaches it.
	pub web_node: Option<String>,
	/// Origins whose web pages may use it; `*` for all, which needs keys.
	pub cors: Vec<String>,
	/// Largest body that it reads, in bytes.
	pub body_limit: usize,
	/// Calls at once.
	pub concurrency: usize,
	/// Relays at once, between web pages and validators; an eighth of them for one address elsewhere.
	pub relays: usize,
	/// Allows relays to addresses that are not public. Without keys all are allowed: the gateway is its user's own then.
	pub relay_local: bool,
	/// Most bytes of a relay, both ways together.
	pub relay_bytes: usize,
	/// Longest that a relay is open.
	pub relay_for: Duration,
	/// Longest that nothing is said over one.
	pub relay_idle: Duration,
	/// Requests on chain at once, those included whose clients hung up.
	pub open_requests: usize,
	/// Idempotency keys that are remembered at once.
	pub idempotency_keys: usize,
	/// Time for the head of a call.
	pub head_timeout: Duration,
	/// Time for the body of a call.
	pub body_timeout: Duration,
	/// Time for which a reply is kept open.
	pub reply_timeout: Duration,
	/// Time for which a reply waits for a node that went away.
	pub outage_patience: Duration,
	/// Time that open replies have when the gateway is stopped.
	pub drain: Duration,
	/// Time between pings of a silent stream.
	pub ping: Duration,
	/// First pause before a node that went away is asked again; it doubles up to fifteen seconds.
	pub retry: Duration,
	/// Time for which the list of models is taken from memory.
	pub models_age: Duration,
	/// Most tokens of an answer where the client does not say, as far as the model gives so many.
	pub default_max_tokens: u32,
	/// The time.
	pub clock: Clock,
}

impl Config {
	/// Returns the usual settings.
	pub fn new(listen: SocketAddr, data: PathBuf) -> Self {
		Self {
			listen,
			keys: None,
			data,
			web: None,
			web_node: None,
			cors: Vec::new(),
			body_limit: 4 << 20,
			concurrency: 1_024,
			relays: 256,
			relay_local: false,
			// Some thousand long answers.
			relay_bytes: 64 << 20,
			relay_for: Duration::from_secs(3_600),
			relay_idle: Duration::from_secs(600),
			// The chain lets an account have 1,024, and a node a connection as many subscriptions.
			open_requests: 900,
			idempotency_keys: 20_000,
			head_timeout: Duration::from_secs(15),
			body_timeout: Duration::from_secs(30),
			reply_timeout: Duration::from_secs(900),
			outage_patience: Duration::from_secs(60),
			drain: Duration::from_secs(30),
			ping: Duration::from_secs(5),
			retry: Duration::from_millis(250),
			models_age: Duration::from_secs(3),
			default_max_tokens: 256,
			// What OpenAI's clients are shown as the time of an answer.
			#[allow(clippy::disallowed_methods)]
			clock: Arc::new(|| {
				SystemTime::now()
					.duration_since(SystemTime::UNIX_EPOCH)
					.map_or(0, |d| d.as_secs())
			}),
		}
	}
}
