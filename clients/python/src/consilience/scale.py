"""The little of SCALE, Substrate's encoding, that is read here without any metadata."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class ScaleError(ValueError):
    """Bytes that are not what they should be."""


def compact(value: int) -> bytes:
    """Returns a number as SCALE writes compact ones."""
    if value < 1 << 6:
        return (value << 2).to_bytes(1, "little")
    if value < 1 << 14:
        return (value << 2 | 1).to_bytes(2, "little")
    if value < 1 << 30:
        return (value << 2 | 2).to_bytes(4, "little")
    length = (value.bit_length() + 7) // 8
    return bytes([(length - 4) << 2 | 3]) + value.to_bytes(length, "little")


class Reader:
    """Reads bytes from their beginning on."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        """Takes so many bytes."""
        part = self._data[self._at : self._at + count]
        if len(part) != count:
            raise ScaleError("the bytes end too early")
        self._at += count
        return part

    def byte(self) -> int:
        """Takes one."""
        return self.take(1)[0]

    def uint(self, width: int) -> int:
        """Takes a number of so many bytes."""
        return int.from_bytes(self.take(width), "little")

    def compact(self) -> int:
        """Takes a compact number."""
        first = self.byte()
        mode = first & 3
        if mode == 3:
            return self.uint((first >> 2) + 4)
        return int.from_bytes(bytes([first]) + self.take((0, 1, 3)[mode]), "little") >> 2

    def bytes(self) -> bytes:
        """Takes bytes with their length before them."""
        return self.take(self.compact())

    def text(self) -> str:
        """Takes a text in UTF-8."""
        try:
            return self.bytes().decode()
        except UnicodeDecodeError as e:
            raise ScaleError(f"a text is not UTF-8: {e}") from e

    def list(self, read: Callable[[], T]) -> list[T]:
        """Takes a list."""
        return [read() for _ in range(self.compact())]

    def choice(self, *names: str) -> str:
        """Takes which of an enumeration's variants it is."""
        index = self.byte()
        if index >= len(names):
            raise ScaleError(f"variant {index} of {len(names)}")
        return names[index]

    def end(self) -> None:
        """Refuses what is left."""
        if self._at != len(self._data):
            raise ScaleError(f"{len(self._data) - self._at} bytes are left over")
