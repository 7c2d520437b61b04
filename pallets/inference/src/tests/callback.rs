use codec::Encode;
use consilience_primitives::{request::Assurance, view::RequestState, RequestId};
use polkadot_sdk::{
	frame_support::{assert_noop, pallet_prelude::Weight},
	sp_io,
	sp_runtime::DispatchError,
};

use crate::{mock::*, Callbacks, Error, Event, Outputs, RequestInference, Settled};

fn ask_as_pallet() -> Result<RequestId, DispatchError> {
	Inference::request_inference(
		ALICE,
		id(TEXT),
		text("hi", 4),
		Assurance::Committee(2),
		1_000,
		0,
	)
}

#[test]
fn the_asking_pallet_is_told_the_final_answer_once_in_a_later_block() {
	run(|| {
		let request = ask_as_pallet().unwrap();
		let settled_in = loop {
			let now = System::block_number();
			VALIDATORS.into_iter().for_each(|v| work(v, Habit::Honest));
			let settled = state(request).is_settled();
			next_block();
			if settled {
				break now;
			}
		};
		assert!(
			told().is_empty(),
			"not at the end of block {settled_in} itself"
		);
		next_block();
		let output = Outputs::<Test>::get(request).unwrap();
		match &told()[..] {
			[(of, Settled::Final(answer))] => {
				assert_eq!((*of, answer.get()), (request, &output));
			}
			other => panic!("{other:?}"),
		}
		assert!(events().contains(&Event::CalledBack { request }));
		blocks(3);
		assert!(told().is_empty());
	});
}

#[test]
fn the_asking_pallet_is_told_when_there_is_no_answer() {
	run(|| {
		let request = ask_as_pallet().unwrap();
		blocks(60);
		assert_eq!(
			told(),
			[(request, Settled::Refunded(RequestState::Expired))]
		);
	});
}

#[test]
fn requests_of_people_call_nobody() {
	run(|| {
		let request = ask(TEXT, ALICE);
		settle_within(request, 6, &[]);
		blocks(3);
		assert!(told().is_empty());
	});
}

#[test]
fn a_callback_that_fails_is_recorded_and_undoes_only_itself() {
	run(|| {
		set_deaf(true);
		let request = ask_as_pallet().unwrap();
		settle_within(request, 6, &[]);
		let paid = Inference::request_view(request).unwrap().paid;
		blocks(2);
		assert!(events()
			.iter()
			.any(|e| matches!(e, Event::CallbackFailed { request: r, .. } if *r == request)));
		assert!(sp_io::storage::get(TOLD_KEY).is_none());
		assert_eq!(state(request), RequestState::Final);
		assert_eq!(Inference::request_view(request).unwrap().paid, paid);
		assert!(Callbacks::<Test>::get().is_empty(), "not tried again");
	});
}

#[test]
fn callbacks_wait_for_room_and_what_they_are_about_is_not_forgotten() {
	run(|| {
		// One callback fits beside the two weights of the queue itself.
		set_idle(Weight::from_parts(500, 0));
		let request = ask_as_pallet().unwrap();
		settle_within(request, 6, &[]);
		// Longer than settled requests are kept.
		blocks(50);
		assert!(told().is_empty());
		assert_eq!(state(request), RequestState::Final);
		set_idle(Weight::from_parts(1_002, 0));
		next_block();
		assert_eq!(told().len(), 1);
		assert_eq!(
			sp_io::storage::get(TOLD_KEY).map(|v| v.to_vec()),
			Some(request.encode())
		);
		blocks(25);
		assert!(Inference::request_view(request).is_none(), "forgotten now");
	});
}

#[test]
fn the_queue_of_callbacks_is_bounded() {
	run(|| {
		set_idle(Weight::zero());
		let mut taken = 0;
		// Open requests of one account are at most 8, callbacks and open requests together at most 12.
		loop {
			match ask_as_pallet() {
				Ok(request) => settle_within(request, 8, &[]),
				Err(e) => {
					assert_eq!(e, Error::<Test>::TooManyOpen.into());
					break;
				}
			}
			taken += 1;
		}
		assert_eq!(taken, 12);
		assert_noop!(ask_as_pallet(), Error::<Test>::TooManyOpen);
		// People are not kept from asking.
		ask(TEXT, BOB);
	});
}
