//! Requests whose tensors stay in the transaction.

use codec::Encode;
use consilience_primitives::{
	request::{Assurance, StoredInput},
	tensor::{DataType, TensorHeader, MAX_DATA, MAX_NAME},
	view::RequestState,
	Bytes,
};
use polkadot_sdk::{
	frame_support::{
		assert_noop, assert_ok, dispatch::GetDispatchInfo, storage::with_storage_layer,
	},
	frame_system,
	sp_crypto_hashing::blake2_256,
	sp_runtime::{DispatchError, DispatchResult},
};

use crate::{mock::*, Call, Error, Inputs};

fn header(name: &[u8], bytes: u32) -> TensorHeader {
	let name: Bytes<MAX_NAME> = name.to_vec().try_into().unwrap();
	TensorHeader {
		name,
		datatype: DataType::Uint8,
		shape: vec![bytes].try_into().unwrap(),
		bytes,
	}
}

/// Asks in a transaction that ends with `tail`.
fn ask_in(tail: &[u8], tensors: Vec<TensorHeader>, data: &[u8]) -> DispatchResult {
	System::set_extrinsic_index(0);
	let transaction = [b"signature and call", tail].concat();
	frame_system::Pallet::<Test>::note_extrinsic(transaction);
	let asked = Inference::request_with_data(
		RuntimeOrigin::signed(ALICE),
		id(TENSOR),
		tensors.try_into().unwrap(),
		Assurance::Committee(2),
		1_000,
		0,
		data.to_vec().try_into().unwrap(),
	);
	frame_system::Pallet::<Test>::note_finished_extrinsics();
	asked
}

fn ask_with(tensors: Vec<TensorHeader>, data: &[u8]) -> DispatchResult {
	ask_in(data, tensors, data)
}

fn is(error: Error<Test>) -> DispatchError {
	error.into()
}

#[test]
fn state_holds_headers_and_hash_and_the_request_goes_its_way() {
	run(|| {
		assert_ok!(ask_with(vec![header(b"x", 150)], &[7; 150]));
		let Some(StoredInput::Indexed(stored)) = Inputs::<Test>::get(0) else {
			panic!("state holds {:?}", Inputs::<Test>::get(0));
		};
		assert_eq!(stored.data_hash.0, blake2_256(&[7; 150]));
		assert!(
			stored.encoded_size() < 60,
			"{} bytes",
			stored.encoded_size()
		);
		// Units are paid as if the tensor stood in state.
		let quote = |input: &StoredInput| {
			Inference::quote(id(TENSOR), input, Assurance::Committee(2)).unwrap()
		};
		assert_eq!(
			quote(&StoredInput::Indexed(stored.clone())),
			quote(&tensor_input(&[7; 150]).into())
		);
		blocks(2);
		assert_eq!(
			Inference::work(0).unwrap().input,
			StoredInput::Indexed(stored)
		);
		settle_within(0, 12, &[]);
		assert_eq!(state(0), RequestState::Final);
	});
}

#[test]
fn data_that_is_not_what_its_headers_say_is_refused() {
	run(|| {
		let malformed = is(Error::MalformedTensor);
		let cases = [
			("too short", header(b"x", 11), &[0u8; 10][..], malformed),
			("too long", header(b"x", 9), &[0; 10], malformed),
			(
				"another name",
				header(b"z", 10),
				&[0; 10],
				is(Error::SignatureMismatch),
			),
			(
				"more than the model takes",
				header(b"x", 201),
				&[0; 201],
				is(Error::InputTooLarge),
			),
		];
		for (what, header, data, error) in cases {
			assert_eq!(ask_with(vec![header], data), Err(error), "{what}");
		}
		assert_eq!(ask_with(vec![], &[]), Err(is(Error::EmptyInput)));
		let nothing = ask_with(vec![header(b"x", 0)], &[]);
		assert_eq!(nothing, Err(is(Error::EmptyInput)));
		let twice = vec![header(b"x", 1), header(b"x", 1)];
		assert_eq!(ask_with(twice, &[0; 2]), Err(is(Error::SignatureMismatch)));
		let mut flags = header(b"x", 2);
		flags.datatype = DataType::Bool;
		assert_eq!(ask_with(vec![flags], &[0, 2]), Err(malformed));
		assert_eq!(Inputs::<Test>::iter().count(), 0);
	});
}

#[test]
fn data_must_be_the_last_thing_in_its_transaction() {
	run(|| {
		let data = [1, 2, 3, 4];
		let ask = |tail: &[u8]| ask_in(tail, vec![header(b"x", 4)], &data);
		// The node would keep the transaction's last four bytes under the hash of these.
		assert_eq!(ask(&[1, 2, 3, 4, 5]), Err(is(Error::DataNotLast)));
		assert_eq!(ask(&[4, 3, 2, 1]), Err(is(Error::DataNotLast)));
		assert_ok!(ask(&data));
	});
}

#[test]
fn a_transaction_asks_over_data_once() {
	run(|| {
		// What the second brings ends with what the first brought: both would be the transaction's end, and the node keeps one.
		let (first, second) = ([3, 4], [1, 2, 3, 4]);
		System::set_extrinsic_index(0);
		frame_system::Pallet::<Test>::note_extrinsic(second.to_vec());
		let ask = |data: &[u8]| {
			Inference::request_with_data(
				RuntimeOrigin::signed(ALICE),
				id(TENSOR),
				vec![header(b"x", data.len() as u32)].try_into().unwrap(),
				Assurance::Committee(2),
				1_000,
				0,
				data.to_vec().try_into().unwrap(),
			)
		};
		assert_ok!(ask(&first));
		assert_noop!(ask(&second), Error::<Test>::DataTwice);
		// The next transaction may, and so may the same place of the next block.
		System::set_extrinsic_index(1);
		frame_system::Pallet::<Test>::note_extrinsic(second.to_vec());
		assert_ok!(ask(&second));
		frame_system::Pallet::<Test>::note_finished_extrinsics();
		next_block();
		assert_ok!(ask_with(vec![header(b"x", 2)], &first));
	});
}

#[test]
fn a_hook_has_no_transaction_that_could_hold_data() {
	run(|| {
		assert_noop!(
			Inference::request_with_data(
				RuntimeOrigin::signed(ALICE),
				id(TENSOR),
				vec![header(b"x", 1)].try_into().unwrap(),
				Assurance::Committee(2),
				1_000,
				0,
				vec![1].try_into().unwrap(),
			),
			Error::<Test>::DataNotLast
		);
	});
}

#[test]
fn a_block_full_of_data_is_as_full_of_work_as_fees_want_it() {
	let call = Call::<Test>::request_with_data {
		model: id(TENSOR),
		tensors: Default::default(),
		assurance: Assurance::Committee(2),
		fee_limit: 1_000,
		tip: 0,
		data: vec![0; MAX_DATA as usize].try_into().unwrap(),
	};
	// Three quarters of 5 MiB, and a quarter of the second that a block's transactions may take.
	let block = 5 * (1 << 20) * 3 / 4;
	let weight = call.get_dispatch_info().call_weight.ref_time();
	let full = weight / u64::from(MAX_DATA) * block;
	assert!(full > 750_000_000_000 / 4, "{full} ps");
}

#[test]
fn the_node_is_told_to_keep_the_end_of_the_transaction() {
	let mut ext = externalities();
	ext.execute_with(|| {
		assert_ok!(ask_with(vec![header(b"x", 3)], &[7, 8, 9]));
	});
	let told = format!("{:?}", ext.overlayed_changes().transaction_index_ops());
	let hash = blake2_256(&[7, 8, 9]);
	let kept = format!("[Insert {{ extrinsic: 0, hash: {hash:?}, size: 3 }}]");
	assert_eq!(told, kept);
}

#[test]
fn what_is_rolled_back_leaves_the_next_its_place() {
	run(|| {
		let data = [1, 2];
		System::set_extrinsic_index(0);
		frame_system::Pallet::<Test>::note_extrinsic(data.to_vec());
		let ask = || {
			Inference::request_with_data(
				RuntimeOrigin::signed(ALICE),
				id(TENSOR),
				vec![header(b"x", 2)].try_into().unwrap(),
				Assurance::Committee(2),
				1_000,
				0,
				data.to_vec().try_into().unwrap(),
			)
		};
		// As within a batch that fails as a whole, beside one that does not.
		let rolled_back = with_storage_layer(|| {
			ask()?;
			Err::<(), _>(DispatchError::Other("the batch fails"))
		});
		assert!(rolled_back.is_err());
		assert_ok!(ask());
		assert_noop!(ask(), Error::<Test>::DataTwice);
	});
}
