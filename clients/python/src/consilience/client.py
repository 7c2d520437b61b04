"""Clients of a gateway: one that blocks, and one for asyncio. Both have the same methods and give the same replies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

import httpx
from httpx_sse import EventSource, SSEError

from ._calls import STREAM_READ, TIMEOUT, Call, Calls, Message, Own, StreamReader
from .errors import ReplyError
from .replies import ChatReply, Consilience, EmbedReply, InferReply, Model
from .tensors import TensorLike

R = TypeVar("R")
Wait = Literal["provisional", "checked", "final"]
OnStep = Callable[[Consilience], object]


def _stream_timeout(timeout: httpx.Timeout) -> httpx.Timeout:
    read = STREAM_READ if timeout.read is None else min(timeout.read, STREAM_READ)
    return httpx.Timeout(connect=timeout.connect, read=read, write=timeout.write, pool=timeout.pool)


class _Stream:
    """What both kinds of stream know."""

    def __init__(self, call: Call[ChatReply], on_step: OnStep | None) -> None:
        self._call = call
        self._reader = StreamReader(call, on_step)
        self._reply: ChatReply | None = None

    @property
    def text(self) -> str:
        """The text so far. Until the stream has ended cleanly, nobody says that it stands."""
        return self._reader.text

    @property
    def status(self) -> str | None:
        """How far the answer is, as far as the stream has said: it grows while the stream goes on."""
        return Consilience(self._reader.consilience).status

    @property
    def reply(self) -> ChatReply:
        """The whole reply, once the stream has ended; raises :class:`RuntimeError` before, and after an error."""
        if self._reply is None:
            raise RuntimeError("the stream has not come to its end: read all of it, or call finish()")
        return self._reply


class ChatStream(_Stream):
    """A chat's stream: iterating gives the text as it comes, :attr:`reply` is there when it has ended.

    Whatever breaks it is an error and never an end: :class:`StreamBrokenError`, or what the gateway says in it.
    """

    def __init__(self, call: Call[ChatReply], on_step: OnStep | None, http: httpx.Client) -> None:
        super().__init__(call, on_step)
        self._exit = ExitStack()
        timeout = _stream_timeout(http.timeout)
        try:
            opened = http.stream(call.method, call.url, headers=call.headers, content=call.content, timeout=timeout)
            self._response = self._exit.enter_context(opened)
            if self._response.is_error:
                raise call.refused(self._response, self._response.read())
        except httpx.HTTPError as e:
            self.close()
            raise call.failed(e) from e
        except BaseException:
            self.close()
            raise
        self._parts = self._iterate()

    def _iterate(self) -> Iterator[str]:
        with self:
            try:
                for event in EventSource(self._response).iter_sse():
                    if text := self._reader.take(event.data):
                        yield text
                    if self._reader.done:
                        break
            except SSEError as e:
                raise ReplyError(f"{self._call.url}: {e}") from e
            except httpx.HTTPError as e:
                raise self._reader.broken(f"the stream broke: {e or type(e).__name__}") from e
            self._reply = self._reader.reply()

    def __iter__(self) -> Iterator[str]:
        return self._parts

    def __next__(self) -> str:
        return next(self._parts)

    def finish(self) -> ChatReply:
        """Reads what is left and returns the reply."""
        for _ in self._parts:
            pass
        return self.reply

    def close(self) -> None:
        """Hangs up. What is on chain goes on and is paid for."""
        self._exit.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class AsyncChatStream(_Stream):
    """:class:`ChatStream` for asyncio."""

    def __init__(self, call: Call[ChatReply], on_step: OnStep | None, http: httpx.AsyncClient) -> None:
        super().__init__(call, on_step)
        self._http = http
        self._exit = AsyncExitStack()
        self._parts = self._iterate()

    async def _open(self) -> Self:
        call, timeout = self._call, _stream_timeout(self._http.timeout)
        try:
            opened = self._http.stream(
                call.method, call.url, headers=call.headers, content=call.content, timeout=timeout
            )
            self._response = await self._exit.enter_async_context(opened)
            if self._response.is_error:
                raise call.refused(self._response, await self._response.aread())
        except httpx.HTTPError as e:
            await self.aclose()
            raise call.failed(e) from e
        except BaseException:
            await self.aclose()
            raise
        return self

    async def _iterate(self) -> AsyncIterator[str]:
        async with self:
            try:
                async for event in EventSource(self._response).aiter_sse():
                    if text := self._reader.take(event.data):
                        yield text
                    if self._reader.done:
                        break
            except SSEError as e:
                raise ReplyError(f"{self._call.url}: {e}") from e
            except httpx.HTTPError as e:
                raise self._reader.broken(f"the stream broke: {e or type(e).__name__}") from e
            self._reply = self._reader.reply()

    def __aiter__(self) -> AsyncIterator[str]:
        return self._parts

    async def __anext__(self) -> str:
        return await anext(self._parts)

    async def finish(self) -> ChatReply:
        """Reads what is left and returns the reply."""
        async for _ in self._parts:
            pass
        return self.reply

    async def aclose(self) -> None:
        """Hangs up. What is on chain goes on and is paid for."""
        await self._exit.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, e: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()


class Client:
    """A gateway's client.

    ``base_url`` is as OpenAI's clients take it, by default ``$CONSILIENCE_GATEWAY`` or ``http://127.0.0.1:8080/v1``; ``api_key`` by default
    ``$CONSILIENCE_API_KEY``. ``http`` is a client of httpx with settings of one's own (proxies, certificates, time-outs).

    Nothing is retried. Each call that asks for work has an idempotency key, one's own or a new one, which errors and replies carry: asking
    again with it and the same arguments is the same request, paid once.
    """

    def __init__(
        self, base_url: str | None = None, api_key: str | None = None, *, http: httpx.Client | None = None
    ) -> None:
        self._calls = Calls(base_url, api_key)
        self._http = http or httpx.Client(timeout=TIMEOUT)
        self._owns_http = http is None

    def _make(self, call: Call[R]) -> R:
        try:
            response = self._http.request(call.method, call.url, headers=call.headers, content=call.content)
        except httpx.HTTPError as e:
            raise call.failed(e) from e
        return call.finish(response, response.content)

    def models(self) -> list[Model]:
        """Returns all models that take requests."""
        return self._make(self._calls.models())

    def model(self, model: str) -> Model:
        """Returns one model by name or id, also one that takes no requests."""
        return self._make(self._calls.model(model))

    @overload
    def chat(
        self,
        model: str,
        messages: Sequence[Message] | str,
        *,
        stream: Literal[False] = False,
        wait: Wait | None = None,
        verifiers: int | None = None,
        consilience: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        **parameters: Any,
    ) -> ChatReply: ...

    @overload
    def chat(
        self,
        model: str,
        messages: Sequence[Message] | str,
        *,
        stream: Literal[True],
        on_step: OnStep | None = None,
        wait: Wait | None = None,
        verifiers: int | None = None,
        consilience: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        **parameters: Any,
    ) -> ChatStream: ...

    def chat(
        self,
        model: str,
        messages: Sequence[Message] | str,
        *,
        stream: bool = False,
        on_step: OnStep | None = None,
        wait: Wait | None = None,
        verifiers: int | None = None,
        consilience: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        **parameters: Any,
    ) -> ChatReply | ChatStream:
        """Asks a model.

        Parameters are those of OpenAI's API (``max_tokens``, ``temperature``, ``stop``, …); what the gateway does not honour, it refuses by
        name. ``wait`` says how far the answer has to be (``checked`` if left out), ``verifiers`` how many measure it, ``consilience`` what
        else the gateway is told. With ``stream``, ``on_step`` hears of every step that the answer takes.
        """
        own = Own(wait, verifiers, on_step is not None, consilience, idempotency_key)
        call = self._calls.chat(model, messages, own, parameters, stream=stream)
        if not stream:
            if on_step is not None:
                raise ValueError("on_step is for streams: give stream=True")
            return self._make(call)
        return ChatStream(call, on_step, self._http)

    def embed(
        self,
        model: str,
        texts: str | Sequence[str],
        *,
        wait: Wait | None = None,
        verifiers: int | None = None,
        consilience: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        **parameters: Any,
    ) -> EmbedReply:
        """Returns vectors of texts. Each text is a request."""
        own = Own(wait, verifiers, False, consilience, idempotency_key)
        return self._make(self._calls.embed(model, texts, own, parameters))

    def infer(
        self,
        model: str,
        inputs: Mapping[str, TensorLike],
        *,
        outputs: Sequence[str] | None = None,
        wait: Wait | None = None,
        verifiers: int | None = None,
        consilience: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        **parameters: Any,
    ) -> InferReply:
        """Runs a model on tensors: numpy arrays, :class:`Tensor`, or a text, by name. ``outputs`` names those that are wanted."""
        own = Own(wait, verifiers, False, consilience, idempotency_key)
        return self._make(self._calls.infer(model, inputs, outputs, own, parameters))

    def close(self) -> None:
        """Closes its connections; those of an httpx client that was given stay."""
        if self._owns_http:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class AsyncClient:
    """:class:`Client` for asyncio."""

    def __init__(
        self, base_url: str | None = None, api_key: str | None = None, *, http: httpx.AsyncClient | None = None
    ) -> None:
        self._calls = Calls(base_url, api_key)
        # As many calls at once as a caller makes: the gateway says when there are too many.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        self._http = http or httpx.AsyncClient(timeout=TIMEOUT, limits=limits)
        self._owns_http = http is None

    async def _make(self, call: Call[R]) -> R:
        try:
            response = await self._http.request(call.method, call.url, headers=call.headers, content=call.content)
        except httpx.HTTPError as e:
            raise call.failed(e) from e
        return call.finish(response, response.content)

    async def models(self) -> list[Model]:
        """Returns all models that take requests."""
        return await self._make(self._calls.models())

    async def model(self, model: str) -> Model:
        """Returns one model by name or id, also one that takes no requests."""
        return await self._make(self._calls.model(model))

    @overload
    async def chat(
        self,
        model: str,
        messages: Sequence[Message] | str,
        *,
        stream: Literal[False] = False,
        wait: Wait | None = None,
        verifiers: int | None = None,
        consilience: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        **parameters: Any,
    ) -> ChatReply: ...

    @overload
    async def chat(
        self,
        model: str,
        messages: Sequence[Message] | str,
        *,
        stream: Literal[True],
        on_step: OnStep | None = None,
        wait: Wait | None = None,
        verifiers: int | None = None,
        consilience: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        **parameters: Any,
    ) -> AsyncChatStream: ...

    async def chat(
        self,
        model: str,
        messages: Sequence[Message] | str,
        *,
        stream: bool = False,
        on_step: OnStep | None = None,
        wait: Wait | None = None,
        verifiers: int | None = None,
        consilience: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        **parameters: Any,
    ) -> ChatReply | AsyncChatStream:
        """:meth:`Client.chat`: ``async for text in await client.chat(…, stream=True)``."""
        own = Own(wait, verifiers, on_step is not None, consilience, idempotency_key)
        call = self._calls.chat(model, messages, own, parameters, stream=stream)
        if not stream:
            if on_step is not None:
                raise ValueError("on_step is for streams: give stream=True")
            return await self._make(call)
        return await AsyncChatStream(call, on_step, self._http)._open()

    async def embed(
        self,
        model: str,
        texts: str | Sequence[str],
        *,
        wait: Wait | None = None,
        verifiers: int | None = None,
        consilience: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        **parameters: Any,
    ) -> EmbedReply:
        """:meth:`Client.embed`."""
        own = Own(wait, verifiers, False, consilience, idempotency_key)
        return await self._make(self._calls.embed(model, texts, own, parameters))

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, TensorLike],
        *,
        outputs: Sequence[str] | None = None,
        wait: Wait | None = None,
        verifiers: int | None = None,
        consilience: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        **parameters: Any,
    ) -> InferReply:
        """:meth:`Client.infer`."""
        own = Own(wait, verifiers, False, consilience, idempotency_key)
        return await self._make(self._calls.infer(model, inputs, outputs, own, parameters))

    async def aclose(self) -> None:
        """Closes its connections; those of an httpx client that was given stay."""
        if self._owns_http:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, e: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()
