//! What several tests make models of.

/// A graph whose only tensor keeps its data in this file: as many bytes of ONNX as that takes.
pub(crate) fn onnx(location: &str) -> Vec<u8> {
	let field =
		|number: u8, payload: &[u8]| [&[number << 3 | 2, payload.len() as u8], payload].concat();
	let pair = [field(1, b"location"), field(2, location.as_bytes())].concat();
	field(7, &field(5, &field(13, &pair)))
}
