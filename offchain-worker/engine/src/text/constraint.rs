//! Constrained answers: what a model's tokens spell, and the masks of an answer.
//!
//! Whoever writes an answer and whoever checks one ask for the same masks in the same order ([`consilience_grammar`]): the writer for the
//! next one while the graph runs, the checker for all of them before, on the thread of whoever asked. A constraint that is refused before the
//! first token is refused to both; one that leaves nothing to say later ends the answer there.

use std::sync::Arc;

use consilience_grammar::{Error, Guide, Mask, Vocabulary};
use consilience_primitives::request::{Constraint, Unanswerable};

use super::LanguageModel;
use crate::{ticket::Ticket, EngineError};

/// What no machine that follows the same rules can answer; or what this one could not.
pub(super) fn refused(error: Error) -> EngineError {
	match error {
		Error::Refused(why) => EngineError::Unanswerable(
			Unanswerable::ConstraintRefused,
			format!("the constraint cannot be followed: {why}"),
		),
		Error::Failed(_) => EngineError::Limit(error.to_string()),
	}
}

impl LanguageModel {
	/// The masks of a constrained answer, from its beginning.
	pub(super) fn guide(&self, constraint: &Constraint) -> Result<Guide, EngineError> {
		let vocabulary = self.vocabulary.get_or_init(|| {
			let spelled = self.tokens.spelled(self.layout.vocabulary);
			let spelled = spelled.ok_or_else(|| {
				let why = "what this model's tokens say depends on their neighbours";
				Error::Refused(why.into())
			})?;
			Vocabulary::new(&spelled, &self.eos).map(Arc::new)
		});
		let vocabulary = vocabulary.as_ref().map_err(|e| refused(e.clone()))?;
		Guide::new(vocabulary, constraint).map_err(refused)
	}

	/// The masks at the positions of a claimed answer, up to the first token that its mask does not have.
	pub(super) fn masks(
		&self,
		constraint: &Constraint,
		claimed: &[u32],
	) -> Result<Vec<Arc<Mask>>, EngineError> {
		self.along(constraint, claimed).map(|(masks, _)| masks)
	}

	/// The masks at all positions of a claimed answer that follows its constraint to where that leaves nothing more to say; `None` of any other.
	pub(super) fn masks_to_the_end(
		&self,
		constraint: &Constraint,
		claimed: &[u32],
	) -> Result<Option<Vec<Arc<Mask>>>, EngineError> {
		let (masks, mut guide) = self.along(constraint, claimed)?;
		let last = masks.last().zip(claimed.last());
		let followed = last.is_some_and(|(mask, token)| mask.admits(*token));
		if masks.len() < claimed.len() || !followed {
			return Ok(None);
		}
		match guide.mask() {
			Ok(_) => Ok(None),
			Err(Error::Refused(_)) => Ok(Some(masks)),
			Err(failed) => Err(refused(failed)),
		}
	}

	fn along(
		&self,
		constraint: &Constraint,
		claimed: &[u32],
	) -> Result<(Vec<Arc<Mask>>, Guide), EngineError> {
		let ticket = Ticket::current();
		let mut guide = self.guide(constraint)?;
		let masks = guide.along(claimed, || !ticket.is_over());
		if ticket.is_over() {
			return Err(EngineError::Cancelled);
		}
		Ok((masks.map_err(refused)?, guide))
	}
}
