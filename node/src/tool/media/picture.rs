//! A picture as a tensor.

use std::io::Cursor;

use consilience_primitives::{
	media::{Channels, Picture, PictureLayout, Resample},
	tensor::{DataType, Tensor, MAX_DATA},
};
use image::{imageops::FilterType, DynamicImage, ImageDecoder, ImageReader, Limits};

use super::Result;

/// Longest side of a picture that is read.
const LONGEST_SIDE: u32 = 20_000;
/// Most bytes that its pixels may take while it is read.
const MOST_BYTES: u64 = 1 << 30;
/// What means and deviations are counted in.
const MILLION: f32 = 1e6;

/// The tensor that a picture file is for a model.
pub(super) fn tensor_of(
	pixels: &DynamicImage,
	how: &Picture,
	datatype: DataType,
) -> Result<Tensor<MAX_DATA>> {
	let pixels = sized(pixels, how)?;
	let colours = how.channels.count() as usize;
	let planes: Vec<u8> = match how.channels {
		// Brightness by ITU-R 601-2, as in Pillow.
		Channels::Gray => pixels
			.to_rgb8()
			.pixels()
			.map(|p| {
				let [r, g, b] = p.0.map(u32::from);
				((19_595 * r + 38_470 * g + 7_471 * b + 0x8000) >> 16) as u8
			})
			.collect(),
		Channels::Rgb => pixels.to_rgb8().into_raw(),
		Channels::Bgr => {
			let mut raw = pixels.to_rgb8().into_raw();
			raw.chunks_exact_mut(3).for_each(|pixel| pixel.swap(0, 2));
			raw
		}
	};
	let area = planes.len() / colours;
	let (shape, ordered): (_, Vec<(usize, u8)>) = match how.layout {
		PictureLayout::Nhwc => (
			[1, how.height, how.width, colours as u32],
			planes
				.iter()
				.enumerate()
				.map(|(i, v)| (i % colours, *v))
				.collect(),
		),
		PictureLayout::Nchw => (
			[1, colours as u32, how.height, how.width],
			(0..colours)
				.flat_map(|c| (0..area).map(move |i| (c, i)))
				.map(|(c, i)| (c, planes[i * colours + c]))
				.collect(),
		),
	};
	let data = match datatype {
		DataType::Uint8 => ordered.into_iter().map(|(_, v)| v).collect(),
		_ => {
			let value = |(colour, v): (usize, u8)| {
				let v = f32::from(v);
				let v = if how.rescale { v / 255.0 } else { v };
				let mean = how.mean_millionths.get(colour).copied().unwrap_or(0);
				let std = how.std_millionths.get(colour).copied().unwrap_or(1_000_000);
				(v - mean as f32 / MILLION) / (std as f32 / MILLION)
			};
			ordered
				.into_iter()
				.flat_map(|pixel| value(pixel).to_le_bytes())
				.collect()
		}
	};
	super::tensor(&how.input, datatype, &shape, data)
}

/// The tensor that a file is for a model: JPEG, PNG, WebP, GIF (its first picture) or BMP, turned as its EXIF data say.
pub(super) fn tensor(bytes: &[u8], how: &Picture, datatype: DataType) -> Result<Tensor<MAX_DATA>> {
	tensor_of(&read(bytes)?, how, datatype)
}

fn read(bytes: &[u8]) -> Result<DynamicImage> {
	let unread = |e: image::ImageError| format!("cannot be read as a picture: {e}");
	let mut reader = ImageReader::new(Cursor::new(bytes))
		.with_guessed_format()
		.map_err(|e| e.to_string())?;
	let mut limits = Limits::default();
	limits.max_image_width = Some(LONGEST_SIDE);
	limits.max_image_height = Some(LONGEST_SIDE);
	limits.max_alloc = Some(MOST_BYTES);
	reader.limits(limits);
	let mut decoder = reader.into_decoder().map_err(unread)?;
	let orientation = decoder.orientation().map_err(unread)?;
	let mut pixels = DynamicImage::from_decoder(decoder).map_err(unread)?;
	pixels.apply_orientation(orientation);
	Ok(pixels)
}

/// Resized and cropped.
fn sized(pixels: &DynamicImage, how: &Picture) -> Result<DynamicImage> {
	let filter = match how.resample {
		Resample::Nearest => FilterType::Nearest,
		Resample::Bilinear => FilterType::Triangle,
		Resample::Bicubic => FilterType::CatmullRom,
		Resample::Lanczos => FilterType::Lanczos3,
	};
	let Some(edge) = how.shortest_edge else {
		return Ok(pixels.resize_exact(how.width, how.height, filter));
	};
	let (width, height) = (u64::from(pixels.width()), u64::from(pixels.height()));
	let shortest = width.min(height);
	if shortest == 0 {
		return Err("the picture has no pixels".into());
	}
	// Down to a whole pixel, as the hub's processors do.
	let side = |n: u64| n * u64::from(edge) / shortest;
	let (width, height) = (side(width) as u32, side(height) as u32);
	if width.max(height) > LONGEST_SIDE {
		return Err("the picture is too narrow for what the model sees of it".into());
	}
	let resized = pixels.resize_exact(width, height, filter);
	Ok(resized.crop_imm(
		(width - how.width) / 2,
		(height - how.height) / 2,
		how.width,
		how.height,
	))
}

#[cfg(test)]
mod tests {
	use super::*;

	fn plain(width: u32, height: u32) -> Picture {
		Picture {
			input: "x".into(),
			width,
			height,
			shortest_edge: None,
			resample: Resample::Nearest,
			channels: Channels::Rgb,
			layout: PictureLayout::Nchw,
			rescale: false,
			mean_millionths: Vec::new(),
			std_millionths: Vec::new(),
		}
	}

	/// Red, green / blue, white.
	fn four() -> DynamicImage {
		let raw = vec![255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255];
		image::RgbImage::from_raw(2, 2, raw).unwrap().into()
	}

	fn file(pixels: &DynamicImage, format: image::ImageFormat) -> Vec<u8> {
		let mut bytes = Cursor::new(Vec::new());
		pixels.write_to(&mut bytes, format).unwrap();
		bytes.into_inner()
	}

	#[test]
	fn colours_stand_where_layout_and_order_say() {
		let png = file(&four(), image::ImageFormat::Png);
		let of = |change: &dyn Fn(&mut Picture)| {
			let mut how = plain(2, 2);
			change(&mut how);
			let tensor = tensor(&png, &how, DataType::Uint8).unwrap();
			tensor.validate().unwrap();
			(tensor.shape.to_vec(), tensor.data.to_vec())
		};
		let (shape, data) = of(&|_| ());
		assert_eq!(shape, [1, 3, 2, 2]);
		assert_eq!(data, [255, 0, 0, 255, 0, 255, 0, 255, 0, 0, 255, 255]);
		let (shape, data) = of(&|how| how.layout = PictureLayout::Nhwc);
		assert_eq!(shape, [1, 2, 2, 3]);
		assert_eq!(data, [255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255]);
		let (_, data) = of(&|how| how.channels = Channels::Bgr);
		assert_eq!(data[..4], [0, 0, 255, 255]);
		let (shape, data) = of(&|how| how.channels = Channels::Gray);
		assert_eq!((shape[1], &data[..]), (1, &[76, 150, 29, 255][..]));
	}

	#[test]
	fn values_are_rescaled_and_normalised() {
		let how = Picture {
			rescale: true,
			mean_millionths: vec![500_000, 0, 250_000],
			std_millionths: vec![250_000, 1_000_000, 500_000],
			..plain(2, 2)
		};
		let tensor = tensor_of(&four(), &how, DataType::Fp32).unwrap();
		tensor.validate().unwrap();
		let values: Vec<f32> = tensor
			.data
			.as_chunks()
			.0
			.iter()
			.map(|w| f32::from_le_bytes(*w))
			.collect();
		assert_eq!(values[..4], [2.0, -2.0, -2.0, 2.0]);
		assert_eq!(values[4..8], [0.0, 1.0, 0.0, 1.0]);
		assert_eq!(values[8..], [-0.5, -0.5, 1.5, 1.5]);
	}

	#[test]
	fn the_middle_is_cropped_after_the_shorter_side_is_resized() {
		// Three stripes of 2 pixels, twice as wide as high: the middle one is left.
		let stripes = image::RgbImage::from_fn(6, 2, |x, _| image::Rgb([(x / 2 * 100) as u8; 3]));
		let how = Picture {
			shortest_edge: Some(4),
			channels: Channels::Gray,
			..plain(4, 4)
		};
		let tensor = tensor_of(&stripes.into(), &how, DataType::Uint8).unwrap();
		assert_eq!(tensor.data[..], [100; 16]);
	}

	#[test]
	fn what_is_no_picture_is_refused_with_the_reason() {
		let refused = |bytes: &[u8]| tensor(bytes, &plain(2, 2), DataType::Uint8).unwrap_err();
		assert!(refused(b"hello").contains("cannot be read as a picture"));
		let mut png = file(&four(), image::ImageFormat::Png);
		png.truncate(40);
		assert!(refused(&png).contains("cannot be read as a picture"));
	}
}
