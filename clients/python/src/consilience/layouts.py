"""How the chain writes requests, questions and answers: read without metadata, which would be a node's word.

The types are those of ``primitives/src/request.rs`` and of the pallet ``Inference``. What a later runtime writes otherwise is refused here and
not misread: everything is read to its last byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from .scale import Reader
from .tensors import Tensor

STATES = (
    "requested",
    "assigned",
    "provisional",
    "disputed",
    "final",
    "rejected",
    "expired",
    "cancelled",
    "unanswerable",
    "overturned",
)
#: States after which nothing more happens to a request.
SETTLED = frozenset(["final", "rejected", "expired", "cancelled", "unanswerable", "overturned"])
_DATATYPES = (
    *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
    *("FP16", "BF16", "FP32", "FP64", "BYTES", "INT4", "UINT4"),
)
_ROLES = ("system", "user", "assistant", "tool", "developer")
_FINISH = ("end_of_text", "stop_string", "length")
_UNANSWERABLE = (
    "template_refused",
    "prompt_too_long",
    "graph_refused",
    "not_finite",
    "output_too_large",
    "constraint_refused",
)


@dataclass(frozen=True)
class Text:
    """A generated text."""

    text: str
    tokens: tuple[int, ...]
    finish_reason: str


@dataclass(frozen=True)
class Unanswerable:
    """That an input cannot be answered."""

    code: str


#: An answer; tensors by name.
Output: TypeAlias = "Text | Unanswerable | Mapping[str, Tensor]"


@dataclass(frozen=True)
class Question:
    """What was asked: one of these."""

    messages: tuple[tuple[str, str], ...] | None = None
    prompt: str | None = None
    text: str | None = None
    inputs: Mapping[str, Tensor] | None = None
    #: Of tensors whose data is not in the state: BLAKE2b-256 hash of all of it, one after the other, …
    data_hash: bytes | None = None
    #: … and name, type and shape of each.
    headers: tuple[tuple[str, str, tuple[int, ...]], ...] = ()


@dataclass(frozen=True)
class RequestHead:
    """The first fields of a request."""

    requester: bytes
    model: str
    assurance: tuple[str, int]
    state: str


def request_key(item: str, number: int) -> bytes:
    """Returns the key under which the pallet ``Inference`` keeps something of a request: ``Requests``, ``Inputs``, ``Outputs``, …"""
    import xxhash

    def twox(data: bytes, words: int) -> bytes:
        return b"".join(xxhash.xxh64_intdigest(data, seed=seed).to_bytes(8, "little") for seed in range(words))

    counted = number.to_bytes(8, "little")
    return twox(b"Inference", 2) + twox(item.encode(), 2) + twox(counted, 1) + counted


def read_request(data: bytes) -> RequestHead:
    """Reads the first fields of a request."""
    reader = Reader(data)
    requester, model = reader.take(32), "0x" + reader.take(32).hex()
    kind = reader.choice("committee", "sampled")
    assurance = kind, reader.uint(1 if kind == "committee" else 2)
    reader.byte()
    return RequestHead(requester, model, assurance, reader.choice(*STATES))


def read_output(data: bytes) -> Output:
    """Reads an answer."""
    reader = Reader(data)
    found: Output
    match reader.choice("text", "tensors", "unanswerable"):
        case "text":
            tokens = tuple(reader.list(reader.compact))
            found = Text(text=reader.text(), tokens=tokens, finish_reason=reader.choice(*_FINISH))
        case "tensors":
            found = dict(reader.list(lambda: _tensor(reader)))
        case _:
            found = Unanswerable(reader.choice(*_UNANSWERABLE))
    reader.end()
    return found


def read_question(data: bytes) -> Question:
    """Reads what was asked, without how tokens are chosen."""
    reader = Reader(data)
    if reader.choice("inline", "indexed") == "indexed":
        headers = tuple(header for header, _ in reader.list(lambda: (_header(reader), reader.uint(4))))
        question = Question(data_hash=reader.take(32), headers=headers)
        reader.end()
        return question
    match reader.choice("text", "embedding", "tensor"):
        case "text":
            if reader.choice("chat", "text") == "chat":
                return Question(messages=tuple(reader.list(lambda: (reader.choice(*_ROLES), reader.text()))))
            return Question(prompt=reader.text())
        case "embedding":
            question = Question(text=reader.text())
        case _:
            question = Question(inputs=dict(reader.list(lambda: _tensor(reader))))
    reader.end()
    return question


def _header(reader: Reader) -> tuple[str, str, tuple[int, ...]]:
    return reader.text(), reader.choice(*_DATATYPES), tuple(reader.list(lambda: reader.uint(4)))


def _tensor(reader: Reader) -> tuple[str, Tensor]:
    name, datatype, shape = _header(reader)
    return name, Tensor(datatype, shape, reader.bytes())
