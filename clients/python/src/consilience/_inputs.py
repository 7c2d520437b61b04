"""What is asked on chain, in the units of people and of the chain."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from .errors import InputError
from .proof import blake2_256
from .tensors import Tensor, TensorLike

#: How an answer is checked: by so many verifiers.
Assurance: TypeAlias = "int | Sampled"

#: Most bytes of a tensor that the chain's state takes. The data of larger ones stays in the transaction that asks.
MOST_IN_STATE = 65_536

Scale: TypeAlias = Any


@dataclass(frozen=True)
class Sampled:
    """By the model's smallest committee, with this probability (0 to 1, to the thousandth). Cheaper, where the model's policy allows it."""

    probability: float


@dataclass(frozen=True)
class Input:
    """An input as the chain takes it."""

    #: How it stands in the chain's state.
    stored: Mapping[str, Scale]
    #: What the transaction brings beside it.
    data: bytes | None = None


def one(value: Scale) -> tuple[Scale]:
    """A list or bytes with a bound: a structure with one field, as the codec sees it."""
    return (value,)


def utf8(text: str) -> tuple[str]:
    """Bytes of a text. A plain string could be read as hexadecimal."""
    return one("0x" + text.encode().hex())


def assurance(value: Assurance) -> dict[str, int]:
    """Returns how an answer is checked, as the chain writes it."""
    if isinstance(value, Sampled):
        return {"Sampled": _thousandths("probability", value.probability, 0, 1)}
    return {"Committee": value}


def build(
    *,
    messages: Sequence[Mapping[str, Any]] | str | None,
    prompt: str | None,
    text: str | None,
    inputs: Mapping[str, TensorLike] | None,
    advice: Mapping[str, Any],
    parameters: Mapping[str, Any],
) -> Input:
    """Returns what is asked by one of ``messages``, ``prompt``, ``text`` (to embed) and ``inputs`` (tensors)."""
    kinds = {"messages": messages, "prompt": prompt, "text": text, "inputs": inputs}
    given = [name for name, value in kinds.items() if value is not None]
    if len(given) != 1:
        raise InputError(
            f"one of messages, prompt, text and inputs is wanted, and there is {' and '.join(given) or 'none'}"
        )
    if messages is not None:
        chat = {
            "Chat": one(
                [
                    _message(m)
                    for m in ([{"role": "user", "content": messages}] if isinstance(messages, str) else messages)
                ]
            )
        }
        return _text(chat, parameters, advice)
    if prompt is not None:
        return _text({"Text": utf8(prompt)}, parameters, advice)
    if parameters:
        raise InputError(f"{', '.join(parameters)}: parameters of sampling are for messages and prompt")
    if text is not None:
        return Input({"Inline": {"Embedding": utf8(text)}})
    assert inputs is not None
    return _tensors({name: Tensor.of(value) for name, value in inputs.items()})


def _text(prompt: Scale, parameters: Mapping[str, Any], advice: Mapping[str, Any]) -> Input:
    parameters = dict(parameters)
    held = constraint(parameters.pop("constraint", None))
    asked = {"prompt": prompt, "sampling": sampling(parameters, advice)}
    if held is None:
        return Input({"Inline": {"TextGeneration": asked}})
    return Input({"Inline": {"ConstrainedText": {**asked, "constraint": held}}})


#: The rules by which constraints become masks: ``CONSTRAINT_RULES`` of the chain that this client was made for.
CONSTRAINT_RULES = 1
_FORMS = {"json_schema": "JsonSchema", "regex": "Regex", "lark": "Lark"}
_LONGEST_CONSTRAINT = 8_192


def constraint(given: Mapping[str, Any] | None) -> dict[str, Scale] | None:
    """Returns what an answer may be, as the chain takes it.

    ``given`` has one of ``json_schema`` (a schema, or its text), ``regex`` and ``lark`` (a grammar).
    """
    if given is None:
        return None
    if len(given) != 1 or not set(given) <= set(_FORMS):
        raise InputError(f"a constraint has one of {', '.join(_FORMS)}")
    ((name, text),) = given.items()
    if name == "json_schema" and not isinstance(text, str):
        text = json.dumps(text, ensure_ascii=False, separators=(",", ":"))
    if not isinstance(text, str) or not 0 < len(text.encode()) <= _LONGEST_CONSTRAINT:
        raise InputError(f"a constraint is text of 1 to {_LONGEST_CONSTRAINT} bytes")
    return {"rules": CONSTRAINT_RULES, "form": _FORMS[name], "text": utf8(text)}


_ROLES = ("system", "user", "assistant", "tool", "developer")


def _message(message: Mapping[str, Any]) -> dict[str, Scale]:
    role, content = message.get("role"), message.get("content")
    if role not in _ROLES:
        raise InputError(f"a message's role is {role!r}, and may be {', '.join(_ROLES)}")
    if isinstance(content, list):
        parts = [part["text"] for part in content if part.get("type") == "text" and isinstance(part.get("text"), str)]
        content = "".join(parts) if len(parts) == len(content) else None
    if not isinstance(content, str):
        raise InputError("a message's content is a string, or a list of parts of type text: models here read text")
    return {"role": role.capitalize(), "content": utf8(content)}


def _tensors(tensors: Mapping[str, Tensor]) -> Input:
    described = []
    pieces = []
    for name, tensor in tensors.items():
        header = {"name": utf8(name), "datatype": tensor.datatype.capitalize(), "shape": one(list(tensor.shape))}
        described.append(header)
        pieces.append(tensor.tobytes())
    if all(len(data) <= MOST_IN_STATE for data in pieces):
        whole = [{**header, "data": one("0x" + data.hex())} for header, data in zip(described, pieces, strict=True)]
        return Input({"Inline": {"Tensor": one(whole)}})
    data = b"".join(pieces)
    headers = [{**header, "bytes": len(piece)} for header, piece in zip(described, pieces, strict=True)]
    indexed = {"tensors": one(headers), "data_hash": "0x" + blake2_256(data).hex()}
    return Input({"Indexed": indexed}, data)


#: Least and most of each parameter, and what changes nothing.
_PROCESSING = {
    "min_p": (0, 1, 0),
    "repetition_penalty": (0.1, 10, 1_000),
    "presence_penalty": (-2, 2, 0),
    "frequency_penalty": (-2, 2, 0),
}
_NAMES = ("max_tokens", "max_completion_tokens", "temperature", "top_p", "stop", "top_k", *_PROCESSING, "logit_bias")


def sampling(parameters: Mapping[str, Any], advice: Mapping[str, Any]) -> dict[str, Scale]:
    """Returns how tokens are chosen, as the chain takes it: in thousandths.

    Names and ranges are those of OpenAI's API and Hugging Face's library. What is left out or ``None`` is as the model's publisher advises,
    or else greedy and 128 tokens long.
    """
    if unknown := [name for name in parameters if name not in _NAMES]:
        raise InputError(f"{unknown[0]} is no parameter here: there are {', '.join(_NAMES)}")
    given = {name: value for name, value in parameters.items() if value is not None}
    most, completion = given.get("max_tokens"), given.pop("max_completion_tokens", None)
    if most is not None and completion is not None and most != completion:
        raise InputError("max_tokens and max_completion_tokens differ: give one of them")
    given = {**{name: value for name, value in advice.items() if value is not None and name in _NAMES}, **given}
    top_p = _thousandths("top_p", given.get("top_p", 1), 0, 1)
    if top_p == 0:
        raise InputError("top_p must be above 0 and at most 1")
    top_k = given.get("top_k", 0)
    if not isinstance(top_k, int) or not -1 <= top_k <= 65_535:
        raise InputError(f"top_k is {top_k}, and must be from 0 (all) to 65535")
    stop = given.get("stop", [])
    stop = [stop] if isinstance(stop, str) else list(stop)
    if len(stop) > 4 or not all(isinstance(s, str) and 0 < len(s.encode()) <= 64 for s in stop):
        raise InputError("stop is a string, or up to four, of 1 to 64 bytes each")
    processing = {"top_k": max(top_k, 0)}
    for name, (least, largest, nothing) in _PROCESSING.items():
        processing[name] = _thousandths(name, given[name], least, largest) if name in given else nothing
    biases = _biases(given.get("logit_bias", {}))
    idle = not biases and processing == {"top_k": 0, **{name: nothing for name, (_, _, nothing) in _PROCESSING.items()}}
    return {
        "max_tokens": most if most is not None else completion if completion is not None else 128,
        "temperature": _thousandths("temperature", given.get("temperature", 0), 0, 2),
        "top_p": top_p,
        "stop": one([utf8(s) for s in stop]),
        "processing": None if idle else {**processing, "logit_bias": one(biases)},
    }


def _biases(given: Mapping[Any, float]) -> list[tuple[int, int]]:
    biases: dict[int, int] = {}
    for token, bias in given.items():
        try:
            number = int(token)
        except ValueError:
            number = -1
        if not 0 <= number < 1 << 32:
            raise InputError(f"logit_bias: {token!r} is no token id")
        if number in biases:
            raise InputError(f"logit_bias holds token {number} twice")
        biases[number] = _thousandths(f"logit_bias of {number}", bias, -100, 100)
    if len(biases) > 16:
        raise InputError(f"logit_bias holds {len(biases)} tokens, and may hold 16")
    return sorted(biases.items())


def _thousandths(name: str, value: float, least: float, most: float) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise InputError(f"{name} is {value}, and must be from {least} to {most}")
    return int(math.copysign(math.floor(abs(value) * 1_000 + 0.5), value))
