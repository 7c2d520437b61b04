//! How pictures and sound become tensors, and scores words: what a manifest says of it, for clients.

use alloc::{string::String, vec::Vec};
use codec::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::tensor::{DataType, NamedSpec, MAX_DATA};

/// How what people have becomes a tensor, and what they get back becomes words. Clients follow it; who serves the model sees tensors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Media {
	/// How a picture becomes an input.
	#[serde(default, skip_serializing_if = "Option::is_none")]
	pub picture: Option<Picture>,
	/// How a recording becomes an input.
	#[serde(default, skip_serializing_if = "Option::is_none")]
	pub sound: Option<Sound>,
	/// What the scores of an output are called.
	#[serde(default, skip_serializing_if = "Option::is_none")]
	pub labels: Option<Labels>,
}

impl Media {
	/// Whether nothing is said.
	pub fn is_empty(&self) -> bool {
		*self == Self::default()
	}

	/// Whether it goes with a graph's inputs and outputs. The error says what does not.
	pub fn check(&self, inputs: &[NamedSpec], outputs: &[NamedSpec]) -> Result<(), &'static str> {
		let picture = self.picture.iter().find_map(|p| p.wrong(inputs));
		let sound = || self.sound.iter().find_map(|s| s.wrong(inputs));
		let labels = || self.labels.iter().find_map(|l| l.wrong(outputs));
		picture.or_else(sound).or_else(labels).map_or(Ok(()), Err)
	}
}

/// How a picture becomes a tensor of one `FP32` or `UINT8` picture, in this order: resized, cropped at its centre, rescaled,
/// normalised. The fields mean what they mean in the hub's `preprocessor_config.json`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Picture {
	/// Name of the input.
	pub input: String,
	/// Width in pixels.
	pub width: u32,
	/// Height in pixels.
	pub height: u32,
	/// Length of the shorter side after resizing, before `width` and `height` are cropped; without it the picture is resized to
	/// those, whatever its proportions.
	#[serde(default, skip_serializing_if = "Option::is_none")]
	pub shortest_edge: Option<u32>,
	/// How pixels are resampled.
	#[serde(default)]
	pub resample: Resample,
	/// Which colours there are, in which order.
	#[serde(default)]
	pub channels: Channels,
	/// Whether a pixel's colours stand together.
	#[serde(default)]
	pub layout: PictureLayout,
	/// Whether colours go from 0 to 1 instead of 255.
	#[serde(default)]
	pub rescale: bool,
	/// Subtracted from each colour, in millionths; nothing is where it is empty.
	#[serde(default, skip_serializing_if = "Vec::is_empty")]
	pub mean_millionths: Vec<i32>,
	/// By what each colour is divided then, in millionths; by nothing where it is empty.
	#[serde(default, skip_serializing_if = "Vec::is_empty")]
	pub std_millionths: Vec<u32>,
}

impl Picture {
	/// What is wrong with it, if something is.
	fn wrong(&self, inputs: &[NamedSpec]) -> Option<&'static str> {
		let Some(input) = inputs.iter().find(|i| i.name == self.input) else {
			return Some("the picture's input is none of the graph's");
		};
		let colours = self.channels.count();
		let shape = match self.layout {
			PictureLayout::Nchw => [1, colours, self.height, self.width],
			PictureLayout::Nhwc => [1, self.height, self.width, colours],
		};
		let fits = input.shape.len() == 4
			&& input
				.shape
				.iter()
				.zip(shape)
				.all(|(want, is)| want.is_none_or(|w| w == is));
		let one_each = |n: usize| n == 0 || n == colours as usize;
		if !fits {
			return Some("the picture's size, colours and layout are not the input's shape");
		}
		if !matches!(input.datatype, DataType::Fp32 | DataType::Uint8) {
			return Some("pictures become FP32 or UINT8");
		}
		let normalised =
			self.rescale || !self.mean_millionths.is_empty() || !self.std_millionths.is_empty();
		if input.datatype == DataType::Uint8 && normalised {
			return Some("UINT8 pictures are neither rescaled nor normalised");
		}
		if !one_each(self.mean_millionths.len()) || !one_each(self.std_millionths.len()) {
			return Some("there is one mean and one deviation a colour");
		}
		if self.std_millionths.contains(&0) {
			return Some("a picture's deviation is zero");
		}
		if self.width == 0 || self.height == 0 {
			return Some("a picture has a width and a height");
		}
		let bytes = u64::from(self.width)
			.saturating_mul(self.height.into())
			.saturating_mul(u64::from(colours) * input.datatype.bits().unwrap_or(8) / 8);
		if bytes > u64::from(MAX_DATA) {
			return Some("the picture is larger than what a request carries");
		}
		if self.shortest_edge.is_some_and(|edge| {
			let crop = self.width.max(self.height);
			edge < crop || edge > crop.saturating_mul(4)
		}) {
			return Some(
				"a picture's shorter side is resized to no less than what is cropped, and to no more than four times that",
			);
		}
		None
	}
}

/// How pixels are resampled, by the names of Pillow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resample {
	/// The nearest pixel.
	Nearest,
	/// A triangle.
	#[default]
	Bilinear,
	/// A cubic.
	Bicubic,
	/// Lanczos with three lobes.
	Lanczos,
}

/// Colours of a pixel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channels {
	/// Red, green, blue.
	#[default]
	Rgb,
	/// Blue, green, red, as OpenCV reads them.
	Bgr,
	/// Brightness alone.
	Gray,
}

impl Channels {
	/// How many there are.
	pub const fn count(self) -> u32 {
		match self {
			Self::Rgb | Self::Bgr => 3,
			Self::Gray => 1,
		}
	}
}

/// How a picture lies in its tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PictureLayout {
	/// One plane a colour.
	#[default]
	Nchw,
	/// A pixel's colours together.
	Nhwc,
}

/// How a recording becomes an `FP32` tensor of samples between -1 and 1, of shape `[samples]` or `[1, samples]`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sound {
	/// Name of the input.
	pub input: String,
	/// Samples a second.
	pub sampling_rate: u32,
}

impl Sound {
	/// What is wrong with it, if something is.
	fn wrong(&self, inputs: &[NamedSpec]) -> Option<&'static str> {
		let Some(input) = inputs.iter().find(|i| i.name == self.input) else {
			return Some("the sound's input is none of the graph's");
		};
		let fits = matches!(&input.shape[..], [_] | [None | Some(1), _]);
		if !fits || input.datatype != DataType::Fp32 {
			return Some("sound becomes FP32 of one dimension, or of two whose first is one");
		}
		(self.sampling_rate == 0).then_some("sound has a sampling rate")
	}
}

/// What the scores of an output are called.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labels {
	/// Name of the output: one score a label in its last dimension.
	pub output: String,
	/// A name for each score, in order.
	pub names: Vec<String>,
	/// Whether the scores are logits, which become probabilities by a softmax.
	#[serde(default)]
	pub logits: bool,
}

impl Labels {
	/// What is wrong with them, if something is.
	fn wrong(&self, outputs: &[NamedSpec]) -> Option<&'static str> {
		let Some(output) = outputs.iter().find(|o| o.name == self.output) else {
			return Some("the labels' output is none of the graph's");
		};
		let fits = output
			.shape
			.last()
			.is_some_and(|d| d.is_none_or(|n| n as usize == self.names.len()));
		if !fits || self.names.is_empty() {
			return Some("there is one label for each score in the output's last dimension");
		}
		None
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	fn named(name: &str, datatype: DataType, shape: &[Option<u32>]) -> NamedSpec {
		NamedSpec {
			name: name.into(),
			datatype,
			shape: shape.to_vec(),
		}
	}

	fn picture() -> Picture {
		Picture {
			input: "x".into(),
			width: 224,
			height: 112,
			shortest_edge: Some(256),
			resample: Resample::Bilinear,
			channels: Channels::Rgb,
			layout: PictureLayout::Nchw,
			rescale: true,
			mean_millionths: vec![485_000, 456_000, 406_000],
			std_millionths: vec![229_000, 224_000, 225_000],
		}
	}

	/// Whether a picture changed so goes with an input of this type and shape.
	fn goes(
		change: impl Fn(&mut Picture),
		datatype: DataType,
		shape: &[Option<u32>],
	) -> Result<(), &'static str> {
		let mut picture = picture();
		change(&mut picture);
		let media = Media {
			picture: Some(picture),
			..Default::default()
		};
		media.check(&[named("x", datatype, shape)], &[])
	}

	#[test]
	fn a_picture_goes_with_the_input_that_it_fills() {
		let open = [None, Some(3), None, None];
		let fixed = [Some(1), Some(3), Some(112), Some(224)];
		for shape in [&open[..], &fixed[..]] {
			assert_eq!(goes(|_| (), DataType::Fp32, shape), Ok(()));
		}
		let together = [Some(1), None, None, Some(1)];
		let gray = |p: &mut Picture| {
			p.layout = PictureLayout::Nhwc;
			p.channels = Channels::Gray;
			p.mean_millionths.truncate(1);
			p.std_millionths.clear();
		};
		assert_eq!(goes(gray, DataType::Fp32, &together), Ok(()));
		type Change = fn(&mut Picture);
		let changes: [(&str, Change); 8] = [
			("none of the graph's", |p| p.input = "y".into()),
			("not the input's shape", |p| p.width = 112),
			("not the input's shape", |p| p.channels = Channels::Gray),
			("not the input's shape", |p| p.layout = PictureLayout::Nhwc),
			("one mean and one deviation", |p| {
				p.mean_millionths.truncate(1)
			}),
			("deviation is zero", |p| p.std_millionths[1] = 0),
			("no less than what is cropped", |p| {
				p.shortest_edge = Some(223)
			}),
			("not the input's shape", |p| p.height = 0),
		];
		for (why, change) in changes {
			let found = goes(change, DataType::Fp32, &fixed).unwrap_err();
			assert!(found.contains(why), "{found:?} and not {why:?}");
		}
		let huge = |p: &mut Picture| (p.width, p.height, p.shortest_edge) = (65_535, 65_535, None);
		assert!(goes(huge, DataType::Fp32, &open).is_err());
		let far = |p: &mut Picture| p.shortest_edge = Some(897);
		assert!(goes(far, DataType::Fp32, &open).is_err());
		assert!(goes(|_| (), DataType::Uint8, &fixed).is_err());
		let plain = |p: &mut Picture| {
			p.rescale = false;
			p.mean_millionths.clear();
			p.std_millionths.clear();
		};
		assert_eq!(goes(plain, DataType::Uint8, &fixed), Ok(()));
		assert!(goes(plain, DataType::Int64, &fixed).is_err());
		assert!(goes(|_| (), DataType::Fp32, &fixed[1..]).is_err());
	}

	#[test]
	fn sound_and_labels_go_with_their_shapes() {
		let sound = |shape: &[Option<u32>]| {
			let media = Media {
				sound: Some(Sound {
					input: "x".into(),
					sampling_rate: 16_000,
				}),
				..Default::default()
			};
			media.check(&[named("x", DataType::Fp32, shape)], &[])
		};
		assert_eq!(sound(&[None]), Ok(()));
		assert_eq!(sound(&[Some(1), None]), Ok(()));
		assert!(sound(&[Some(2), None]).is_err());
		assert!(sound(&[Some(1), Some(1), None]).is_err());
		let labels = |shape: &[Option<u32>]| {
			let media = Media {
				labels: Some(Labels {
					output: "y".into(),
					names: vec!["cat".into(), "dog".into()],
					logits: true,
				}),
				..Default::default()
			};
			media.check(&[], &[named("y", DataType::Fp32, shape)])
		};
		assert_eq!(labels(&[Some(1), Some(2)]), Ok(()));
		assert_eq!(labels(&[None]), Ok(()));
		assert!(labels(&[Some(2), Some(3)]).is_err());
		assert!(labels(&[]).is_err());
	}
}
