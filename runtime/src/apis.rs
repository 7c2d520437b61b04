//! The runtime APIs: what a node, a wallet or a tool may ask.

use crate::*;
use alloc::boxed::Box;
use codec::Encode;
use consilience_primitives::{
	contribution::Contribution,
	crypto::{InferenceId, InferenceSignature},
	model::Price,
	report::{ContributionDue, Duties, Report, Work},
	request::{Assurance, StoredInput},
	session::{
		Certificate, CertificateDue, ChannelId, ChannelView, Claim, ClaimId, LaneKey, LaneView,
		Opening, OpeningDue, Service, Signed, Verdict,
	},
	view::{ModelView, Quote, QuoteError, RequestView},
	List, ModelId, RequestId,
};
use frame_support::{
	genesis_builder_helper::{build_state, get_preset},
	traits::KeyOwnerProofSystem,
	weights::Weight,
};
use pallet_transaction_payment_rpc_runtime_api::{FeeDetails, RuntimeDispatchInfo};
use sp_api::impl_runtime_apis;
use sp_core::{OpaqueMetadata, H256};
use sp_inherents::{CheckInherentsResult, InherentData};
use sp_runtime::{
	traits::{Block as BlockT, NumberFor},
	transaction_validity::{TransactionSource, TransactionValidity},
	ApplyExtrinsicResult, ExtrinsicInclusionMode, KeyTypeId,
};
use sp_session::OpaqueGeneratedSessionKeys;

/// A call whose content authorises it, as a transaction.
fn authorised<C>(call: C) -> <Block as BlockT>::Extrinsic
where
	RuntimeCall: From<C>,
	Runtime: frame_system::offchain::CreateAuthorizedTransaction<
		C,
		Extrinsic = UncheckedExtrinsic,
		RuntimeCall = RuntimeCall,
	>,
{
	<Runtime as frame_system::offchain::CreateAuthorizedTransaction<C>>::create_authorized_transaction(
		call.into(),
	)
}

impl_runtime_apis! {
	impl sp_api::Core<Block> for Runtime {
		fn version() -> RuntimeVersion {
			VERSION
		}

		fn execute_block(block: <Block as BlockT>::LazyBlock) {
			Executive::execute_block(block)
		}

		fn initialize_block(header: &<Block as BlockT>::Header) -> ExtrinsicInclusionMode {
			Executive::initialize_block(header)
		}
	}

	impl sp_api::Metadata<Block> for Runtime {
		fn metadata() -> OpaqueMetadata {
			OpaqueMetadata::new(Runtime::metadata().into())
		}

		fn metadata_at_version(version: u32) -> Option<OpaqueMetadata> {
			Runtime::metadata_at_version(version)
		}

		fn metadata_versions() -> Vec<u32> {
			Runtime::metadata_versions()
		}
	}

	impl frame_support::view_functions::runtime_api::RuntimeViewFunction<Block> for Runtime {
		fn execute_view_function(
			id: frame_support::view_functions::ViewFunctionId,
			input: Vec<u8>,
		) -> Result<Vec<u8>, frame_support::view_functions::ViewFunctionDispatchError> {
			Runtime::execute_view_function(id, input)
		}
	}

	impl sp_block_builder::BlockBuilder<Block> for Runtime {
		fn apply_extrinsic(extrinsic: <Block as BlockT>::Extrinsic) -> ApplyExtrinsicResult {
			Executive::apply_extrinsic(extrinsic)
		}

		fn finalize_block() -> <Block as BlockT>::Header {
			Executive::finalize_block()
		}

		fn inherent_extrinsics(data: InherentData) -> Vec<<Block as BlockT>::Extrinsic> {
			data.create_extrinsics()
		}

		fn check_inherents(
			block: <Block as BlockT>::LazyBlock,
			data: InherentData,
		) -> CheckInherentsResult {
			data.check_extrinsics(&block)
		}
	}

	impl sp_transaction_pool::runtime_api::TaggedTransactionQueue<Block> for Runtime {
		fn validate_transaction(
			source: TransactionSource,
			tx: <Block as BlockT>::Extrinsic,
			block_hash: <Block as BlockT>::Hash,
		) -> TransactionValidity {
			Executive::validate_transaction(source, tx, block_hash)
		}
	}

	impl sp_offchain::OffchainWorkerApi<Block> for Runtime {
		fn offchain_worker(header: &<Block as BlockT>::Header) {
			Executive::offchain_worker(header)
		}
	}

	impl sp_session::SessionKeys<Block> for Runtime {
		fn generate_session_keys(
			owner: Vec<u8>,
			seed: Option<Vec<u8>>,
		) -> OpaqueGeneratedSessionKeys {
			SessionKeys::generate(&owner, seed).into()
		}

		fn decode_session_keys(encoded: Vec<u8>) -> Option<Vec<(Vec<u8>, KeyTypeId)>> {
			SessionKeys::decode_into_raw_public_keys(&encoded)
		}
	}

	impl sp_consensus_babe::BabeApi<Block> for Runtime {
		fn configuration() -> sp_consensus_babe::BabeConfiguration {
			let epoch_config = Babe::epoch_config().unwrap_or(BABE_GENESIS_EPOCH_CONFIG);
			sp_consensus_babe::BabeConfiguration {
				slot_duration: Babe::slot_duration(),
				epoch_length: EPOCH_DURATION_IN_SLOTS,
				c: epoch_config.c,
				authorities: Babe::authorities().to_vec(),
				randomness: Babe::randomness(),
				allowed_slots: epoch_config.allowed_slots,
			}
		}

		fn current_epoch_start() -> sp_consensus_babe::Slot {
			Babe::current_epoch_start()
		}

		fn current_epoch() -> sp_consensus_babe::Epoch {
			Babe::current_epoch()
		}

		fn next_epoch() -> sp_consensus_babe::Epoch {
			Babe::next_epoch()
		}

		fn generate_key_ownership_proof(
			_slot: sp_consensus_babe::Slot,
			authority_id: sp_consensus_babe::AuthorityId,
		) -> Option<sp_consensus_babe::OpaqueKeyOwnershipProof> {
			Historical::prove((sp_consensus_babe::KEY_TYPE, authority_id))
				.map(|proof| proof.encode())
				.map(sp_consensus_babe::OpaqueKeyOwnershipProof::new)
		}

		fn submit_report_equivocation_unsigned_extrinsic(
			equivocation_proof: sp_consensus_babe::EquivocationProof<<Block as BlockT>::Header>,
			key_owner_proof: sp_consensus_babe::OpaqueKeyOwnershipProof,
		) -> Option<()> {
			let key_owner_proof = key_owner_proof.decode()?;
			Babe::submit_unsigned_equivocation_report(equivocation_proof, key_owner_proof)
		}
	}

	impl sp_consensus_grandpa::GrandpaApi<Block> for Runtime {
		fn grandpa_authorities() -> sp_consensus_grandpa::AuthorityList {
			Grandpa::grandpa_authorities()
		}

		fn current_set_id() -> sp_consensus_grandpa::SetId {
			pallet_grandpa::CurrentSetId::<Runtime>::get()
		}

		fn generate_key_ownership_proof(
			_set_id: sp_consensus_grandpa::SetId,
			authority_id: sp_consensus_grandpa::AuthorityId,
		) -> Option<sp_consensus_grandpa::OpaqueKeyOwnershipProof> {
			Historical::prove((sp_consensus_grandpa::KEY_TYPE, authority_id))
				.map(|proof| proof.encode())
				.map(sp_consensus_grandpa::OpaqueKeyOwnershipProof::new)
		}

		fn submit_report_equivocation_unsigned_extrinsic(
			equivocation_proof: sp_consensus_grandpa::EquivocationProof<
				<Block as BlockT>::Hash,
				NumberFor<Block>,
			>,
			key_owner_proof: sp_consensus_grandpa::OpaqueKeyOwnershipProof,
		) -> Option<()> {
			let key_owner_proof = key_owner_proof.decode()?;
			Grandpa::submit_unsigned_equivocation_report(equivocation_proof, key_owner_proof)
		}
	}

	impl sp_authority_discovery::AuthorityDiscoveryApi<Block> for Runtime {
		fn authorities() -> Vec<sp_authority_discovery::AuthorityId> {
			AuthorityDiscovery::authorities()
		}
	}

	impl consilience_runtime_api::InferenceApi<Block, AccountId, BlockNumber, Balance> for Runtime {
		fn models(after: Option<ModelId>, limit: u32) -> Vec<ModelView<AccountId, Balance>> {
			ModelRegistry::models(after, limit)
		}

		fn model(model: ModelId) -> Option<ModelView<AccountId, Balance>> {
			ModelRegistry::model(model)
		}

		fn quote(
			model: ModelId,
			input: StoredInput,
			assurance: Assurance,
		) -> Result<Quote<Balance>, QuoteError> {
			Inference::quote(model, &input, assurance)
		}

		fn request(
			request: RequestId,
		) -> Option<RequestView<AccountId, BlockNumber, Balance>> {
			Inference::request_view(request)
		}

		fn duties(key: InferenceId) -> Option<Duties<AccountId, BlockNumber>> {
			Inference::duties(&key)
		}

		fn work(request: RequestId) -> Option<Work> {
			Inference::work(request)
		}

		fn contributions_due(key: InferenceId) -> Vec<ContributionDue<BlockNumber>> {
			Inference::contributions_due(&key)
		}

		fn contribute_transaction(
			contribution: Contribution<BlockNumber>,
		) -> <Block as BlockT>::Extrinsic {
			authorised(pallet_inference::Call::contribute { contribution })
		}

		fn report_transaction(
			report: Report<BlockNumber>,
			signature: InferenceSignature,
		) -> <Block as BlockT>::Extrinsic {
			authorised(pallet_inference::Call::report { report, signature })
		}
	}

	impl consilience_runtime_api::SessionsApi<Block, AccountId, BlockNumber, Balance> for Runtime {
		fn channel(channel: ChannelId) -> Option<ChannelView<AccountId, BlockNumber, Balance>> {
			Sessions::channel(channel)
		}

		fn channels_of(owner: AccountId) -> Vec<ChannelView<AccountId, BlockNumber, Balance>> {
			Sessions::channels_of(&owner)
		}

		fn lanes(model: ModelId) -> Vec<LaneView<AccountId>> {
			Sessions::lanes(model)
		}

		fn lane_key(validator: AccountId, session: u32) -> Option<LaneKey> {
			Sessions::lane_key(&validator, session)
		}

		fn lane_keys(validator: AccountId, session: u32) -> Vec<LaneKey> {
			Sessions::lane_keys(&validator, session)
		}

		fn certificate_due(key: InferenceId) -> Option<CertificateDue<AccountId>> {
			Sessions::certificate_due(&key)
		}

		fn session() -> u32 {
			<Inference as pallet_inference::SessionValidators<AccountId>>::session()
		}

		fn check_price(model: ModelId) -> Option<Price<Balance>> {
			Inference::check_price(model)
		}

		fn claim_bounds() -> (Balance, Balance) {
			Sessions::claim_bounds()
		}

		fn claim_room(payee: AccountId, session: u32) -> Balance {
			Sessions::claim_room(&payee, session)
		}

		fn receipt_request(receipt: H256) -> Option<RequestId> {
			pallet_inference::References::<Runtime>::get(receipt)
		}

		fn appeal_bond(units: u32) -> Balance {
			Inference::bond_for(units)
		}

		fn openings_due(validator: AccountId) -> Vec<OpeningDue<BlockNumber, Balance>> {
			Sessions::openings_due(&validator)
		}

		fn claimed(channel: ChannelId, payee: AccountId, service: Service) -> Balance {
			Sessions::claimed(channel, &payee, service)
		}

		fn certify_transaction(
			certificate: Certificate,
			signature: InferenceSignature,
		) -> <Block as BlockT>::Extrinsic {
			authorised(pallet_sessions::Call::certify { certificate, signature })
		}

		fn settle_transaction(
			claims: Vec<Signed<Claim<AccountId, Balance>>>,
		) -> <Block as BlockT>::Extrinsic {
			let claims = List::truncate_from(claims);
			authorised(pallet_sessions::Call::settle { claims })
		}

		fn testify_transaction(verdict: Signed<Verdict<AccountId>>) -> <Block as BlockT>::Extrinsic {
			let verdict = Box::new(verdict);
			authorised(pallet_sessions::Call::testify { verdict })
		}

		fn open_receipt_transaction(
			claim: ClaimId,
			point: u32,
			opening: Opening<AccountId, BlockNumber, Balance>,
		) -> <Block as BlockT>::Extrinsic {
			let opening = Box::new(opening);
			authorised(pallet_sessions::Call::open_receipt { claim, point, opening })
		}
	}

	impl frame_system_rpc_runtime_api::AccountNonceApi<Block, AccountId, Nonce> for Runtime {
		fn account_nonce(account: AccountId) -> Nonce {
			System::account_nonce(account)
		}
	}

	impl pallet_transaction_payment_rpc_runtime_api::TransactionPaymentApi<Block, Balance>
		for Runtime
	{
		fn query_info(
			uxt: <Block as BlockT>::Extrinsic,
			len: u32,
		) -> RuntimeDispatchInfo<Balance> {
			TransactionPayment::query_info(uxt, len)
		}

		fn query_fee_details(uxt: <Block as BlockT>::Extrinsic, len: u32) -> FeeDetails<Balance> {
			TransactionPayment::query_fee_details(uxt, len)
		}

		fn query_weight_to_fee(weight: Weight) -> Balance {
			TransactionPayment::weight_to_fee(weight)
		}

		fn query_length_to_fee(length: u32) -> Balance {
			TransactionPayment::length_to_fee(length)
		}
	}

	impl pallet_transaction_payment_rpc_runtime_api::TransactionPaymentCallApi<
		Block,
		Balance,
		RuntimeCall,
	> for Runtime {
		fn query_call_info(call: RuntimeCall, len: u32) -> RuntimeDispatchInfo<Balance> {
			TransactionPayment::query_call_info(call, len)
		}

		fn query_call_fee_details(call: RuntimeCall, len: u32) -> FeeDetails<Balance> {
			TransactionPayment::query_call_fee_details(call, len)
		}

		fn query_weight_to_fee(weight: Weight) -> Balance {
			TransactionPayment::weight_to_fee(weight)
		}

		fn query_length_to_fee(length: u32) -> Balance {
			TransactionPayment::length_to_fee(length)
		}
	}

	impl pallet_staking_runtime_api::StakingApi<Block, Balance, AccountId> for Runtime {
		fn nominations_quota(balance: Balance) -> u32 {
			Staking::api_nominations_quota(balance)
		}

		fn eras_stakers_page_count(era: sp_staking::EraIndex, account: AccountId) -> sp_staking::Page {
			Staking::api_eras_stakers_page_count(era, account)
		}

		fn pending_rewards(era: sp_staking::EraIndex, account: AccountId) -> bool {
			Staking::api_pending_rewards(era, account)
		}
	}

	impl sp_genesis_builder::GenesisBuilder<Block> for Runtime {
		fn build_state(config: Vec<u8>) -> sp_genesis_builder::Result {
			build_state::<RuntimeGenesisConfig>(config)
		}

		fn get_preset(id: &Option<sp_genesis_builder::PresetId>) -> Option<Vec<u8>> {
			get_preset::<RuntimeGenesisConfig>(id, genesis_config_presets::get_preset)
		}

		fn preset_names() -> Vec<sp_genesis_builder::PresetId> {
			genesis_config_presets::preset_names()
		}
	}

	#[cfg(feature = "runtime-benchmarks")]
	impl frame_benchmarking::Benchmark<Block> for Runtime {
		fn benchmark_metadata(
			extra: bool,
		) -> (Vec<frame_benchmarking::BenchmarkList>, Vec<frame_support::traits::StorageInfo>) {
			benchmarks::metadata(extra)
		}

		fn dispatch_benchmark(
			config: frame_benchmarking::BenchmarkConfig,
		) -> Result<Vec<frame_benchmarking::BenchmarkBatch>, alloc::string::String> {
			benchmarks::dispatch(config)
		}
	}

	#[cfg(feature = "try-runtime")]
	impl frame_try_runtime::TryRuntime<Block> for Runtime {
		fn on_runtime_upgrade(checks: frame_try_runtime::UpgradeCheckSelect) -> (Weight, Weight) {
			let weight = Executive::try_runtime_upgrade(checks)
				.expect("a failing check is to be seen: this API runs in tools only");
			(weight, configs::system::RuntimeBlockWeights::get().max_block)
		}

		fn execute_block(
			block: <Block as BlockT>::LazyBlock,
			state_root_check: bool,
			signature_check: bool,
			select: frame_try_runtime::TryStateSelect,
		) -> Weight {
			Executive::try_execute_block(block, state_root_check, signature_check, select)
				.expect("a failing check is to be seen: this API runs in tools only")
		}
	}
}
