"""A node of the chain, over ``async-substrate-interface``: models, requests, their steps and answers.

Install ``consilience[chain]`` for it, and ``consilience[keys]`` for accounts to pay from.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self, cast

try:
    from async_substrate_interface import AsyncSubstrateInterface
    from async_substrate_interface.errors import SubstrateRequestException
    from websockets.exceptions import InvalidURI, WebSocketException
except ModuleNotFoundError as e:
    raise ModuleNotFoundError(f'{e}: pip install "consilience[chain]"', name=e.name) from e

from . import _inputs
from ._inputs import Assurance, Sampled
from .errors import (
    InputError,
    NoAnswerError,
    NodeConnectionError,
    NodeError,
    ProofError,
    TransactionError,
)
from .layouts import SETTLED
from .proof import Header, blake2_256, read_proof
from .tensors import Tensor, TensorLike, read_tensor

__all__ = ["Answer", "Assurance", "Block", "Chain", "ChainModel", "Keypair", "Request", "Sampled", "Step"]

#: Blocks for which a transaction is good. It is bound to the last finalised block, which may be some way behind.
MORTALITY = 256
#: Seconds between looks at what the connection has brought: the library has nothing to wait on.
LOOK = 0.01
#: Tries of a transaction that the pool refuses because its nonce is that of another block, and seconds between them.
ATTEMPTS, PAUSE = 5, 3.0
#: The pool has this very transaction already.
_ALREADY_IMPORTED = 1013
#: The pool has another one of the account in its place.
_TOO_LOW_PRIORITY = 1014


class Keypair(Protocol):
    """Who signs and pays: ``bittensor_wallet.Keypair``, or anything like it. The chain's accounts are of SR25519."""

    @property
    def crypto_type(self) -> int:
        """1 for SR25519."""
        ...

    @property
    def public_key(self) -> bytes | None:
        """32 bytes."""
        ...

    @property
    def ss58_address(self) -> str:
        """The account's address."""
        ...

    @property
    def ss58_format(self) -> int:
        """The address's format."""
        ...

    def sign(self, data: bytes | str, /) -> bytes:
        """Returns a signature."""
        ...


@dataclass(frozen=True)
class Block:
    """A block."""

    number: int
    #: With ``0x``.
    hash: str


@dataclass(frozen=True)
class ChainModel:
    """A model on chain."""

    #: Hash of its manifest.
    id: str
    #: For people; not unique.
    name: str
    #: ``text-generation``, ``embedding`` or ``tensor``.
    task: str
    #: ``active`` where it takes requests.
    status: str
    #: Accounts of the validators that serve it.
    serving: tuple[str, ...]
    #: All that the node says of it: price (as strings, in 10⁻¹² CSL), limits, policy, signature, …
    raw: Mapping[str, Any]

    @property
    def min_verifiers(self) -> int:
        """Fewest verifiers that a request may ask for."""
        return int(self.raw["policy"]["min_verifiers"])


@dataclass(frozen=True)
class Quote:
    """What a request would cost, and how long it would take."""

    #: What must be held at least, in 10⁻¹² CSL, the tip not counted.
    fee: int
    #: Of it, what is burned because those who serve the model are more than half taken.
    surcharge: int
    #: What is taken of what they can do, in thousandths.
    taken: int
    #: Blocks after which the answer is expected to be final.
    blocks: int

    @classmethod
    def _of(cls, said: Mapping[str, Any]) -> Quote:
        """Reads what the runtime says."""
        return cls(
            fee=int(said["fee"]),
            surcharge=int(said["surcharge"]),
            taken=int(said["taken"]),
            blocks=sum(int(blocks) for blocks in said["wait"].values()),
        )


@dataclass(frozen=True)
class Request:
    """A request as the chain has it."""

    number: int
    #: Id of the model.
    model: str
    #: ``requested``, ``assigned``, ``provisional`` or ``disputed``; settled, ``final``, ``rejected``, ``expired``, ``cancelled``,
    #: ``unanswerable`` or ``overturned``. Only ``final`` has an answer that counts.
    state: str
    #: Account that asked and pays.
    requester: str
    executor: str | None
    verifiers: tuple[str, ...]
    jurors: tuple[str, ...]
    #: In 10⁻¹² CSL.
    escrow: int
    paid: int
    refunded: int
    #: All that the node says of it: input, output, evidence, seeds, blocks, …
    raw: Mapping[str, Any]

    @property
    def is_settled(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state in SETTLED

    @property
    def is_checked(self) -> bool:
        """Whether anybody but the executor measured the answer, and it was settled."""
        return self.state in ("final", "unanswerable") and bool(self.verifiers or self.jurors)

    @property
    def output(self) -> Mapping[str, Any] | None:
        """What was answered so far, whoever has checked it or not."""
        return cast("Mapping[str, Any] | None", self.raw.get("output"))

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Request:
        """Reads a request as ``inference_request`` gives it."""
        return cls(
            number=value["id"],
            model=value["model"],
            state=value["state"],
            requester=value["requester"],
            executor=value["executor"],
            verifiers=tuple(value["verifiers"]),
            jurors=tuple(value["jurors"]),
            escrow=int(value["escrow"]),
            paid=int(value["paid"]),
            refunded=int(value["refunded"]),
            raw=value,
        )


@dataclass(frozen=True)
class Step:
    """A step in a request's life."""

    #: The block in which the request was seen so.
    block: Block
    #: Whether that block is finalised. What is not may be undone by a fork.
    finalized: bool
    request: Request

    @property
    def state(self) -> str:
        """The request's state."""
        return self.request.state


@dataclass(frozen=True)
class Answer:
    """An answer that counts: the request is ``final`` in a finalised block."""

    request: Request
    block: Block
    #: Of a text model.
    text: str | None = None
    tokens: tuple[int, ...] = ()
    #: ``end_of_text``, ``length`` or ``stop_string``.
    finish_reason: str | None = None
    #: Of a tensor model, by name; an embedding is one of one dimension.
    outputs: Mapping[str, Tensor] | None = None

    @property
    def checked(self) -> bool:
        """Whether anybody but the executor measured it. On a chain of one validator (``--dev``) nobody has."""
        return self.request.is_checked

    @property
    def embedding(self) -> list[float]:
        """The vector of an embedding model."""
        if self.outputs is None or len(self.outputs) != 1:
            raise TypeError("the answer is no embedding")
        (vector,) = self.outputs.values()
        return [float(element) for element in vector.elements()]

    @classmethod
    def read(cls, request: Request, block: Block) -> Answer:
        """Reads the answer of a request, and refuses what is none that counts."""
        output = request.output
        if request.state != "final" or output is None:
            reason = output.get("reason") if output else None
            why = f"request {request.number} is {request.state}, not final" + (f": {reason}" if reason else "")
            raise NoAnswerError(why, number=request.number, state=request.state)
        if "text" in output:
            return cls(request, block, output["text"], tuple(output["tokens"]), output["finish_reason"])
        if "outputs" in output:
            return cls(request, block, outputs={t["name"]: read_tensor(t) for t in output["outputs"]})
        raise NoAnswerError(
            f"request {request.number} cannot be answered: {output.get('reason')}",
            number=request.number,
            state=request.state,
        )


class Chain:
    """A connection to a node: ``async with Chain("ws://127.0.0.1:9944") as chain``.

    One connection may be used by many tasks at once. What a node says is the node's word; :func:`consilience.verify` checks what can be
    checked of it.
    """

    def __init__(self, url: str = "ws://127.0.0.1:9944") -> None:
        self.url = url
        # No time-out of its own: a request may be silent for minutes, and the connection is watched by pings. It stays open until it is
        # closed.
        self._node = AsyncSubstrateInterface(url, ws_shutdown_timer=None, retry_timeout=86_400.0)
        self._nonces: dict[str, asyncio.Lock] = {}

    async def __aenter__(self) -> Self:
        with self._connection():
            await self._node.initialize()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, e: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection."""
        await self._node.close()  # type: ignore[no-untyped-call]

    # Models.

    async def models(self) -> list[ChainModel]:
        """Returns every model on chain, also those that take no requests."""
        found = await self.call("models_list", [])
        return [
            ChainModel(m["id"], m["name"], m["task"], m["status"], tuple(m["serving"]), m)
            for m in cast("list[Any]", found)
        ]

    async def model(self, model: str) -> ChainModel:
        """Returns the model of an id, or of a name that one active model alone has."""
        every = await self.models()
        found = [m for m in every if m.id == model] or [m for m in every if m.name == model and m.status == "active"]
        if len(found) > 1:
            raise InputError(
                f"{len(found)} models are called {model!r}: give the id, one of {', '.join(m.id for m in found)}"
            )
        if not found:
            others = ", ".join(sorted({m.name for m in every if m.status == "active"})) or "none"
            raise InputError(f"no active model is called {model!r}: there is {others}")
        return found[0]

    # Asking.

    async def quote(
        self,
        model: str,
        *,
        messages: Sequence[Mapping[str, Any]] | str | None = None,
        prompt: str | None = None,
        text: str | None = None,
        inputs: Mapping[str, TensorLike] | None = None,
        assurance: Assurance | None = None,
        **parameters: Any,
    ) -> Quote:
        """Returns what a request would cost at most and how long it is expected to take; an :class:`InputError` says why it would be
        refused, and where there is no room when some is expected."""
        found = await self.model(model)
        asked = self._input(found, messages, prompt, text, inputs, parameters)
        return await self._quote(found, asked, assurance)

    async def request(
        self,
        keypair: Keypair,
        model: str,
        *,
        messages: Sequence[Mapping[str, Any]] | str | None = None,
        prompt: str | None = None,
        text: str | None = None,
        inputs: Mapping[str, TensorLike] | None = None,
        assurance: Assurance | None = None,
        fee_limit: int | None = None,
        tip: int = 0,
        finalized: bool = False,
        **parameters: Any,
    ) -> int:
        """Asks and pays, and returns the request's number once it stands in a block.

        What is asked is one of ``messages`` (a chat, or one question as a string), ``prompt`` (text as it is), ``text`` (to embed) and
        ``inputs`` (tensors by name); parameters are those of OpenAI's API. ``assurance`` is a number of verifiers, by default the fewest
        that the model's policy takes, or :class:`Sampled`. The most that it may cost is held (``fee_limit``, by default the quote), and what
        was not spent is returned.

        With ``finalized`` it returns when the block is final. Before, a fork may give the request another number; nothing is paid twice.
        """
        found = await self.model(model)
        asked = self._input(found, messages, prompt, text, inputs, parameters)
        limit = (await self._quote(found, asked, assurance)).fee + tip if fee_limit is None else fee_limit
        checks = _inputs.assurance(found.min_verifiers if assurance is None else assurance)
        common = {"model": found.id, "assurance": checks, "fee_limit": limit, "tip": tip}
        if asked.data is None:
            function, arguments = "request", {**common, "input": asked.stored["Inline"]}
        else:
            function = "request_with_data"
            arguments = {
                **common,
                "tensors": asked.stored["Indexed"]["tensors"],
                "data": _inputs.one("0x" + asked.data.hex()),
            }
        events = await self._submit(keypair, function, arguments, finalized=finalized)
        for event in events:
            if event["module_id"] == "Inference" and event["event_id"] == "RequestSubmitted":
                return int(event["attributes"]["request"])
        raise TransactionError("the block has the transaction, and no request of it")

    def _input(
        self,
        model: ChainModel,
        messages: Sequence[Mapping[str, Any]] | str | None,
        prompt: str | None,
        text: str | None,
        inputs: Mapping[str, TensorLike] | None,
        parameters: Mapping[str, Any],
    ) -> _inputs.Input:
        return _inputs.build(
            messages=messages,
            prompt=prompt,
            text=text,
            inputs=inputs,
            advice=model.raw.get("sampling") or {},
            parameters=parameters,
        )

    async def _quote(self, model: ChainModel, asked: _inputs.Input, assurance: Assurance | None) -> Quote:
        checks = _inputs.assurance(model.min_verifiers if assurance is None else assurance)
        said = await self._runtime_call("InferenceApi", "quote", [model.id, dict(asked.stored), checks])
        if isinstance(said, Mapping) and "Ok" in said:
            return Quote._of(said["Ok"])
        why = said["Err"] if isinstance(said, Mapping) and "Err" in said else said
        raise InputError(f"{model.name} would refuse this: {_refusal(why)}")

    async def _runtime_call(self, api: str, method: str, arguments: list[Any], at: str | None = None) -> Any:
        with self._connection():
            said = await self._node.runtime_call(api, method, arguments, block_hash=at)
        return getattr(said, "value", said)

    async def _submit(
        self, keypair: Keypair, function: str, arguments: dict[str, Any], *, finalized: bool
    ) -> list[dict[str, Any]]:
        """Sends a transaction of the pallet ``Inference``, and returns its events once it stands in a block."""
        with self._connection():
            call = await self._node.compose_call("Inference", function, arguments)
        # The node counts what is in its pool: whoever signs next has to wait until this is there.
        async with self._nonces.setdefault(keypair.ss58_address, asyncio.Lock()):
            for left in reversed(range(ATTEMPTS)):
                connection = self._node.ws.ws
                nonce = cast("int", await self.call("account_nextIndex", [keypair.ss58_address]))
                with self._connection():
                    signed = await self._node.create_signed_extrinsic(
                        call, cast("Any", keypair), era={"period": MORTALITY}, nonce=nonce
                    )
                raw = "0x" + bytes(cast("Any", signed).data.data).hex()
                sent = "0x" + blake2_256(bytes.fromhex(raw[2:])).hex()
                updates = self._subscribe("author_submitAndWatchExtrinsic", [raw], "author_unwatchExtrinsic")
                with _uncertain(sent):
                    try:
                        # The first is `ready` or `future`; an error says that the pool refused.
                        first = await anext(updates)
                        break
                    except NodeError as e:
                        if self._node.ws.ws is not connection or e.code == _ALREADY_IMPORTED:
                            # It may have been sent twice, over the old connection and the new, and the first be the one that counts.
                            raise NodeConnectionError(self._broke) from e
                        if not left or not _is_outdated(e):
                            raise TransactionError(f"the transaction was not taken: {e}") from e
                await asyncio.sleep(PAUSE)
        with _uncertain(sent):
            async with aclosing(updates):
                at = await _included(first, updates, finalized=finalized)
            return await self._outcome(raw, at)

    async def _outcome(self, raw: str, at: str) -> list[dict[str, Any]]:
        """Returns the events of a transaction in a block."""
        block = cast("Any", await self.call("chain_getBlock", [at]))
        index = block["block"]["extrinsics"].index(raw)
        with self._connection():
            every = await self._node.get_events(block_hash=at)
        events = [e for e in every if e["extrinsic_idx"] == index]
        for event in events:
            if (event["module_id"], event["event_id"]) == ("System", "ExtrinsicFailed"):
                raise await self._dispatch_error(event["attributes"]["dispatch_error"], at)
        return events

    async def _dispatch_error(self, error: Any, at: str) -> TransactionError:
        module = error.get("Module") if isinstance(error, Mapping) else None
        if not isinstance(module, Mapping):
            return TransactionError(f"the transaction failed: {error}")
        with self._connection():
            runtime = await self._node.init_runtime(block_hash=at)
        index, code = module["index"], module["error"]
        number = int(code[2:4], 16) if isinstance(code, str) else int(code)
        for pallet in runtime.metadata.pallets:
            if pallet.value["index"] == index:
                found = pallet.errors[number]
                docs = " ".join(line.strip() for line in found.docs if line.strip())
                name = str(found.name)
                return TransactionError(f"{pallet.name}.{name}: {docs}", pallet=str(pallet.name), name=name)
        return TransactionError(f"the transaction failed: error {number} of pallet {index}")

    # Following.

    async def get(self, number: int, at: str | None = None) -> Request | None:
        """Returns a request as it stands in the best block or the one of the hash ``at``; ``None`` where there is none."""
        found = await self.call("inference_request", [number, at])
        return None if found is None else Request.read(cast("Mapping[str, Any]", found))

    async def watch(self, number: int) -> AsyncIterator[Step]:
        """Gives every step of a request, in the best chain and again in finalised blocks, until it is settled in a finalised one."""
        subscription = self._subscribe("inference_subscribeRequest", [number], "inference_unsubscribeRequest")
        async with aclosing(subscription) as updates:
            async for update in updates:
                block = Block(update["block"]["number"], update["block"]["hash"])
                step = Step(block, update["finalized"], Request.read(update["request"]))
                yield step
                if step.finalized and step.request.is_settled:
                    return

    async def result(self, number: int) -> Answer:
        """Waits until a request is settled in a finalised block, and returns its answer; :class:`NoAnswerError` where it has none."""
        last = None
        async for step in self.watch(number):
            last = step
        if last is None:
            raise NodeConnectionError(f"the node stopped telling of request {number}: ask again")
        return Answer.read(last.request, last.block)

    # State.

    async def header(self, at: str | None = None) -> Header:
        """Returns a block's header, that of the last finalised block by default; its hash was computed here."""
        if at is None:
            at = cast("str", await self.call("chain_getFinalizedHead", []))
        found = await self.call("chain_getHeader", [at])
        if found is None:
            raise NodeError(f"the node has no block {at}", code=0)
        header = Header.read(cast("Mapping[str, Any]", found))
        if "0x" + header.hash.hex() != at.lower():
            raise ProofError(f"the node gave another header than that of block {at}")
        return header

    async def proven(self, header: Header, keys: Sequence[bytes]) -> list[bytes | None]:
        """Returns what stands in a block's state under these keys, by a storage proof that was checked here against the header.

        ``None`` is proven too. :func:`consilience.layouts.request_key` makes keys.
        """
        wanted = ["0x" + key.hex() for key in keys]
        said = cast("Mapping[str, Any]", await self.call("state_getReadProof", [wanted, "0x" + header.hash.hex()]))
        nodes = [bytes.fromhex(node.removeprefix("0x")) for node in said["proof"]]
        return [read_proof(header.state_root, nodes, key) for key in keys]

    async def decode(self, item: str, data: bytes, at: str) -> Any:
        """Returns a value of the pallet ``Inference`` as the metadata reads it that the node gives for the block: no proof covers that."""
        with self._connection():
            runtime = await self._node.init_runtime(block_hash=at)
            key = await self._node.create_storage_key("Inference", item, [0], block_hash=at)
            value = await self._node.decode_scale(cast("str", key.value_scale_type), data, runtime=runtime)
        return getattr(value, "value", value)

    # The node's JSON-RPC.

    async def call(self, method: str, parameters: Sequence[Any]) -> object:
        """Calls a method of the node's JSON-RPC."""
        with self._connection():
            async with self._node.ws as ws:
                await ws.mark_waiting_for_response()
                sent = await ws.send({"jsonrpc": "2.0", "method": method, "params": list(parameters)})
                try:
                    while (reply := await ws.retrieve(sent)) is None:
                        await asyncio.sleep(LOOK)
                finally:
                    await ws.mark_response_received()
                    await ws.discard_request(sent)
        return _result(reply)

    async def _subscribe(self, method: str, parameters: Sequence[Any], end: str) -> AsyncGenerator[Any, None]:
        """Subscribes, and gives what comes. Whoever reads it closes it, which ends the subscription."""
        with self._connection():
            async with self._node.ws as ws:
                connection = ws.ws
        subscription = cast("str", await self.call(method, parameters))
        try:
            async with self._node.ws as ws:
                await ws.mark_waiting_for_response()
                try:
                    while True:
                        with self._connection():
                            message = await ws.retrieve(subscription)
                        if message is None:
                            if ws.ws is not connection:
                                # The library connects again by itself, and the node knows nothing of the subscription there.
                                raise NodeConnectionError(self._broke)
                            await asyncio.sleep(LOOK)
                            continue
                        said = message["params"]
                        if "error" in said:
                            error = said["error"]
                            error = error if isinstance(error, Mapping) else {"message": str(error), "code": 0}
                            raise NodeError(str(error.get("message")), code=int(error.get("code", 0)))
                        yield said["result"]
                finally:
                    await ws.mark_response_received()
        finally:
            if self._node.ws.ws is connection:
                with self._connection():
                    await self._node.ws.unsubscribe(subscription, end)

    @property
    def _broke(self) -> str:
        return f"the connection to {self.url} broke; what is on chain goes on"

    @contextmanager
    def _connection(self) -> Iterator[None]:
        """Has what breaks on the way to the node raised as :class:`NodeConnectionError`."""
        try:
            yield
        except (OSError, TimeoutError, WebSocketException, InvalidURI) as e:
            raise NodeConnectionError(f"no node answers at {self.url}: {e or type(e).__name__}") from e
        except SubstrateRequestException as e:
            text = str(e)
            if "open subscriptions" in text:
                raise NodeConnectionError(self._broke) from e
            raise NodeError(text, code=0) from e


def _is_outdated(error: NodeError) -> bool:
    """Whether a transaction was refused for its nonce: a block came, or another fork became the best, after it was read."""
    return error.code == _TOO_LOW_PRIORITY or "outdated" in error.message


@contextmanager
def _uncertain(transaction: str) -> Iterator[None]:
    """Has an error of the connection say that a transaction was sent."""
    try:
        yield
    except NodeConnectionError as e:
        why = f"{e}. Transaction {transaction} was sent, and may be in a block: look before asking again"
        raise NodeConnectionError(why, transaction=transaction) from e


def _result(reply: Mapping[str, Any]) -> object:
    error = reply.get("error")
    if error is None:
        return reply.get("result")
    message, data = str(error.get("message")), error.get("data")
    raise NodeError(f"{message}: {data}" if data else message, code=int(error.get("code", 0)))


async def _included(first: Any, updates: AsyncIterator[Any], *, finalized: bool) -> str:
    """Waits until a transaction is in a block, and returns its hash. One that a fork takes out comes again."""
    update = first
    while True:
        if isinstance(update, Mapping):
            ((word, value),) = update.items()
        else:
            word, value = update, None
        match word:
            case "finalized":
                return str(value)
            case "inBlock" if not finalized:
                return str(value)
            case "usurped":
                raise TransactionError(f"another transaction of the account took its place: {value}")
            case "dropped" | "invalid":
                raise TransactionError(f"the transaction is {word}: the node's pool threw it out")
            case "finalityTimeout":
                raise TransactionError(f"block {value} has the transaction, and was not finalised in time")
        update = await anext(updates)


#: What the runtime's refusals mean (`QuoteError` and `InputError` of consilience-primitives).
_REFUSALS = {
    "UnknownModel": "no such model",
    "ModelNotActive": "it takes no requests: too few validators serve it, or its owner withdrew it",
    "BadAssurance": "fewer verifiers or a rarer check than its policy asks for, or more than the chain allows",
    "TooFewServe": "more verifiers than validators that serve it beside the one that answers: ask for fewer",
    "NoCapacity": "those who serve it have more to do already than they can do in time: ask for a shorter answer, or try again",
    "Overflow": "the price does not fit the chain's balance type",
    "WrongTask": "the model does another task",
    "NotUtf8": "text is not UTF-8",
    "Empty": "there is no text, no message or no tensor",
    "InputTooLarge": "the input is larger than the model takes",
    "ZeroTokens": "max_tokens is zero",
    "OutputTooLarge": "max_tokens is more than the model gives",
    "BadSampling": "a parameter of sampling is out of its range",
    "SignatureMismatch": "names, types or shapes of the tensors are not the model's",
    "MalformedTensor": "a tensor's data does not fit its shape",
    "NoChat": "the model has no chat template: give a prompt instead of messages",
    "BadConstraint": "the constraint is for other rules than this network's: use the client's version that its validators run",
}


def _refusal(why: Any) -> str:
    if isinstance(why, Mapping) and isinstance(why.get("NoCapacity"), Mapping):
        return f"{_REFUSALS['NoCapacity']} in {int(why['NoCapacity']['blocks'])} blocks"
    while isinstance(why, Mapping) and len(why) == 1:
        ((_, why),) = why.items()
    return _REFUSALS.get(str(why), str(why))
