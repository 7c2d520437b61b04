//! How a weight of the graph is made from a tensor of the source. Every step is exact float32 arithmetic on single elements, so
//! the result is the same everywhere.

/// A tensor of the source is [outputs, inputs], row after row; a graph multiplies by [inputs, outputs].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
	/// As it is.
	Same,
	/// [inputs, outputs].
	Transposed,
	/// [inputs, outputs], unsigned 8 bits with zero point 128. Unsigned on both sides of the product: the kernels for signed
	/// weights on CPUs without VNNI add two products in 16 bits and saturate, so that such CPUs give other, and worse, results.
	Int8Columns,
	/// The scale of each of those columns.
	ColumnScales,
	/// Signed 8-bit rows, for tables that are looked up and not multiplied.
	Int8Rows,
	/// The scale of each of those rows.
	RowScales,
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

/// The nearest whole step, ties to even.
fn steps(value: f32, scale: f32) -> f32 {
	(value / divisor(scale)).round_ties_even()
}

/// Rows that are transposed together: as many as a cache line has floats.
const TILE: usize = 16;

/// Columns as rows, each element made from a value and the scale of its row.
fn transposed<const N: usize>(
	values: &[f32],
	columns: usize,
	scale: impl Fn(&[f32]) -> f32,
	element: impl Fn(f32, f32) -> [u8; N],
) -> Vec<u8> {
	let rows = values.len() / columns;
	let mut bytes = vec![0; values.len() * N];
	let mut tile = vec![[0u8; N]; TILE * columns];
	for (t, block) in values.chunks(TILE * columns).enumerate() {
		let height = block.len() / columns;
		for (r, source) in block.chunks_exact(columns).enumerate() {
			let scale = scale(source);
			for (c, value) in source.iter().enumerate() {
				tile[c * TILE + r] = element(*value, scale);
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
			Self::Transposed => transposed(values, columns, |_| 1.0, |v, _| v.to_le_bytes()),
			Self::Int8Columns => transposed(values, columns, scale, |v, scale| {
				[(steps(v, scale) + 128.0) as u8]
			}),
			Self::ColumnScales => floats(rows.map(|row| divisor(scale(row)))),
			Self::Int8Rows => rows
				.flat_map(|row| {
					let scale = scale(row);
					row.iter().map(move |v| steps(*v, scale) as i8 as u8)
				})
				.collect(),
			Self::RowScales => floats(rows.map(scale)),
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

	#[test]
	fn eight_bits_are_within_half_a_step() {
		let (values, rows, columns) = matrix();
		let scales = Form::ColumnScales.bytes(&values, columns);
		let weights = Form::Int8Columns.bytes(&values, columns);
		let signed = Form::Int8Rows.bytes(&values, columns);
		for r in 0..rows {
			let scale = f32::from_le_bytes(scales[r * 4..][..4].try_into().unwrap());
			for c in 0..columns {
				let stored = f32::from(weights[c * rows + r]) - 128.0;
				let value = values[r * columns + c];
				assert!((stored * scale - value).abs() <= scale * 0.5001);
				assert_eq!(stored, f32::from(signed[r * columns + c] as i8));
			}
		}
	}

	#[test]
	fn a_row_of_zeros_is_zeros() {
		let zeros = [0.0; 6];
		assert_eq!(Form::Int8Columns.bytes(&zeros, 3), [128; 6]);
		assert_eq!(Form::Int8Rows.bytes(&zeros, 3), [0; 6]);
		assert_eq!(
			Form::ColumnScales.bytes(&zeros, 3),
			floats([1.0, 1.0].into_iter())
		);
	}
}
