//! The lane's dialogue over WebSocket and over HTTP/2, neither with TLS: what ADR 28 chooses by.
//!
//! ```text
//! cargo run --locked -p consilience-lane --example transports
//! ```
//!
//! A client connects, says hello, hears an offer, asks, and reads an answer of [`FRAMES`] frames, of which it acknowledges every [`SLICE`]:
//! over loopback and over a line of [`DELAY`] each way. Then one connection carries many frames. Messages have the lane's sizes and no meaning.

use std::{convert::Infallible, error::Error, future::Future, time::Duration};

use futures::{stream, SinkExt, StreamExt};
use http_body_util::{combinators::BoxBody, BodyExt, StreamBody};
use hyper::{
	body::{Body, Bytes, Frame, Incoming},
	service::service_fn,
	Request, Response,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
	io::{AsyncReadExt, AsyncWriteExt},
	net::{
		tcp::{OwnedReadHalf, OwnedWriteHalf},
		TcpListener, TcpStream,
	},
	sync::mpsc,
	time::Instant,
};
use tokio_tungstenite::{accept_async, client_async, tungstenite::Message};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Frames of an answer, a token each.
const FRAMES: usize = 64;
/// Frames that go unacknowledged.
const SLICE: usize = 32;
/// Frames where only they count.
const MANY: usize = 100_000;
/// One way.
const DELAY: Duration = Duration::from_millis(25);
/// Bytes of a frame, and of all else.
const FRAME: usize = 250;

/// Messages of [`FRAME`] bytes, either way.
trait Transport: Send {
	fn send(&mut self) -> impl Future<Output = Result<()>> + Send;
	fn receive(&mut self) -> impl Future<Output = Result<()>> + Send;
}

fn message() -> Bytes {
	static MESSAGE: [u8; FRAME] = [7; FRAME];
	Bytes::from_static(&MESSAGE)
}

fn gone() -> Box<dyn Error + Send + Sync> {
	"the other side has gone".into()
}

struct WebSocket(tokio_tungstenite::WebSocketStream<TcpStream>);

impl Transport for WebSocket {
	async fn send(&mut self) -> Result<()> {
		Ok(self.0.send(Message::Binary(message())).await?)
	}

	async fn receive(&mut self) -> Result<()> {
		match self.0.next().await {
			Some(Ok(Message::Binary(_))) => Ok(()),
			_ => Err(gone()),
		}
	}
}

struct Http2 {
	out: mpsc::Sender<Bytes>,
	/// The other side's messages; before there is a response, what leads to it.
	incoming: Incoming,
	/// Bytes that were read of messages not received yet.
	read: usize,
}

impl Transport for Http2 {
	async fn send(&mut self) -> Result<()> {
		self.out.send(message()).await.map_err(|_| gone())
	}

	async fn receive(&mut self) -> Result<()> {
		while self.read < FRAME {
			let frame = self.incoming.frame().await.ok_or_else(gone)??;
			self.read += frame.data_ref().map_or(0, Bytes::len);
		}
		self.read -= FRAME;
		Ok(())
	}
}

/// A body that ends when its sender is dropped.
fn body(messages: mpsc::Receiver<Bytes>) -> BoxBody<Bytes, Infallible> {
	let frames = stream::unfold(messages, |mut messages| async move {
		let message = messages.recv().await?;
		Some((Ok(Frame::data(message)), messages))
	});
	BodyExt::boxed(StreamBody::new(frames))
}

async fn serve_websocket(tcp: TcpStream, frames: usize) -> Result<()> {
	answer(&mut WebSocket(accept_async(tcp).await?), frames).await
}

async fn serve_http2(tcp: TcpStream, frames: usize) -> Result<()> {
	let service = service_fn(move |request: Request<Incoming>| async move {
		let (out, messages) = mpsc::channel(2);
		let mut client = Http2 {
			out,
			incoming: request.into_body(),
			read: 0,
		};
		tokio::spawn(async move { answer(&mut client, frames).await });
		Ok::<_, Infallible>(Response::new(body(messages)))
	});
	let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
	Ok(server.serve_connection(TokioIo::new(tcp), service).await?)
}

/// The validator's side.
async fn answer(client: &mut impl Transport, frames: usize) -> Result<()> {
	client.receive().await?;
	client.send().await?;
	client.receive().await?;
	for sent in 1..=frames {
		client.send().await?;
		if sent % SLICE == 0 {
			client.receive().await?;
		}
	}
	Ok(())
}

/// The client's side. Returns when the first frame was there, and the last.
async fn ask(server: &mut impl Transport, frames: usize, said_hello: bool) -> Result<[Instant; 2]> {
	if !said_hello {
		server.send().await?;
	}
	server.receive().await?;
	server.send().await?;
	let mut first = None;
	for got in 1..=frames {
		server.receive().await?;
		first.get_or_insert_with(Instant::now);
		if got % SLICE == 0 {
			server.send().await?;
		}
	}
	let last = Instant::now();
	Ok([first.unwrap_or(last), last])
}

async fn ask_websocket(tcp: TcpStream, frames: usize) -> Result<[Instant; 2]> {
	let (socket, _) = client_async("ws://localhost/", tcp).await?;
	ask(&mut WebSocket(socket), frames, false).await
}

async fn ask_http2(tcp: TcpStream, frames: usize) -> Result<[Instant; 2]> {
	let (mut client, connection) =
		hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp)).await?;
	tokio::spawn(connection);
	let (out, messages) = mpsc::channel(2);
	// With the request, before there is a response.
	out.send(message()).await?;
	let request = Request::post("http://localhost/").body(body(messages))?;
	let incoming = client.send_request(request).await?.into_body();
	debug_assert!(!incoming.is_end_stream());
	let mut server = Http2 {
		out,
		incoming,
		read: 0,
	};
	ask(&mut server, frames, true).await
}

/// What goes in comes out later.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
	let (sender, mut under_way) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
	tokio::spawn(async move {
		while let Some((due, bytes)) = under_way.recv().await {
			tokio::time::sleep_until(due).await;
			if to.write_all(&bytes).await.is_err() {
				return;
			}
		}
	});
	let mut buffer = vec![0; 1 << 16];
	while let Ok(read @ 1..) = from.read(&mut buffer).await {
		if sender
			.send((Instant::now() + DELAY, buffer[..read].to_vec()))
			.is_err()
		{
			return;
		}
	}
}

/// Returns a port that leads to another over the line. A connection takes a round trip before it carries anything.
async fn line(to: u16) -> Result<u16> {
	let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
	let port = listener.local_addr()?.port();
	tokio::spawn(async move {
		while let Ok((near, _)) = listener.accept().await {
			tokio::time::sleep(2 * DELAY).await;
			let Ok(far) = TcpStream::connect(("127.0.0.1", to)).await else {
				return;
			};
			let _ = (near.set_nodelay(true), far.set_nodelay(true));
			let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
			tokio::spawn(carry(near_in, far_out));
			tokio::spawn(carry(far_in, near_out));
		}
	});
	Ok(port)
}

async fn listen<F>(serve: fn(TcpStream, usize) -> F, frames: usize) -> Result<u16>
where
	F: Future<Output = Result<()>> + Send + 'static,
{
	let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
	let port = listener.local_addr()?.port();
	tokio::spawn(async move {
		while let Ok((tcp, _)) = listener.accept().await {
			let _ = tcp.set_nodelay(true);
			tokio::spawn(serve(tcp, frames));
		}
	});
	Ok(port)
}

/// Milliseconds from the connection to the first frame and to the last, medians.
async fn questions<F>(
	port: u16,
	rounds: usize,
	ask: fn(TcpStream, usize) -> F,
	frames: usize,
) -> Result<[f64; 2]>
where
	F: Future<Output = Result<[Instant; 2]>>,
{
	let mut times = Vec::new();
	for _ in 0..rounds {
		let begun = Instant::now();
		let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
		tcp.set_nodelay(true)?;
		let ends = ask(tcp, frames).await?;
		times.push(ends.map(|end| (end - begun).as_secs_f64() * 1_000.0));
	}
	Ok([0, 1].map(|which| {
		let mut one: Vec<_> = times.iter().map(|t| t[which]).collect();
		one.sort_by(f64::total_cmp);
		one[one.len() / 2]
	}))
}

/// Seconds of processor time that this process has taken.
fn processor() -> Result<f64> {
	let text = std::fs::read_to_string("/proc/self/stat")?;
	let after = text.rsplit(')').next().unwrap_or_default();
	let ticks = after.split_whitespace().skip(11).take(2);
	let ticks: u64 = ticks.map(|t| t.parse::<u64>().unwrap_or(0)).sum();
	// USER_HZ is 100 wherever Linux runs.
	Ok(ticks as f64 / 100.0)
}

macro_rules! measure {
	($name:literal, $serve:expr, $ask:expr) => {{
		let port = listen($serve, FRAMES).await?;
		let near = questions(port, 200, $ask, FRAMES).await?;
		let far = questions(line(port).await?, 9, $ask, FRAMES).await?;
		let many = listen($serve, MANY).await?;
		let before = processor()?;
		let [_, all] = questions(many, 1, $ask, MANY).await?;
		let each = (processor()? - before) * 1e6 / MANY as f64;
		println!(
			"{:10} loopback: first frame {:.2} ms, last {:.2}; a round trip of {} ms: first {:.0} ms, last {:.0}; {MANY} frames: {:.0} a second, \
			 {each:.1} µs of processor each, both sides",
			$name,
			near[0],
			near[1],
			(2 * DELAY).as_millis(),
			far[0],
			far[1],
			MANY as f64 / all * 1_000.0,
		);
	}};
}

#[tokio::main]
async fn main() -> Result<()> {
	measure!("WebSocket", serve_websocket, ask_websocket);
	measure!("HTTP/2", serve_http2, ask_http2);
	Ok(())
}
