//! A published language model, in words that do not depend on the format it is published in.

use std::collections::BTreeSet;

use crate::{decoder::BLOCK, Error};

/// Nonlinearity of the feed-forward layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
	/// x · σ(x).
	Silu,
	/// The approximation of GELU by a hyperbolic tangent.
	Gelu,
}

/// A rotary position embedding.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rope {
	/// Base of the wavelengths.
	pub(crate) theta: f64,
	/// By what each pair's wavelength is multiplied; empty for nothing.
	pub(crate) factors: Vec<f64>,
	/// Elements of a head that are turned, from its first on; `None` for all. Such a head is stored as [`spread`] has it.
	pub(crate) turned: Option<usize>,
	/// By what cosines and sines of those that are turned are multiplied.
	pub(crate) scale: f64,
}

impl Rope {
	/// Turns whole heads, unscaled.
	pub(crate) const fn new(theta: f64) -> Self {
		Self {
			theta,
			factors: Vec::new(),
			turned: None,
			scale: 1.0,
		}
	}

	/// Pairs of a head that are turned.
	pub(crate) fn pairs(&self, head_dim: usize) -> usize {
		self.turned.unwrap_or(head_dim) / 2
	}
}

/// Layers whose attention sees only so many tokens back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Local {
	/// How many, the token itself included.
	pub(crate) window: usize,
	/// Their rotary embedding, if it is another.
	pub(crate) rope: Option<Rope>,
	/// Whether each layer is one.
	pub(crate) layers: Vec<bool>,
}

/// A decoder of the Llama family.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
	/// Architecture as its format calls it.
	pub(crate) architecture: String,
	pub(crate) layers: usize,
	pub(crate) hidden: usize,
	pub(crate) intermediate: usize,
	pub(crate) heads: usize,
	pub(crate) kv_heads: usize,
	pub(crate) head_dim: usize,
	pub(crate) vocabulary: usize,
	/// Tokens for which there are rotary tables.
	pub(crate) context: usize,
	/// Added to the mean of squares of a norm.
	pub(crate) eps: f64,
	pub(crate) rope: Rope,
	/// For each layer, whether queries and keys are rotated by position; empty if all are.
	pub(crate) turns: Vec<bool>,
	pub(crate) local: Option<Local>,
	pub(crate) activation: Activation,
	/// By what scores are multiplied.
	pub(crate) attention_scale: f64,
	/// Scores s become cap · tanh(s / cap).
	pub(crate) attention_cap: Option<f64>,
	/// So do logits.
	pub(crate) logits_cap: Option<f64>,
	/// By what embeddings are multiplied.
	pub(crate) embedding_scale: Option<f64>,
	/// Whether the outputs of attention and feed-forward layers are normed too.
	pub(crate) post_norms: bool,
	/// Whether queries and keys are normed.
	pub(crate) head_norms: bool,
	/// Whether logits are computed with the embedding table.
	pub(crate) tied: bool,
}

/// Bounds that are far beyond any model, and that keep all sizes far from overflowing.
const MAX_LAYERS: usize = 1_024;
const MAX_WIDTH: usize = 1 << 18;
const MAX_HEADS: usize = 1_024;
const MAX_HEAD_DIM: usize = 512;
const MAX_VOCABULARY: usize = 1 << 21;

/// Tokens of a graph's context where nobody chose: longer tables and limits would serve few on models that fit a CPU.
const USUAL_CONTEXT: usize = 2_048;

/// Blocks of positions are added up like positions of a block, and no sum is longer than that of a block: see
/// [`crate::decoder`].
pub(crate) const LONGEST_CONTEXT: usize = BLOCK * BLOCK;

/// A number of layers, before anything is made for each of them.
pub(crate) fn layers(n: usize) -> Result<usize, String> {
	if n == 0 || n > MAX_LAYERS {
		return Err(format!("layers: {n} is not within 1 to {MAX_LAYERS}"));
	}
	Ok(n)
}

/// The context of a graph: what was chosen, within what the model was made for.
pub(crate) fn context(most: Option<usize>, chosen: Option<usize>) -> Result<usize, String> {
	match (most, chosen) {
		(most, None) => Ok(most.unwrap_or(USUAL_CONTEXT).min(USUAL_CONTEXT)),
		(Some(most), Some(chosen)) if chosen > most => Err(format!(
			"a context of {chosen} tokens was chosen, and the model was made for {most}"
		)),
		(_, Some(chosen)) if chosen > LONGEST_CONTEXT => Err(format!(
			"a context of {chosen} tokens was chosen, and canonical graphs have at most {LONGEST_CONTEXT}"
		)),
		(_, Some(chosen)) => Ok(chosen),
	}
}

impl Config {
	/// Checks that numbers are within reason and fit each other.
	pub(crate) fn check(&self) -> Result<(), String> {
		let bounds = [
			("hidden size", self.hidden, MAX_WIDTH),
			("feed-forward size", self.intermediate, MAX_WIDTH),
			("attention heads", self.heads, MAX_HEADS),
			("key-value heads", self.kv_heads, MAX_HEADS),
			("head size", self.head_dim, MAX_HEAD_DIM),
			("vocabulary", self.vocabulary, MAX_VOCABULARY),
			("context", self.context, LONGEST_CONTEXT),
		];
		layers(self.layers)?;
		for (what, n, most) in bounds {
			if n == 0 || n > most {
				return Err(format!("{what}: {n} is not within 1 to {most}"));
			}
		}
		if !self.heads.is_multiple_of(self.kv_heads) {
			return Err(format!(
				"{} attention heads cannot share {} key-value heads",
				self.heads, self.kv_heads
			));
		}
		if !self.head_dim.is_multiple_of(2) {
			return Err(format!(
				"head size {}: rotary embeddings need an even one",
				self.head_dim
			));
		}
		let ropes = [
			Some(&self.rope),
			self.local.as_ref().and_then(|l| l.rope.as_ref()),
		];
		for rope in ropes.into_iter().flatten() {
			if !(rope.theta.is_finite() && rope.theta >= 1.0 && rope.theta <= 1e12) {
				return Err(format!(
					"rotary base {} is not within 1 to 1e12",
					rope.theta
				));
			}
			let turned = rope.turned.unwrap_or(self.head_dim);
			if turned == 0 || turned > self.head_dim || !turned.is_multiple_of(2) {
				return Err(format!(
					"{turned} of {} elements of a head are turned, and pairs of them are",
					self.head_dim
				));
			}
			let fits = rope.factors.is_empty() || rope.factors.len() == turned / 2;
			if !fits || rope.factors.iter().any(|f| !(1e-6..=1e6).contains(f)) {
				return Err("rotary factors: one for each pair, and a positive one".into());
			}
			if !(rope.scale > 0.0 && rope.scale < 1e3) {
				return Err(format!(
					"rotary embeddings multiplied by {}: not a sensible positive number",
					rope.scale
				));
			}
		}
		let positive = [
			("epsilon of the norms", Some(self.eps)),
			("attention scale", Some(self.attention_scale)),
			("cap of the scores", self.attention_cap),
			("cap of the logits", self.logits_cap),
			("embedding scale", self.embedding_scale),
		];
		for (what, value) in positive {
			if value.is_some_and(|v| !(v > 0.0 && v < 1e6)) {
				return Err(format!(
					"{what}: {value:?} is not a sensible positive number"
				));
			}
		}
		Ok(())
	}

	/// The window of a layer, if it has one that is shorter than the context.
	pub(crate) fn window(&self, layer: usize) -> Option<usize> {
		let local = self.local.as_ref()?;
		(local.layers.get(layer) == Some(&true) && local.window < self.context)
			.then_some(local.window)
	}

	/// Returns whether a layer rotates queries and keys by position.
	pub(crate) fn turns(&self, layer: usize) -> bool {
		self.turns.get(layer) != Some(&false)
	}

	/// Whether a layer rotates by the local embedding.
	pub(crate) fn local_rope(&self, layer: usize) -> Option<&Rope> {
		let local = self.local.as_ref()?;
		local
			.rope
			.as_ref()
			.filter(|_| local.layers.get(layer) == Some(&true))
	}
}

/// Weights under GGUF's names (`blk.0.attn_q.weight`), as float32, [outputs, inputs]; the halves that a rotation turns stand
/// apart, and norms multiply by what they hold.
pub(crate) trait Tensors {
	/// Names of all of them, but for those that no graph needs.
	fn names(&self) -> Vec<String>;

	/// Dimensions of one.
	fn shape(&self, name: &str) -> Option<Vec<usize>>;

	/// Reads one.
	fn read(&mut self, name: &str) -> Result<Vec<f32>, Error>;
}

/// The tensors of a source, and which of them a graph has a place for.
pub(crate) struct Taken<'t> {
	tensors: &'t dyn Tensors,
	used: BTreeSet<String>,
}

impl<'t> Taken<'t> {
	pub(crate) fn of(tensors: &'t dyn Tensors) -> Self {
		Self {
			tensors,
			used: BTreeSet::new(),
		}
	}

	/// Dimensions of a tensor, if there is one of this name.
	pub(crate) fn shape(&self, name: &str) -> Option<Vec<usize>> {
		self.tensors.shape(name)
	}

	/// Takes a tensor, which must have this shape.
	pub(crate) fn expect(&mut self, name: &str, shape: &[usize]) -> Result<(), String> {
		match self.tensors.shape(name) {
			Some(found) if found == shape => {
				self.used.insert(name.into());
				Ok(())
			}
			Some(found) => Err(format!("tensor {name:?} is {found:?}, not {shape:?}")),
			None => Err(format!("tensor {name:?} is missing")),
		}
	}

	/// Fails if a tensor was not taken: then the model is not what it says it is.
	pub(crate) fn all(&self, architecture: &str) -> Result<(), String> {
		let names = self.tensors.names();
		match names.iter().find(|n| !self.used.contains(*n)) {
			Some(name) => Err(format!(
				"tensor {name:?} has no place in a graph of {architecture:?}: the model is of another kind"
			)),
			None => Ok(()),
		}
	}
}

/// Elements of heads of which the first `turned` are turned, in the order in which all of them can be: the second half of those
/// that are turned moves to where the second half of the head begins. What is not turned is turned by nothing. `row` numbers belong
/// to an element. Queries and keys in the same new order have the same products.
pub(crate) fn spread(values: &[f32], row: usize, head_dim: usize, turned: usize) -> Vec<f32> {
	let (pairs, half) = (turned / 2, head_dim / 2);
	let order = |first: usize, still: usize| {
		let still = still..still + half - pairs;
		(first..first + pairs).chain(still)
	};
	let order: Vec<_> = order(0, turned)
		.chain(order(pairs, turned + half - pairs))
		.collect();
	let mut spread = Vec::with_capacity(values.len());
	for head in values.chunks_exact(row * head_dim) {
		(order.iter()).for_each(|from| spread.extend(&head[from * row..][..row]));
	}
	spread
}

/// Names of what turns, which [`spread`] is for.
pub(crate) fn is_turned(name: &str) -> bool {
	let kinds = [".weight", ".bias"].map(|kind| name.strip_suffix(kind));
	let stem = kinds.into_iter().flatten().next().unwrap_or_default();
	stem.ends_with(".attn_q") || stem.ends_with(".attn_k")
}

/// Refuses what no computation can go on with.
pub(crate) fn finite(name: &str, values: &[f32]) -> Result<(), String> {
	match values.iter().find(|v| !v.is_finite()) {
		Some(value) => Err(format!("tensor {name:?} holds {value}")),
		None => Ok(()),
	}
}
