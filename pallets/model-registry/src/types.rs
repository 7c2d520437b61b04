//! What the registry stores.

use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use consilience_primitives::model::{ModelSpec, ModelStatus, Price, Speed};
use polkadot_sdk::{frame_support::traits::fungible::Inspect, frame_system};
use scale_info::TypeInfo;

use crate::Config;

/// The currency's balance.
pub type BalanceOf<T> =
	<<T as Config>::Currency as Inspect<<T as frame_system::Config>::AccountId>>::Balance;

/// A validator that serves a model.
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
pub struct Server<AccountId, BlockNumber> {
	/// Who.
	pub who: AccountId,
	/// Block since which it does.
	pub since: BlockNumber,
	/// How fast its machine is with the model.
	pub speed: Speed,
	/// Whether it has measured since then what others have measured too, and they agreed: the reference evidence is public and proves
	/// no possession.
	pub proven: bool,
}

/// A registered model.
#[derive(
	Clone, Debug, PartialEq, Eq, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
)]
pub struct ModelDetails<AccountId, Balance> {
	/// Who registered it.
	pub owner: AccountId,
	/// What is held from the owner.
	pub deposit: Balance,
	/// What the manifest says.
	pub spec: ModelSpec,
	/// What an inference costs.
	pub price: Price<Balance>,
	/// Where it stands.
	pub status: ModelStatus,
	/// Requests that are not settled.
	pub open_requests: u32,
}
