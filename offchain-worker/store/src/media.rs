//! How pictures become tensors, from the hub's `preprocessor_config.json`, and labels from its `config.json`.

use std::path::Path;

use consilience_primitives::{
	media::{Channels, Labels, Media, Picture, PictureLayout, Resample},
	tensor::{DataType, NamedSpec},
};
use serde_json::{Map, Value};

use crate::{card::Signature, hub};

/// Millionths of one.
const MILLION: f64 = 1e6;

/// What the folder's files say of the only picture that a graph takes, and of its scores. What they say of anything else, or in a
/// way that [`Media`] has no words for, is an error that says so, for a note.
pub(crate) fn of(folder: &Path, signature: &Signature) -> Result<Media, String> {
	let processor = hub::read(folder, "preprocessor_config.json")?;
	let config = hub::read(folder, "config.json")?;
	let picture = match (&signature.inputs[..], processor.is_empty()) {
		([input], false) if input.shape.len() == 4 => Some(picture(&processor, input)?),
		_ => None,
	};
	let media = Media {
		picture,
		sound: None,
		labels: labels(&config, &signature.outputs),
	};
	media.check(&signature.inputs, &signature.outputs)?;
	Ok(media)
}

fn number(value: &Value) -> Option<u32> {
	value.as_u64().and_then(|n| n.try_into().ok())
}

/// Width and height of a size as the hub writes it: one number, or both named.
fn size(value: &Value) -> Option<(u32, u32)> {
	match number(value) {
		Some(side) => Some((side, side)),
		None => Some((number(&value["width"])?, number(&value["height"])?)),
	}
}

fn picture(processor: &Map<String, Value>, input: &NamedSpec) -> Result<Picture, String> {
	let of = |key: &str| processor.get(key).unwrap_or(&Value::Null);
	// Where a processor does not say what it does, the hub's library does it.
	let does = |key: &str| of(key).as_bool().unwrap_or(true);
	let unknown = |key: &str| {
		format!(
			"preprocessor_config.json: {key} is {}, which a manifest has no words for",
			of(key)
		)
	};
	let edge = number(&of("size")["shortest_edge"]).or_else(|| {
		number(of("size")).filter(|_| does("do_center_crop") && !of("crop_size").is_null())
	});
	let crops = does("do_center_crop") && !of("crop_size").is_null();
	let (width, height) = match crops {
		true => size(of("crop_size")).ok_or_else(|| unknown("crop_size"))?,
		false => size(of("size")).ok_or_else(|| unknown("size"))?,
	};
	if !does("do_resize") {
		return Err(unknown("do_resize"));
	}
	if crops && edge.is_none() {
		return Err(unknown("size"));
	}
	for key in ["crop_pct", "do_flip_channel_order"] {
		if !matches!(of(key), Value::Null | Value::Bool(false)) {
			return Err(unknown(key));
		}
	}
	if does("do_normalize") && (of("image_mean").is_null() || of("image_std").is_null()) {
		return Err(unknown("image_mean or image_std"));
	}
	let resample = match of("resample").as_u64() {
		Some(0) => Resample::Nearest,
		Some(1) => Resample::Lanczos,
		Some(2) => Resample::Bilinear,
		Some(3) => Resample::Bicubic,
		_ => return Err(unknown("resample")),
	};
	let is_floats = input.datatype != DataType::Uint8;
	let rescale = is_floats && does("do_rescale");
	let factor = of("rescale_factor").as_f64().unwrap_or(1.0 / 255.0);
	if rescale && (factor - 1.0 / 255.0).abs() > 1e-6 {
		return Err(unknown("rescale_factor"));
	}
	let millionths = |key: &str| -> Result<Vec<f64>, String> {
		match of(key) {
			Value::Array(list) if does("do_normalize") => list
				.iter()
				.map(|v| v.as_f64().map(|v| (v * MILLION).round()))
				.collect::<Option<_>>()
				.ok_or_else(|| unknown(key)),
			_ => Ok(Vec::new()),
		}
	};
	let mean = millionths("image_mean")?;
	let std = millionths("image_std")?;
	let layout = match input.shape[3] {
		Some(1 | 3) if !matches!(input.shape[1], Some(1 | 3)) => PictureLayout::Nhwc,
		_ => PictureLayout::Nchw,
	};
	let colours = match layout {
		PictureLayout::Nchw => input.shape[1],
		PictureLayout::Nhwc => input.shape[3],
	};
	Ok(Picture {
		input: input.name.clone(),
		width,
		height,
		shortest_edge: edge.filter(|_| crops),
		resample,
		channels: match colours {
			Some(1) => Channels::Gray,
			_ => Channels::Rgb,
		},
		layout,
		rescale,
		mean_millionths: mean.into_iter().map(|v| v as i32).collect(),
		std_millionths: std.into_iter().map(|v| v as u32).collect(),
	})
}

/// Names of classes, where one output has a score for each.
fn labels(config: &Map<String, Value>, outputs: &[NamedSpec]) -> Option<Labels> {
	let named = config.get("id2label")?.as_object()?;
	let names: Vec<String> = (0..named.len())
		.map(|i| named.get(&i.to_string())?.as_str().map(str::to_owned))
		.collect::<Option<_>>()?;
	let scores = |o: &&NamedSpec| {
		o.datatype == DataType::Fp32
			&& o.shape.len() == 2
			&& o.shape[1].is_none_or(|n| n as usize == names.len())
	};
	let output = outputs.iter().find(scores)?.name.clone();
	// Exporters leave the softmax to whoever reads the scores.
	let logits = output.contains("logits");
	Some(Labels {
		output,
		names,
		logits,
	})
}

#[cfg(test)]
mod tests {
	use super::*;
	use serde_json::json;

	fn signature(shape: &[Option<u32>]) -> Signature {
		let named = |name: &str, shape: &[Option<u32>]| NamedSpec {
			name: name.into(),
			datatype: DataType::Fp32,
			shape: shape.to_vec(),
		};
		Signature {
			inputs: vec![named("pixel_values", shape)],
			outputs: vec![named("logits", &[None, Some(2)])],
		}
	}

	fn read(processor: Value, shape: &[Option<u32>]) -> Result<Media, String> {
		let folder = tempfile::tempdir().unwrap();
		let write = |name: &str, value: &Value| {
			std::fs::write(folder.path().join(name), value.to_string()).unwrap();
		};
		write("preprocessor_config.json", &processor);
		write(
			"config.json",
			&json!({"id2label": {"0": "cat", "1": "dog"}}),
		);
		of(folder.path(), &signature(shape))
	}

	const OPEN: [Option<u32>; 4] = [None, None, None, None];

	#[test]
	fn a_vision_transformer_resizes_and_normalises() {
		let vit = json!({
			"do_normalize": true, "do_resize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
			"resample": 2, "size": {"height": 224, "width": 224}
		});
		let media = read(vit, &OPEN).unwrap();
		let picture = media.picture.unwrap();
		assert_eq!((picture.width, picture.height), (224, 224));
		assert_eq!((picture.shortest_edge, picture.rescale), (None, true));
		assert_eq!(picture.std_millionths, [500_000; 3]);
		let labels = media.labels.unwrap();
		assert_eq!(
			(&labels.names[..], labels.logits),
			(&["cat".to_owned(), "dog".into()][..], true)
		);
	}

	#[test]
	fn a_convolutional_net_crops_the_middle() {
		let resnet = json!({
			"crop_size": {"height": 224, "width": 224}, "do_center_crop": true, "do_normalize": true, "do_rescale": true,
			"do_resize": true, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "resample": 3,
			"rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 256}
		});
		let picture = read(resnet, &[Some(1), Some(3), Some(224), Some(224)])
			.unwrap()
			.picture
			.unwrap();
		assert_eq!(picture.shortest_edge, Some(256));
		assert_eq!(picture.resample, Resample::Bicubic);
		assert_eq!(picture.mean_millionths, [485_000, 456_000, 406_000]);
	}

	#[test]
	fn what_there_are_no_words_for_is_said() {
		let refused = |more: Value| {
			let mut processor = json!({"size": 224, "resample": 2, "do_normalize": false});
			let map = processor.as_object_mut().unwrap();
			map.extend(more.as_object().unwrap().clone());
			read(processor, &OPEN).unwrap_err()
		};
		let cases = [
			(
				json!({"rescale_factor": 0.00784313725490196}),
				"rescale_factor is 0.0078",
			),
			(json!({"size": {"longest_edge": 800}}), "size is"),
			(
				json!({"size": {"height": 256, "width": 256}, "crop_size": 224}),
				"size is",
			),
			(json!({"crop_pct": 0.875}), "crop_pct is 0.875"),
			(
				json!({"do_flip_channel_order": true}),
				"do_flip_channel_order",
			),
			(json!({"do_normalize": true}), "image_mean"),
			(json!({"resample": null}), "resample is null"),
		];
		for (more, says) in cases {
			let why = refused(more);
			assert!(why.contains(says), "{why:?} and not {says:?}");
		}
		let wrong = json!({"size": 224, "resample": 2, "do_normalize": false});
		let fixed = [Some(1), Some(3), Some(192), Some(192)];
		assert!(read(wrong, &fixed)
			.unwrap_err()
			.contains("not the input's shape"));
	}
}
