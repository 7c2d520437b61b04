//! What the engine's process writes to standard error, in the node's log. A model that broke the engine writes there too: as
//! much as it likes, without ends of lines, and with characters that a terminal obeys. What is shown has bounds in each of these.

use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Target of the log lines that the engine process wrote.
const TARGET: &str = "engine";
/// Most bytes of a line that are shown.
const LINE: usize = 2_048;
/// Lines that are shown at once, and the time in which one more may be: 600 a minute.
const LINES: (u64, Duration) = (200, Duration::from_millis(100));
/// Bytes that are read at once, and the time in which one more may be: 64 KiB a second. More is not read, so that whoever
/// writes waits.
const BYTES: (u64, Duration) = (1 << 20, Duration::from_nanos(15_259));

/// An amount that is used up and comes back with time.
struct Allowance {
	left: u64,
	most: u64,
	each: Duration,
	at: Instant,
}

impl Allowance {
	fn new((most, each): (u64, Duration), now: Instant) -> Self {
		Self {
			left: most,
			most,
			each,
			at: now,
		}
	}

	fn refill(&mut self, now: Instant) {
		let passed = now.saturating_duration_since(self.at);
		let more = (passed.as_nanos() / self.each.as_nanos()) as u64;
		if more > 0 {
			self.left = self.left.saturating_add(more).min(self.most);
			self.at = now;
		}
	}

	/// Takes one, if there is one.
	fn take(&mut self, now: Instant) -> bool {
		self.refill(now);
		let there = self.left > 0;
		self.left -= u64::from(there);
		there
	}

	/// Takes so many. Says how long to wait where there were fewer.
	fn spend(&mut self, amount: u64, now: Instant) -> Duration {
		self.refill(now);
		let lacking = amount.saturating_sub(self.left);
		self.left = self.left.saturating_sub(amount);
		let wait = self.each * u32::try_from(lacking).unwrap_or(u32::MAX);
		// What comes back in that time is taken already.
		self.at += wait;
		wait
	}
}

/// Makes lines of what comes in pieces.
struct Lines {
	line: Vec<u8>,
	/// Bytes of the line that are not shown.
	cut: usize,
	/// Lines that were not shown since the last one that was.
	hidden: u64,
	allowance: Allowance,
}

impl Lines {
	fn new(now: Instant) -> Self {
		Self {
			line: Vec::new(),
			cut: 0,
			hidden: 0,
			allowance: Allowance::new(LINES, now),
		}
	}

	/// Lines to be shown now.
	fn feed(&mut self, bytes: &[u8], now: Instant) -> Vec<String> {
		let mut shown = Vec::new();
		for piece in bytes.split_inclusive(|b| *b == b'\n') {
			let (text, ends) = match piece.split_last() {
				Some((b'\n', text)) => (text, true),
				_ => (piece, false),
			};
			let fits = text.len().min(LINE - self.line.len());
			self.line.extend(&text[..fits]);
			self.cut += text.len() - fits;
			if ends {
				self.end(now, &mut shown);
			}
		}
		shown
	}

	fn end(&mut self, now: Instant, shown: &mut Vec<String>) {
		let (line, cut) = (
			std::mem::take(&mut self.line),
			std::mem::take(&mut self.cut),
		);
		if !self.allowance.take(now) {
			self.hidden += 1;
			return;
		}
		self.mention_hidden(shown);
		let mut text = String::with_capacity(line.len());
		for c in String::from_utf8_lossy(&line).chars() {
			if c.is_control() && c != '\t' {
				text.extend(c.escape_default());
			} else {
				text.push(c);
			}
		}
		if cut > 0 {
			text.push_str(&format!("… and {cut} bytes more"));
		}
		shown.push(text);
	}

	fn mention_hidden(&mut self, shown: &mut Vec<String>) {
		let hidden = std::mem::take(&mut self.hidden);
		if hidden > 0 {
			shown.push(format!(
				"({hidden} lines of the engine are not shown: too many at a time)"
			));
		}
	}

	/// What is left at the end.
	fn finish(mut self, now: Instant) -> Vec<String> {
		let mut shown = Vec::new();
		if !self.line.is_empty() {
			self.end(now, &mut shown);
		}
		self.mention_hidden(&mut shown);
		shown
	}
}

/// Shows what comes until it ends.
pub(crate) async fn relay(mut from: impl AsyncRead + Unpin) {
	let show = |lines: Vec<String>| {
		for line in lines {
			tracing::info!(target: TARGET, "{line}");
		}
	};
	let now = Instant::now();
	let (mut lines, mut bytes) = (Lines::new(now), Allowance::new(BYTES, now));
	let mut buffer = vec![0; 8_192];
	while let Ok(n) = from.read(&mut buffer).await {
		if n == 0 {
			break;
		}
		let now = Instant::now();
		show(lines.feed(&buffer[..n], now));
		let wait = bytes.spend(n as u64, now);
		if !wait.is_zero() {
			tokio::time::sleep(wait).await;
		}
	}
	show(lines.finish(Instant::now()));
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn lines_come_whole_and_harmless() {
		let now = Instant::now();
		let mut lines = Lines::new(now);
		assert_eq!(lines.feed(b"one\ntw", now), ["one"]);
		assert_eq!(
			lines.feed(b"o\n\x1b[2Jthree\r\xff\n\nlast", now),
			["two", "\\u{1b}[2Jthree\\r\u{fffd}", ""]
		);
		assert_eq!(lines.finish(now), ["last"]);
	}

	#[test]
	fn a_line_without_end_takes_no_memory() {
		let now = Instant::now();
		let mut lines = Lines::new(now);
		for _ in 0..1_000 {
			assert!(lines.feed(&[b'x'; 8_192], now).is_empty());
		}
		assert!(lines.line.capacity() <= 2 * LINE);
		let shown = lines.feed(b"\n", now);
		assert_eq!(shown.len(), 1);
		assert!(shown[0].len() < LINE + 64 && shown[0].ends_with("… and 8189952 bytes more"));
	}

	#[test]
	fn too_many_lines_are_counted_and_not_shown() {
		let start = Instant::now();
		let mut lines = Lines::new(start);
		let flood = b"x\n".repeat(5_000);
		assert_eq!(lines.feed(&flood, start).len() as u64, LINES.0);
		// Two more may be shown, and the first says what was not.
		let later = start + 2 * LINES.1;
		let shown = lines.feed(&flood, later);
		assert_eq!(shown.len(), 3);
		assert!(shown[0].starts_with("(4800 lines"), "{}", shown[0]);
		let end = lines.finish(later);
		assert!(end[0].starts_with("(4998 lines"), "{}", end[0]);
	}

	#[test]
	fn who_writes_without_end_waits() {
		let start = Instant::now();
		let mut bytes = Allowance::new(BYTES, start);
		assert_eq!(bytes.spend(BYTES.0, start), Duration::ZERO);
		let wait = bytes.spend(65_536, start);
		assert!(
			wait > Duration::from_millis(990) && wait < Duration::from_millis(1_010),
			"{wait:?}"
		);
		// A second later that is paid for, and no more.
		let second = start + Duration::from_millis(1_010);
		assert!(bytes.spend(65_000, second) > Duration::from_millis(950));
		let third = second + Duration::from_secs(2);
		assert_eq!(bytes.spend(65_000, third), Duration::ZERO);
	}
}
