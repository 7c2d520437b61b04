//! The Consilience runtime: composition only, no logic of its own.
//!
//! - [`configs`]: the pallets' configurations, by subject.
//! - [`apis`]: the runtime APIs.
//! - [`transaction`]: what a transaction is, and how the runtime makes its own.
//! - [`genesis_config_presets`]: the state with which a network starts.

#![cfg_attr(not(feature = "std"), no_std)]
#![recursion_limit = "256"]
// The runtime's macros make items that carry no documentation of their own.
#![allow(missing_docs)]

#[cfg(feature = "std")]
include!(concat!(env!("OUT_DIR"), "/wasm_binary.rs"));

extern crate alloc;

pub mod apis;
#[cfg(feature = "runtime-benchmarks")]
mod benchmarks;
pub mod configs;
pub mod genesis_config_presets;
pub mod transaction;

use polkadot_sdk::*;

use alloc::{borrow::Cow, vec::Vec};
use sp_runtime::{
	generic, impl_opaque_keys,
	traits::{BlakeTwo256, IdentifyAccount, Verify},
	MultiAddress, MultiSignature,
};
use sp_version::RuntimeVersion;

pub use apis::RuntimeApi;
#[cfg(feature = "std")]
pub use transaction::signed;
pub use transaction::{extensions, SignedPayload, TransactionExtensions, UncheckedExtrinsic};

/// Number of a block.
pub type BlockNumber = u32;
/// Amount of `CSL` in its smallest unit, 10⁻¹² CSL.
pub type Balance = u128;
/// Number of a transaction of an account.
pub type Nonce = u32;
/// Hash of a block, a model's manifest, and anything else.
pub type Hash = sp_core::H256;
/// Milliseconds since 1970.
pub type Moment = u64;
/// Signature of a transaction.
pub type Signature = MultiSignature;
/// An account.
pub type AccountId = <<Signature as Verify>::Signer as IdentifyAccount>::AccountId;
/// How a transaction names an account.
pub type Address = MultiAddress<AccountId, ()>;
/// Header of a block.
pub type Header = generic::Header<BlockNumber, BlakeTwo256>;
/// A block.
pub type Block = generic::Block<Header, UncheckedExtrinsic>;

/// Types for the node, which does not look into transactions: it carries their bytes, and shows them as hexadecimal.
pub mod opaque {
	use super::*;

	/// A block whose transactions are bytes.
	pub type Block = generic::Block<Header, sp_runtime::OpaqueExtrinsic>;
}

/// One CSL.
pub const UNIT: Balance = 1_000_000_000_000;
/// A thousandth of a CSL.
pub const MILLI: Balance = UNIT / 1_000;
/// A millionth of a CSL.
pub const MICRO: Balance = MILLI / 1_000;

/// Length of a slot, and so the time from block to block.
pub const MILLISECS_PER_BLOCK: Moment = 3_000;
/// Blocks in a minute.
pub const MINUTES: BlockNumber = 60_000 / MILLISECS_PER_BLOCK as BlockNumber;
/// Blocks in an hour.
pub const HOURS: BlockNumber = 60 * MINUTES;
/// Blocks in a day.
pub const DAYS: BlockNumber = 24 * HOURS;

/// Length of an epoch, which is a session, in slots. It cannot change while the chain runs.
pub const EPOCH_DURATION_IN_SLOTS: u64 = 10 * MINUTES as u64;

/// The chance that a slot has a primary author is a quarter; every other slot falls to a secondary author, who must show a VRF
/// output too: draws wait for a block that has one.
pub const BABE_GENESIS_EPOCH_CONFIG: sp_consensus_babe::BabeEpochConfiguration =
	sp_consensus_babe::BabeEpochConfiguration {
		c: (1, 4),
		allowed_slots: sp_consensus_babe::AllowedSlots::PrimaryAndSecondaryVRFSlots,
	};

/// Prefix of addresses.
pub const SS58_PREFIX: u16 = 42;

#[sp_version::runtime_version]
pub const VERSION: RuntimeVersion = RuntimeVersion {
	spec_name: Cow::Borrowed("consilience"),
	impl_name: Cow::Borrowed("consilience"),
	authoring_version: 1,
	spec_version: 1,
	impl_version: 1,
	apis: apis::RUNTIME_API_VERSIONS,
	transaction_version: 1,
	system_version: 1,
};

impl_opaque_keys! {
	pub struct SessionKeys {
		pub babe: Babe,
		pub grandpa: Grandpa,
		pub authority_discovery: AuthorityDiscovery,
		pub inference: Inference,
	}
}

/// Runs blocks.
pub type Executive = frame_executive::Executive<
	Runtime,
	Block,
	frame_system::ChainContext<Runtime>,
	Runtime,
	AllPalletsWithSystem,
>;

// The indices are part of every encoded call, event and error: they never change and are never used again.
// Order matters: `Inference` draws in `on_finalize` with what `Babe` stores in its own, so it stands after it,
// and `Sessions` reads what `Inference` keeps of that.
#[frame_support::runtime]
mod runtime {
	#[runtime::runtime]
	#[runtime::derive(
		RuntimeCall,
		RuntimeEvent,
		RuntimeError,
		RuntimeOrigin,
		RuntimeFreezeReason,
		RuntimeHoldReason,
		RuntimeSlashReason,
		RuntimeLockId,
		RuntimeTask,
		RuntimeViewFunction
	)]
	pub struct Runtime;

	#[runtime::pallet_index(0)]
	pub type System = frame_system;
	#[runtime::pallet_index(1)]
	pub type Timestamp = pallet_timestamp;
	#[runtime::pallet_index(2)]
	pub type Babe = pallet_babe;

	#[runtime::pallet_index(5)]
	pub type Balances = pallet_balances;
	#[runtime::pallet_index(6)]
	pub type TransactionPayment = pallet_transaction_payment;

	// Consensus and stake. Authorship stands before Session, so that a session's last author is still known.
	#[runtime::pallet_index(10)]
	pub type Authorship = pallet_authorship;
	#[runtime::pallet_index(11)]
	pub type Staking = pallet_staking;
	#[runtime::pallet_index(12)]
	pub type Offences = pallet_offences;
	#[runtime::pallet_index(13)]
	pub type Historical = pallet_session::historical;
	#[runtime::pallet_index(14)]
	pub type Session = pallet_session;
	#[runtime::pallet_index(15)]
	pub type Grandpa = pallet_grandpa;
	#[runtime::pallet_index(16)]
	pub type AuthorityDiscovery = pallet_authority_discovery;

	// Governance.
	#[runtime::pallet_index(20)]
	pub type Preimage = pallet_preimage;
	#[runtime::pallet_index(21)]
	pub type Scheduler = pallet_scheduler;
	#[runtime::pallet_index(22)]
	pub type ConvictionVoting = pallet_conviction_voting;
	#[runtime::pallet_index(23)]
	pub type Referenda = pallet_referenda;
	#[runtime::pallet_index(24)]
	pub type Treasury = pallet_treasury;
	#[runtime::pallet_index(25)]
	pub type Sudo = pallet_sudo;

	// Tools of accounts.
	#[runtime::pallet_index(30)]
	pub type Utility = pallet_utility;
	#[runtime::pallet_index(31)]
	pub type Proxy = pallet_proxy;
	#[runtime::pallet_index(32)]
	pub type Multisig = pallet_multisig;

	// Models and requests.
	#[runtime::pallet_index(50)]
	pub type ModelRegistry = pallet_model_registry;
	#[runtime::pallet_index(51)]
	pub type Inference = pallet_inference;
	#[runtime::pallet_index(52)]
	pub type Sessions = pallet_sessions;
}
