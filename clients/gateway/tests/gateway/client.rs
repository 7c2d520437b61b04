//! A gateway on a double, and a small HTTP client.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use consilience_gateway::{lane::Lane, network::Network, Config, Gateway};
use http_body_util::{BodyExt, Full};
use hyper::{
	body::{Bytes, Incoming},
	header::HeaderMap,
	Method, Request, Response, StatusCode,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, sync::oneshot, task::JoinHandle, time::timeout};

use crate::double::{lane::LaneDouble, Double};

/// Longest that anything here takes: a test that waits longer has failed.
const LIMIT: Duration = Duration::from_secs(20);

/// A gateway that runs.
pub(crate) struct Running {
	pub(crate) double: Double,
	pub(crate) address: SocketAddr,
	pub(crate) folder: Arc<tempfile::TempDir>,
	stop: Option<oneshot::Sender<()>>,
	task: JoinHandle<()>,
}

/// A reply that was read.
#[derive(Debug)]
pub(crate) struct Reply {
	pub(crate) status: StatusCode,
	pub(crate) headers: HeaderMap,
	pub(crate) bytes: Bytes,
}

impl Reply {
	pub(crate) fn json(&self) -> Value {
		serde_json::from_slice(&self.bytes)
			.unwrap_or_else(|e| panic!("{e}: {:?}", String::from_utf8_lossy(&self.bytes)))
	}

	pub(crate) fn text(&self) -> &str {
		std::str::from_utf8(&self.bytes).unwrap()
	}
}

/// A reply that is being read.
pub(crate) struct Stream {
	pub(crate) status: StatusCode,
	body: Incoming,
	held: String,
	/// The connection.
	_task: JoinHandle<()>,
}

impl Stream {
	/// The next event that is no ping, or none at the end.
	pub(crate) async fn next(&mut self) -> Option<String> {
		loop {
			let event = self.raw().await?;
			if !event.starts_with(':') && !event.starts_with("event: ping") {
				return Some(event);
			}
		}
	}

	/// The next event, pings included.
	pub(crate) async fn raw(&mut self) -> Option<String> {
		loop {
			if let Some((event, rest)) = self.held.split_once("\n\n") {
				let (event, rest) = (event.to_owned(), rest.to_owned());
				self.held = rest;
				return Some(event);
			}
			let frame = timeout(LIMIT, self.body.frame())
				.await
				.expect("an event in time")?;
			let data = frame.unwrap().into_data().unwrap();
			self.held += std::str::from_utf8(&data).unwrap();
		}
	}

	/// The data of the next event.
	pub(crate) async fn data(&mut self) -> Value {
		let event = self.next().await.expect("an event");
		let data = event.lines().find_map(|l| l.strip_prefix("data: "));
		serde_json::from_str(data.unwrap()).unwrap_or_else(|e| panic!("{e}: {event}"))
	}

	/// All events that come.
	pub(crate) async fn rest(mut self) -> Vec<String> {
		let mut events = vec![];
		while let Some(event) = self.next().await {
			events.push(event);
		}
		events
	}
}

impl Running {
	/// A gateway on a new double.
	pub(crate) async fn new() -> Self {
		Self::with(|_| ()).await
	}

	/// A gateway on a new double, with other settings.
	pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
		let folder = Arc::new(tempfile::tempdir().unwrap());
		Self::on(Double::new(), folder, change).await
	}

	/// A gateway on a new double with a session lane.
	pub(crate) async fn in_session() -> Self {
		Self::in_session_with(|_| ()).await
	}

	/// A gateway on a new double with a session lane, with other settings.
	pub(crate) async fn in_session_with(change: impl FnOnce(&mut Config)) -> Self {
		let folder = Arc::new(tempfile::tempdir().unwrap());
		Self::on(Double::new().with_channels(1), folder, change).await
	}

	/// The session lane.
	pub(crate) fn lane(&self) -> LaneDouble {
		self.double.lanes().remove(0)
	}

	/// A gateway on this double and this folder.
	pub(crate) async fn on(
		double: Double,
		folder: Arc<tempfile::TempDir>,
		change: impl FnOnce(&mut Config),
	) -> Self {
		let listen = "127.0.0.1:0".parse().unwrap();
		let mut config = Config::new(listen, folder.path().join("data"));
		config.retry = Duration::from_millis(1);
		config.models_age = Duration::ZERO;
		config.drain = Duration::ZERO;
		change(&mut config);
		let network: Arc<dyn Network> = Arc::new(double.clone());
		let lanes = double.lanes().into_iter();
		let lanes: Vec<_> = lanes.map(|lane| Arc::new(lane) as Arc<dyn Lane>).collect();
		// The thread of a journal that was just closed may still hold its file.
		let gateway = timeout(LIMIT, async {
			loop {
				match Gateway::bind(config.clone(), network.clone(), lanes.clone()).await {
					Ok(gateway) => break gateway,
					Err(consilience_gateway::StartError::Journal(_)) => {
						tokio::task::yield_now().await
					}
					Err(e) => panic!("{e}"),
				}
			}
		});
		let gateway = gateway.await.expect("the journal is free in time");
		let address = gateway.address();
		let (stop, stopped) = oneshot::channel();
		let run = gateway.run(async {
			let _ = stopped.await;
		});
		Self {
			double,
			address,
			folder,
			stop: Some(stop),
			task: tokio::spawn(run),
		}
	}

	/// Asks the gateway to stop, and waits until it has.
	pub(crate) async fn stop(mut self) {
		self.stop.take().map(|stop| stop.send(()));
		timeout(LIMIT, &mut self.task)
			.await
			.expect("it stops")
			.unwrap();
	}

	async fn send(
		&self,
		method: Method,
		path: &str,
		headers: &[(&str, &str)],
		body: Vec<u8>,
	) -> (Response<Incoming>, JoinHandle<()>) {
		let stream = TcpStream::connect(self.address).await.unwrap();
		let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
			.await
			.unwrap();
		let task = tokio::spawn(async move {
			let _ = connection.await;
		});
		let mut request = Request::builder().method(method).uri(path);
		if !headers.iter().any(|(name, _)| *name == "host") {
			request = request.header("host", self.address.to_string());
		}
		for (name, value) in headers {
			request = request.header(*name, *value);
		}
		let request = request.body(Full::new(Bytes::from(body))).unwrap();
		let response = timeout(LIMIT, sender.send_request(request)).await;
		(response.expect("a reply in time").unwrap(), task)
	}

	async fn read(
		&self,
		method: Method,
		path: &str,
		headers: &[(&str, &str)],
		body: Vec<u8>,
	) -> Reply {
		let (response, _task) = self.send(method, path, headers, body).await;
		let (parts, body) = response.into_parts();
		let bytes = timeout(LIMIT, body.collect())
			.await
			.expect("a reply in time");
		Reply {
			status: parts.status,
			headers: parts.headers,
			bytes: bytes.unwrap().to_bytes(),
		}
	}

	pub(crate) async fn get(&self, path: &str) -> Reply {
		self.read(Method::GET, path, &[], vec![]).await
	}

	pub(crate) async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
		self.read(Method::GET, path, headers, vec![]).await
	}

	pub(crate) async fn options(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
		self.read(Method::OPTIONS, path, headers, vec![]).await
	}

	pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
		self.post_with(path, &[], body).await
	}

	pub(crate) async fn post_with(
		&self,
		path: &str,
		headers: &[(&str, &str)],
		body: Value,
	) -> Reply {
		self.post_bytes(path, headers, body.to_string().into_bytes())
			.await
	}

	pub(crate) async fn post_bytes(
		&self,
		path: &str,
		headers: &[(&str, &str)],
		body: Vec<u8>,
	) -> Reply {
		self.read(Method::POST, path, headers, body).await
	}

	/// Begins a call whose reply comes piece by piece.
	pub(crate) async fn stream(&self, path: &str, headers: &[(&str, &str)], body: Value) -> Stream {
		let (response, task) = self
			.send(Method::POST, path, headers, body.to_string().into_bytes())
			.await;
		let (parts, body) = response.into_parts();
		Stream {
			status: parts.status,
			body,
			held: String::new(),
			_task: task,
		}
	}

	/// A call, and what happens on chain meanwhile: each request is completed as it is made.
	pub(crate) async fn completed(
		&self,
		requests: u64,
		call: impl Future<Output = Reply>,
	) -> Reply {
		let first = self.double.count() as u64 + 1;
		let chain = async {
			self.double.wait_for((first + requests - 1) as usize).await;
			(first..first + requests).for_each(|n| self.double.complete(n));
		};
		let (reply, ()) = tokio::join!(call, chain);
		reply
	}
}
