//! What strangers may cost.

use std::{
	collections::HashMap,
	io,
	net::{IpAddr, Ipv6Addr},
	pin::Pin,
	sync::{
		atomic::{AtomicUsize, Ordering},
		Arc, Mutex,
	},
	task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::lock;

/// Connections by where they come from.
#[derive(Clone)]
pub(crate) struct Addresses {
	/// Most strangers of an address.
	most: usize,
	/// Most others.
	most_known: usize,
	counts: Arc<Mutex<HashMap<IpAddr, Count>>>,
}

/// Connections of an address.
#[derive(Default)]
struct Count {
	strangers: usize,
	known: usize,
}

impl Addresses {
	pub(crate) fn new(most: usize, most_known: usize) -> Self {
		Self {
			most,
			most_known,
			counts: Arc::default(),
		}
	}

	/// Counts a connection of a stranger; `None` where there are too many of this address.
	pub(crate) fn count(&self, address: IpAddr) -> Option<Counted> {
		let network = network(address);
		let mut counts = lock(&self.counts);
		let count = counts.entry(network).or_default();
		if count.strangers >= self.most {
			return None;
		}
		count.strangers += 1;
		Some(Counted {
			network,
			known: false,
			addresses: self.clone(),
		})
	}
}

/// Whoever has an IPv6 address has 2⁶⁴ of them.
fn network(address: IpAddr) -> IpAddr {
	match address.to_canonical() {
		IpAddr::V6(v6) => {
			let [a, b, c, d, ..] = v6.segments();
			IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
		}
		v4 => v4,
	}
}

/// A connection that counts.
pub(crate) struct Counted {
	network: IpAddr,
	known: bool,
	addresses: Addresses,
}

impl Counted {
	/// Its peer is no stranger any more: others of its address have its place among those.
	pub(crate) fn know(&mut self) {
		let mut counts = lock(&self.addresses.counts);
		if let Some(count) = counts.get_mut(&self.network) {
			if !self.known && count.known < self.addresses.most_known {
				self.known = true;
				count.strangers -= 1;
				count.known += 1;
			}
		}
	}
}

impl Drop for Counted {
	fn drop(&mut self) {
		let mut counts = lock(&self.addresses.counts);
		if let Some(count) = counts.get_mut(&self.network) {
			if self.known {
				count.known -= 1;
			} else {
				count.strangers -= 1;
			}
			if count.strangers + count.known == 0 {
				counts.remove(&self.network);
			}
		}
	}
}

/// Bytes of a control frame beside what it says.
const HEADER: usize = 6;

/// What a peer may still send before a message is complete. A WebSocket's own bound cannot be raised once it is open.
#[derive(Clone)]
pub(crate) struct Budget {
	left: Arc<AtomicUsize>,
	most: Arc<AtomicUsize>,
}

impl Budget {
	/// Messages of so many bytes, and what is read ahead of them.
	pub(crate) fn new(most: usize) -> Self {
		Self {
			left: Arc::new(most.into()),
			most: Arc::new(most.into()),
		}
	}

	/// Longer messages from now on.
	pub(crate) fn raise(&self, most: usize) {
		self.most.store(most, Ordering::Relaxed);
		self.refill();
	}

	/// A message is complete.
	pub(crate) fn refill(&self) {
		self.left
			.store(self.most.load(Ordering::Relaxed), Ordering::Relaxed);
	}

	/// A ping or a pong was read, perhaps between two pieces of a message.
	pub(crate) fn give_back(&self, length: usize) {
		let left = self.left.load(Ordering::Relaxed) + length + HEADER;
		self.left.store(
			left.min(self.most.load(Ordering::Relaxed)),
			Ordering::Relaxed,
		);
	}
}

/// A stream of which no more is read than its budget admits.
pub(crate) struct Limited<S> {
	inner: S,
	budget: Budget,
}

impl<S> Limited<S> {
	pub(crate) fn new(inner: S, budget: Budget) -> Self {
		Self { inner, budget }
	}
}

impl<S: AsyncRead + Unpin> AsyncRead for Limited<S> {
	fn poll_read(
		mut self: Pin<&mut Self>,
		cx: &mut Context<'_>,
		buffer: &mut ReadBuf<'_>,
	) -> Poll<io::Result<()>> {
		let left = self.budget.left.load(Ordering::Relaxed);
		if left == 0 {
			return Poll::Ready(Err(io::Error::other("the message is too long")));
		}
		let room = left.min(buffer.remaining());
		let mut part = ReadBuf::new(buffer.initialize_unfilled_to(room));
		let read = Pin::new(&mut self.inner).poll_read(cx, &mut part);
		let count = part.filled().len();
		buffer.advance(count);
		self.budget.left.fetch_sub(count, Ordering::Relaxed);
		read
	}
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Limited<S> {
	fn poll_write(
		mut self: Pin<&mut Self>,
		cx: &mut Context<'_>,
		bytes: &[u8],
	) -> Poll<io::Result<usize>> {
		Pin::new(&mut self.inner).poll_write(cx, bytes)
	}

	fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
		Pin::new(&mut self.inner).poll_flush(cx)
	}

	fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
		Pin::new(&mut self.inner).poll_shutdown(cx)
	}
}
