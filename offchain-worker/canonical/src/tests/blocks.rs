//! Numbers that must be those of other programs, bit by bit.

use sha2::{Digest, Sha256};

use crate::{
	dequantise::Kind,
	rotary,
	source::{spread, Rope},
};

fn digest<'v>(values: impl IntoIterator<Item = &'v f32>) -> String {
	let mut hasher = Sha256::new();
	for value in values {
		hasher.update(value.to_le_bytes());
	}
	hasher
		.finalize()
		.iter()
		.map(|b| format!("{b:02x}"))
		.collect()
}

/// What `gguf.quants.dequantize` of the Python package gguf 0.19.0 makes of three blocks of these bytes.
#[test]
fn blocks_have_the_values_of_ggml_s_reference() {
	let kinds: [(Kind, &[usize], &str); 14] = [
		(
			Kind::Q4_0,
			&[0],
			"739d8687c363ee12650598afedd1589e6ef4b520b36b5c948dd43986528af036",
		),
		(
			Kind::Q4_1,
			&[0, 2],
			"624e0027ffa9c33e1df3b820518e3b71a3d01b3f0ec2a6b9b3a0293a18019c25",
		),
		(
			Kind::Q5_0,
			&[0],
			"e276e36e5d450ac6ac746443df5bebea60c2408bcbc1f1e922e9368961d4ca5c",
		),
		(
			Kind::Q5_1,
			&[0, 2],
			"3e0b80a38784b94b31fb0b4cd5cf220bd2dca5e04eeb8f23eeb29a1bc94e7e57",
		),
		(
			Kind::Q8_0,
			&[0],
			"e54ec24a38c2ef48e08838110a69b3c6c51bfe3430d31d943004d717f4f669ec",
		),
		(
			Kind::Q2K,
			&[80, 82],
			"cd63eeab08573ea9acb50d2154c3f28e3f2f4d758227e95922a7a0e4e82c20d3",
		),
		(
			Kind::Q3K,
			&[108],
			"515acc7adecf713fa09d41372d2f1f7e74f3529d2670dc019259f136e10f9685",
		),
		(
			Kind::Iq4Nl,
			&[0],
			"f0a6ab000373683674b33fb4976571e029f003225f1d66f7a0b31a4830675614",
		),
		(
			Kind::Iq4Xs,
			&[0],
			"880b60d1272ca3e97e0f925b0870567ff8a873cff6caa350c73b2055fe148dd5",
		),
		(
			Kind::Q4K,
			&[0, 2],
			"cf326d4e572154a0f97519d5944e79be0d53b77157f2b5cf3a8b3860234a08aa",
		),
		(
			Kind::Q5K,
			&[0, 2],
			"75af80fcf488889a1fea9cd3b9085ebac8b3fd55fe233cf7b3b70af101d8d2d7",
		),
		(
			Kind::Q6K,
			&[208],
			"cbf11245e176e491dd6bff973bbccc56acdaf901507b3420d1b25fa988f27232",
		),
		(
			Kind::F16,
			&[0],
			"05555f147aad61bfcb7ce015b951937fac2b9abf1df12444ae5b619e5068b39f",
		),
		(
			Kind::Bf16,
			&[0],
			"f5b77908e831353fd5a4318847189636e426faeb20586b8cd6e17623b47413ca",
		),
	];
	for (kind, halves, expected) in kinds {
		let size = kind.block().1;
		let mut bytes: Vec<u8> = (0..size * 3)
			.map(|i| ((i * i * 31 + i * 97 + 13) % 251) as u8)
			.collect();
		for block in 0..3 {
			// Scales are sensible numbers.
			halves
				.iter()
				.for_each(|half| bytes[block * size + half + 1] = 0x2c + block as u8);
		}
		assert_eq!(digest(&kind.values(&bytes)), expected, "{kind:?}");
	}
}

/// What `scripts/models/rotary.py` makes.
#[test]
fn rotary_tables_are_correctly_rounded() {
	for (context, dim, theta, expected) in [
		(
			130,
			64,
			100_000.0,
			"4a09fdfba335c2da7ac89227c66f40c2a94db929f0305ec41043153a00b2fcc1",
		),
		(
			300,
			6,
			10_000.0,
			"6f8050ecb7628703999e5450b7ffd9b2e283d65c78c807d03f58207d55000484",
		),
		(
			64,
			128,
			1_000_000.0,
			"17a65f2c315df124cee6673085590eafe694404c3b9697c2df8c8cc11b152dde",
		),
	] {
		let [cos, sin] = rotary::tables(context, dim, &Rope::new(theta));
		assert_eq!(
			digest(cos.iter().chain(&sin)),
			expected,
			"{context} {dim} {theta}"
		);
	}
}

/// A head that is turned in part has the tables of a shorter head, and is left as it is elsewhere.
#[test]
fn heads_that_are_turned_in_part_are_left_alone_elsewhere() {
	let whole = rotary::tables(40, 6, &Rope::new(100.0));
	let rope = Rope {
		turned: Some(6),
		scale: 1.5,
		..Rope::new(100.0)
	};
	let part = rotary::tables(40, 10, &rope);
	for ((whole, part), still) in whole.iter().zip(&part).zip([1.0, 0.0]) {
		for (whole, part) in whole.chunks(3).zip(part.chunks(5)) {
			let scaled: Vec<_> = whole.iter().map(|v| v * 1.5).collect();
			assert_eq!(part[..3], scaled);
			assert_eq!(part[3..], [still; 2]);
		}
	}
	let head: Vec<_> = (0..20).map(|i| i as f32).collect();
	let spread = spread(&head, 2, 10, 6);
	let order: Vec<_> = spread.iter().step_by(2).map(|v| v / 2.0).collect();
	assert_eq!(order, [0.0, 1.0, 2.0, 6.0, 7.0, 3.0, 4.0, 5.0, 8.0, 9.0]);
}

/// Integers and the library agree where the library is used, so that it does not matter which of them speaks.
#[test]
fn integers_say_what_the_library_says() {
	let pi = rotary::pi();
	for i in 0..300 {
		let angle = f64::from(i) * 1.37 + f64::from(i * i) / 7.0;
		let [cos, sin] = rotary::exact(angle, &pi);
		assert_eq!(
			rotary::settled(libm::cos(angle)),
			Some(cos as f32),
			"{angle}"
		);
		assert_eq!(
			rotary::settled(libm::sin(angle)),
			Some(sin as f32),
			"{angle}"
		);
	}
}
