//! A recording as a tensor.

use std::io::Cursor;

use consilience_primitives::{
	media::Sound,
	tensor::{DataType, NamedSpec, Tensor, MAX_DATA},
};
use hound::{SampleFormat, WavReader};

use super::Result;

/// The tensor that a WAV file is for a model: its channels' mean, at the model's sampling rate.
pub(super) fn tensor(bytes: &[u8], how: &Sound, input: &NamedSpec) -> Result<Tensor<MAX_DATA>> {
	let samples = samples(bytes, how.sampling_rate)?;
	let length = samples.len() as u32;
	if let Some(Some(wanted)) = input.shape.last() {
		if *wanted != length {
			return Err(format!(
				"has {length} samples a channel, and the model takes {wanted}: cut it or lengthen it"
			));
		}
	}
	let shape = match input.shape.len() {
		1 => vec![length],
		_ => vec![1, length],
	};
	let data = samples.into_iter().flat_map(f32::to_le_bytes).collect();
	super::tensor(&how.input, DataType::Fp32, &shape, data)
}

fn samples(bytes: &[u8], rate: u32) -> Result<Vec<f32>> {
	let unread = |e: hound::Error| format!("cannot be read as a WAV file: {e}");
	let mut reader = WavReader::new(Cursor::new(bytes)).map_err(unread)?;
	let spec = reader.spec();
	if spec.sample_rate != rate {
		return Err(format!(
			"has {} samples a second, and the model takes {rate}: convert it, as with `sox in.wav -r {rate} out.wav`",
			spec.sample_rate
		));
	}
	let values: Vec<f32> = match spec.sample_format {
		SampleFormat::Float => reader
			.samples::<f32>()
			.collect::<std::result::Result<_, _>>()
			.map_err(unread)?,
		SampleFormat::Int => {
			let full = 2f32.powi(i32::from(spec.bits_per_sample) - 1);
			reader
				.samples::<i32>()
				.map(|s| Ok(s? as f32 / full))
				.collect::<std::result::Result<_, hound::Error>>()
				.map_err(unread)?
		}
	};
	let channels = usize::from(spec.channels.max(1));
	Ok(values
		.chunks_exact(channels)
		.map(|frame| frame.iter().sum::<f32>() / channels as f32)
		.collect())
}

#[cfg(test)]
mod tests {
	use super::*;

	fn wav(channels: u16, rate: u32, samples: &[i16]) -> Vec<u8> {
		let spec = hound::WavSpec {
			channels,
			sample_rate: rate,
			bits_per_sample: 16,
			sample_format: SampleFormat::Int,
		};
		let mut bytes = Cursor::new(Vec::new());
		let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
		samples
			.iter()
			.for_each(|s| writer.write_sample(*s).unwrap());
		writer.finalize().unwrap();
		bytes.into_inner()
	}

	#[test]
	fn a_recording_is_the_mean_of_its_channels() {
		let how = Sound {
			input: "x".into(),
			sampling_rate: 16_000,
		};
		let input = |shape: &[Option<u32>]| NamedSpec {
			name: "x".into(),
			datatype: DataType::Fp32,
			shape: shape.to_vec(),
		};
		let stereo = wav(2, 16_000, &[16_384, 0, -32_768, -32_768]);
		let found = tensor(&stereo, &how, &input(&[Some(1), None])).unwrap();
		found.validate().unwrap();
		assert_eq!(found.shape[..], [1, 2]);
		assert_eq!(found.data[..4], 0.25f32.to_le_bytes());
		assert_eq!(found.data[4..], (-1f32).to_le_bytes());
		let refused =
			|bytes: &[u8], shape: &[Option<u32>]| tensor(bytes, &how, &input(shape)).unwrap_err();
		assert!(refused(&wav(1, 8_000, &[0]), &[None]).contains("8000 samples a second"));
		assert!(refused(&stereo, &[Some(3)]).contains("the model takes 3"));
		assert!(refused(b"RIFF0000WAVE", &[None]).contains("cannot be read"));
	}
}
