//! Numbers as graphs have them.

use alloc::vec::Vec;

use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;

use crate::float::{self, Width};

/// Type of a tensor's elements.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
pub enum Kind {
	/// Whole, 8 bits, of both signs.
	Int8,
	/// Whole, 8 bits.
	Uint8,
	/// Whole, 32 bits, of both signs.
	Int32,
	/// Whole, 64 bits, of both signs.
	Int64,
	/// Zero or one.
	Bool,
	/// IEEE's 32 bits.
	Float,
	/// IEEE's 64 bits.
	Double,
}

/// One element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
	/// Of a type that has whole numbers only.
	Whole(i64),
	/// Bits of 32.
	Float(u32),
	/// Bits of 64.
	Double(u64),
}

/// Why there is no number. All of it is told from what the defender has committed to: in a trace of a graph of the class, fed as its
/// proof asks, none of it occurs.
#[derive(
	Clone,
	Copy,
	Debug,
	PartialEq,
	Eq,
	Encode,
	Decode,
	DecodeWithMemTracking,
	MaxEncodedLen,
	TypeInfo,
)]
pub enum Fault {
	/// A number was to be whole, and is not.
	NotWhole,
	/// A number does not fit its type, or a sum its type's whole numbers.
	TooLarge,
	/// What is compared is not a number.
	NoNumber,
	/// An index names nothing.
	NoSuchPlace,
	/// Two things are written to one place.
	WrittenTwice,
	/// An element is of another type than its operator has.
	OtherKind,
	/// A rule does not fit the tensors that it is about. No rule of a program that was made from a graph does that.
	OtherRule,
}

impl Kind {
	/// Bytes of an element.
	pub const fn size(self) -> usize {
		match self {
			Self::Int8 | Self::Uint8 | Self::Bool => 1,
			Self::Int32 | Self::Float => 4,
			Self::Int64 | Self::Double => 8,
		}
	}

	/// How wide its floating point is; nothing for whole numbers.
	pub const fn width(self) -> Option<Width> {
		match self {
			Self::Float => Some(Width::Single),
			Self::Double => Some(Width::Double),
			_ => None,
		}
	}

	/// Least and most of a type of whole numbers.
	const fn range(self) -> (i64, i64) {
		match self {
			Self::Int8 => (i8::MIN as i64, i8::MAX as i64),
			Self::Uint8 => (0, u8::MAX as i64),
			Self::Int32 => (i32::MIN as i64, i32::MAX as i64),
			Self::Bool => (0, 1),
			_ => (i64::MIN, i64::MAX),
		}
	}

	/// An element of bits that arithmetic gave.
	pub(crate) fn of_bits(self, bits: u64) -> Result<Value, Fault> {
		match self {
			Self::Float => Ok(Value::Float(bits as u32)),
			Self::Double => Ok(Value::Double(bits)),
			_ => Err(Fault::OtherKind),
		}
	}

	/// A whole number in this type, exactly: floating point holds it only where it holds all whole numbers up to it.
	pub(crate) fn of_whole(self, whole: i64) -> Result<Value, Fault> {
		match self.width() {
			Some(width) if whole.unsigned_abs() <= width.whole() => {
				self.of_bits(float::from_whole(width, whole))
			}
			None if (self.range().0..=self.range().1).contains(&whole) => Ok(Value::Whole(whole)),
			_ => Err(Fault::TooLarge),
		}
	}

	/// The element in these bytes, of which there are [`Self::size`].
	pub fn read(self, bytes: &[u8]) -> Result<Value, Fault> {
		let mut word = [0; 8];
		let size = self.size();
		word[..size].copy_from_slice(bytes.get(..size).ok_or(Fault::OtherKind)?);
		let word = u64::from_le_bytes(word);
		Ok(match self {
			Self::Int8 => Value::Whole((word as u8 as i8).into()),
			Self::Int32 => Value::Whole((word as u32 as i32).into()),
			Self::Uint8 | Self::Int64 => Value::Whole(word as i64),
			Self::Bool => Value::Whole(i64::from(word != 0)),
			Self::Float => Value::Float(word as u32),
			Self::Double => Value::Double(word),
		})
	}
}

impl Value {
	/// This where no zero is negative. Of a sum, a Max or what is rounded to zero the sign may differ between machines
	/// ([`crate::trace`]).
	pub fn settled(self) -> Self {
		match self {
			Self::Float(bits) if bits << 1 == 0 => Self::Float(0),
			Self::Double(bits) if bits << 1 == 0 => Self::Double(0),
			other => other,
		}
	}

	/// Appends the element's bytes, little end first, without the sign of zero.
	pub fn write(self, kind: Kind, bytes: &mut Vec<u8>) -> Result<(), Fault> {
		let word = match (self.settled(), kind) {
			(Self::Float(bits), Kind::Float) => bits.into(),
			(Self::Double(bits), Kind::Double) => bits,
			(Self::Whole(whole), kind) if kind.width().is_none() => whole as u64,
			_ => return Err(Fault::OtherKind),
		};
		bytes.extend_from_slice(&word.to_le_bytes()[..kind.size()]);
		Ok(())
	}

	/// Bits and their width; nothing for whole numbers.
	pub(crate) fn bits(self) -> Option<(Width, u64)> {
		match self {
			Self::Whole(_) => None,
			Self::Float(bits) => Some((Width::Single, bits.into())),
			Self::Double(bits) => Some((Width::Double, bits)),
		}
	}

	/// The whole number that this is.
	pub fn whole(self) -> Result<i64, Fault> {
		match self.bits() {
			Some((width, bits)) => float::to_whole(width, bits).ok_or(Fault::NotWhole),
			None => match self {
				Self::Whole(whole) => Ok(whole),
				_ => Err(Fault::OtherKind),
			},
		}
	}

	/// A whole number that is larger where this is.
	pub(crate) fn order(self) -> Result<i64, Fault> {
		match self.bits() {
			Some((width, bits)) => float::order(width, bits).ok_or(Fault::NoNumber),
			None => self.whole(),
		}
	}

	/// The element of a type that has this order.
	pub(crate) fn of_order(kind: Kind, order: i64) -> Result<Self, Fault> {
		match kind.width() {
			Some(width) => kind.of_bits(float::ordered(width, order)),
			None => kind.of_whole(order),
		}
	}
}
