"""What can be checked of an answer without running the model, and in plain words what can not."""

from __future__ import annotations

import asyncio
import json
import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from .errors import ConsilienceError, NodeError, ProofError
from .layouts import (
    SETTLED,
    Output,
    Question,
    RequestHead,
    Text,
    Unanswerable,
    read_output,
    read_question,
    read_request,
    request_key,
)
from .proof import Header, blake2_256
from .replies import ChatReply, EmbedReply, InferReply, Reply
from .tensors import Tensor, TensorLike, read_tensor

if TYPE_CHECKING:
    from .chain import Block, Chain

#: An answer that somebody gave you: a text, a vector, tensors by name, or a reply of the gateway.
Given: TypeAlias = "str | Sequence[float] | Mapping[str, TensorLike] | Reply"


@dataclass(frozen=True)
class Check:
    """Something that was checked."""

    name: str
    holds: bool
    detail: str


@dataclass(frozen=True)
class Verification:
    """What came of it."""

    number: int
    block: Block
    checks: tuple[Check, ...]
    #: What was not checked, and who or what can.
    not_checked: tuple[str, ...]
    #: The request's state, as proven.
    state: str | None = None
    #: What was asked, as proven.
    question: Question | None = None
    #: The answer, as proven.
    answer: Output | None = None
    #: What ``consilience verify`` said, where it was run.
    model_run: Mapping[str, Any] | None = None

    @property
    def holds(self) -> bool:
        """Whether everything that was checked holds. What was not checked stands in :attr:`not_checked`."""
        return all(check.holds for check in self.checks)

    def __bool__(self) -> bool:
        return self.holds

    def __str__(self) -> str:
        lines = [f"request {self.number} in block {self.block.number} {self.block.hash}"]
        lines += [f"{'holds' if c.holds else 'FAILS':<12} {c.name}: {c.detail}" for c in self.checks]
        lines += [f"{'not checked':<12} {what}" for what in self.not_checked]
        return "\n".join(lines)


async def verify(
    chain: Chain,
    request: int | Reply,
    *,
    answer: Given | None = None,
    question: str | Sequence[Mapping[str, Any]] | Mapping[str, TensorLike] | None = None,
    at: str | None = None,
    binary: str | os.PathLike[str] | None = None,
    binary_arguments: Sequence[str] = (),
) -> Verification:
    """Checks what stands on chain of a request, and whether it is what you were told.

    ``request`` is a number, or a gateway's reply, which is then the ``answer`` as well. ``question`` is what you asked: messages, a text, or
    tensors by name. ``at`` is the hash of a block that you know to be final from elsewhere, a light client or a node of your own: without it
    the node's last finalised block is taken. ``binary`` is the node's program: ``consilience verify`` runs the model again, with
    ``binary_arguments`` (``--base-path DIR``, say) behind.
    """
    from .chain import Block

    if isinstance(request, Reply):
        if request.request is None:
            raise ValueError(f"the reply has no number of one request on chain: it has {request.consilience.requests}")
        answer, request = request if answer is None else answer, request.request
    checks: list[Check] = []

    def check(name: str, holds: bool, detail: str) -> bool:
        checks.append(Check(name, holds, detail))
        return holds

    header, block = await _block(chain, at, check)
    if header is None:
        return Verification(request, block, tuple(checks), ("everything else: there is no header to prove it against",))
    block = Block(header.number, "0x" + header.hash.hex())
    missing = (
        []
        if at
        else [
            f"that block {block.number} is final: the node says so; give at=HASH from a light client or a node of your own"
        ]
    )

    items = ("Requests", "Inputs", "Outputs", "Rounds")
    try:
        stored = dict(zip(items, await chain.proven(header, [request_key(i, request) for i in items]), strict=True))
    except (ProofError, NodeError) as e:
        check("proof", False, str(e))
        return Verification(request, block, tuple(checks), tuple(missing))
    raw = stored["Requests"]
    if raw is None:
        check(
            "proof", False, f"proven: block {block.number} has no request {request}; it was never made, or is forgotten"
        )
        return Verification(request, block, tuple(checks), tuple(missing))
    check("proof", True, f"what stands on chain of it follows from the state root 0x{header.state_root.hex()}")

    try:
        head = read_request(raw)
        asked = read_question(stored["Inputs"]) if stored["Inputs"] is not None else None
        said = read_output(stored["Outputs"]) if stored["Outputs"] is not None else None
    except ValueError as e:
        check("layout", False, f"the chain writes requests in another way than this version knows: {e}")
        return Verification(request, block, tuple(checks), tuple(missing))

    open_yet = "" if head.state in SETTLED else ", and not yet final in this block"
    check("status", head.state == "final", f"the chain's state is {head.state}{open_yet}")
    if said is not None:
        check("answer on chain", not isinstance(said, Unanswerable), _show(said))
    else:
        check("answer on chain", False, "there is none")
    if answer is not None:
        same = _is_answer(answer, said)
        check(
            "answer given", same, "is the one on chain" if same else f"is not the one on chain, which is {_show(said)}"
        )
    else:
        missing.append("whether it is the answer that you were given: pass answer=")
    if question is not None:
        same = _is_question(question, asked)
        check("question", same, "is the one on chain" if same else f"is not the one on chain, which is {_ask(asked)}")
    else:
        missing.append("whether it is what you asked: pass question=")

    await _node_agrees(chain, request, block, head, said, check)
    await _committee(chain, stored["Rounds"], raw, block, head, check, missing)
    run = None
    if binary is None:
        missing.append(
            "that the model says this: nobody ran it here; `consilience verify` of the node's program does, also if given as binary="
        )
    else:
        run = await _run(binary, chain.url, request, binary_arguments)
        check(
            "model",
            run.get("verdict") == "right",
            f"consilience verify: {run.get('verdict')}" + (f", {run['reason']}" if run.get("reason") else ""),
        )
    return Verification(request, block, tuple(checks), tuple(missing), head.state, asked, said, run)


async def _block(chain: Chain, at: str | None, check: Any) -> tuple[Header | None, Block]:
    from .chain import Block

    try:
        header = await chain.header(at)
    except (ProofError, NodeError) as e:
        check("block", False, str(e))
        return None, Block(0, at or "")
    where = "the block that you gave" if at else "the last finalised one, as the node says"
    check("block", True, f"{header.number}, {where}: its hash follows from its header")
    return header, Block(header.number, "0x" + header.hash.hex())


async def _node_agrees(
    chain: Chain, number: int, block: Block, head: RequestHead, said: Output | None, check: Any
) -> None:
    """What the node's JSON-RPC says is what is proven: programs that read it are not misled."""
    try:
        told = await chain.get(number, at=block.hash)
    except NodeError as e:
        check("node", False, f"does not tell of the request: {e}")
        return
    if told is None:
        check("node", False, "says that there is no such request")
        return
    output = told.output
    same = (
        told.state == head.state
        and told.model == head.model
        and (output is None) == (said is None)
        and (output is None or said is None or _same_json(output, said))
    )
    check(
        "node",
        same,
        "inference_request says what is proven"
        if same
        else "inference_request says something else than what is proven",
    )


def _same_json(output: Mapping[str, Any], said: Output) -> bool:
    if isinstance(said, Text):
        return (output.get("text"), output.get("tokens"), output.get("finish_reason")) == (
            said.text,
            list(said.tokens),
            said.finish_reason,
        )
    if isinstance(said, Unanswerable):
        return output.get("code") == said.code
    return _same_tensors({t["name"]: read_tensor(t) for t in output.get("outputs", [])}, said)


async def _committee(
    chain: Chain, raw_round: bytes | None, raw: bytes, block: Block, head: RequestHead, check: Any, missing: list[str]
) -> None:
    """Who took part, and what they say that they measured."""
    request = await chain.decode("Requests", raw, block.hash)
    missing.append("the metadata by which committee, evidence and money were read: it is the node's")
    escrow, paid, returned = (request[name] for name in ("escrow", "paid", "refunded"))
    if head.state in SETTLED_WITH_MONEY:
        detail = f"{escrow} were held, {paid} paid, {returned} returned (1e-12 CSL)"
        check("money", paid + returned == escrow, detail)
    executor = request["executor"]
    if raw_round is None:
        check("committee", False, f"{executor} answered, and nobody was drawn to measure it")
        return
    members = (await chain.decode("Rounds", raw_round, block.hash))["members"]
    names = [member["who"] for member in members]
    shown = {
        m["who"]: m["progress"]["Revealed"]
        for m in members
        if isinstance(m["progress"], Mapping) and "Revealed" in m["progress"]
    }
    verifiers = [name for name in shown if name != executor]
    kind, count = head.assurance
    wanted = count if kind == "committee" else 1
    detail = f"{executor} answered; {', '.join(verifiers) or 'nobody else'} measured it"
    if silent := [name for name in names if name not in shown]:
        detail += f"; {', '.join(silent)} did not show what they measured"
    if len(verifiers) < wanted:
        detail += f"; {wanted} were asked for"
    check("committee", len(set(names)) == len(names) and 0 < len(verifiers) >= wanted, detail)
    prints = [evidence["fingerprint"] for evidence in shown.values()]
    if len(prints) < 2:
        return
    if not all(isinstance(p, Mapping) and "Digest" in p for p in prints):
        missing.append("the distances between the members' measurements: the chain compared them by the model's policy")
        return
    accusers = [who for who, evidence in shown.items() if any(evidence["verdict"].values())]
    if accusers:
        check("evidence", False, f"{', '.join(accusers)} call the answer wrong")
    else:
        same = all(p == prints[0] for p in prints)
        check("evidence", same, "all measured the same bits" if same else "the members measured different bits")


#: States after which what was held is paid and returned, and nothing beside.
SETTLED_WITH_MONEY = ("final", "rejected", "expired", "cancelled", "unanswerable")


def _is_answer(given: Given, said: Output | None) -> bool:
    if isinstance(given, ChatReply):
        given = given.text
    elif isinstance(given, EmbedReply):
        (given,) = given.embeddings
    elif isinstance(given, InferReply):
        given = given.outputs
    if isinstance(given, Reply):
        raise TypeError(f"a {type(given).__name__} has no answer that is known here")
    if isinstance(given, str):
        return isinstance(said, Text) and said.text == given
    if not isinstance(given, Mapping):
        if not isinstance(said, Mapping) or len(said) != 1:
            return False
        (vector,) = said.values()
        return len(given) == vector.size and _same_tensors(
            {"": Tensor(vector.datatype, vector.shape, list(given))}, {"": vector}
        )
    ours = {name: Tensor.of(value) for name, value in given.items()}
    if isinstance(said, Text):
        # Over the Open Inference Protocol a text is a tensor.
        return [tensor.elements() for tensor in ours.values()] == [[said.text]]
    if not isinstance(said, Mapping):
        return False
    if ours.keys() == {"embedding"} and len(said) == 1:
        # The gateway calls every embedding so, whatever the model does.
        said = {"embedding": next(iter(said.values()))}
    return bool(ours) and _same_tensors(ours, {name: tensor for name, tensor in said.items() if name in ours})


def _same_tensors(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(_same(tensor, theirs[name]) for name, tensor in ours.items())


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are the same once written: decimals that JSON has are rounded to the element type, and one NaN is as another."""
    if (a.datatype, a.shape) != (b.datatype, b.shape):
        return False
    left, right = (Tensor(t.datatype, t.shape, t.tobytes()).elements() for t in (a, b))
    return all(x == y or (x != x and y != y) for x, y in zip(left, right, strict=True))


def _is_question(given: Any, asked: Question | None) -> bool:
    if asked is None:
        return False
    if isinstance(given, str):
        return given in (asked.prompt, asked.text) or asked.messages == (("user", given),)
    if not isinstance(given, Mapping):
        return (
            asked.messages is not None and tuple((m["role"], _content(m["content"])) for m in given) == asked.messages
        )
    tensors = {name: Tensor.of(value) for name, value in given.items()}
    if asked.data_hash is not None:
        # The state has their headers, and the hash of their bytes in that order.
        if {(name, t.datatype, t.shape) for name, t in tensors.items()} != set(asked.headers):
            return False
        return blake2_256(b"".join(tensors[name].tobytes() for name, _, _ in asked.headers)) == asked.data_hash
    if asked.inputs is None:
        texts = [t.elements() for t in tensors.values()]
        return any(texts == [[one]] for one in _texts(asked))
    return _same_tensors(tensors, asked.inputs)


def _texts(asked: Question) -> list[str]:
    one = [asked.messages[0][1]] if asked.messages is not None and len(asked.messages) == 1 else []
    return [text for text in (asked.prompt, asked.text, *one) if text is not None]


def _content(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _show(said: Output | None) -> str:
    if said is None:
        return "none"
    if isinstance(said, Text):
        return f"{_quoted(said.text)}, {len(said.tokens)} tokens ({said.finish_reason})"
    if isinstance(said, Unanswerable):
        return f"that nobody can answer it: {said.code}"
    return ", ".join(f"{name} {t.datatype} {list(t.shape)}" for name, t in said.items())


def _ask(asked: Question | None) -> str:
    if asked is None:
        return "none"
    if asked.data_hash is not None:
        shapes = ", ".join(f"{name} {datatype} {list(shape)}" for name, datatype, shape in asked.headers)
        return f"{shapes}, whose data has the hash 0x{asked.data_hash.hex()}"
    if asked.inputs is not None:
        return ", ".join(f"{name} {t.datatype} {list(t.shape)}" for name, t in asked.inputs.items())
    return _quoted(asked.prompt or asked.text or " / ".join(f"{role}: {text}" for role, text in asked.messages or ()))


def _quoted(text: str) -> str:
    """Quotes a text that strangers wrote, for a terminal: control characters are written out."""
    clean = "".join(c if not unicodedata.category(c).startswith("C") else f"\\u{ord(c):04x}" for c in text[:200])
    return f'"{clean}{"…" if len(text) > 200 else ""}"'


async def _run(binary: str | os.PathLike[str], url: str, number: int, arguments: Sequence[str]) -> Mapping[str, Any]:
    """Runs ``consilience verify``, and returns what it says."""
    command = [os.fspath(binary), "verify", str(number), "--url", url, "--json", *arguments]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    lines = out.decode(errors="replace").strip().splitlines()
    try:
        said = json.loads(lines[-1]) if lines else None
    except ValueError:
        said = None
    if not isinstance(said, dict) or "verdict" not in said:
        why = err.decode(errors="replace").strip() or out.decode(errors="replace").strip()
        raise ConsilienceError(f"{' '.join(command)} ended with {process.returncode}: {why[-500:]}")
    return said
