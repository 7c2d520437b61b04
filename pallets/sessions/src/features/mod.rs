//! What becomes of a channel's money, a file for each step.

pub mod appeal;
pub mod certificate;
pub mod channel;
pub mod draw;
pub mod opening;
pub mod payout;
pub mod settle;
pub mod stake;
pub mod testimony;
pub mod view;

use polkadot_sdk::{
	frame_system,
	sp_core::H256,
	sp_runtime::{
		traits::Zero, transaction_validity::InvalidTransaction, DispatchError, ModuleError,
	},
};

use crate::{Config, Pallet};

impl<T: Config> Pallet<T> {
	/// Hash of the genesis block, which `frame-system` keeps for ever.
	pub(crate) fn genesis() -> H256 {
		H256(
			frame_system::Pallet::<T>::block_hash(
				frame_system::pallet_prelude::BlockNumberFor::<T>::zero(),
			)
			.into(),
		)
	}
}

/// Says why a transaction is not let in: with the place of the error in the metadata.
pub(crate) fn refusal(error: DispatchError) -> InvalidTransaction {
	match error {
		DispatchError::Module(ModuleError { error, .. }) => InvalidTransaction::Custom(error[0]),
		_ => InvalidTransaction::Call,
	}
}
