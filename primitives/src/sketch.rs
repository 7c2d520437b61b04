//! Evidence of tensors: sums over *all* their elements, so that no difference hides where nobody looks.
//!
//! Floats are compared within the policy's bounds. Where there are no more of them than the policy asks values for, each is a
//! value. Otherwise the values are [`ROWS`] *count sketches* side by side (Charikar, Chen and Farach-Colton 2002): in every row
//! the challenge deals each element to one of the row's sums, with a sign. Everything else is compared exactly, by the tag: names,
//! element types and shapes, the elements of all tensors that are not floats, and which floats are not finite.
//!
//! # What is seen
//!
//! Let *d* be the difference of two outputs, |*d*| its Euclidean norm, and *B* the number of sums in a row. Sketches are linear,
//! so two sketches differ by the sketch *S* of *d*.
//!
//! - **One element** that differs: in each row one sum differs by just that, whatever the challenge.
//! - **Two elements** that differ by the same amount, as where a classifier names another class: unseen only if they cancel in
//!   every row, which has the chance (1 / 2*B*)⁴, one in a million with 64 values.
//! - **Any difference**, whichever way it is spread: with pairwise independent bins and signs that are independent in fours, the
//!   squares of a row's sums add up to |*d*|² on average, with a variance of at most 2|*d*|⁴ / *B* (Alon, Matias and Szegedy 1996;
//!   Thorup and Zhang 2004). By Cantelli's inequality they are below θ|*d*|² with a chance of at most 2 / (2 + *B*(1 − θ)²), and by
//!   independence in all four rows with the fourth power of that: with 64 values and θ = ¼, less than 1 in 800. In every other
//!   case some sum differs by at least |*d*|·√(θ/*B*), an eighth of |*d*|.
//!
//! Rounding of honest machines is such a difference, too. One of σ in each of *n* elements makes about σ·√(*n*/*B*) of a sum:
//! that is what a policy accepts of a sum, measured by calibration. Spreading over *B* sums in place of one keeps it small beside
//! a single element's difference, and four rows keep differences from cancelling; that is all that there is to the layout.
//!
//! # What is not seen
//!
//! All elements share the policy's step and bounds. Outputs of very different magnitudes hide the smaller ones' differences
//! behind the larger ones' rounding, in sums as among elements. Elements and sums saturate at ±[`i32::MAX`] steps: a sum that
//! does so says nothing of what else is in it, so `fraction_bits` has to leave room, and calibration sees to that.

use alloc::{vec, vec::Vec};
use codec::Encode;
use polkadot_sdk::sp_core::H256;
use rand_chacha::{
	rand_core::{RngCore, SeedableRng},
	ChaCha8Rng,
};

use crate::{
	fixed::{self, NotFinite},
	tensor::{Tensor, TensorError},
};

/// Count sketches side by side: each element is in so many sums.
pub const ROWS: usize = 4;

/// Elements are added in steps this many bits finer than the policy's, so that rounding them adds nothing that grows with their
/// number; sums are rounded once.
const GUARD_BITS: u8 = 8;

/// What is compared exactly of a tensor.
#[derive(Encode)]
enum Exact<'a> {
	/// Elements that are not floats.
	Data(&'a [u8]),
	/// Floats that are not finite, and where. They count as zero in the sums.
	NotFinite(Vec<(u32, NotFinite)>),
}

/// The tag of what is compared exactly, and at most `count` values in steps of 2^-`fraction_bits`.
///
/// The challenge's seed is the key of a ChaCha8 stream, from which each element of the float tensors, counted over all of them in
/// order, takes a word: a byte for each row, its highest bit the sign (set: minus), the others modulo the number of the row's
/// sums the place among them. Row *r* has the values *r*, *r* + [`ROWS`], *r* + 2 [`ROWS`] and so on.
pub fn sketch(
	outputs: &[Tensor],
	seed: &H256,
	count: u8,
	fraction_bits: u8,
) -> Result<(u32, Vec<i32>), TensorError> {
	let limit = i64::from(i32::MAX) << GUARD_BITS;
	let fine = fraction_bits.saturating_add(GUARD_BITS);
	let mut total = 0usize;
	for tensor in outputs {
		tensor.validate()?;
		total += fixed::floats(tensor, fine).map_or(0, |floats| floats.len());
	}
	let each = total <= usize::from(count);
	let mut sums = vec![0i64; total.min(count.into())];
	let mut stream = ChaCha8Rng::from_seed(seed.0);
	let mut place = 0;
	let mut exact = Vec::with_capacity(outputs.len());
	for tensor in outputs {
		let part = match fixed::floats(tensor, fine) {
			None => Exact::Data(&tensor.data),
			Some(floats) => {
				let mut not_finite = Vec::new();
				for (i, float) in floats.enumerate() {
					let value = float.unwrap_or_else(|kind| {
						not_finite.push((i as u32, kind));
						0
					});
					let value = value.clamp(-limit, limit);
					if each {
						sums[place] = value;
						place += 1;
					} else {
						deal(&mut sums, value, stream.next_u32());
					}
				}
				Exact::NotFinite(not_finite)
			}
		};
		exact.push((&tensor.name, tensor.datatype, &tensor.shape, part));
	}
	let tag = (seed, exact).using_encoded(fixed::tag);
	Ok((tag, sums.into_iter().map(round).collect()))
}

/// Adds an element to one sum of each row.
fn deal(sums: &mut [i64], value: i64, word: u32) {
	for (row, byte) in word.to_le_bytes().into_iter().enumerate() {
		let bins = sums.len().saturating_sub(row).div_ceil(ROWS);
		if bins == 0 {
			// Fewer values than rows.
			break;
		}
		let bin = row + ROWS * (usize::from(byte & 0x7f) % bins);
		// Elements have 40 bits, and there are fewer than 2²³ of them: a byte of 8 tensors.
		sums[bin] += if byte & 0x80 == 0 { value } else { -value };
	}
}

/// To the policy's steps: to the nearest, halves away from zero, saturated.
fn round(sum: i64) -> i32 {
	let steps = (sum.unsigned_abs() + (1 << (GUARD_BITS - 1))) >> GUARD_BITS;
	let steps = i32::try_from(steps).unwrap_or(i32::MAX);
	if sum < 0 {
		-steps
	} else {
		steps
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::tensor::DataType;
	use polkadot_sdk::sp_crypto_hashing::blake2_256;
	use proptest::prelude::*;

	const COUNT: u8 = 64;
	const BITS: u8 = 12;
	const STEPS: f64 = 4_096.0;

	fn tensor(datatype: DataType, elements: usize, data: Vec<u8>) -> Tensor {
		Tensor {
			name: b"y".to_vec().try_into().unwrap(),
			datatype,
			shape: vec![elements as u32].try_into().unwrap(),
			data: data.try_into().unwrap(),
		}
	}

	fn floats(values: &[f32]) -> Tensor {
		let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
		tensor(DataType::Fp32, values.len(), data)
	}

	fn challenge(n: u32) -> H256 {
		H256(blake2_256(&n.encode()))
	}

	fn of(values: &[f32], seed: &H256) -> (u32, Vec<i32>) {
		sketch(&[floats(values)], seed, COUNT, BITS).unwrap()
	}

	/// The differences of two sketches, in the elements' own numbers.
	fn differences(a: &[f32], b: &[f32], seed: &H256) -> Vec<f64> {
		let (a, b) = (of(a, seed).1, of(b, seed).1);
		let pairs = a.iter().zip(&b);
		pairs
			.map(|(a, b)| f64::from(a.abs_diff(*b)) / STEPS)
			.collect()
	}

	/// The largest of them.
	fn apart(a: &[f32], b: &[f32], seed: &H256) -> f64 {
		differences(a, b, seed).into_iter().fold(0.0, f64::max)
	}

	/// An output like a classifier's: nearly everything is nearly nothing.
	fn peaked(n: usize, top: usize) -> Vec<f32> {
		let mut values: Vec<f32> = (0..n).map(|i| 1e-6 * (i % 7) as f32).collect();
		values[top] = 0.97;
		values
	}

	proptest! {
		#[test]
		fn one_element_is_seen_in_every_row(
			values in prop::collection::vec(-100f32..100.0, 65..2_000), place: prop::sample::Index,
			by in prop_oneof![0.01f32..50.0, -50f32..-0.01], seed: [u8; 32],
		) {
			let place = place.index(values.len());
			let mut other = values.clone();
			other[place] += by;
			let changed = f64::from((other[place] - values[place]).abs());
			let all = differences(&values, &other, &seed.into());
			for row in 0..ROWS {
				let differences: Vec<f64> = (all.iter().skip(row).step_by(ROWS))
					.copied()
					.filter(|d| *d > 0.0)
					.collect();
				prop_assert_eq!(differences.len(), 1);
				// Both sums are rounded.
				prop_assert!((differences[0] - changed).abs() <= 1.0 / STEPS + changed * 1e-6);
			}
		}

		#[test]
		fn few_elements_are_values(values in prop::collection::vec(-100f32..100.0, 0..=64), seed: [u8; 32]) {
			let want: Vec<i32> = values.iter().map(|v| fixed::from_f32_bits(v.to_bits(), BITS)).collect();
			for (got, want) in of(&values, &seed.into()).1.iter().zip(want) {
				// Rounded twice, to guard bits first.
				prop_assert!(got.abs_diff(want) <= 1);
			}
		}

		/// Whatever a tensor's bytes and the policy are.
		#[test]
		fn anything_has_a_sketch(
			data in prop::collection::vec(any::<u64>(), 0..100), f in 0u8..=24, count: u8, seed: [u8; 32],
		) {
			let bytes: Vec<u8> = data.iter().flat_map(|d| d.to_le_bytes()).collect();
			for (datatype, size) in [(DataType::Fp16, 2), (DataType::Bf16, 2), (DataType::Fp32, 4), (DataType::Fp64, 8)] {
				let elements = bytes.len() / size;
				let outputs = [tensor(datatype, elements, bytes.clone())];
				let (_, values) = sketch(&outputs, &seed.into(), count, f).unwrap();
				prop_assert_eq!(values.len(), elements.min(count.into()));
				prop_assert!(values.iter().all(|v| *v != i32::MIN));
			}
		}
	}

	/// The module's bound holds however a difference is spread, and squares of a row's sums add up to that of its norm on average.
	#[test]
	fn differences_are_seen_as_often_as_promised() {
		let n = 300;
		let spreads: [(&str, Vec<f32>); 6] = [
			("a pair", {
				let mut d = vec![0.0; n];
				(d[3], d[200]) = (1.0, -1.0);
				d
			}),
			("a shift", vec![0.25; n]),
			("turns", (0..n).map(|i| [0.5, -0.5][i % 2]).collect()),
			("a slope", (0..n).map(|i| i as f32 / 64.0).collect()),
			(
				"a decay",
				(0..n).map(|i| 0.7f32.powi(i as i32) * 4.0).collect(),
			),
			("a block", {
				let mut d = vec![0.0; n];
				d[100..108].fill(0.5);
				d
			}),
		];
		let values = peaked(n, 17);
		let challenges = 2_000;
		let (bins, theta) = (16.0f64, 0.25f64);
		let promised = (2.0 / (2.0 + bins * (1.0 - theta).powi(2))).powi(4);
		assert!(promised < 1.0 / 800.0);
		for (name, spread) in spreads {
			let other: Vec<f32> = values.iter().zip(&spread).map(|(v, d)| v + d).collect();
			let norm = spread.iter().map(|d| f64::from(d * d)).sum::<f64>().sqrt();
			let (mut unseen, mut squares) = (0, 0.0);
			for c in 0..challenges {
				let found = differences(&values, &other, &challenge(c));
				let largest = found.iter().copied().fold(0.0, f64::max);
				// A step for rounding.
				if largest < norm * (theta / bins).sqrt() - 1.0 / STEPS {
					unseen += 1;
				}
				squares += found.iter().map(|d| d * d).sum::<f64>();
			}
			assert!(
				f64::from(unseen) <= promised * f64::from(challenges),
				"{name}: {unseen} of {challenges}"
			);
			let mean = squares / f64::from(challenges) / ROWS as f64 / (norm * norm);
			assert!((mean - 1.0).abs() < 0.05, "{name}: {mean}");
		}
	}

	#[test]
	fn another_class_is_always_seen() {
		for c in 0..2_000 {
			assert!(apart(&peaked(214, 5), &peaked(214, 150), &challenge(c)) > 0.9);
		}
	}

	#[test]
	fn the_order_of_elements_matters() {
		let values: Vec<f32> = (0..100).map(|i| ((i * 37) % 101) as f32).collect();
		let mut turned = values.clone();
		turned.reverse();
		let mut sorted = values.clone();
		sorted.sort_unstable_by(f32::total_cmp);
		for c in 0..500 {
			assert!(apart(&values, &turned, &challenge(c)) > 1.0);
			assert!(apart(&values, &sorted, &challenge(c)) > 1.0);
		}
		// Over the border of two tensors, too.
		let (a, b) = (floats(&values[..50]), floats(&values[50..]));
		let both = |outputs: &[Tensor]| sketch(outputs, &challenge(0), COUNT, BITS).unwrap();
		assert_ne!(both(&[a.clone(), b.clone()]).1, both(&[b, a]).1);
	}

	#[test]
	fn rounding_grows_with_the_root_of_the_number_of_elements() {
		let n = 16_384;
		let values: Vec<f32> = (0..n).map(|i| (i % 100) as f32 / 100.0).collect();
		// An error of two steps, of changing sign.
		let error = 2.0 / STEPS as f32;
		let noisy: Vec<f32> = (values.iter().enumerate())
			.map(|(i, v)| {
				v + if blake2_256(&(i as u32).encode())[0] & 1 == 0 {
					error
				} else {
					-error
				}
			})
			.collect();
		let root = (n as f64 / 16.0).sqrt() * f64::from(error);
		for c in 0..20 {
			let apart = apart(&values, &noisy, &challenge(c));
			assert!((root..4.5 * root).contains(&apart), "{apart} and {root}");
		}
		// Errors far below a step do not add up to steps.
		let hardly: Vec<f32> = values.iter().map(|v| v + error / 1_000.0).collect();
		for c in 0..20 {
			assert!(apart(&values, &hardly, &challenge(c)) <= 1.0 / STEPS);
		}
	}

	#[test]
	fn what_is_not_finite_is_compared_exactly_and_hides_nothing() {
		let seed = challenge(1);
		let plain: Vec<f32> = (0..200).map(|i| i as f32 / 10.0).collect();
		let with = |place: usize, value: f32| {
			let mut values = plain.clone();
			values[place] = value;
			of(&values, &seed)
		};
		let zero = with(7, 0.0);
		for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
			let (tag, values) = with(7, value);
			assert_eq!(values, zero.1, "the others are still summed");
			assert_ne!(tag, zero.0);
			assert_ne!(tag, with(8, value).0);
			assert_eq!((tag, values), with(7, value));
		}
		assert_ne!(with(7, f32::INFINITY).0, with(7, f32::NEG_INFINITY).0);
		assert_ne!(with(7, f32::INFINITY).0, with(7, f32::NAN).0);
		let quiet = f32::from_bits(f32::NAN.to_bits() ^ 1);
		assert_eq!(with(7, quiet), with(7, f32::NAN));
		assert_eq!(with(7, -0.0), zero);
	}

	#[test]
	fn huge_values_saturate() {
		let seed = challenge(2);
		assert_eq!(of(&[1e30, -1e30], &seed).1, [i32::MAX, -i32::MAX]);
		let mut values = vec![1.0; 200];
		values[3] = f32::MAX;
		let (tag, sums) = of(&values, &seed);
		assert_eq!(
			tag,
			of(&[1.0; 200], &seed).0,
			"finite, so that it is near its neighbours"
		);
		let full = sums.iter().filter(|s| s.abs() > i32::MAX - 100 * 4_096);
		assert_eq!(full.count(), ROWS);
		// Differences are seen in the other rows' sums.
		let mut other = values.clone();
		other[100] = 3.0;
		assert_eq!(apart(&values, &other, &seed), 2.0);
	}

	#[test]
	fn what_is_no_float_is_compared_exactly() {
		let seed = challenge(3);
		let of = |t: Tensor| sketch(&[floats(&[0.5; 100]), t], &seed, COUNT, BITS).unwrap();
		let strings = |text: &[&str]| {
			let mut data = Vec::new();
			for t in text {
				data.extend((t.len() as u32).to_le_bytes());
				data.extend(t.bytes());
			}
			tensor(DataType::Bytes, text.len(), data)
		};
		let ids = |last: i64| {
			let data = [7i64, last].iter().flat_map(|v| v.to_le_bytes()).collect();
			tensor(DataType::Int64, 2, data)
		};
		for (a, b) in [
			(ids(1 << 40), ids((1 << 40) + 1)),
			(strings(&["a", "bc"]), strings(&["ab", "c"])),
			(
				tensor(DataType::Bool, 3, vec![0, 1, 1]),
				tensor(DataType::Bool, 3, vec![1, 1, 0]),
			),
			(
				tensor(DataType::Int4, 3, vec![0x21, 3]),
				tensor(DataType::Uint4, 3, vec![0x21, 3]),
			),
		] {
			let (a, b) = (of(a), of(b));
			assert_eq!(a.1, b.1);
			assert_ne!(a.0, b.0);
		}
	}

	#[test]
	fn empty_and_malformed_tensors() {
		let seed = challenge(4);
		let empty = sketch(&[floats(&[])], &seed, COUNT, BITS).unwrap();
		assert!(empty.1.is_empty());
		assert!(sketch(&[], &seed, COUNT, BITS).unwrap().1.is_empty());
		let mut hollow = floats(&[]);
		hollow.shape = vec![3, 0, 2].try_into().unwrap();
		assert_ne!(sketch(&[hollow], &seed, COUNT, BITS).unwrap().0, empty.0);
		let short = tensor(DataType::Fp32, 2, vec![0; 7]);
		assert_eq!(
			sketch(&[short], &seed, COUNT, BITS),
			Err(TensorError::WrongLength)
		);
	}

	/// Pinned so that nobody changes the draw without noticing: nodes of two versions would accuse each other.
	#[test]
	fn the_sketch_is_pinned() {
		let values: Vec<f32> = (0..40).map(|i| ((i * 37) % 101) as f32 / 25.0).collect();
		let (tag, sums) = sketch(&[floats(&values)], &H256::repeat_byte(42), 8, 8).unwrap();
		assert_eq!((tag, &sums[..]), PINNED);
	}

	const PINNED: (u32, &[i32]) = (
		1_976_321_230,
		&[3_215, -481, 1_638, -2_765, -348, -1_157, -3_748, 2_212],
	);
}
