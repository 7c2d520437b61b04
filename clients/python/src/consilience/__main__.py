"""A small command line: ``python -m consilience chat|embed|infer|models|verify``."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .client import Client
from .errors import ConsilienceError
from .replies import Reply
from .tensors import Tensor
from .verification import Verification, verify


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command, and returns the exit status: 0, 1 where something failed, 2 for a wrong command line."""
    parser = _parser()
    given = parser.parse_args(arguments)
    # What breaks is told once, as an error.
    logging.getLogger("async_substrate_interface").setLevel(logging.CRITICAL)
    try:
        status: int = given.run(given)
    except (ConsilienceError, ModuleNotFoundError, ValueError, OSError) as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="consilience", description="Ask models on a Consilience chain.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    gateway = argparse.ArgumentParser(add_help=False)
    gateway.add_argument("--url", help="the gateway (default: $CONSILIENCE_GATEWAY or http://127.0.0.1:8080/v1)")
    gateway.add_argument("--api-key", help="default: $CONSILIENCE_API_KEY")
    gateway.add_argument("--json", action="store_true", help="print the reply as JSON")
    asking = argparse.ArgumentParser(add_help=False)
    asking.add_argument("--wait", choices=["provisional", "checked", "final"], help="how far the answer has to be")
    asking.add_argument("--verifiers", type=int, metavar="N", help="how many measure it")
    asking.add_argument("--idempotency-key", metavar="KEY", help="asking again with it is the same request")

    models = commands.add_parser("models", parents=[gateway], help="list the models that take requests")
    models.set_defaults(run=_models)

    chat = commands.add_parser("chat", parents=[gateway, asking], help="ask a model, and show its answer as it comes")
    chat.add_argument("model")
    chat.add_argument("message", help="what is asked; - reads it from standard input")
    chat.add_argument("--system", help="instructions")
    chat.add_argument("--max-tokens", type=int)
    chat.add_argument("--temperature", type=float)
    chat.set_defaults(run=_chat)

    embed = commands.add_parser("embed", parents=[gateway, asking], help="print vectors of texts, one a line")
    embed.add_argument("model")
    embed.add_argument("text", nargs="+")
    embed.set_defaults(run=_embed)

    infer = commands.add_parser("infer", parents=[gateway, asking], help="run a model on tensors")
    infer.add_argument("model")
    infer.add_argument("input", nargs="+", metavar="NAME=FILE", help="a tensor: a file .npy of numpy's, or @TEXT")
    infer.add_argument("--save", type=Path, metavar="FOLDER", help="write each output there as NAME.npy")
    infer.set_defaults(run=_infer)

    check = commands.add_parser(
        "verify", help="check what stands on chain of a request; exit status 1 if anything fails"
    )
    check.add_argument("request", type=int)
    check.add_argument("--url", default="ws://127.0.0.1:9944", help="a node (default: %(default)s)")
    check.add_argument("--at", metavar="HASH", help="a block that you know to be final (default: the node's last)")
    check.add_argument("--answer", type=Path, metavar="FILE", help="a text that you were given as the answer")
    check.add_argument("--question", help="the text that you asked")
    check.add_argument("--binary", type=Path, help="the node's program, to run the model again")
    check.add_argument("--base-path", type=Path, help="where that program keeps its models")
    check.add_argument("--json", action="store_true")
    check.set_defaults(run=_verify)
    return parser


def _client(given: argparse.Namespace) -> Client:
    return Client(given.url, given.api_key)


def _own(given: argparse.Namespace) -> dict[str, Any]:
    return {"wait": given.wait, "verifiers": given.verifiers, "idempotency_key": given.idempotency_key}


def _tell(reply: Reply) -> None:
    """Says on standard error how far the answer is, and where to look."""
    own = reply.consilience
    numbers = ", ".join(map(str, own.requests))
    checked = "" if own.status == "provisional" else f", checked by {', '.join(own.verifiers) or 'nobody'}"
    print(f"[{own.status}: request {numbers}{checked if len(own.requests) == 1 else ''}]", file=sys.stderr)


def _models(given: argparse.Namespace) -> int:
    with _client(given) as client:
        found = client.models()
    if given.json:
        print(json.dumps([model.raw for model in found]))
        return 0
    for model in found:
        own = model.consilience
        price = own.get("price") or {}
        print(
            f"{model.id}\t{model.task}\t{own.get('class')}\t{own.get('serving')} serve it\t{json.dumps(price)} 1e-12 CSL"
        )
    return 0


def _chat(given: argparse.Namespace) -> int:
    message = sys.stdin.read() if given.message == "-" else given.message
    messages = [{"role": "system", "content": given.system}] if given.system else []
    messages.append({"role": "user", "content": message})
    named = {"max_tokens": given.max_tokens, "temperature": given.temperature}
    parameters = {name: value for name, value in named.items() if value is not None}
    with _client(given) as client:
        if given.json:
            print(json.dumps(client.chat(given.model, messages, **_own(given), **parameters).raw))
            return 0
        with client.chat(given.model, messages, stream=True, **_own(given), **parameters) as stream:
            try:
                for text in stream:
                    print(text, end="", flush=True)
            finally:
                print()
        _tell(stream.reply)
    return 0


def _embed(given: argparse.Namespace) -> int:
    with _client(given) as client:
        reply = client.embed(given.model, given.text, **_own(given))
    if given.json:
        print(json.dumps(reply.raw))
        return 0
    for vector in reply.embeddings:
        print(json.dumps(vector))
    _tell(reply)
    return 0


def _infer(given: argparse.Namespace) -> int:
    inputs = {}
    for entry in given.input:
        name, equals, value = entry.partition("=")
        if not equals:
            raise ValueError(f"{entry}: an input is NAME=FILE.npy or NAME=@TEXT")
        inputs[name] = Tensor.of(value[1:]) if value.startswith("@") else _load(Path(value))
    with _client(given) as client:
        reply = client.infer(given.model, inputs, **_own(given))
    if given.save:
        import numpy as np

        given.save.mkdir(parents=True, exist_ok=True)
        for name, tensor in reply.outputs.items():
            # Names are the model's: they are no paths.
            np.save(given.save / (name.replace("/", "_").lstrip(".") + ".npy"), tensor.numpy(), allow_pickle=False)
    outputs = {n: {"datatype": t.datatype, "shape": t.shape, "data": t.tolist()} for n, t in reply.outputs.items()}
    if given.json:
        print(json.dumps({"outputs": outputs, "consilience": dict(reply.consilience.raw)}))
        return 0
    for name, output in outputs.items():
        print(f"{name}\t{output['datatype']}\t{list(output['shape'])}\t{json.dumps(output['data'])[:200]}")
    _tell(reply)
    return 0


def _load(path: Path) -> Tensor:
    import numpy as np

    return Tensor.of(np.load(path, allow_pickle=False))


def _verify(given: argparse.Namespace) -> int:
    from .chain import Chain

    async def run() -> Verification:
        async with Chain(given.url) as chain:
            return await verify(
                chain,
                given.request,
                answer=given.answer.read_text(encoding="utf-8") if given.answer else None,
                question=given.question,
                at=given.at,
                binary=given.binary,
                binary_arguments=["--base-path", str(given.base_path)] if given.base_path else [],
            )

    found = asyncio.run(run())
    if given.json:
        checks = [{"name": c.name, "holds": c.holds, "detail": c.detail} for c in found.checks]
        whole = {
            "request": found.number,
            "block": found.block.number,
            "block_hash": found.block.hash,
            "state": found.state,
        }
        print(json.dumps({**whole, "holds": found.holds, "checks": checks, "not_checked": found.not_checked}))
    else:
        print(found)
    return 0 if found.holds else 1


if __name__ == "__main__":
    sys.exit(main())
