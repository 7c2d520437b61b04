//! Masks for one answer, computed beside whoever uses them: the next one while the graph runs on the token before it.

use std::{
	panic::{catch_unwind, AssertUnwindSafe},
	sync::{
		mpsc::{channel, Receiver, Sender},
		Arc,
	},
	thread::Builder,
};

use consilience_primitives::sampling::Constraint;

use crate::{Error, Vocabulary, STACK};

/// The tokens that may come next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
	/// A bit for each token, the lowest first.
	bits: Vec<u64>,
}

impl Mask {
	/// That admits none of so many tokens.
	pub(crate) fn none(size: usize) -> Self {
		Self {
			bits: vec![0; size.div_ceil(64)],
		}
	}

	/// That admits these tokens of so many, for tests.
	pub fn of(size: usize, tokens: &[u32]) -> Self {
		let mut mask = Self::none(size);
		tokens.iter().for_each(|token| mask.admit(*token));
		mask
	}

	pub(crate) fn admit(&mut self, token: u32) {
		if let Some(bits) = self.bits.get_mut(token as usize / 64) {
			*bits |= 1 << (token % 64);
		}
	}

	/// Whether a token may come next.
	pub fn admits(&self, token: u32) -> bool {
		let bits = self.bits.get(token as usize / 64);
		bits.is_some_and(|bits| bits >> (token % 64) & 1 == 1)
	}

	/// How many tokens may.
	pub fn count(&self) -> u32 {
		self.bits.iter().map(|bits| bits.count_ones()).sum()
	}

	/// Leaves only what is admitted, and minus infinity elsewhere.
	pub fn apply(&self, logits: &mut [f32]) {
		for (bits, logits) in self.bits.iter().zip(logits.chunks_mut(64)) {
			match *bits {
				u64::MAX => (),
				0 => logits.fill(f32::NEG_INFINITY),
				bits => {
					for (i, logit) in logits.iter_mut().enumerate() {
						if bits >> i & 1 == 0 {
							*logit = f32::NEG_INFINITY;
						}
					}
				}
			}
		}
		// What the mask does not reach is in no answer.
		if let Some(beyond) = logits.get_mut(self.bits.len() * 64..) {
			beyond.fill(f32::NEG_INFINITY);
		}
	}

	/// The bits, for digests.
	pub fn bits(&self) -> &[u64] {
		&self.bits
	}
}

/// Runs something that may descend far on a thread with room for that. A panic in there is the library's, and the same everywhere.
pub(crate) fn on_stack<R: Send + 'static>(
	run: impl FnOnce() -> R + Send + 'static,
) -> Result<R, Error> {
	let thread = Builder::new().name("grammar".into()).stack_size(STACK);
	let run = thread
		.spawn(move || catch_unwind(AssertUnwindSafe(run)))
		.map_err(|e| Error::Failed(e.to_string()))?;
	match run.join() {
		Ok(Ok(result)) => Ok(result),
		_ => Err(Error::panicked()),
	}
}

/// Masks for an answer, one before each of its tokens. A thread computes them; it ends with this.
pub struct Guide {
	said: Sender<u32>,
	masks: Receiver<Result<Arc<Mask>, Error>>,
	/// The mask at this position, once it was waited for.
	now: Option<Result<Arc<Mask>, Error>>,
}

impl Guide {
	/// For an answer under a constraint. Waits until that is read and the first mask is there.
	pub fn new(vocabulary: &Arc<Vocabulary>, constraint: &Constraint) -> Result<Self, Error> {
		let (said, tokens) = channel();
		let (put, masks) = channel();
		let (vocabulary, constraint) = (vocabulary.clone(), constraint.clone());
		let work = move || serve(&vocabulary, &constraint, &tokens, &put);
		Builder::new()
			.name("grammar".into())
			.stack_size(STACK)
			.spawn(move || catch_unwind(AssertUnwindSafe(work)).is_ok())
			.map_err(|e| Error::Failed(e.to_string()))?;
		let mut guide = Self {
			said,
			masks,
			now: None,
		};
		guide.mask()?;
		Ok(guide)
	}

	/// Which tokens may come next. Waits for it where it is not there yet.
	pub fn mask(&mut self) -> Result<Arc<Mask>, Error> {
		let masks = &self.masks;
		self.now
			.get_or_insert_with(|| masks.recv().map_err(|_| Error::panicked())?)
			.clone()
	}

	/// The answer goes on with this token; the next mask is begun, and not waited for.
	pub fn said(&mut self, token: u32) {
		// Every mask is computed, whether or not it was looked at: what limits count is the same for all.
		let _ = self.mask();
		self.now = None;
		// Whoever computes may have ended, which the next mask tells.
		let _ = self.said.send(token);
	}

	/// The masks before each of these tokens, up to the first that is not admitted, whose mask is the last; or up to where nothing is left to
	/// be said, though the tokens go on.
	pub fn along(
		&mut self,
		tokens: &[u32],
		mut goes_on: impl FnMut() -> bool,
	) -> Result<Vec<Arc<Mask>>, Error> {
		let mut masks: Vec<Arc<Mask>> = Vec::with_capacity(tokens.len());
		for token in tokens {
			if !goes_on() {
				break;
			}
			let mask = match self.mask() {
				Err(Error::Refused(_)) if !masks.is_empty() => break,
				mask => mask?,
			};
			let admits = mask.admits(*token);
			// Within a string masks are alike: one is kept of those that follow each other.
			match masks.last() {
				Some(last) if **last == *mask => masks.push(last.clone()),
				_ => masks.push(mask),
			}
			if !admits {
				break;
			}
			self.said(*token);
		}
		Ok(masks)
	}
}

fn serve(
	vocabulary: &Vocabulary,
	constraint: &Constraint,
	tokens: &Receiver<u32>,
	put: &Sender<Result<Arc<Mask>, Error>>,
) {
	let mut reader = match vocabulary.read(constraint) {
		Ok(reader) => reader,
		Err(refused) => {
			let _ = put.send(Err(refused));
			return;
		}
	};
	loop {
		// An answer that nobody waits for any more ends with its channel.
		if put.send(reader.mask().map(Arc::new)).is_err() {
			return;
		}
		match tokens.recv() {
			Ok(token) => reader.said(token),
			Err(_) => return,
		}
	}
}
