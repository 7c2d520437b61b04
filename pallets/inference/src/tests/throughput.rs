//! How many requests a block can carry. No test: `scripts/bench protocol` runs it in the release profile.

use std::time::{Duration, Instant};

use consilience_primitives::{report::MAX_STATEMENTS, request::Assurance, view::RequestState};
use polkadot_sdk::{
	frame_support::{assert_ok, traits::Hooks},
	frame_system,
	sp_runtime::transaction_validity::TransactionSource,
};

use crate::{mock::*, Requests};

/// Requests in flight.
const OPEN: u32 = 56;

#[test]
#[ignore = "a benchmark"]
fn settled_requests_per_second_of_block_execution() {
	MaxLoad::set(1_000_000);
	MaxOpen::set(4 * OPEN);
	MaxOpenPerAccount::set(4 * OPEN);
	MaxPerBlock::set(16 * OPEN);
	MaxDraws::set(4 * OPEN);
	externalities().execute_with(|| {
		let (mut executing, mut settled, mut blocks) = (Duration::ZERO, 0u32, 0u32);
		let mut timed = |work: &mut dyn FnMut()| {
			let begun = Instant::now();
			work();
			executing += begun.elapsed();
		};
		for batch in 0..40 {
			let mut ids = Vec::new();
			timed(&mut || {
				for _ in 0..OPEN {
					ids.push(
						Inference::do_request(
							ALICE,
							id(TEXT),
							text("hi", 4),
							Assurance::Committee(2),
							1_000,
							0,
						)
						.unwrap(),
					);
				}
			});
			while ids.iter().any(|id| !state(*id).is_settled()) {
				// What workers do is not block execution: reports are made and signed beforehand.
				let reports: Vec<_> = VALIDATORS
					.iter()
					.filter_map(|v| {
						let mut statements = statements(*v, Habit::Honest);
						statements.truncate(MAX_STATEMENTS as usize);
						(!statements.is_empty()).then(|| signed(*v, statements))
					})
					.collect();
				timed(&mut || {
					for (report, signature) in &reports {
						Inference::authorize_report(TransactionSource::External, report, signature)
							.unwrap();
						assert_ok!(Inference::report(
							frame_system::RawOrigin::Authorized.into(),
							report.clone(),
							signature.clone()
						));
					}
					next_block();
				});
				blocks += 1;
				assert!(blocks < 10_000, "nothing is settled any more");
			}
			let ended = ids.iter().filter(|id| state(**id) == RequestState::Final).count() as u32;
			assert_eq!(ended, OPEN, "batch {batch}");
			settled += ended;
		}
		assert!(Requests::<Test>::iter().count() > 0);
		let rate = f64::from(settled) / executing.as_secs_f64();
		println!(
			"figure mock_settled_a_second = {rate:.0} [] native, the mock's constants: {settled} requests in {blocks} blocks, {:.3} s",
			executing.as_secs_f64()
		);
		Inference::on_finalize(System::block_number());
	});
}
