//! What stands on chain of a request, with a proof for whoever trusts a block's hash and not this node.

use codec::Encode;
use consilience_primitives::RequestId;
use consilience_runtime_api::InferenceApi;
use consilience_worker::chain::{AccountId, Balance, BlockNumber};
use polkadot_sdk::{
	sc_client_api::{Backend, ProofProvider, StorageProvider},
	sp_api::ProvideRuntimeApi,
	sp_blockchain::HeaderBackend,
	sp_core::{storage::StorageKey, Bytes, H256},
	sp_crypto_hashing as hashing,
	sp_runtime::traits::{Block as BlockT, Header},
};
use serde::{Deserialize, Serialize};

use crate::{life::request_at, Block, JsonRequest, RpcError};

/// An entry of the chain's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
	/// Its key.
	pub key: Bytes,
	/// Its value, SCALE-encoded as the chain's metadata describes it; `null` where the state has none.
	pub value: Option<Bytes>,
}

/// What the state holds of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entries {
	/// `inference.requests`: who asked, of which model, where it stands, who answered.
	pub request: Entry,
	/// `inference.inputs`: what was asked.
	pub input: Entry,
	/// `inference.outputs`: what was answered.
	pub output: Entry,
}

/// A request in a finalised block, with a proof.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proof {
	/// The block.
	pub block: Block,
	/// Its header, SCALE-encoded: BLAKE2b-256 of it is the block's hash, and it holds the state's root.
	pub header: Bytes,
	/// Root of the block's state.
	pub state_root: H256,
	/// What the proof is about.
	pub entries: Entries,
	/// Nodes of the state's trie between its root and the entries, in no order, as of `state_getReadProof`.
	pub proof: Vec<Bytes>,
	/// What the entries say, in this node's words.
	pub request: JsonRequest,
}

/// Key of a request's entry in one of the maps of `pallet-inference`, which all hash the number with `Twox64Concat`.
fn key(map: &str, request: RequestId) -> Vec<u8> {
	let number = request.to_le_bytes();
	[
		&hashing::twox_128(b"Inference")[..],
		&hashing::twox_128(map.as_bytes()),
		&hashing::twox_64(&number),
		&number,
	]
	.concat()
}

/// Proves a request at a finalised block: the last one, or that given.
///
/// # Errors
/// If the block is unknown or not finalised, its state is gone, or it has no such request.
pub(crate) fn prove<B, BE, C>(
	client: &C,
	id: RequestId,
	at: Option<H256>,
) -> Result<Proof, RpcError>
where
	B: BlockT<Hash = H256>,
	B::Header: Header<Number = BlockNumber>,
	BE: Backend<B>,
	C: ProvideRuntimeApi<B> + HeaderBackend<B> + ProofProvider<B> + StorageProvider<B, BE>,
	C::Api: InferenceApi<B, AccountId, BlockNumber, Balance>,
{
	let failed = |e: polkadot_sdk::sp_blockchain::Error| RpcError::Runtime(e.to_string());
	let info = client.info();
	let hash = at.unwrap_or(info.finalized_hash);
	let header = client.header(hash).map_err(failed)?;
	let header = header.ok_or(RpcError::UnknownBlock(hash))?;
	let number = *header.number();
	let canonical = client.hash(number).map_err(failed)?;
	if number > info.finalized_number || canonical != Some(hash) {
		return Err(RpcError::NotFinalized(hash));
	}
	let keys = ["Requests", "Inputs", "Outputs"].map(|map| key(map, id));
	// The header is there: what is missing is the state.
	let pruned = |_| RpcError::Pruned(number);
	let mut values = Vec::with_capacity(keys.len());
	for key in &keys {
		let value = client.storage(hash, &StorageKey(key.clone()));
		values.push(value.map_err(pruned)?.map(|value| Bytes(value.0)));
	}
	let request = request_at::<B, C>(client, hash, id)?.ok_or(RpcError::UnknownRequest(id))?;
	let proof = client
		.read_proof(hash, &mut keys.iter().map(|key| &key[..]))
		.map_err(pruned)?;
	let [request_key, input_key, output_key] = keys.map(Bytes);
	let mut values = values.into_iter();
	let mut entry = |key| Entry {
		key,
		value: values.next().flatten(),
	};
	Ok(Proof {
		block: Block { number, hash },
		header: Bytes(header.encode()),
		state_root: *header.state_root(),
		entries: Entries {
			request: entry(request_key),
			input: entry(input_key),
			output: entry(output_key),
		},
		proof: proof.into_iter_nodes().map(Bytes).collect(),
		request,
	})
}
