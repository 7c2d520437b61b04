//! An answer that arrives as it is written.

use std::{
	pin::Pin,
	sync::atomic::{AtomicU32, Ordering},
	task::{ready, Context, Poll},
};

use codec::Compact;
use consilience_primitives::request::Output;
use futures::{task::AtomicWaker, Stream};
use tokio::sync::mpsc;

use crate::{
	client::{unexpected, Open},
	protocol::Reply,
	EngineError,
};

/// Part of an answer that arrives as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
	/// The answer goes on. All its tokens are in such pieces.
	Tokens {
		/// The next tokens, at least one.
		tokens: Vec<u32>,
		/// What they add to the text, in whole characters of UTF-8, as far as no later token can change it.
		text: Vec<u8>,
	},
	/// The answer is complete; the last piece.
	End {
		/// The text that was held back.
		text: Vec<u8>,
		/// All of the answer: its tokens and its text are those of all pieces.
		output: Output,
	},
}

/// The pieces of an answer, as they come. It ends with [`Piece::End`], or with an error: then what came before is no answer. Dropped
/// before that, nothing more is written.
pub struct TokenStream {
	source: Source,
	/// What was given.
	tokens: Vec<u32>,
	text: Vec<u8>,
	ended: bool,
}

enum Source {
	/// An engine writes it.
	Engine {
		replies: mpsc::UnboundedReceiver<Reply>,
		open: Open,
		allowed: AtomicU32,
	},
	/// It is there already.
	Whole {
		output: Output,
		allowed: AtomicU32,
		waits: AtomicWaker,
	},
}

impl TokenStream {
	pub(crate) fn new(
		replies: mpsc::UnboundedReceiver<Reply>,
		open: Open,
		allowed: u32,
	) -> TokenStream {
		Self::of(Source::Engine {
			replies,
			open,
			allowed: allowed.into(),
		})
	}

	/// An answer that is there, given like one that is being written: its text with the last of its tokens.
	pub fn whole(output: Output, allowed: u32) -> Self {
		Self::of(Source::Whole {
			output,
			allowed: allowed.into(),
			waits: AtomicWaker::new(),
		})
	}

	fn of(source: Source) -> Self {
		Self {
			source,
			tokens: Vec::new(),
			text: Vec::new(),
			ended: false,
		}
	}

	/// Lets so many tokens be written in all, those that are written included. Less than before changes nothing.
	pub fn allow(&self, total: u32) {
		match &self.source {
			Source::Engine { open, allowed, .. } => {
				if allowed.fetch_max(total, Ordering::Relaxed) < total {
					open.allow(total);
				}
			}
			Source::Whole { allowed, waits, .. } => {
				allowed.fetch_max(total, Ordering::Relaxed);
				waits.wake();
			}
		}
	}

	fn reply(&mut self, context: &mut Context<'_>) -> Poll<Reply> {
		let given = self.tokens.len();
		match &mut self.source {
			Source::Engine { replies, .. } => {
				let reply = ready!(replies.poll_recv(context));
				Poll::Ready(reply.unwrap_or(Reply::Failed(EngineError::Gone)))
			}
			Source::Whole {
				output,
				allowed,
				waits,
			} => {
				// Before it is looked at, so that nobody allows more unheard.
				waits.register(context.waker());
				let (tokens, text) = match output {
					Output::Text { tokens, text, .. } if given < tokens.len() => (tokens, text),
					_ => return Poll::Ready(Reply::Output(output.clone())),
				};
				let allowed = allowed.load(Ordering::Relaxed) as usize;
				if allowed <= given {
					return Poll::Pending;
				}
				let to = allowed.min(tokens.len());
				Poll::Ready(Reply::Tokens {
					tokens: tokens[given..to].to_vec(),
					text: match to == tokens.len() {
						true => text.to_vec(),
						false => Vec::new(),
					},
				})
			}
		}
	}

	/// The last piece, if the others were of this answer.
	fn end(&self, output: Output) -> Result<Piece, EngineError> {
		let (tokens, text) = match &output {
			Output::Text { tokens, text, .. } => (&tokens[..], &text[..]),
			_ => (&[][..], &[][..]),
		};
		let same = tokens.iter().map(|t| t.0).eq(self.tokens.iter().copied());
		match text.strip_prefix(&self.text[..]) {
			Some(rest) if same => Ok(Piece::End {
				text: rest.to_vec(),
				output,
			}),
			_ => Err(EngineError::Run(
				"what was streamed is not the answer".into(),
			)),
		}
	}
}

impl Stream for TokenStream {
	type Item = Result<Piece, EngineError>;

	fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
		let this = self.get_mut();
		if this.ended {
			return Poll::Ready(None);
		}
		let piece = match ready!(this.reply(context)) {
			Reply::Tokens { tokens, text } => {
				let tokens: Vec<u32> = tokens.into_iter().map(|Compact(t)| t).collect();
				this.tokens.extend(&tokens);
				this.text.extend(&text);
				return Poll::Ready(Some(Ok(Piece::Tokens { tokens, text })));
			}
			Reply::Output(output) => this.end(output),
			Reply::Failed(e) => {
				if let Source::Engine { open, .. } = &this.source {
					open.note(&e);
				}
				Err(e)
			}
			other => unexpected(other),
		};
		this.ended = true;
		Poll::Ready(Some(piece))
	}
}
