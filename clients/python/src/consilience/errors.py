"""Errors: one class for each thing that a caller may want to treat differently, with the API's own code and message.

Names of the gateway's errors are those of OpenAI's library. Nothing here is retried by itself: what was sent may be on chain and paid for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ConsilienceError(Exception):
    """Any error of this package."""


class APIConnectionError(ConsilienceError):
    """The gateway could not be reached, or the connection broke before the reply was whole.

    With ``sent``, the request may be on chain and paid for: ask again with ``idempotency_key`` and the same arguments, which gives the same
    request, and not without it.
    """

    def __init__(self, message: str, *, sent: bool, idempotency_key: str | None = None) -> None:
        super().__init__(message)
        self.sent = sent
        self.idempotency_key = idempotency_key


class APITimeoutError(APIConnectionError):
    """The gateway took longer than the client waits."""


class StreamBrokenError(APIConnectionError):
    """A stream ended without its end.

    ``text`` is what had come, and nobody has said that it stands.
    """

    def __init__(self, message: str, *, text: str, idempotency_key: str | None = None) -> None:
        super().__init__(message, sent=True, idempotency_key=idempotency_key)
        self.text = text


class ReplyError(ConsilienceError):
    """A reply that no gateway gives: something else answers at that address, or a proxy changed it."""


class APIError(ConsilienceError):
    """What the gateway said, in its words."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        kind: str | None = None,
        consilience: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
        should_retry: bool = False,
        idempotency_key: str | None = None,
    ) -> None:
        super().__init__(message)
        #: What the gateway said.
        self.message = message
        #: HTTP status; ``None`` within a stream, whose status was sent before.
        self.status = status
        #: A word that never changes, such as ``model_not_found``.
        self.code = code
        #: The parameter at fault.
        self.param = param
        #: OpenAI's ``type``.
        self.kind = kind
        #: What the chain says of a request that failed there.
        self.consilience: Mapping[str, Any] = consilience or {}
        #: Seconds after which asking again makes sense.
        self.retry_after = retry_after
        #: Whether nothing was sent, so that asking again cannot cost anything twice.
        self.should_retry = should_retry
        #: The key that this was asked with. Asking with it again gives the same request, if one was made.
        self.idempotency_key = idempotency_key

    @property
    def request(self) -> int | None:
        """The request's number on chain, where one was made and failed."""
        number = self.consilience.get("request")
        return number if isinstance(number, int) else None

    def __str__(self) -> str:
        said = f"{self.message} ({self.code})" if self.code else self.message
        return f"{said}; ask again in {self.retry_after:g} s" if self.retry_after is not None else said


class BadRequestError(APIError):
    """400: a parameter is unknown, not supported or wrong, or there is more text than the model takes."""


class AuthenticationError(APIError):
    """401: no API key, or one that the gateway does not know."""


class PermissionDeniedError(APIError):
    """403: not for this caller."""


class NotFoundError(APIError):
    """404: no such model or path."""


class ConflictError(APIError):
    """409: not with what is there."""


class UnprocessableEntityError(APIError):
    """422: an idempotency key that came with another body before, or an input that no honest machine can answer."""


class RateLimitError(APIError):
    """429: the network or the gateway is full (``retry_after`` says for how long), or the key's budget of the day is used up."""


class InternalServerError(APIError):
    """5xx: the network, the node or the gateway failed. ``code`` says how, ``consilience`` how far a request had come."""


_BY_STATUS: dict[int, type[APIError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: RateLimitError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: UnprocessableEntityError,
    429: RateLimitError,
}

# Within a stream there is no status: the same causes have the same class there.
_BY_CODE: dict[str, type[APIError]] = {
    "context_length_exceeded": BadRequestError,
    "unanswerable": UnprocessableEntityError,
    "rate_limit_exceeded": RateLimitError,
    "insufficient_quota": RateLimitError,
}


def api_error(
    body: object,
    *,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
    idempotency_key: str | None = None,
) -> APIError:
    """Returns the error that a reply's body (JSON as read, or text) and status stand for."""
    headers = headers or {}
    fields = body if isinstance(body, dict) else {}
    error = fields.get("error")
    if isinstance(error, dict):
        message, code, param, kind = (error.get(name) for name in ("message", "code", "param", "type"))
    else:
        # The Open Inference Protocol has a sentence there.
        message, code, param, kind = error, None, None, None
    if not isinstance(message, str) or not message:
        message = str(body)[:500] or f"status {status}"
    code = code if isinstance(code, str) else None
    if status is not None:
        kind_of = _BY_STATUS.get(status, InternalServerError if status >= 500 else BadRequestError)
    else:
        kind_of = _BY_CODE.get(code or "", BadRequestError if kind == "invalid_request_error" else InternalServerError)
    consilience = fields.get("consilience")
    return kind_of(
        message,
        status=status,
        code=code,
        param=param if isinstance(param, str) else None,
        kind=kind if isinstance(kind, str) else None,
        consilience=consilience if isinstance(consilience, dict) else None,
        retry_after=_seconds(headers.get("retry-after")),
        should_retry=headers.get("x-should-retry") == "true",
        idempotency_key=idempotency_key,
    )


def _seconds(value: str | None) -> float | None:
    """Returns a Retry-After in seconds; one that is a date comes from no gateway."""
    try:
        return None if value is None else float(value)
    except ValueError:
        return None


class ChainError(ConsilienceError):
    """A node said no, or could not be asked."""


class NodeError(ChainError):
    """What a node's JSON-RPC said. ``code`` is stable: 7001 and on are Consilience's, listed in ``offchain-worker/rpc/src/error.rs``."""

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(f"{message} ({code})")
        self.message = message
        self.code = code


class NodeConnectionError(ChainError):
    """The node is not there, or went away. What is on chain goes on.

    With ``transaction`` (its hash), a request was sent and may be made: look at the account's transactions before asking again.
    """

    def __init__(self, message: str, *, transaction: str | None = None) -> None:
        super().__init__(message)
        self.transaction = transaction


class TransactionError(ChainError):
    """A transaction that was not taken, or failed in its block."""

    def __init__(self, message: str, *, pallet: str | None = None, name: str | None = None) -> None:
        super().__init__(message)
        #: The pallet whose error it is, such as ``Inference``.
        self.pallet = pallet
        #: The error's name, such as ``FeeLimit``.
        self.name = name


class InputError(ChainError, ValueError):
    """An input that the chain would not take: found out before anything is sent."""


class NoAnswerError(ChainError):
    """A request has no answer that counts: it ended in another state than ``final``."""

    def __init__(self, message: str, *, number: int, state: str) -> None:
        super().__init__(message)
        self.number = number
        self.state = state


class ProofError(ChainError):
    """A storage proof that does not hold."""
