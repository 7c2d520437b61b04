"""Ask models on a Consilience chain, and check what they answered.

:class:`Client` and :class:`AsyncClient` speak to a gateway, :class:`consilience.chain.Chain` to a node, :func:`verify` checks.
"""

from .client import AsyncChatStream, AsyncClient, ChatStream, Client
from .errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ChainError,
    ConflictError,
    ConsilienceError,
    InputError,
    InternalServerError,
    NoAnswerError,
    NodeConnectionError,
    NodeError,
    NotFoundError,
    PermissionDeniedError,
    ProofError,
    RateLimitError,
    ReplyError,
    StreamBrokenError,
    TransactionError,
    UnprocessableEntityError,
)
from .replies import ChatReply, Consilience, EmbedReply, InferReply, Model, Reply
from .tensors import Tensor
from .verification import Check, Verification, verify

__version__ = "0.1.0"

__all__ = [
    "APIConnectionError",
    "APIError",
    "APITimeoutError",
    "AsyncChatStream",
    "AsyncClient",
    "AuthenticationError",
    "BadRequestError",
    "ChainError",
    "ChatReply",
    "ChatStream",
    "Check",
    "Client",
    "ConflictError",
    "Consilience",
    "ConsilienceError",
    "EmbedReply",
    "InferReply",
    "InputError",
    "InternalServerError",
    "Model",
    "NoAnswerError",
    "NodeConnectionError",
    "NodeError",
    "NotFoundError",
    "PermissionDeniedError",
    "ProofError",
    "RateLimitError",
    "Reply",
    "ReplyError",
    "StreamBrokenError",
    "Tensor",
    "TransactionError",
    "UnprocessableEntityError",
    "Verification",
    "verify",
]
