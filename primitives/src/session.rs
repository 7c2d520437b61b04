//! The session lane: what clients, executors, checkers and the chain say to one another (`docs/sessions.md`).
//!
//! A *channel* holds a client's deposit, divided into allocations. Requests travel straight to executors. A client pays with
//! *vouchers*, each of which acknowledges the transcript that it has seen; an executor signs a *receipt* for what it answered, and a
//! *checker*, whom neither of them chose, a *verdict* about it. What an executor claims from the chain is its last voucher and the root
//! of a *sum tree of money* over its receipts.
//!
//! Everything signed here begins with the genesis hash, its type and [`VERSION`], so that nothing is worth anything elsewhere.

use alloc::vec::Vec;
use codec::{Compact, Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use polkadot_sdk::{
	sp_core::{sr25519, H256},
	sp_crypto_hashing::blake2_256,
	sp_runtime::traits::{AtLeast32BitUnsigned, Verify},
};
use scale_info::TypeInfo;

use crate::{
	evidence::Evidence,
	request::{FinishReason, Input, Output},
	Bytes, List, ModelId,
};

/// Version of everything that is signed in this lane.
pub const VERSION: u8 = 1;
/// Tokens that either side risks: an executor sends no more than these beyond what is paid.
pub const SLICE_TOKENS: u32 = 32;
/// Most executors that a channel pays.
pub const MAX_ALLOCATIONS: u32 = 16;
/// Blocks after its anchor in which a request is taken.
pub const MAX_ANCHOR_AGE: u32 = 100;
/// Requests of a channel: steps of the hash chain that its client commits to.
pub const MAX_NUMBER: u32 = 65_536;
/// Most bytes of a validator's address in this lane.
pub const MAX_ENDPOINT: u32 = 256;
/// Most receipts of one claim: the tree of money has at most [`MAX_PROOF`] levels.
pub const MAX_RECEIPTS: u32 = 1 << MAX_PROOF;
/// Most steps of a proof that a receipt is in a claim.
pub const MAX_PROOF: u32 = 16;

/// Number of a channel. Counted from zero, never used again.
pub type ChannelId = u64;
/// Public half of a key of this lane: a client's signing key, or a validator's lane key.
pub type LaneKey = sr25519::Public;
/// Signature by such a key.
pub type LaneSignature = sr25519::Signature;

/// Something that is signed in this lane.
pub trait Signable: Encode {
	/// Its type, as it stands in what is signed.
	const TYPE: &'static str;

	/// What is signed.
	fn payload(&self, genesis: &H256) -> Vec<u8> {
		(genesis, Self::TYPE, VERSION, self).encode()
	}

	/// Its name.
	fn hash(&self, genesis: &H256) -> H256 {
		H256(blake2_256(&self.payload(genesis)))
	}
}

/// Something with its signature.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Signed<T> {
	/// What is signed.
	pub body: T,
	/// By whom follows from what it is.
	pub signature: LaneSignature,
}

impl<T: Signable> Signed<T> {
	/// Whether this key has signed it for the chain with this genesis block.
	pub fn verify(&self, genesis: &H256, key: &LaneKey) -> bool {
		self.signature.verify(&self.body.payload(genesis)[..], key)
	}
}

/// A finalised block, whose state says what holds for a request: model, price, policy, who serves.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
pub struct Anchor<BlockNumber> {
	/// Its number.
	pub number: BlockNumber,
	/// Its hash.
	pub hash: H256,
}

/// What a client asks of an executor. Its hash stands in vouchers and in the receipt; the salt keeps it from being guessed there.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Ask<AccountId, BlockNumber> {
	/// Which channel pays.
	pub channel: ChannelId,
	/// Number of the request in the channel, from 1 to [`MAX_NUMBER`]. Not used again.
	pub number: u32,
	/// The executor.
	pub payee: AccountId,
	/// The model.
	pub model: ModelId,
	/// What is asked: text generation only.
	pub input: Input,
	/// State that it refers to.
	pub anchor: Anchor<BlockNumber>,
	/// Random.
	pub salt: H256,
}

impl<AccountId: Encode, BlockNumber: Encode> Signable for Ask<AccountId, BlockNumber> {
	const TYPE: &'static str = "consilience/session/ask";
}

/// What a voucher is for.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
pub enum Service {
	/// An answer, out of the executor's allocation.
	Answer,
	/// A check, out of the checkers' pot.
	Check,
}

/// A client's payment, by its channel's signing key. It acknowledges what the client has seen.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Voucher<AccountId, Balance> {
	/// Which channel pays.
	pub channel: ChannelId,
	/// Whom.
	pub payee: AccountId,
	/// For what.
	pub service: Service,
	/// Number of the request in the channel.
	pub number: u32,
	/// Hash of the [`Ask`].
	pub request: H256,
	/// Of an answer: [`Transcript::hash`] of what was seen. Of a check: hash of the [`Verdict`].
	pub transcript: H256,
	/// All that the channel has paid this payee for this service so far, this included.
	pub amount: Balance,
	/// Last session in which it can be claimed.
	pub expires: u32,
}

impl<AccountId: Encode, Balance: Encode> Signable for Voucher<AccountId, Balance> {
	const TYPE: &'static str = "consilience/session/voucher";
}

/// What an executor says it answered, by its lane key.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Receipt<AccountId, BlockNumber, Balance> {
	/// Which channel pays.
	pub channel: ChannelId,
	/// The executor.
	pub payee: AccountId,
	/// Number of the request in the channel.
	pub number: u32,
	/// Session in which the chain has certified the lane key: the answer is a deed of this session.
	pub session: u32,
	/// Hash of the [`Ask`].
	pub request: H256,
	/// [`Transcript::end`] of the answer.
	pub transcript: H256,
	/// Input units.
	pub input_units: u32,
	/// Output units: tokens.
	pub output_units: u32,
	/// Their price at the anchor.
	pub amount: Balance,
	/// State that it refers to.
	pub anchor: Anchor<BlockNumber>,
}

impl<AccountId: Encode, BlockNumber: Encode, Balance: Encode> Signable
	for Receipt<AccountId, BlockNumber, Balance>
{
	const TYPE: &'static str = "consilience/session/receipt";
}

/// What a checker measured, by its lane key.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Verdict<AccountId> {
	/// Hash of the [`Receipt`].
	pub receipt: H256,
	/// The checker.
	pub checker: AccountId,
	/// Session in which the chain has certified the lane key.
	pub session: u32,
	/// What it measured, under [`check_challenge`].
	pub evidence: Evidence,
}

impl<AccountId: Encode> Signable for Verdict<AccountId> {
	const TYPE: &'static str = "consilience/session/verdict";
}

/// A validator's lane key and address, certified on chain by its `infr` key.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Certificate {
	/// Index of the session in which the validator index holds, as in a report.
	pub session: u32,
	/// The validator's index in the session's `infr` keys.
	pub validator: u32,
	/// The lane key.
	pub key: LaneKey,
	/// Where clients reach it: `ws://…` or `wss://…`. It may be a front's.
	pub endpoint: Bytes<MAX_ENDPOINT>,
}

impl Signable for Certificate {
	const TYPE: &'static str = "consilience/session/certificate";
}

/// Whether this can be a validator's address in the lane.
pub fn endpoint_is_valid(endpoint: &[u8]) -> bool {
	core::str::from_utf8(endpoint).is_ok_and(|text| {
		["ws://", "wss://"].iter().any(|scheme| {
			text.strip_prefix(scheme)
				.is_some_and(|rest| !rest.is_empty())
		})
	})
}

/// Seed of the sampling noise of a channel's request. Nobody can set it.
pub fn sampling_seed(channel_seed: &H256, number: u32) -> H256 {
	H256((b"consilience/session/seed", channel_seed, number).using_encoded(blake2_256))
}

/// Returns the input to measure an answer with: of one that was cut, a question for as many tokens as it has.
pub fn measured_input(input: &Input, output: &Output) -> Input {
	let mut input = input.clone();
	if let (
		Some((_, sampling)),
		Output::Text {
			tokens,
			finish: FinishReason::Length,
			..
		},
	) = (input.as_text_mut(), output)
	{
		sampling.max_tokens = sampling.max_tokens.min(tokens.len() as u32);
	}
	input
}

/// One step of a client's hash chain.
pub fn step(preimage: &H256) -> H256 {
	H256((b"consilience/session/chain", preimage).using_encoded(blake2_256))
}

/// So many steps.
pub fn steps(preimage: &H256, count: u32) -> H256 {
	(0..count).fold(*preimage, |at, _| step(&at))
}

/// Whether `preimage` belongs to request `number` of a channel, of whose hash chain this link is known: that of a lower number, 0 for the
/// one that the channel commits to.
pub fn is_preimage(preimage: &H256, number: u32, known: (u32, &H256)) -> bool {
	number > known.0 && number <= MAX_NUMBER && steps(preimage, number - known.0) == *known.1
}

/// Those who serve the model beside the executor, in the order in which a client asks them to check.
pub fn candidates<AccountId: Encode + Ord>(
	channel_seed: &H256,
	preimage: &H256,
	serving: impl IntoIterator<Item = AccountId>,
) -> Vec<AccountId> {
	let mut all: Vec<_> = serving
		.into_iter()
		.map(|who| {
			let draw = (b"consilience/session/checker", channel_seed, preimage, &who)
				.using_encoded(blake2_256);
			(draw, who)
		})
		.collect();
	all.sort();
	all.dedup();
	all.into_iter().map(|(_, who)| who).collect()
}

/// Seed of a checker's challenge: each checker has its own, so that there is nothing to copy.
pub fn check_challenge<AccountId: Encode>(
	preimage: &H256,
	receipt: &H256,
	checker: &AccountId,
) -> H256 {
	H256((b"consilience/session/challenge", preimage, receipt, checker).using_encoded(blake2_256))
}

/// What a client has seen of an answer: a running hash over its tokens.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
pub struct Transcript {
	/// The hash so far.
	pub hash: H256,
	/// Tokens so far.
	pub tokens: u32,
}

impl Transcript {
	/// Nothing yet of the answer to the [`Ask`] with this hash.
	pub fn begin(request: &H256) -> Self {
		Self {
			hash: H256((b"consilience/session/transcript", request).using_encoded(blake2_256)),
			tokens: 0,
		}
	}

	/// The next token.
	pub fn push(&mut self, token: u32) {
		self.hash = H256((self.hash, token).using_encoded(blake2_256));
		self.tokens = self.tokens.saturating_add(1);
	}

	/// Hash of a whole answer with these tokens.
	pub fn of(request: &H256, tokens: &[Compact<u32>], text: &[u8], finish: FinishReason) -> H256 {
		let mut transcript = Self::begin(request);
		tokens.iter().for_each(|token| transcript.push(token.0));
		transcript.end(text, finish)
	}

	/// Hash of an answer that ends here, and says this.
	pub fn end(&self, text: &[u8], finish: FinishReason) -> H256 {
		H256((self.hash, self.tokens, blake2_256(text), finish).using_encoded(blake2_256))
	}
}

/// A node of the tree of money.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
pub struct SumNode<Balance> {
	/// Hash over what is below.
	pub hash: H256,
	/// Money of all receipts below.
	pub sum: Balance,
}

/// One step from a leaf to the root.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
pub struct SumStep<Balance> {
	/// The other child.
	pub sibling: SumNode<Balance>,
	/// Whether that is the left one.
	pub left: bool,
}

/// The way from a leaf to the root.
pub type SumProof<Balance> = List<SumStep<Balance>, MAX_PROOF>;

impl<Balance: AtLeast32BitUnsigned + Copy + Encode> SumNode<Balance> {
	/// The leaf of a receipt with this hash and amount.
	pub fn leaf(receipt: &H256, amount: Balance) -> Self {
		Self {
			hash: H256((b"consilience/session/leaf", receipt, amount).using_encoded(blake2_256)),
			sum: amount,
		}
	}

	/// The node over two others; `None` where the sum does not fit.
	pub fn join(left: &Self, right: &Self) -> Option<Self> {
		Some(Self {
			hash: H256((b"consilience/session/node", left, right).using_encoded(blake2_256)),
			sum: left.sum.checked_add(&right.sum)?,
		})
	}

	fn level(nodes: &[Self]) -> Option<Vec<Self>> {
		nodes
			.chunks(2)
			.map(|pair| match pair {
				[left, right] => Self::join(left, right),
				// An odd one goes up as it is.
				rest => rest.first().copied(),
			})
			.collect()
	}

	/// The root over leaves in their order; `None` where there is none, there are more than [`MAX_RECEIPTS`], or the sum does not fit.
	pub fn root(leaves: &[Self]) -> Option<Self> {
		if leaves.len() as u64 > u64::from(MAX_RECEIPTS) {
			return None;
		}
		let mut nodes = leaves.to_vec();
		while nodes.len() > 1 {
			nodes = Self::level(&nodes)?;
		}
		nodes.first().copied()
	}

	/// The way from the leaf at `index` to the root.
	pub fn proof(leaves: &[Self], index: usize) -> Option<SumProof<Balance>> {
		let mut proof = SumProof::new();
		let (mut nodes, mut at) = (leaves.to_vec(), index);
		nodes.get(at)?;
		while nodes.len() > 1 {
			if let Some(sibling) = nodes.get(at ^ 1) {
				let left = at % 2 == 1;
				proof
					.try_push(SumStep {
						sibling: *sibling,
						left,
					})
					.ok()?;
			}
			nodes = Self::level(&nodes)?;
			at /= 2;
		}
		Some(proof)
	}

	/// Money of all leaves before the one whose way to a root this is; `None` where the sum does not fit.
	pub fn before(proof: &[SumStep<Balance>]) -> Option<Balance> {
		let left = proof.iter().filter(|step| step.left);
		left.map(|step| step.sibling.sum)
			.try_fold(Balance::zero(), |sum, of| sum.checked_add(&of))
	}

	/// Money of all leaves before this one, if it is in the tree with this root.
	pub fn position(&self, root: &Self, proof: &[SumStep<Balance>]) -> Option<Balance> {
		let mut before = Balance::zero();
		let mut node = *self;
		for step in proof {
			node = if step.left {
				before = before.checked_add(&step.sibling.sum)?;
				Self::join(&step.sibling, &node)?
			} else {
				Self::join(&node, &step.sibling)?
			};
		}
		(node == *root).then_some(before)
	}
}

/// A payee's leave to lower its allocation at once, by its lane key.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Release<AccountId, Balance> {
	/// Which channel.
	pub channel: ChannelId,
	/// Whose allocation.
	pub payee: AccountId,
	/// Session in which the chain has certified the lane key.
	pub session: u32,
	/// Releases of this allocation before this one: each is good once.
	pub releases: u32,
	/// All that the allocation holds from then on, what was claimed of it included.
	pub amount: Balance,
}

impl<AccountId: Encode, Balance: Encode> Signable for Release<AccountId, Balance> {
	const TYPE: &'static str = "consilience/session/release";
}

/// Most claims that are settled together.
pub const MAX_CLAIMS: u32 = 32;
/// Most points of money in one claim.
pub const MAX_POINTS: u32 = 16;

/// Number of a claim. Counted from zero, never used again.
pub type ClaimId = u64;

/// What a payee claims of a channel, signed by its lane key.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Claim<AccountId, Balance> {
	/// Its last voucher: it claims the difference to what it has claimed before.
	pub voucher: Signed<Voucher<AccountId, Balance>>,
	/// Root of the tree of money over its receipts, or its verdicts, since then.
	pub root: SumNode<Balance>,
	/// How many those are.
	pub count: u32,
	/// Session in which the chain has certified the lane key that signs this.
	pub session: u32,
}

impl<AccountId: Encode, Balance: Encode> Signable for Claim<AccountId, Balance> {
	const TYPE: &'static str = "consilience/session/claim";
}

/// A receipt with everything that it takes to measure its answer.
///
/// The leaf of the tree has the receipt's hash and what was *paid* of it: the price of the input and of the tokens that the voucher
/// acknowledges. The client keeps the last slice if it likes; then that is less than the receipt's amount.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Opening<AccountId, BlockNumber, Balance> {
	/// The receipt.
	pub receipt: Signed<Receipt<AccountId, BlockNumber, Balance>>,
	/// The last voucher for this request: it acknowledges all of the answer but a slice at most.
	pub voucher: Signed<Voucher<AccountId, Balance>>,
	/// Way from its leaf to the claim's root.
	pub proof: SumProof<Balance>,
	/// What was asked.
	pub ask: Ask<AccountId, BlockNumber>,
	/// What was answered. A cut answer ends with [`FinishReason::Length`].
	pub output: Output,
}

/// A receipt that is put before a jury, with what it takes to measure its answer. It need not have been claimed.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Appealed<AccountId, BlockNumber, Balance> {
	/// The receipt.
	pub receipt: Signed<Receipt<AccountId, BlockNumber, Balance>>,
	/// What was asked.
	pub ask: Ask<AccountId, BlockNumber>,
	/// What was answered. A cut answer ends with [`FinishReason::Length`].
	pub output: Output,
	/// Where it lies in a claim that is pending, if whoever appeals knows that: the claim is not paid before the jury has spoken then, and
	/// forfeited where the answer is false.
	pub place: Option<Place<AccountId, Balance>>,
}

/// Where a receipt lies in a claim.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Place<AccountId, Balance> {
	/// The claim.
	pub claim: ClaimId,
	/// The last voucher for this request, as in an [`Opening`].
	pub voucher: Signed<Voucher<AccountId, Balance>>,
	/// Way from its leaf to the claim's root.
	pub proof: SumProof<Balance>,
}

/// Money of a channel that is set apart for one payee, or for all checkers.
#[derive(
	Clone,
	Copy,
	Debug,
	Default,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
pub struct Allotment<BlockNumber, Balance> {
	/// All that was ever set apart, less what was taken back. Vouchers count against it, which are cumulative too.
	pub amount: Balance,
	/// What was claimed of it.
	pub claimed: Balance,
	/// What its owner takes back, as far as it is not claimed before a block: vouchers beyond what is left are not worth anything from
	/// that block on.
	pub lowering: Option<Lowering<BlockNumber, Balance>>,
}

impl<BlockNumber, Balance: AtLeast32BitUnsigned + Copy> Allotment<BlockNumber, Balance> {
	/// Returns what vouchers may come to, all that were ever signed, with what is about to be taken back taken back.
	pub fn limit(&self) -> Balance {
		match &self.lowering {
			Some(lowering) => self.amount.saturating_sub(lowering.by),
			None => self.amount,
		}
	}
}

/// Money that is about to be taken back.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
pub struct Lowering<BlockNumber, Balance> {
	/// How much.
	pub by: Balance,
	/// First block in which claims count against what is left.
	pub at: BlockNumber,
}

/// A payee's allotment.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct Allocation<AccountId, BlockNumber, Balance> {
	/// The payee.
	pub payee: AccountId,
	/// Its money.
	pub allotment: Allotment<BlockNumber, Balance>,
	/// How often it has given leave to lower it at once: [`Release::releases`] of the next.
	pub releases: u32,
}

/// A channel as clients and validators see it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub struct ChannelView<AccountId, BlockNumber, Balance> {
	/// Its number.
	pub id: ChannelId,
	/// Who opened it.
	pub owner: AccountId,
	/// Signs its vouchers.
	pub key: LaneKey,
	/// Tip of its client's hash chain.
	pub chain: H256,
	/// Its seed, once it is drawn. Before that it cannot be used.
	pub seed: Option<H256>,
	/// First block in which nothing is claimed of it any more, if it is closing.
	pub closes_at: Option<BlockNumber>,
	/// For checkers.
	pub pot: Allotment<BlockNumber, Balance>,
	/// For executors.
	pub allocations: Vec<Allocation<AccountId, BlockNumber, Balance>>,
	/// What was claimed and is not paid yet.
	pub pending: Balance,
}

/// A validator that takes requests in this lane.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub struct LaneView<AccountId> {
	/// Which.
	pub validator: AccountId,
	/// Session in which its key was certified: the present one, or the last.
	pub session: u32,
	/// Its lane key.
	pub key: LaneKey,
	/// Its address.
	pub endpoint: Bytes<MAX_ENDPOINT>,
}

/// What a validator has to certify, and has certified, in the present session.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub struct CertificateDue<AccountId> {
	/// For [`Certificate::session`].
	pub session: u32,
	/// For [`Certificate::validator`].
	pub index: u32,
	/// The validator.
	pub validator: AccountId,
	/// Key and address that are certified in this session already.
	pub certified: Option<(LaneKey, Bytes<MAX_ENDPOINT>)>,
}

/// A receipt that a payee has to open.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, TypeInfo)]
pub struct OpeningDue<BlockNumber, Balance> {
	/// Of which claim.
	pub claim: ClaimId,
	/// Place of the point in the claim's list.
	pub point: u32,
	/// Channel that pays the claim.
	pub channel: ChannelId,
	/// The claim's root.
	pub root: SumNode<Balance>,
	/// How many receipts it is over.
	pub count: u32,
	/// Where the point lies: the receipt with so much money of the claim before its end, and no more than that before its beginning.
	pub offset: Balance,
	/// Last block in which the opening is taken.
	pub deadline: BlockNumber,
}

#[cfg(test)]
mod tests {
	use super::*;
	use proptest::prelude::*;

	fn leaf(n: u64, amount: u128) -> SumNode<u128> {
		SumNode::leaf(&H256::from_low_u64_be(n), amount)
	}

	proptest! {
		#[test]
		fn every_leaf_is_found_where_its_money_lies(amounts in proptest::collection::vec(1..1_000u128, 1..70)) {
			let leaves: Vec<_> = amounts.iter().enumerate().map(|(i, a)| leaf(i as u64, *a)).collect();
			let root = SumNode::root(&leaves).unwrap();
			prop_assert_eq!(root.sum, amounts.iter().sum::<u128>());
			let mut before = 0;
			for (i, own) in leaves.iter().enumerate() {
				let proof = SumNode::proof(&leaves, i).unwrap();
				prop_assert_eq!(own.position(&root, &proof), Some(before));
				prop_assert_eq!(SumNode::before(&proof), Some(before));
				// No other money, no other receipt, no other place.
				prop_assert_eq!(leaf(i as u64, amounts[i] + 1).position(&root, &proof), None);
				prop_assert_eq!(leaf(i as u64 + 1_000, amounts[i]).position(&root, &proof), None);
				if let Some(first) = proof.first() {
					let mut moved = proof.to_vec();
					moved[0] = SumStep { left: !first.left, ..*first };
					prop_assert_eq!(own.position(&root, &moved), None);
				}
				before += amounts[i];
			}
			prop_assert_eq!(SumNode::proof(&leaves, leaves.len()), None);
		}
	}

	#[test]
	fn a_tree_of_nothing_or_of_more_than_there_is_has_no_root() {
		assert_eq!(SumNode::<u128>::root(&[]), None);
		assert_eq!(SumNode::root(&[leaf(0, u128::MAX), leaf(1, 1)]), None);
	}

	#[test]
	fn a_preimage_belongs_to_one_number() {
		let secret = H256::repeat_byte(7);
		let tip = steps(&secret, MAX_NUMBER);
		let of = |number: u32| steps(&secret, MAX_NUMBER - number);
		assert!(is_preimage(&of(1), 1, (0, &tip)));
		assert!(is_preimage(&of(9), 9, (0, &tip)));
		assert!(is_preimage(&of(9), 9, (4, &of(4))));
		assert!(!is_preimage(&of(9), 8, (0, &tip)));
		assert!(!is_preimage(&of(9), 10, (0, &tip)));
		assert!(!is_preimage(&tip, 0, (0, &tip)));
		assert!(!is_preimage(&of(3), 3, (4, &of(4))));
	}

	#[test]
	fn who_is_asked_to_check_follows_from_seed_and_preimage_alone() {
		let (seed, preimage) = (H256::repeat_byte(1), H256::repeat_byte(2));
		let order = candidates(&seed, &preimage, 0..20u64);
		assert_eq!(order, candidates(&seed, &preimage, (0..20u64).rev()));
		assert_ne!(order, candidates(&seed, &step(&preimage), 0..20u64));
		assert_ne!(order, candidates(&step(&seed), &preimage, 0..20u64));
		let mut sorted = order;
		sorted.sort();
		assert_eq!(sorted, (0..20).collect::<Vec<u64>>());
	}

	#[test]
	fn a_transcript_is_of_its_request_its_tokens_their_order_text_and_end() {
		let request = H256::repeat_byte(3);
		let tokens = |t: &[u32]| t.iter().copied().map(Compact).collect::<Vec<_>>();
		let of = |request: &H256, t: &[u32], text: &str, finish| {
			Transcript::of(request, &tokens(t), text.as_bytes(), finish)
		};
		let hash = of(&request, &[1, 2], "ab", FinishReason::Length);
		for other in [
			of(&H256::zero(), &[1, 2], "ab", FinishReason::Length),
			of(&request, &[2, 1], "ab", FinishReason::Length),
			of(&request, &[1], "ab", FinishReason::Length),
			of(&request, &[1, 2], "ac", FinishReason::Length),
			of(&request, &[1, 2], "ab", FinishReason::EndOfText),
		] {
			assert_ne!(hash, other);
		}
	}

	#[test]
	fn nothing_signed_is_worth_anything_as_something_else() {
		use polkadot_sdk::sp_core::Pair;
		let pair = sr25519::Pair::from_seed(&[1; 32]);
		let genesis = H256::repeat_byte(9);
		let verdict = Verdict {
			receipt: H256::zero(),
			checker: 1u64,
			session: 2,
			evidence: Evidence::of_claim(
				crate::request::Unanswerable::NotFinite,
				None,
				&H256::zero(),
			),
		};
		let signed = Signed {
			signature: pair.sign(&verdict.payload(&genesis)),
			body: verdict.clone(),
		};
		assert!(signed.verify(&genesis, &pair.public()));
		assert!(!signed.verify(&H256::zero(), &pair.public()));
		assert!(!signed.verify(&genesis, &sr25519::Pair::from_seed(&[2; 32]).public()));
		let mut changed = signed;
		changed.body.session += 1;
		assert!(!changed.verify(&genesis, &pair.public()));
		// Type and version stand in it.
		assert_ne!(verdict.payload(&genesis), (genesis, &verdict).encode());
	}
}
