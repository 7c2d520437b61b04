"""Builds an ONNX graph node by node and writes it with its weights beside it, the same bytes every time."""

import math
import os

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

F32, I64 = np.float32, np.int64

# Weights start at multiples of this in the data file, so that ONNX Runtime can map them into memory.
ALIGNMENT = 4096


class Stream:
    """A weight that is made piece by piece while it is written, for models that are larger than memory."""

    def __init__(self, dtype, shape, pieces):
        """`pieces()` gives arrays that follow each other along the first axis, the same every time."""
        self.dtype, self.shape, self.pieces = np.dtype(dtype), shape, pieces
        self.nbytes = self.dtype.itemsize * math.prod(shape)


def pieces(weight):
    return weight.pieces() if isinstance(weight, Stream) else [weight]


class Graph:
    def __init__(self):
        self.nodes, self.constants, self.weights, self.known, self.count = [], [], {}, {}, 0

    def op(self, kind, *inputs, outputs=1, name=None, domain="", **attributes):
        """Adds a node; returns the name of its output, or their list."""
        made = []
        for _ in range(outputs):
            self.count += 1
            made.append(f"{kind.lower()}_{self.count}")
        if name:
            made = [name]
        self.nodes.append(helper.make_node(kind, list(inputs), made, domain=domain, **attributes))
        return made[0] if outputs == 1 else made

    def op_named(self, kind, inputs, outputs, domain="", **attributes):
        """Adds a node whose outputs have these names; returns the first."""
        self.nodes.append(helper.make_node(kind, inputs, outputs, domain=domain, **attributes))
        return outputs[0]

    def const(self, value, dtype):
        """A small constant, stored in the graph itself and once."""
        array = np.array(value, dtype)
        key = (array.tobytes(), array.shape, array.dtype.str)
        if key not in self.known:
            self.known[key] = f"const_{len(self.known)}"
            self.constants.append(numpy_helper.from_array(array, self.known[key]))
        return self.known[key]

    def weight(self, name, array):
        """A large constant, stored in the data file: an array or a Stream."""
        self.weights.setdefault(name, array if isinstance(array, Stream) else np.ascontiguousarray(array))
        return name

    def save(self, inputs, outputs, folder, microsoft=False, file_name="model.onnx"):
        """Writes model.onnx and model.onnx_data; `microsoft` admits ONNX Runtime's own operators."""
        data_file, offset, tensors = file_name + "_data", 0, []
        with open(os.path.join(folder, data_file), "wb") as file:
            for name in sorted(self.weights):
                array = self.weights[name]
                file.write(b"\0" * (-offset % ALIGNMENT))
                offset += -offset % ALIGNMENT
                tensor = onnx.TensorProto(
                    name=name,
                    data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
                    dims=array.shape,
                    data_location=TensorProto.EXTERNAL,
                )
                for key, value in (("location", data_file), ("offset", offset), ("length", array.nbytes)):
                    tensor.external_data.add(key=key, value=str(value))
                start = file.tell()
                for piece in pieces(array):
                    file.write(piece.tobytes())
                assert file.tell() - start == array.nbytes, name
                offset += array.nbytes
                tensors.append(tensor)
        opsets = [helper.make_opsetid("", 17)]
        if microsoft:
            opsets.append(helper.make_opsetid("com.microsoft", 1))
        graph = helper.make_graph(self.nodes, "model", inputs, outputs, self.constants + tensors)
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        with open(os.path.join(folder, file_name), "wb") as file:
            file.write(model.SerializeToString(deterministic=True))


def value(name, dtype, shape):
    """A graph input or output; a dimension that is a string is open."""
    return helper.make_tensor_value_info(name, dtype, shape)


def hub_values(config, element, dimensions):
    """Inputs and outputs of a language model as the hub's exporters name them; `dimensions` are the names of the open ones."""
    batch, sequence, past, total = dimensions
    inputs = [
        value("input_ids", TensorProto.INT64, [batch, sequence]),
        value("attention_mask", TensorProto.INT64, [batch, total]),
        value("position_ids", TensorProto.INT64, [batch, sequence]),
    ]
    outputs = [value("logits", element, [batch, sequence, config["vocabulary"]])]
    for layer in range(config["layers"]):
        for kind in ("key", "value"):
            shape = lambda length: [batch, config["kv_heads"], length, config["head_dim"]]
            inputs.append(value(f"past_key_values.{layer}.{kind}", element, shape(past)))
            outputs.append(value(f"present.{layer}.{kind}", element, shape(total)))
    return inputs, outputs
