//! The block formats of GGUF's tensors, and their values in single precision.
//!
//! Every value is made by the same operations in the same order as in ggml's own reference, so that a converted model has the
//! bits that other converters give it.

use half::{bf16, f16};

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
	F32,
	F16,
	Bf16,
	Q4_0,
	Q4_1,
	Q5_0,
	Q5_1,
	Q8_0,
	Q2K,
	Q3K,
	Q4K,
	Q5K,
	Q6K,
	Iq4Nl,
	Iq4Xs,
}

/// Elements of the larger blocks.
const SUPER: usize = 256;

/// What the sixteen four-bit numbers of the IQ4 kinds stand for.
const IQ4: [i8; 16] = [
	-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

/// Kinds that are not read, by their numbers, as people call them.
const NOT_READ: [(u32, &str); 18] = [
	(9, "Q8_1"),
	(15, "Q8_K"),
	(16, "IQ2_XXS"),
	(17, "IQ2_XS"),
	(18, "IQ3_XXS"),
	(19, "IQ1_S"),
	(21, "IQ3_S"),
	(22, "IQ2_S"),
	(24, "I8"),
	(25, "I16"),
	(26, "I32"),
	(27, "I64"),
	(28, "F64"),
	(29, "IQ1_M"),
	(34, "TQ1_0"),
	(35, "TQ2_0"),
	(39, "MXFP4"),
	(40, "NVFP4"),
];

impl Kind {
	/// The kind of this number in the format.
	pub(crate) fn from_number(number: u32) -> Result<Self, String> {
		Ok(match number {
			0 => Self::F32,
			1 => Self::F16,
			2 => Self::Q4_0,
			3 => Self::Q4_1,
			6 => Self::Q5_0,
			7 => Self::Q5_1,
			8 => Self::Q8_0,
			10 => Self::Q2K,
			11 => Self::Q3K,
			12 => Self::Q4K,
			13 => Self::Q5K,
			14 => Self::Q6K,
			20 => Self::Iq4Nl,
			23 => Self::Iq4Xs,
			30 => Self::Bf16,
			other => {
				let known = NOT_READ.iter().find(|(number, _)| *number == other);
				let name = known.map_or_else(|| other.to_string(), |(_, name)| (*name).into());
				return Err(format!(
					"element type {name} is not read here, only F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, \
					 Q5_K, Q6_K, IQ4_NL and IQ4_XS: take a file of one of these"
				));
			}
		})
	}

	/// Elements and bytes of a block.
	pub(crate) const fn block(self) -> (usize, usize) {
		match self {
			Self::F32 => (1, 4),
			Self::F16 | Self::Bf16 => (1, 2),
			Self::Q4_0 => (32, 18),
			Self::Q4_1 => (32, 20),
			Self::Q5_0 => (32, 22),
			Self::Q5_1 => (32, 24),
			Self::Q8_0 => (32, 34),
			Self::Q2K => (SUPER, 84),
			Self::Q3K => (SUPER, 110),
			Self::Q4K => (SUPER, 144),
			Self::Q5K => (SUPER, 176),
			Self::Q6K => (SUPER, 210),
			Self::Iq4Nl => (32, 18),
			Self::Iq4Xs => (SUPER, 136),
		}
	}

	/// Values of whole blocks.
	pub(crate) fn values(self, bytes: &[u8]) -> Vec<f32> {
		let (elements, size) = self.block();
		let mut values = Vec::with_capacity(bytes.len() / size * elements);
		let block: fn(&[u8], &mut Vec<f32>) = match self {
			Self::F32 => {
				|b, out| out.push(f32::from_bits(u32::from_le_bytes([b[0], b[1], b[2], b[3]])))
			}
			Self::F16 => |b, out| out.push(float16(b)),
			Self::Bf16 => |b, out| out.push(bf16::from_le_bytes([b[0], b[1]]).to_f32()),
			Self::Q4_0 => |b, out| {
				let d = float16(b);
				out.extend(nibbles(&b[2..]).map(|q| d * (f32::from(q) - 8.0)));
			},
			Self::Q4_1 => |b, out| {
				let (d, m) = (float16(b), float16(&b[2..]));
				out.extend(nibbles(&b[4..]).map(|q| d * f32::from(q) + m));
			},
			Self::Q5_0 => |b, out| {
				let (d, high) = (float16(b), fifth_bits(&b[2..]));
				out.extend(
					high.zip(nibbles(&b[6..]))
						.map(|(h, q)| d * (f32::from(h | q) - 16.0)),
				);
			},
			Self::Q5_1 => |b, out| {
				let (d, m, high) = (float16(b), float16(&b[2..]), fifth_bits(&b[4..]));
				out.extend(
					high.zip(nibbles(&b[8..]))
						.map(|(h, q)| d * f32::from(h | q) + m),
				);
			},
			Self::Q8_0 => |b, out| {
				let d = float16(b);
				out.extend(b[2..].iter().map(|q| f32::from(*q as i8) * d));
			},
			Self::Q2K => |b, out| {
				let (scales, quants) = (&b[..16], &b[16..80]);
				let (d, least) = (float16(&b[80..]), float16(&b[82..]));
				for (scale, quants) in scales.iter().zip(two_bits(quants)) {
					let (d, m) = (d * f32::from(scale & 15), least * f32::from(scale >> 4));
					out.extend(quants.map(|q| d * f32::from(q) - m));
				}
			},
			Self::Q3K => |b, out| {
				let (high, quants, scales) = (&b[..32], &b[32..96], &b[96..108]);
				let d = float16(&b[108..]);
				for (part, quants) in two_bits(quants).enumerate() {
					let d = d * f32::from(signed_scale(scales, part));
					let high = &high[16 * (part % 2)..];
					for (q, h) in quants.zip(high) {
						// The third bit, where it is not set, takes four away.
						let less = if h >> (part / 2) & 1 == 0 { 4 } else { 0 };
						out.push(d * f32::from(q as i8 - less));
					}
				}
			},
			Self::Q4K => |b, out| {
				let (d, least) = (float16(b), float16(&b[2..]));
				let (scales, quants) = (&b[4..16], &b[16..]);
				for (j, part) in quants.chunks_exact(32).enumerate() {
					for half in 0..2 {
						let (scale, min) = scale_and_min(scales, 2 * j + half);
						let (d, m) = (d * f32::from(scale), least * f32::from(min));
						let quant = |q: &u8| f32::from(q >> (4 * half) & 15);
						out.extend(part.iter().map(|q| d * quant(q) - m));
					}
				}
			},
			Self::Q5K => |b, out| {
				let (d, least) = (float16(b), float16(&b[2..]));
				let (scales, high, quants) = (&b[4..16], &b[16..48], &b[48..]);
				for (j, part) in quants.chunks_exact(32).enumerate() {
					for half in 0..2 {
						let (scale, min) = scale_and_min(scales, 2 * j + half);
						let (d, m) = (d * f32::from(scale), least * f32::from(min));
						let quant = |q: &u8, h: &u8| {
							(q >> (4 * half) & 15) | (h >> (2 * j + half) & 1) << 4
						};
						out.extend(
							part.iter()
								.zip(high)
								.map(|(q, h)| d * f32::from(quant(q, h)) - m),
						);
					}
				}
			},
			Self::Q6K => |b, out| {
				let (low, high, scales, d) =
					(&b[..128], &b[128..192], &b[192..208], float16(&b[208..]));
				for n in 0..2 {
					let (low, high, scales) = (&low[64 * n..], &high[32 * n..], &scales[8 * n..]);
					for quarter in 0..4 {
						for l in 0..32 {
							let nibble = low[l + 32 * (quarter % 2)] >> (4 * (quarter / 2)) & 15;
							let q = nibble | (high[l] >> (2 * quarter) & 3) << 4;
							let scale = d * f32::from(scales[l / 16 + 2 * quarter] as i8);
							out.push(scale * (f32::from(q) - 32.0));
						}
					}
				}
			},
			Self::Iq4Nl => |b, out| {
				let d = float16(b);
				out.extend(nibbles(&b[2..]).map(|q| d * f32::from(IQ4[usize::from(q)])));
			},
			Self::Iq4Xs => |b, out| {
				let (d, high) = (float16(b), u16::from_le_bytes([b[2], b[3]]));
				let (low, quants) = (&b[4..8], &b[8..]);
				for (part, quants) in quants.chunks_exact(16).enumerate() {
					let low = low[part / 2] >> (4 * (part % 2)) & 15;
					let scale = low | ((high >> (2 * part) & 3) as u8) << 4;
					let d = d * f32::from(scale as i8 - 32);
					out.extend(nibbles(quants).map(|q| d * f32::from(IQ4[usize::from(q)])));
				}
			},
		};
		bytes.chunks_exact(size).for_each(|b| block(b, &mut values));
		values
	}
}

fn float16(bytes: &[u8]) -> f32 {
	f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// Low halves of sixteen bytes, then high halves.
fn nibbles(bytes: &[u8]) -> impl Iterator<Item = u8> + '_ {
	let low = bytes[..16].iter().map(|b| b & 15);
	low.chain(bytes[..16].iter().map(|b| b >> 4))
}

/// Two bits each of the 256 elements of a block, sixteen by sixteen: of 32 bytes the lowest two bits come first.
fn two_bits(bytes: &[u8]) -> impl Iterator<Item = impl Iterator<Item = u8> + '_> {
	(0..16).map(move |part| {
		let (half, shift) = (part / 8, part % 8 / 2 * 2);
		let sixteen = &bytes[32 * half + 16 * (part % 2)..][..16];
		sixteen.iter().map(move |b| b >> shift & 3)
	})
}

/// Six bits with 32 taken away: the scale of the j-th of sixteen parts, packed in twelve bytes.
fn signed_scale(scales: &[u8], j: usize) -> i8 {
	let low = scales[j % 8] >> (4 * (j / 8)) & 15;
	let high = scales[8 + j % 4] >> (2 * (j / 4)) & 3;
	(low | high << 4) as i8 - 32
}

/// The fifth bits of 32 elements, in place.
fn fifth_bits(bytes: &[u8]) -> impl Iterator<Item = u8> {
	let bits = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
	(0..32).map(move |i| ((bits >> i & 1) as u8) << 4)
}

/// Six bits each of scale and minimum of the j-th of eight parts, packed in twelve bytes.
fn scale_and_min(scales: &[u8], j: usize) -> (u8, u8) {
	if j < 4 {
		(scales[j] & 63, scales[j + 4] & 63)
	} else {
		(
			(scales[j + 4] & 15) | (scales[j - 4] >> 6) << 4,
			(scales[j + 4] >> 4) | (scales[j] >> 6) << 4,
		)
	}
}
