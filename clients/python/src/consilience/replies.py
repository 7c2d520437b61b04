"""What comes back: each reply as read, with the parts that people ask for by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .tensors import Tensor

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Consilience:
    """How far an answer is, and where to look: the reply's object ``consilience``, as it came in ``raw``."""

    raw: Json = field(default_factory=dict)

    @property
    def lane(self) -> str | None:
        """``direct`` or ``session``."""
        return _str(self.raw, "lane")

    @property
    def status(self) -> str | None:
        """``provisional``, ``disputed``, ``checked``, ``settled``, ``final``, or the chain's state of a request that has no answer."""
        return _str(self.raw, "status")

    @property
    def checked(self) -> bool:
        """Whether anybody but the executor measured the answer, and it was settled."""
        return self.raw.get("checked") is True

    @property
    def finalized(self) -> bool:
        """Whether no fork can undo it."""
        return self.raw.get("finalized") is True

    @property
    def requests(self) -> tuple[int, ...]:
        """Numbers of the requests on chain that are behind the reply."""
        several = self.raw.get("requests")
        entries = several if isinstance(several, list) else [self.raw]
        return tuple(e["request"] for e in entries if isinstance(e, dict) and isinstance(e.get("request"), int))

    @property
    def request(self) -> int | None:
        """The request's number, where there is one."""
        return self.requests[0] if len(self.requests) == 1 else None

    @property
    def block(self) -> Json | None:
        """``number`` and ``hash`` of the block in which the request was seen so."""
        block = self.raw.get("block")
        return block if isinstance(block, dict) else None

    @property
    def executor(self) -> str | None:
        """Who answered."""
        return _str(self.raw, "executor")

    @property
    def verifiers(self) -> tuple[str, ...]:
        """Who measured the answer."""
        return tuple(self.raw.get("verifiers") or ())

    @property
    def paid(self) -> int | None:
        """What was paid, in 10⁻¹² CSL, fees of the transaction not counted; of several requests, together."""
        several = self.raw.get("requests")
        entries = several if isinstance(several, list) else [self.raw]
        fees = [e.get("fee") for e in entries if isinstance(e, dict)]
        amounts = [int(fee["paid"]) for fee in fees if isinstance(fee, dict) and "paid" in fee]
        return sum(amounts) if amounts else None


@dataclass(frozen=True)
class Reply:
    """A reply."""

    #: As it came.
    raw: Json
    #: The idempotency key that it was asked with: asking with it again costs nothing and gives the same.
    idempotency_key: str | None = None

    @property
    def consilience(self) -> Consilience:
        """How far the answer is, and where to look."""
        own = self.raw.get("consilience")
        return Consilience(own if isinstance(own, dict) else {})

    @property
    def status(self) -> str | None:
        """How far the answer is: see :attr:`Consilience.status`."""
        return self.consilience.status

    @property
    def request(self) -> int | None:
        """The request's number on chain."""
        return self.consilience.request

    @property
    def usage(self) -> Json:
        """``prompt_tokens``, ``completion_tokens``, ``total_tokens``; of the prompt, the units that the chain charges."""
        usage = self.raw.get("usage")
        return usage if isinstance(usage, dict) else {}


@dataclass(frozen=True)
class ChatReply(Reply):
    """What a model said."""

    #: What was said; empty where it is calls of tools alone.
    text: str = ""
    #: ``stop``, ``length``, …
    finish_reason: str | None = None
    #: The message, to go on with.
    message: Json = field(default_factory=dict)


@dataclass(frozen=True)
class EmbedReply(Reply):
    """Vectors, in the order of the texts."""

    embeddings: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class InferReply(Reply):
    """What a tensor model gave."""

    #: By name; ``numpy.asarray(reply.outputs["y"])`` is an array.
    outputs: Mapping[str, Tensor] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Tensor:
        return self.outputs[name]


@dataclass(frozen=True)
class Model:
    """A model that takes requests."""

    #: What to ask for.
    id: str
    #: As it came.
    raw: Json

    @property
    def consilience(self) -> Json:
        """Task, class, limits, price (in 10⁻¹² CSL), who serves: all that is known of it."""
        own = self.raw.get("consilience")
        return own if isinstance(own, dict) else {}

    @property
    def task(self) -> str | None:
        """``text-generation``, ``embedding`` or ``tensor``."""
        return _str(self.consilience, "task")


def _str(fields: Json, name: str) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) else None
