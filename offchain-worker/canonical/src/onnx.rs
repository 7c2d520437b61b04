//! The messages of ONNX's protocol buffers that a canonical graph is written in, and what else of them [`crate::proof`] reads.
//! Fields and numbers are those of `onnx.proto`, which has repeated numbers unpacked; a field that stands here as an option is
//! written even when it is empty.

use prost::Message;

/// Element type `float`.
pub(crate) const FLOAT: i32 = 1;
/// Element type `uint8`.
pub(crate) const UINT8: i32 = 2;
/// Element type `int8`.
pub(crate) const INT8: i32 = 3;
/// Element type `int32`.
pub(crate) const INT32: i32 = 6;
/// Element type `int64`.
pub(crate) const INT64: i32 = 7;
/// Element type `bool`.
pub(crate) const BOOL: i32 = 9;
/// Element type `double`.
pub(crate) const DOUBLE: i32 = 11;

/// Attribute type of a text.
pub(crate) const ATTRIBUTE_STRING: i32 = 3;
/// Attribute type of a tensor.
pub(crate) const ATTRIBUTE_TENSOR: i32 = 4;
/// Attribute type of one integer.
pub(crate) const ATTRIBUTE_INT: i32 = 2;
/// Attribute type of several integers.
pub(crate) const ATTRIBUTE_INTS: i32 = 7;

/// Tensor data in another file.
pub(crate) const EXTERNAL: i32 = 1;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Model {
	#[prost(int64, optional, tag = "1")]
	pub(crate) ir_version: Option<i64>,
	#[prost(message, optional, tag = "7")]
	pub(crate) graph: Option<Graph>,
	#[prost(message, repeated, tag = "8")]
	pub(crate) opset_import: Vec<OperatorSet>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct OperatorSet {
	#[prost(string, optional, tag = "1")]
	pub(crate) domain: Option<String>,
	#[prost(int64, optional, tag = "2")]
	pub(crate) version: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Graph {
	#[prost(message, repeated, tag = "1")]
	pub(crate) node: Vec<Node>,
	#[prost(string, optional, tag = "2")]
	pub(crate) name: Option<String>,
	#[prost(message, repeated, tag = "5")]
	pub(crate) initializer: Vec<Tensor>,
	#[prost(message, repeated, tag = "11")]
	pub(crate) input: Vec<ValueInfo>,
	#[prost(message, repeated, tag = "12")]
	pub(crate) output: Vec<ValueInfo>,
	#[prost(message, repeated, tag = "13")]
	pub(crate) value_info: Vec<ValueInfo>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Node {
	#[prost(string, repeated, tag = "1")]
	pub(crate) input: Vec<String>,
	#[prost(string, repeated, tag = "2")]
	pub(crate) output: Vec<String>,
	#[prost(string, optional, tag = "3")]
	pub(crate) name: Option<String>,
	#[prost(string, optional, tag = "4")]
	pub(crate) op_type: Option<String>,
	#[prost(message, repeated, tag = "5")]
	pub(crate) attribute: Vec<Attribute>,
	#[prost(string, optional, tag = "7")]
	pub(crate) domain: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Attribute {
	#[prost(string, optional, tag = "1")]
	pub(crate) name: Option<String>,
	#[prost(int64, optional, tag = "3")]
	pub(crate) i: Option<i64>,
	#[prost(bytes = "vec", optional, tag = "4")]
	pub(crate) s: Option<Vec<u8>>,
	#[prost(message, optional, tag = "5")]
	pub(crate) t: Option<Tensor>,
	#[prost(int64, repeated, packed = "false", tag = "8")]
	pub(crate) ints: Vec<i64>,
	#[prost(int32, optional, tag = "20")]
	pub(crate) kind: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Tensor {
	#[prost(int64, repeated, packed = "false", tag = "1")]
	pub(crate) dims: Vec<i64>,
	#[prost(int32, optional, tag = "2")]
	pub(crate) data_type: Option<i32>,
	#[prost(float, repeated, tag = "4")]
	pub(crate) float_data: Vec<f32>,
	#[prost(int32, repeated, tag = "5")]
	pub(crate) int32_data: Vec<i32>,
	#[prost(int64, repeated, tag = "7")]
	pub(crate) int64_data: Vec<i64>,
	#[prost(string, optional, tag = "8")]
	pub(crate) name: Option<String>,
	#[prost(bytes = "vec", optional, tag = "9")]
	pub(crate) raw_data: Option<Vec<u8>>,
	#[prost(double, repeated, tag = "10")]
	pub(crate) double_data: Vec<f64>,
	#[prost(message, repeated, tag = "13")]
	pub(crate) external_data: Vec<StringPair>,
	#[prost(int32, optional, tag = "14")]
	pub(crate) data_location: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StringPair {
	#[prost(string, optional, tag = "1")]
	pub(crate) key: Option<String>,
	#[prost(string, optional, tag = "2")]
	pub(crate) value: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ValueInfo {
	#[prost(string, optional, tag = "1")]
	pub(crate) name: Option<String>,
	#[prost(message, optional, tag = "2")]
	pub(crate) kind: Option<Type>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Type {
	#[prost(message, optional, tag = "1")]
	pub(crate) tensor: Option<TensorType>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TensorType {
	#[prost(int32, optional, tag = "1")]
	pub(crate) element: Option<i32>,
	#[prost(message, optional, tag = "2")]
	pub(crate) shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Shape {
	#[prost(message, repeated, tag = "1")]
	pub(crate) dim: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Dimension {
	#[prost(int64, optional, tag = "1")]
	pub(crate) value: Option<i64>,
	#[prost(string, optional, tag = "2")]
	pub(crate) parameter: Option<String>,
}
