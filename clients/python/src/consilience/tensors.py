"""Tensors as the Open Inference Protocol writes them. numpy is used where it is there, and nothing here needs it."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from .errors import ReplyError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: What may be given as a tensor: a numpy array, a :class:`Tensor`, or a text.
TensorLike: TypeAlias = "Tensor | NDArray[Any] | np.generic | str"

#: ``struct``'s letter and numpy's name of each element type that has both; all little-endian.
_FIXED: dict[str, tuple[str, str]] = {
    "BOOL": ("?", "?"),
    "UINT8": ("B", "u1"),
    "UINT16": ("H", "u2"),
    "UINT32": ("I", "u4"),
    "UINT64": ("Q", "u8"),
    "INT8": ("b", "i1"),
    "INT16": ("h", "i2"),
    "INT32": ("i", "i4"),
    "INT64": ("q", "i8"),
    "FP16": ("e", "f2"),
    "FP32": ("f", "f4"),
    "FP64": ("d", "f8"),
}
_OF_NUMPY = {name: datatype for datatype, (_, name) in _FIXED.items()}
_WIDTH = {datatype: struct.calcsize("<" + letter) for datatype, (letter, _) in _FIXED.items()} | {"BF16": 2}
#: Numbers of four bits: numpy has none, and the protocol no binary form.
_NIBBLES = {"INT4": (-8, 7), "UINT4": (0, 15)}


@dataclass(frozen=True)
class Tensor:
    """A tensor: ``datatype`` by the protocol's name (``FP32``, ``INT64``, ``BYTES``, …), ``shape``, and ``data``.

    ``data`` is either all elements as bytes (row-major, little-endian), or a flat list of them: numbers, booleans, or strings for ``BYTES``.
    """

    datatype: str
    shape: tuple[int, ...]
    data: bytes | Sequence[Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(length) for length in self.shape))
        if self.datatype not in _WIDTH and self.datatype not in _NIBBLES and self.datatype != "BYTES":
            raise ValueError(
                f"{self.datatype!r} is no element type: there are {', '.join([*_WIDTH, *_NIBBLES, 'BYTES'])}"
            )
        if isinstance(self.data, bytes | bytearray | memoryview):
            data = bytes(self.data)
            object.__setattr__(self, "data", data)
            if self.datatype in _WIDTH and len(data) != self.size * _WIDTH[self.datatype]:
                raise ValueError(
                    f"{self.datatype} {list(self.shape)} takes {self.size * _WIDTH[self.datatype]} bytes, data has {len(data)}"
                )
            if self.datatype in _NIBBLES and len(data) != (self.size + 1) // 2:
                raise ValueError(
                    f"{self.datatype} {list(self.shape)} takes {(self.size + 1) // 2} bytes, data has {len(data)}"
                )
            if self.datatype == "BYTES" and len(_strings(data)) != self.size:
                raise ValueError(f"BYTES {list(self.shape)} takes {self.size} strings, data has {len(_strings(data))}")
        elif len(self.data) != self.size:
            raise ValueError(
                f"{self.datatype} {list(self.shape)} takes {self.size} elements, data has {len(self.data)}"
            )

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @classmethod
    def of(cls, value: TensorLike) -> Tensor:
        """Returns a numpy array, or a text, as a tensor.

        Python numbers are refused: whether they are ``FP32`` or ``INT64``, say, is the model's business and to be said.
        """
        if isinstance(value, Tensor):
            return value
        if isinstance(value, str):
            return cls("BYTES", (1,), [value])
        if not hasattr(value, "dtype"):
            raise TypeError(
                f"{type(value).__name__} is no tensor: give a numpy array, a text, or Tensor('FP32', (2,), [0.5, -1])"
            )
        import numpy as np

        array = np.asarray(value)
        if array.dtype.kind in "OUS":
            texts = [s.decode() if isinstance(s, bytes) else s for s in array.ravel().tolist()]
            if not all(isinstance(text, str) for text in texts):
                raise TypeError("an array of objects may hold strings alone")
            return cls("BYTES", array.shape, texts)
        if array.dtype.name == "bfloat16":
            return cls("BF16", array.shape, array.astype(array.dtype.newbyteorder("<")).tobytes())
        name = array.dtype.str[1:]
        datatype = "BOOL" if array.dtype.kind == "b" else _OF_NUMPY.get(name)
        if datatype is None:
            raise TypeError(f"numpy's {array.dtype} is no element type here")
        return cls(datatype, array.shape, array.astype(array.dtype.newbyteorder("<")).tobytes())

    def elements(self) -> list[Any]:
        """Returns all elements as Python values, row-major."""
        if not isinstance(self.data, bytes):
            return list(self.data)
        if self.datatype == "BYTES":
            return list(_strings(self.data))
        if self.datatype == "BF16":
            # The upper half of an FP32.
            wide = b"".join(b"\0\0" + self.data[i : i + 2] for i in range(0, len(self.data), 2))
            return list(struct.unpack(f"<{self.size}f", wide))
        if self.datatype in _NIBBLES:
            nibbles = [half for byte in self.data for half in (byte & 15, byte >> 4)][: self.size]
            return [n - 16 if self.datatype == "INT4" and n > 7 else n for n in nibbles]
        return list(struct.unpack(f"<{self.size}{_FIXED[self.datatype][0]}", self.data))

    def tobytes(self) -> bytes:
        """Returns all elements as bytes, as the protocol's binary extension and the chain have them."""
        if isinstance(self.data, bytes):
            return self.data
        values: Iterable[Any] = self.data
        try:
            if self.datatype == "BYTES":
                texts = [text.encode() if isinstance(text, str) else bytes(text) for text in values]
                return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
            if self.datatype == "BF16":
                return b"".join(_bfloat16(float(value)) for value in values)
            if self.datatype in _NIBBLES:
                return _nibbles(self.datatype, [int(value) for value in values])
            return struct.pack(f"<{self.size}{_FIXED[self.datatype][0]}", *values)
        except (struct.error, OverflowError) as e:
            raise ValueError(f"not every element is a {self.datatype}: {e}") from e

    def tolist(self) -> Any:
        """Returns nested lists of Python values, as numpy's ``tolist`` does; of a tensor without dimensions, its element."""
        return _nested(self.elements(), self.shape)

    def numpy(self) -> NDArray[Any]:
        """Returns a numpy array: strings as objects, ``BF16`` as ``float32``, numbers of four bits as ``int8`` and ``uint8``."""
        import numpy as np

        if self.datatype in _FIXED:
            dtype = np.dtype("<" + _FIXED[self.datatype][1])
            return np.frombuffer(self.tobytes(), dtype=dtype).reshape(self.shape).copy()
        dtype = np.dtype({"BYTES": "O", "BF16": "f4", "INT4": "i1", "UINT4": "u1"}[self.datatype])
        array = np.empty(self.size, dtype=dtype)
        array[:] = self.elements()
        return array.reshape(self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        array = self.numpy()
        return array if dtype is None else array.astype(dtype)


def _nested(values: list[Any], shape: tuple[int, ...]) -> Any:
    if not shape:
        return values[0]
    step = math.prod(shape[1:])
    return [_nested(values[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]


def _bfloat16(value: float) -> bytes:
    """Rounds to the nearest, ties to even."""
    bits = int.from_bytes(struct.pack("<f", value), "little")
    if math.isnan(value):
        return ((bits >> 16) | 0x40).to_bytes(2, "little")
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).to_bytes(2, "little")


def _nibbles(datatype: str, values: list[int]) -> bytes:
    least, most = _NIBBLES[datatype]
    if any(not least <= value <= most for value in values):
        raise ValueError(f"{datatype} is from {least} to {most}")
    halves = [value & 15 for value in values] + [0] * (len(values) % 2)
    return bytes(low | high << 4 for low, high in zip(halves[::2], halves[1::2], strict=True))


def _strings(data: bytes) -> list[str]:
    texts = []
    while data:
        length = int.from_bytes(data[:4], "little")
        if len(data) < 4 + length:
            raise ValueError("the bytes end within a string")
        texts.append(data[4 : 4 + length].decode())
        data = data[4 + length :]
    return texts


def write_request(
    inputs: Mapping[str, TensorLike], outputs: Sequence[str] | None, parameters: Mapping[str, Any] | None
) -> tuple[dict[str, Any], bytes]:
    """Returns an inference request: its JSON, and the binary data that follows it."""
    if not inputs:
        raise ValueError("there are no inputs")
    described, tail = [], b""
    for name, value in inputs.items():
        tensor = Tensor.of(value)
        entry: dict[str, Any] = {"name": name, "shape": list(tensor.shape), "datatype": tensor.datatype}
        if tensor.datatype in _NIBBLES:
            entry["data"] = tensor.elements()
        else:
            data = tensor.tobytes()
            entry["parameters"] = {"binary_data_size": len(data)}
            tail += data
        described.append(entry)
    body: dict[str, Any] = {"inputs": described, "parameters": {"binary_data_output": True, **(parameters or {})}}
    if outputs is not None:
        body["outputs"] = [{"name": name} for name in outputs]
    return body, tail


def read_outputs(outputs: object, tail: bytes) -> dict[str, Tensor]:
    """Returns the outputs of an inference reply, by name."""
    if not isinstance(outputs, list):
        raise ReplyError("an inference reply has no list of outputs")
    found = {}
    try:
        for output in outputs:
            size = output.get("parameters", {}).get("binary_data_size")
            if size is None:
                found[output["name"]] = read_tensor(output)
            else:
                if size > len(tail):
                    raise ReplyError(f"output {output['name']}: the reply ends before {size} bytes of data")
                found[output["name"]] = Tensor(output["datatype"], output["shape"], tail[:size])
                tail = tail[size:]
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise ReplyError(f"an output is malformed: {e}") from e
    if tail:
        raise ReplyError(f"{len(tail)} bytes of binary data belong to no output")
    return found


def read_tensor(value: Mapping[str, Any]) -> Tensor:
    """Returns a tensor written as JSON; null stands for what is no number."""
    data = value["data"]
    while data and isinstance(data[0], list):
        data = [element for inner in data for element in inner]
    if value["datatype"] in ("FP16", "BF16", "FP32", "FP64"):
        data = [math.nan if element is None else float(element) for element in data]
    return Tensor(value["datatype"], value["shape"], data)
