"""Tensors with numpy and without."""

import math

import numpy as np
import pytest

from consilience import ReplyError, Tensor
from consilience.tensors import read_outputs, read_tensor, write_request


@pytest.mark.parametrize(
    ("dtype", "datatype"),
    [
        ("?", "BOOL"),
        ("u1", "UINT8"),
        ("u2", "UINT16"),
        ("u4", "UINT32"),
        ("u8", "UINT64"),
        ("i1", "INT8"),
        ("i2", "INT16"),
        ("i4", "INT32"),
        ("i8", "INT64"),
        ("f2", "FP16"),
        ("f4", "FP32"),
        ("f8", "FP64"),
    ],
)
def test_arrays_come_back(dtype, datatype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    tensor = Tensor.of(array)
    assert (tensor.datatype, tensor.shape, tensor.data) == (datatype, (2, 3), array.tobytes())
    assert np.array_equal(tensor.numpy(), array) and tensor.numpy().dtype == array.dtype
    assert tensor.tolist() == array.tolist()
    # The same of a list, which is what there is without numpy.
    assert Tensor(datatype, (2, 3), array.ravel().tolist()).tobytes() == array.tobytes()
    assert np.asarray(tensor, dtype="f8").dtype == np.float64


def test_strings():
    tensor = Tensor.of(np.array([["a", "größer"]], dtype=object))
    assert tensor.datatype == "BYTES" and tensor.shape == (1, 2)
    assert tensor.tobytes() == b"\1\0\0\0a\x08\0\0\0gr\xc3\xb6\xc3\x9fer"
    assert Tensor("BYTES", (1, 2), tensor.tobytes()).tolist() == [["a", "größer"]]
    assert tensor.numpy().tolist() == [["a", "größer"]]
    assert Tensor.of(np.array(["ab", "c"])).elements() == ["ab", "c"]
    with pytest.raises(TypeError):
        Tensor.of(np.array([None, "a"], dtype=object))


def test_what_numpy_has_not():
    # The upper half of an FP32, to the nearest, ties to even.
    tensor = Tensor("BF16", (4,), [1.0, -2.5, 1 + 1 / 256, math.nan])
    assert tensor.tobytes()[:6] == b"\x80\x3f\x20\xc0\x80\x3f"
    assert Tensor("BF16", (4,), tensor.tobytes()).elements()[:2] == [1.0, -2.5]
    assert math.isnan(Tensor("BF16", (4,), tensor.tobytes()).numpy()[3])
    nibbles = Tensor("INT4", (3,), [-8, 7, -1])
    assert nibbles.tobytes() == b"\x78\x0f"
    assert Tensor("INT4", (3,), b"\x78\x0f").elements() == [-8, 7, -1]
    assert Tensor("UINT4", (3,), b"\x78\x0f").numpy().tolist() == [8, 7, 15]


def test_shapes():
    assert Tensor("INT64", (), [5]).tolist() == 5
    assert Tensor("INT64", (2, 0), []).tolist() == [[], []]
    assert Tensor("INT64", (0, 2), b"").tolist() == []
    assert Tensor("INT8", (1, 2, 2), [1, 2, 3, 4]).tolist() == [[[1, 2], [3, 4]]]


@pytest.mark.parametrize(
    ("datatype", "shape", "data"),
    [
        ("FP8", (1,), [1]),
        ("FP32", (2,), [1]),
        ("FP32", (2,), b"\0" * 7),
        ("INT4", (3,), b"\0"),
        ("BYTES", (1,), b"\5\0\0\0a"),
        ("BYTES", (2,), b"\1\0\0\0a"),
    ],
)
def test_what_does_not_fit(datatype, shape, data):
    with pytest.raises(ValueError, match=r"takes|no element type|end within"):
        Tensor(datatype, shape, data)


@pytest.mark.parametrize(("datatype", "data"), [("UINT8", [256]), ("INT4", [8]), ("INT32", [0.5]), ("FP32", [1e300])])
def test_elements_that_are_none_of_the_type(datatype, data):
    with pytest.raises(ValueError, match=r"not every element|is from"):
        Tensor(datatype, (1,), data).tobytes()


def test_requests_and_replies_with_binary_data():
    body, tail = write_request(
        {"a": np.array([1, 2], "u1"), "b": Tensor("INT4", (2,), [1, -1]), "c": "text"}, ["y"], {"raw": True}
    )
    assert tail == b"\1\2\4\0\0\0text"
    assert body == {
        "inputs": [
            {"name": "a", "shape": [2], "datatype": "UINT8", "parameters": {"binary_data_size": 2}},
            {"name": "b", "shape": [2], "datatype": "INT4", "data": [1, -1]},
            {"name": "c", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 8}},
        ],
        "outputs": [{"name": "y"}],
        "parameters": {"binary_data_output": True, "raw": True},
    }
    outputs = [
        {"name": "x", "shape": [1], "datatype": "INT8", "parameters": {"binary_data_size": 1}},
        {"name": "y", "shape": [1, 2], "datatype": "FP32", "data": [[0.5, None]]},
    ]
    found = read_outputs(outputs, b"\xff")
    assert found["x"].elements() == [-1]
    assert found["y"].elements()[0] == 0.5 and math.isnan(found["y"].elements()[1])
    for wrong, tail in [(outputs, b""), (outputs, b"\1\2"), ([{"name": "x"}], b""), (3, b"")]:
        with pytest.raises(ReplyError):
            read_outputs(wrong, tail)


def test_numbers_keep_every_bit():
    values = np.array([0.1, 1 / 3, 1e-45, 3.4e38], dtype="f4")
    assert read_tensor({"shape": [4], "datatype": "FP32", "data": values.tolist()}).tobytes() == values.tobytes()
