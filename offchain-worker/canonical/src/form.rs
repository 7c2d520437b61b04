//! How a weight of the graph is made from a tensor of the source. Every step is exact float32 arithmetic on single elements, so
//! the result is the same everywhere.

/// A tensor of the source is [outputs, inputs], row after row; a graph multiplies by [inputs, outputs].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
	/// As it is.
	Same,
	/// [inputs, outputs].
	Transposed,
	/// [inputs, outputs], signed 8 bits, on each column's grid. For activations of 7 bits only: the kernels of CPUs without VNNI
	/// add two products in 16 bits, and saturate with 8.
	Int8Columns(Part),
	/// What stands for zero in each of those columns.
	ColumnZeros(Part),
	/// The scale of each of those columns.
	ColumnScales(Part),
	/// Signed 8-bit rows, for tables that are looked up and not multiplied.
	Int8Rows,
	/// The scale of each of those rows.
	RowScales,
	/// Of a norm's weight, what rows of the integer class are multiplied with: itself twice, and the root of one over its length.
	NormRows,
}

/// Which column of a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
	/// The one that stands for it.
	First,
	/// The one that holds what the first leaves over.
	Rest,
}

/// Eight bits from the smallest (or zero) to the largest (or zero) of some values.
#[derive(Clone, Copy)]
struct Grid {
	scale: f32,
	zero: f32,
}

impl Grid {
	fn of(values: impl Iterator<Item = f32>) -> Self {
		let (low, high) = values.fold((0f32, 0f32), |(low, high), v| (low.min(v), high.max(v)));
		let scale = divisor((high - low) / 255.0);
		let zero = (-low / scale).round_ties_even();
		Self { scale, zero }
	}

	/// Steps from the lowest.
	fn steps(self, value: f32) -> f32 {
		((value / self.scale).round_ties_even() + self.zero).clamp(0.0, 255.0)
	}

	/// What is left over of a value.
	fn rest(self, value: f32) -> f32 {
		value - (self.steps(value) - self.zero) * self.scale
	}
}

/// Steps as the graph stores them.
fn signed(steps: f32) -> u8 {
	(steps - 128.0) as i8 as u8
}

impl Part {
	/// Its grid of a row, and what of a value is on it.
	fn of(self, row: &[f32]) -> (Grid, impl Fn(f32) -> f32) {
		let first = Grid::of(row.iter().copied());
		let value = move |v| match self {
			Self::First => v,
			Self::Rest => first.rest(v),
		};
		let grid = match self {
			Self::First => first,
			Self::Rest => Grid::of(row.iter().map(|v| value(*v))),
		};
		(grid, value)
	}
}

/// The largest magnitude of a row, over 127.
fn scale(row: &[f32]) -> f32 {
	row.iter().fold(0f32, |most, v| most.max(v.abs())) / 127.0
}

/// A scale of zero, which a row of zeros has, divides nothing.
fn divisor(scale: f32) -> f32 {
	if scale == 0.0 {
		1.0
	} else {
		scale
	}
}

/// Rows that are transposed together: as many as a cache line has floats.
const TILE: usize = 16;

/// Columns as rows, each element made from a value as its row has it made.
fn transposed<const N: usize, E: Fn(f32) -> [u8; N]>(
	values: &[f32],
	columns: usize,
	element: impl Fn(&[f32]) -> E,
) -> Vec<u8> {
	let rows = values.len() / columns;
	let mut bytes = vec![0; values.len() * N];
	let mut tile = vec![[0u8; N]; TILE * columns];
	for (t, block) in values.chunks(TILE * columns).enumerate() {
		let height = block.len() / columns;
		for (r, source) in block.chunks_exact(columns).enumerate() {
			let element = element(source);
			for (c, value) in source.iter().enumerate() {
				tile[c * TILE + r] = element(*value);
			}
		}
		for (line, target) in tile
			.chunks_exact(TILE)
			.zip(bytes.chunks_exact_mut(rows * N))
		{
			let target = &mut target[t * TILE * N..][..height * N];
			for (value, target) in line.iter().zip(target.chunks_exact_mut(N)) {
				target.copy_from_slice(value);
			}
		}
	}
	bytes
}

fn floats(values: impl Iterator<Item = f32>) -> Vec<u8> {
	values.flat_map(f32::to_le_bytes).collect()
}

impl Form {
	/// The weight's bytes, little end first, from a tensor whose rows have so many columns.
	pub(crate) fn bytes(self, values: &[f32], columns: usize) -> Vec<u8> {
		if values.is_empty() || columns == 0 {
			return Vec::new();
		}
		let rows = values.chunks_exact(columns);
		match self {
			Self::Same => floats(values.iter().copied()),
			Self::Transposed => transposed(values, columns, |_| |v: f32| v.to_le_bytes()),
			Self::Int8Columns(part) => transposed(values, columns, |row| {
				let (grid, value) = part.of(row);
				move |v| [signed(grid.steps(value(v)))]
			}),
			Self::ColumnZeros(part) => rows.map(|row| signed(part.of(row).0.zero)).collect(),
			Self::ColumnScales(part) => floats(rows.map(|row| part.of(row).0.scale)),
			Self::Int8Rows => rows
				.flat_map(|row| {
					let scale = scale(row);
					let steps = move |v: &f32| (v / divisor(scale)).round_ties_even();
					row.iter().map(move |v| steps(v) as i8 as u8)
				})
				.collect(),
			Self::RowScales => floats(rows.map(scale)),
			Self::NormRows => {
				let third = (1.0 / libm::sqrt(values.len() as f64)) as f32;
				let twice = values.iter().chain(values).copied();
				floats(twice.chain(std::iter::repeat_n(third, values.len())))
			}
		}
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	/// Three rows of seventeen would do; more rows than a tile show that tiles are put together.
	fn matrix() -> (Vec<f32>, usize, usize) {
		let (rows, columns) = (TILE + 3, 5);
		let values = (0..rows * columns)
			.map(|i| (i as f32 - 40.0) * 0.37)
			.collect();
		(values, rows, columns)
	}

	#[test]
	fn transposing_moves_every_element() {
		let (values, rows, columns) = matrix();
		let bytes = Form::Transposed.bytes(&values, columns);
		for r in 0..rows {
			for c in 0..columns {
				let at = (c * rows + r) * 4;
				assert_eq!(bytes[at..at + 4], values[r * columns + c].to_le_bytes());
			}
		}
	}

	/// Values of a matrix's part as the graph multiplies by them.
	fn stored(values: &[f32], rows: usize, columns: usize, part: Part) -> (Vec<f32>, Vec<f32>) {
		let weights = Form::Int8Columns(part).bytes(values, columns);
		let zeros = Form::ColumnZeros(part).bytes(values, columns);
		let scales = Form::ColumnScales(part).bytes(values, columns);
		let scales: Vec<_> = scales
			.chunks_exact(4)
			.map(|b| f32::from_le_bytes(b.try_into().unwrap()))
			.collect();
		let value = |r: usize, c: usize| {
			let (weight, zero) = (weights[c * rows + r] as i8, zeros[r] as i8);
			(f32::from(weight) - f32::from(zero)) * scales[r]
		};
		let all = (0..rows).flat_map(|r| (0..columns).map(move |c| value(r, c)));
		(all.collect(), scales)
	}

	#[test]
	fn eight_bits_are_within_half_a_step_and_the_rest_is_within_half_of_one_of_its_own() {
		let (values, rows, columns) = matrix();
		let (first, scales) = stored(&values, rows, columns, Part::First);
		let (rest, finer) = stored(&values, rows, columns, Part::Rest);
		for (i, value) in values.iter().enumerate() {
			let left = value - first[i];
			// The ends of a grid that zero lies on are up to a whole step off, where the values nearest to them are.
			assert!(left.abs() <= scales[i / columns] * 1.0001, "{left}");
			assert!((left - rest[i]).abs() <= finer[i / columns] * 1.0001);
			// Nothing left over has a scale of one.
			let (scale, finer) = (scales[i / columns], finer[i / columns]);
			assert!(finer == 1.0 || finer <= scale / 120.0, "{finer} {scale}");
		}
		let halves = values.iter().zip(&first).enumerate();
		let within =
			|(i, (v, f)): &(usize, (&f32, &f32))| (*v - *f).abs() <= scales[i / columns] * 0.5001;
		assert!(halves.filter(within).count() * 10 >= values.len() * 9);
	}

	#[test]
	fn a_column_that_is_all_above_zero_has_all_its_steps_there() {
		let values: Vec<f32> = (0..=255).map(|i| i as f32).collect();
		assert_eq!(Form::ColumnZeros(Part::First).bytes(&values, 256), [128]);
		assert_eq!(
			Form::Int8Columns(Part::First).bytes(&values, 256),
			(0..=255u8).map(|i| i.wrapping_sub(128)).collect::<Vec<_>>()
		);
	}

	#[test]
	fn rows_that_are_looked_up_are_within_half_a_step() {
		let (values, rows, columns) = matrix();
		let scales = Form::RowScales.bytes(&values, columns);
		let signed = Form::Int8Rows.bytes(&values, columns);
		for r in 0..rows {
			let scale = f32::from_le_bytes(scales[r * 4..][..4].try_into().unwrap());
			for c in 0..columns {
				let stored = f32::from(signed[r * columns + c] as i8);
				assert!((stored * scale - values[r * columns + c]).abs() <= scale * 0.5001);
			}
		}
	}

	#[test]
	fn a_norm_s_weight_stands_twice_over_the_root_of_its_length() {
		let floats = |values: &[f32]| floats(values.iter().copied());
		let bytes = Form::NormRows.bytes(&[1.5, -2.0, 0.0, 3.0], 4);
		let rows = [
			[1.5, -2.0, 0.0, 3.0],
			[1.5, -2.0, 0.0, 3.0],
			[0.5, 0.5, 0.5, 0.5],
		];
		assert_eq!(bytes, floats(&rows.concat()));
	}

	#[test]
	fn a_row_of_zeros_is_zeros() {
		let zeros = [0.0; 6];
		for part in [Part::First, Part::Rest] {
			let zero = 128; // -128: no step below zero
			assert_eq!(Form::Int8Columns(part).bytes(&zeros, 3), [zero; 6]);
			assert_eq!(Form::ColumnZeros(part).bytes(&zeros, 3), [zero; 2]);
			assert_eq!(
				Form::ColumnScales(part).bytes(&zeros, 3),
				floats([1.0, 1.0].into_iter())
			);
		}
		assert_eq!(Form::Int8Rows.bytes(&zeros, 3), [0; 6]);
	}
}
