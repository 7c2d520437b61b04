//! What the reference gave, against which all else is compared.

use std::{fs::File, io::Write, os::unix::fs::FileExt};

use polkadot_sdk::sp_crypto_hashing::blake2_256;

use super::{Difference, Outcome};
use crate::EngineError;

/// Rows of numbers, one a position of each text. They are kept in a file without a name: those of a long text take hundreds of
/// megabytes, and are only looked at where a digest differs.
pub(super) struct Reference {
	file: File,
	/// Numbers of a row.
	width: usize,
	/// Of each text, a digest a position.
	digests: Vec<Vec<[u8; 32]>>,
	rows: u64,
	/// Row at which each text begins.
	starts: Vec<u64>,
}

fn bytes(row: &[f32]) -> Vec<u8> {
	row.iter().flat_map(|x| x.to_le_bytes()).collect()
}

impl Reference {
	pub(super) fn new(width: usize) -> Result<Self, EngineError> {
		Ok(Self {
			file: tempfile::tempfile().map_err(|e| EngineError::load(std::env::temp_dir(), e))?,
			width,
			digests: Vec::new(),
			rows: 0,
			starts: Vec::new(),
		})
	}

	/// Begins the next text.
	pub(super) fn begin(&mut self) {
		self.starts.push(self.rows);
		self.digests.push(Vec::new());
	}

	/// Adds rows to the text that was begun last.
	pub(super) fn add(&mut self, rows: &[f32]) -> Result<(), EngineError> {
		for row in rows.chunks_exact(self.width) {
			let bytes = bytes(row);
			self.file
				.write_all(&bytes)
				.map_err(|e| EngineError::load(std::env::temp_dir(), e))?;
			if let Some(digests) = self.digests.last_mut() {
				digests.push(blake2_256(&bytes));
			}
			self.rows += 1;
		}
		Ok(())
	}

	/// Positions of each text.
	pub(super) fn lengths(&self) -> Vec<usize> {
		self.digests.iter().map(Vec::len).collect()
	}

	/// One digest over everything.
	pub(super) fn digest(&self) -> String {
		let all: Vec<u8> = self.digests.concat().concat();
		hex::encode(&blake2_256(&all)[..16])
	}

	fn row(&self, text: usize, position: usize) -> Result<Vec<f32>, EngineError> {
		let size = self.width * 4;
		let mut bytes = vec![0; size];
		let row = self.starts[text] + position as u64;
		self.file
			.read_exact_at(&mut bytes, row * size as u64)
			.map_err(|e| EngineError::load(std::env::temp_dir(), e))?;
		Ok(bytes
			.chunks_exact(4)
			.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
			.collect())
	}
}

/// What differs from a reference.
#[derive(Default)]
pub(super) struct Differences {
	/// Text and position.
	pub(super) first: Option<(usize, usize)>,
	pub(super) differing: usize,
	pub(super) largest: f64,
}

impl Differences {
	pub(super) fn outcome(&self) -> Outcome {
		match self.first {
			None => Outcome::Equal,
			Some((text, position)) => Outcome::Differs(Difference {
				text,
				position,
				differing: self.differing,
				largest: self.largest,
			}),
		}
	}
}

/// What one way gave beside the reference.
pub(super) struct Comparison<'r> {
	reference: &'r Reference,
	pub(super) compared: usize,
	differences: Differences,
}

impl<'r> Comparison<'r> {
	pub(super) fn new(reference: &'r Reference) -> Self {
		Self {
			reference,
			compared: 0,
			differences: Differences::default(),
		}
	}

	/// Takes rows of a text from this position on.
	pub(super) fn see(
		&mut self,
		text: usize,
		position: usize,
		rows: &[f32],
	) -> Result<(), EngineError> {
		for (i, row) in rows.chunks_exact(self.reference.width).enumerate() {
			let position = position + i;
			self.compared += 1;
			if blake2_256(&bytes(row)) == self.reference.digests[text][position] {
				continue;
			}
			let found = &mut self.differences;
			found.differing += 1;
			let place = (text, position);
			if found.first.is_none_or(|first| place < first) {
				found.first = Some(place);
			}
			let expected = self.reference.row(text, position)?;
			for (a, b) in row.iter().zip(&expected) {
				found.largest = found.largest.max(distance(f64::from(*a), f64::from(*b)));
			}
		}
		Ok(())
	}

	pub(super) fn outcome(&self) -> Outcome {
		self.differences.outcome()
	}
}

/// How far two numbers are apart; infinitely, if one of them is none.
pub(super) fn distance(a: f64, b: f64) -> f64 {
	if a == b || (a.is_nan() && b.is_nan()) {
		return 0.0;
	}
	let distance = (a - b).abs();
	if distance.is_nan() {
		f64::INFINITY
	} else {
		distance
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn the_first_position_and_the_largest_difference_are_found() {
		let mut reference = Reference::new(2).unwrap();
		reference.begin();
		reference.add(&[1.0, 2.0]).unwrap();
		reference.begin();
		reference.add(&[3.0, 4.0, 5.0, 6.0, 7.0, 8.0]).unwrap();
		assert_eq!(reference.lengths(), [1, 3]);
		let mut equal = Comparison::new(&reference);
		equal.see(0, 0, &[1.0, 2.0]).unwrap();
		equal.see(1, 1, &[5.0, 6.0, 7.0, 8.0]).unwrap();
		assert_eq!((equal.compared, equal.outcome()), (3, Outcome::Equal));
		let mut other = Comparison::new(&reference);
		other.see(1, 2, &[7.0, 8.5]).unwrap();
		other.see(1, 0, &[3.0, 4.0, 5.25, 6.0]).unwrap();
		let difference = Difference {
			text: 1,
			position: 1,
			differing: 2,
			largest: 0.5,
		};
		assert_eq!(other.outcome(), Outcome::Differs(difference));
	}

	#[test]
	fn zeros_of_both_signs_are_other_bits() {
		let mut reference = Reference::new(1).unwrap();
		reference.begin();
		reference.add(&[0.0]).unwrap();
		let mut other = Comparison::new(&reference);
		other.see(0, 0, &[-0.0]).unwrap();
		assert!(matches!(other.outcome(), Outcome::Differs(_)));
	}

	#[test]
	fn what_is_no_number_is_infinitely_far() {
		assert_eq!(distance(f64::NAN, 1.0), f64::INFINITY);
		assert_eq!(distance(f64::INFINITY, f64::INFINITY), 0.0);
		assert_eq!(distance(1.0, -1.0), 2.0);
	}
}
