"""Headers and storage proofs: what stands in a block's state, without taking a node's word for it.

The state of a Substrate chain is a Patricia trie of base 16 whose nodes are known by their BLAKE2b-256 hashes. A proof is the nodes on the
way to a key. Nothing here asks anybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from .errors import ProofError
from .scale import Reader, ScaleError, compact

_EMPTY_NODE = 0
_LEAF, _BRANCH, _BRANCH_WITH_VALUE, _HASHED_LEAF, _HASHED_BRANCH = range(5)
#: Kinds of nodes, by the first bits of the first byte, and how many of them.
_KINDS = (
    (_LEAF, 0b01, 2),
    (_BRANCH, 0b10, 2),
    (_BRANCH_WITH_VALUE, 0b11, 2),
    (_HASHED_LEAF, 0b001, 3),
    (_HASHED_BRANCH, 0b0001, 4),
)


def blake2_256(data: bytes) -> bytes:
    """Returns the BLAKE2b-256 hash."""
    return blake2b(data, digest_size=32).digest()


@dataclass(frozen=True)
class Header:
    """A block's header, with the hash that follows from it."""

    number: int
    parent_hash: bytes
    state_root: bytes
    hash: bytes

    @classmethod
    def read(cls, json: Mapping[str, Any]) -> Header:
        """Reads a header as ``chain_getHeader`` gives it."""
        try:
            number = int(json["number"], 16)
            parent, state, extrinsics = (_hash(json[name]) for name in ("parentHash", "stateRoot", "extrinsicsRoot"))
            logs = [bytes.fromhex(log.removeprefix("0x")) for log in json["digest"]["logs"]]
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise ProofError(f"a header is malformed: {e!r}") from e
        encoded = parent + compact(number) + state + extrinsics + compact(len(logs)) + b"".join(logs)
        return cls(number, parent, state, blake2_256(encoded))


def _hash(text: str) -> bytes:
    value = bytes.fromhex(text.removeprefix("0x"))
    if len(value) != 32:
        raise ValueError(f"{text} is no hash")
    return value


def read_proof(root: bytes, nodes: Iterable[bytes], key: bytes) -> bytes | None:
    """Returns what stands under a key in the trie with this root, or ``None`` if the proof shows that nothing does.

    Raises :class:`ProofError` where the nodes do not say so.
    """
    by_hash = {blake2_256(node): node for node in nodes}
    path = [half for byte in key for half in (byte >> 4, byte & 15)]
    node = _lookup(by_hash, root)
    while True:
        kind, partial, value, children = _read_node(node)
        if kind is None or path[: len(partial)] != partial:
            return None
        path = path[len(partial) :]
        if not path:
            if value is None:
                return None
            return _lookup(by_hash, value) if kind in (_HASHED_LEAF, _HASHED_BRANCH) else value
        child = children.get(path[0])
        if child is None:
            return None
        path = path[1:]
        node = _lookup(by_hash, child) if len(child) == 32 else child


def _lookup(by_hash: Mapping[bytes, bytes], wanted: bytes) -> bytes:
    found = by_hash.get(wanted)
    if found is None:
        raise ProofError(f"the proof lacks the node 0x{wanted.hex()}")
    return found


def _read_node(data: bytes) -> tuple[int | None, list[int], bytes | None, dict[int, bytes]]:
    """Returns a node's kind (``None`` of an empty trie), its part of the key, its value or that one's hash, and its children."""
    try:
        return _parse_node(Reader(data))
    except ScaleError as e:
        raise ProofError(f"a node of the proof is malformed: {e}") from e


def _parse_node(reader: Reader) -> tuple[int | None, list[int], bytes | None, dict[int, bytes]]:
    first = reader.byte()
    if first == _EMPTY_NODE:
        return None, [], None, {}
    found = [entry for entry in _KINDS if first >> (8 - entry[2]) == entry[1]]
    if not found:
        raise ProofError(f"a node of the proof is of no kind that this knows: 0x{first:02x}")
    ((kind, _, bits),) = found
    most = 255 >> bits
    count = first & most
    if count == most:
        while (more := reader.byte()) == 255:
            count += 255
        count += more
    packed = reader.take((count + 1) // 2)
    partial = [half for byte in packed for half in (byte >> 4, byte & 15)]
    if count % 2:
        if partial[0]:
            raise ProofError("a node of the proof has a key that is not padded with zero")
        partial = partial[1:]
    children: dict[int, bytes] = {}
    value: bytes | None = None
    bitmap = 0
    if kind not in (_LEAF, _HASHED_LEAF):
        bitmap = int.from_bytes(reader.take(2), "little")
    if kind in (_HASHED_LEAF, _HASHED_BRANCH):
        value = reader.take(32)
    elif kind != _BRANCH:
        value = reader.bytes()
    for nibble in range(16):
        if bitmap >> nibble & 1:
            children[nibble] = reader.bytes()
    reader.end()
    return kind, partial, value, children
