"""Calls of the gateway, as both clients make them: what is sent, and how a reply is read."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx

from .errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    ReplyError,
    StreamBrokenError,
    api_error,
)
from .replies import ChatReply, Consilience, EmbedReply, InferReply, Model, Reply
from .tensors import TensorLike, read_outputs, write_request

R = TypeVar("R")

DEFAULT_URL = "http://127.0.0.1:8080/v1"
#: The gateway keeps a reply open for fifteen minutes, and silent ones are so all that time.
TIMEOUT = httpx.Timeout(connect=10, read=930, write=60, pool=None)
#: A stream is never silent: the gateway pings every few seconds.
STREAM_READ = 60.0
#: Where the JSON ends that stands before binary data.
JSON_LENGTH = "inference-header-content-length"
#: Errors of a connection that come before anything was sent.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)

Message = Mapping[str, Any]


@dataclass
class Call(Generic[R]):
    """A call."""

    method: str
    url: str
    read: Callable[[Mapping[str, Any], bytes], R]
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes | None = None
    #: Set where the call asks for work that is paid for.
    idempotency_key: str | None = None

    def failed(self, error: httpx.HTTPError) -> APIConnectionError:
        """Returns the error that a broken connection stands for."""
        sent = self.idempotency_key is not None and not isinstance(error, _NOT_SENT)
        said = str(error) or type(error).__name__
        if sent:
            said += ": the request may be on chain; ask again with the error's idempotency_key, not without"
        kind = APITimeoutError if isinstance(error, httpx.TimeoutException) else APIConnectionError
        return kind(f"{self.url}: {said}", sent=sent, idempotency_key=self.idempotency_key)

    def finish(self, response: httpx.Response, body: bytes) -> R:
        """Returns what a whole reply says, or raises."""
        if response.is_error:
            raise self.refused(response, body)
        length = response.headers.get(JSON_LENGTH)
        try:
            cut = len(body) if length is None else int(length)
            value = json.loads(body[:cut])
        except ValueError as e:
            raise ReplyError(f"{self.url}: the reply is not JSON: {e}") from e
        if not isinstance(value, dict):
            raise ReplyError(f"{self.url}: the reply is not a JSON object")
        try:
            return self.read(value, body[cut:])
        except (KeyError, TypeError, IndexError, AttributeError) as e:
            raise ReplyError(f"{self.url}: the reply is malformed: {e!r}") from e

    def refused(self, response: httpx.Response, body: bytes) -> APIError:
        """Returns the error that a reply is."""
        try:
            value: object = json.loads(body)
        except ValueError:
            value = body.decode(errors="replace")
        return api_error(
            value, status=response.status_code, headers=response.headers, idempotency_key=self.idempotency_key
        )


class Calls:
    """Makes calls for a gateway."""

    def __init__(self, base_url: str | None, api_key: str | None) -> None:
        base = (base_url or os.environ.get("CONSILIENCE_GATEWAY") or DEFAULT_URL).rstrip("/")
        # Open Inference Protocol's paths stand beside OpenAI's.
        self.root = base.removesuffix("/v1")
        key = api_key if api_key is not None else os.environ.get("CONSILIENCE_API_KEY")
        self.headers = {"user-agent": "consilience-python/0.1.0"}
        if key:
            self.headers["authorization"] = f"Bearer {key}"

    def models(self) -> Call[list[Model]]:
        """All models that take requests."""
        return self._get("/v1/models", lambda v: [Model(m["id"], m) for m in v["data"]])

    def model(self, model: str) -> Call[Model]:
        """One model, also one that takes no requests."""
        return self._get(f"/v1/models/{quote(model, safe='')}", lambda v: Model(v["id"], v))

    def chat(
        self, model: str, messages: Sequence[Message] | str, own: Own, parameters: Mapping[str, Any], *, stream: bool
    ) -> Call[ChatReply]:
        """A chat."""
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        body: dict[str, Any] = {**parameters, "model": model, "messages": list(messages)}
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return self._post("/v1/chat/completions", body, own, read_chat)

    def embed(
        self, model: str, texts: str | Sequence[str], own: Own, parameters: Mapping[str, Any]
    ) -> Call[EmbedReply]:
        """Vectors of texts."""
        body = {**parameters, "model": model, "input": texts if isinstance(texts, str) else list(texts)}
        return self._post("/v1/embeddings", body, own, _read_embeddings)

    def infer(
        self,
        model: str,
        inputs: Mapping[str, TensorLike],
        outputs: Sequence[str] | None,
        own: Own,
        parameters: Mapping[str, Any],
    ) -> Call[InferReply]:
        """Tensors."""
        body, tail = write_request(inputs, outputs, parameters)
        path = f"/v2/models/{quote(model, safe='')}/infer"
        return self._post(
            path, body, own, lambda v, rest: InferReply(v, outputs=read_outputs(v["outputs"], rest)), tail
        )

    def _get(self, path: str, read: Callable[[Mapping[str, Any]], R]) -> Call[R]:
        return Call("GET", self.root + path, lambda value, _: read(value), dict(self.headers))

    def _post(
        self,
        path: str,
        body: dict[str, Any],
        own: Own,
        read: Callable[[Mapping[str, Any], bytes], Reply],
        tail: bytes | None = None,
    ) -> Call[Any]:
        key = own.idempotency_key or str(uuid.uuid4())
        if fields := own.fields():
            body["consilience"] = fields
        content = json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        headers = {**self.headers, "content-type": "application/json", "idempotency-key": key}
        if tail is not None:
            headers |= {"content-type": "application/octet-stream", JSON_LENGTH: str(len(content))}
            content += tail

        def with_key(value: Mapping[str, Any], rest: bytes) -> Reply:
            reply = read(value, rest)
            object.__setattr__(reply, "idempotency_key", key)
            return reply

        return Call("POST", self.root + path, with_key, headers, content, key)


@dataclass(frozen=True)
class Own:
    """What a call tells the gateway itself."""

    wait: str | None = None
    verifiers: int | None = None
    steps: bool = False
    extra: Mapping[str, Any] | None = None
    idempotency_key: str | None = None

    def fields(self) -> dict[str, Any]:
        """Returns the object ``consilience`` of a body."""
        fields = dict(self.extra or {})
        if self.wait is not None:
            fields["wait"] = self.wait
        if self.verifiers is not None:
            fields["verifiers"] = self.verifiers
        if self.steps:
            fields["steps"] = True
        return fields


def read_chat(value: Mapping[str, Any], _: bytes) -> ChatReply:
    """Reads a chat's reply."""
    choice = value["choices"][0]
    message = choice["message"]
    return ChatReply(
        value, text=message.get("content") or "", finish_reason=choice.get("finish_reason"), message=dict(message)
    )


def _read_embeddings(value: Mapping[str, Any], _: bytes) -> EmbedReply:
    entries = sorted(value["data"], key=lambda entry: entry["index"])
    return EmbedReply(value, embeddings=tuple(tuple(float(x) for x in entry["embedding"]) for entry in entries))


class StreamReader:
    """Gathers a chat's stream, and says whether it came to its end.

    The end is a ``finish_reason`` and then ``[DONE]``: a stream that stops before, whatever the reason, is broken.
    """

    def __init__(self, call: Call[ChatReply], on_step: Callable[[Consilience], object] | None) -> None:
        self.call = call
        self.on_step = on_step
        self.text = ""
        self.done = False
        self.finish_reason: str | None = None
        self.head: dict[str, Any] = {}
        self.message: dict[str, Any] = {"role": "assistant", "content": ""}
        self.usage: Any = None
        self.consilience: dict[str, Any] = {}

    def take(self, data: str) -> str:
        """Takes an event, and returns the text in it."""
        if data == "[DONE]":
            self.done = True
            return ""
        try:
            chunk = json.loads(data)
        except ValueError as e:
            raise self.broken(f"an event is not JSON: {e}") from e
        if not isinstance(chunk, dict):
            raise self.broken("an event is not a JSON object")
        if "error" in chunk:
            raise api_error(chunk, idempotency_key=self.call.idempotency_key)
        try:
            return self._chunk(chunk)
        except (KeyError, TypeError, IndexError, AttributeError) as e:
            raise ReplyError(f"{self.call.url}: an event is malformed: {e!r}") from e

    def _chunk(self, chunk: dict[str, Any]) -> str:
        self.head = {name: chunk.get(name) for name in ("id", "created", "model")}
        self.usage = chunk.get("usage") or self.usage
        text = ""
        for choice in chunk["choices"]:
            delta = choice.get("delta") or {}
            text += delta.get("content") or ""
            for name, value in delta.items():
                if name == "tool_calls":
                    _merge_calls(self.message.setdefault(name, []), value)
                elif name != "content" and value is not None:
                    self.message[name] = value
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
        self.text += text
        self.message["content"] = self.text
        own = chunk.get("consilience")
        if isinstance(own, dict):
            self.consilience = own
            if self.on_step is not None:
                self.on_step(Consilience(own))
        return text

    def broken(self, why: str) -> StreamBrokenError:
        """Returns the error of a stream that ended too early."""
        message = f"{self.call.url}: {why}; the text so far is confirmed by nobody"
        return StreamBrokenError(message, text=self.text, idempotency_key=self.call.idempotency_key)

    def reply(self) -> ChatReply:
        """Returns the whole reply of a stream that came to its end; raises of another."""
        if not self.done or self.finish_reason is None:
            raise self.broken("the stream ended without its end")
        value = {
            **self.head,
            "object": "chat.completion",
            "choices": [{"index": 0, "message": self.message, "finish_reason": self.finish_reason}],
            "usage": self.usage,
            "consilience": self.consilience,
        }
        return self.call.read(value, b"")


def _merge_calls(into: list[dict[str, Any]], deltas: list[dict[str, Any]]) -> None:
    """Puts the parts of tools' calls together, as OpenAI's streams split them."""
    for delta in deltas:
        index = delta.get("index", len(into))
        while len(into) <= index:
            into.append({"type": "function", "function": {"name": "", "arguments": ""}})
        call, function = into[index], delta.get("function") or {}
        call.update({name: value for name, value in delta.items() if name not in ("index", "function")})
        for name in ("name", "arguments"):
            call["function"][name] += function.get(name) or ""
