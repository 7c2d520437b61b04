//! What a transaction is, and how the runtime makes its own.

use crate::*;

/// Checks around every call.
///
/// `AuthorizeCall` stands first: it gives reports their origin, which the others look at.
pub type TransactionExtensions = (
	frame_system::AuthorizeCall<Runtime>,
	frame_system::CheckNonZeroSender<Runtime>,
	frame_system::CheckSpecVersion<Runtime>,
	frame_system::CheckTxVersion<Runtime>,
	frame_system::CheckGenesis<Runtime>,
	frame_system::CheckMortality<Runtime>,
	frame_system::CheckNonce<Runtime>,
	frame_system::CheckWeight<Runtime>,
	pallet_transaction_payment::ChargeTransactionPayment<Runtime>,
	frame_metadata_hash_extension::CheckMetadataHash<Runtime>,
	frame_system::WeightReclaim<Runtime>,
);

/// A transaction as it comes in.
pub type UncheckedExtrinsic =
	generic::UncheckedExtrinsic<Address, RuntimeCall, Signature, TransactionExtensions>;

/// What a signer signs.
pub type SignedPayload = generic::SignedPayload<RuntimeCall, TransactionExtensions>;

/// The extensions of a transaction that is good at any time, with the given nonce and tip.
pub fn extensions(nonce: Nonce, tip: Balance) -> TransactionExtensions {
	(
		frame_system::AuthorizeCall::new(),
		frame_system::CheckNonZeroSender::new(),
		frame_system::CheckSpecVersion::new(),
		frame_system::CheckTxVersion::new(),
		frame_system::CheckGenesis::new(),
		frame_system::CheckMortality::from(generic::Era::Immortal),
		frame_system::CheckNonce::from(nonce),
		frame_system::CheckWeight::new(),
		pallet_transaction_payment::ChargeTransactionPayment::from(tip),
		frame_metadata_hash_extension::CheckMetadataHash::new(false),
		frame_system::WeightReclaim::new(),
	)
}

/// A transaction signed by an account of the chain with this genesis, good at any time and without a tip.
#[cfg(feature = "std")]
pub fn signed(
	call: RuntimeCall,
	signer: &sp_core::sr25519::Pair,
	nonce: Nonce,
	genesis: Hash,
) -> UncheckedExtrinsic {
	use codec::Encode;
	use sp_core::Pair;

	// What the extensions have the signer sign besides themselves, in their order.
	let implicit = (
		(),
		(),
		VERSION.spec_version,
		VERSION.transaction_version,
		genesis,
		genesis,
		(),
		(),
		(),
		None,
		(),
	);
	let payload = SignedPayload::from_raw(call, extensions(nonce, 0), implicit);
	let signature = payload.using_encoded(|p| signer.sign(p));
	let (call, extensions, _) = payload.deconstruct();
	UncheckedExtrinsic::new_signed(
		call,
		Address::Id(signer.public().into()),
		Signature::Sr25519(signature),
		extensions,
	)
}

impl<C> frame_system::offchain::CreateTransactionBase<C> for Runtime
where
	RuntimeCall: From<C>,
{
	type Extrinsic = UncheckedExtrinsic;
	type RuntimeCall = RuntimeCall;
}

impl<C> frame_system::offchain::CreateTransaction<C> for Runtime
where
	RuntimeCall: From<C>,
{
	type Extension = TransactionExtensions;

	fn create_transaction(call: RuntimeCall, extension: Self::Extension) -> UncheckedExtrinsic {
		UncheckedExtrinsic::new_transaction(call, extension)
	}
}

/// Reports are authorised by what is in them: no account, no nonce, no fee.
impl<C> frame_system::offchain::CreateAuthorizedTransaction<C> for Runtime
where
	RuntimeCall: From<C>,
{
	fn create_extension() -> Self::Extension {
		extensions(0, 0)
	}
}

/// Reports of equivocations by Babe and Grandpa are unsigned.
impl<C> frame_system::offchain::CreateBare<C> for Runtime
where
	RuntimeCall: From<C>,
{
	fn create_bare(call: RuntimeCall) -> UncheckedExtrinsic {
		UncheckedExtrinsic::new_bare(call)
	}
}
