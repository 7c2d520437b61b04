"""Units of people and of the chain."""

import numpy as np
import pytest

from consilience import InputError
from consilience._inputs import Sampled, assurance, build, constraint, sampling


def test_what_is_left_out_is_greedy_and_takes_no_room():
    greedy = {"max_tokens": 128, "temperature": 0, "top_p": 1_000, "stop": ([],), "processing": None}
    assert sampling({}, {}) == greedy
    assert sampling({"top_k": -1, "repetition_penalty": 1, "logit_bias": {}, "min_p": None}, {}) == greedy


def test_parameters_become_thousandths():
    found = sampling(
        {
            "max_completion_tokens": 5,
            "temperature": 0.7,
            "top_p": 0.9,
            "stop": "x",
            "top_k": 40,
            "min_p": 0.05,
            "repetition_penalty": 1.1,
            "presence_penalty": -0.5,
            "frequency_penalty": 2,
            "logit_bias": {"10": -100, 9: 1.5},
        },
        {},
    )
    assert found == {
        "max_tokens": 5,
        "temperature": 700,
        "top_p": 900,
        "stop": ([("0x78",)],),
        "processing": {
            "top_k": 40,
            "min_p": 50,
            "repetition_penalty": 1_100,
            "presence_penalty": -500,
            "frequency_penalty": 2_000,
            "logit_bias": ([(9, 1_500), (10, -100_000)],),
        },
    }
    # Halves go away from zero, as the node's own clients round.
    assert sampling({"presence_penalty": -0.0005}, {})["processing"]["presence_penalty"] == -1


def test_the_publishers_advice_fills_in_what_is_left_open():
    advice = {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "repetition_penalty": 1.05}
    found = sampling({"temperature": None}, advice)
    assert (found["temperature"], found["top_p"], found["processing"]["top_k"]) == (600, 950, 20)
    said = sampling({"temperature": 0, "top_k": 0, "repetition_penalty": 1}, advice)
    assert (said["temperature"], said["top_p"], said["processing"]) == (0, 950, None)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"n": 2}, "n is no parameter"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "differ"),
        ({"temperature": 2.1}, "temperature is 2.1"),
        ({"temperature": "warm"}, "temperature is warm"),
        ({"top_p": 0}, "top_p must be above 0"),
        ({"stop": ""}, "stop is"),
        ({"stop": ["a"] * 5}, "stop is"),
        ({"stop": "ü" * 33}, "stop is"),
        ({"top_k": 65_536}, "top_k is 65536"),
        ({"top_k": 1.5}, "top_k is 1.5"),
        ({"min_p": 1.1}, "min_p is 1.1"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0"),
        ({"frequency_penalty": -3}, "frequency_penalty is -3"),
        ({"logit_bias": {"the": 1}}, "no token id"),
        ({"logit_bias": {"5": 101}}, "logit_bias of 5 is 101"),
        ({"logit_bias": {"5": 1, 5: 1}}, "twice"),
        ({"logit_bias": dict.fromkeys(range(17), 1)}, "holds 17 tokens"),
    ],
)
def test_what_is_wrong_is_named(parameters, says):
    with pytest.raises(InputError, match=says):
        sampling(parameters, {})


def ask(**given):
    nothing = {"messages": None, "prompt": None, "text": None, "inputs": None, "parameters": {}}
    return build(**{**nothing, **given}, advice={})


def test_inputs():
    chat = ask(messages="0x41").stored["Inline"]["TextGeneration"]["prompt"]
    # What looks like hexadecimal is a text all the same.
    assert chat == {"Chat": ([{"role": "User", "content": ("0x30783431",)}],)}
    parts = [{"role": "system", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
    said = ask(messages=parts).stored["Inline"]["TextGeneration"]["prompt"]
    assert said == {"Chat": ([{"role": "System", "content": ("0x6162",)}],)}
    assert ask(prompt="a").stored["Inline"]["TextGeneration"]["prompt"] == {"Text": ("0x61",)}
    assert ask(text="a").stored == {"Inline": {"Embedding": ("0x61",)}}
    assert ask(inputs={"x": np.array([[1]], "i4")}).stored == {
        "Inline": {"Tensor": ([{"name": ("0x78",), "datatype": "Int32", "shape": ([1, 1],), "data": ("0x01000000",)}],)}
    }


def test_a_constraint_makes_another_input():
    schema = {"type": "object", "properties": {"z": {}, "ä": {}}}
    asked = ask(messages="a", parameters={"temperature": 1, "constraint": {"json_schema": schema}}).stored["Inline"]
    text = '{"type":"object","properties":{"z":{},"ä":{}}}'
    held = {"rules": 1, "form": "JsonSchema", "text": ("0x" + text.encode().hex(),)}
    assert list(asked) == ["ConstrainedText"] and asked["ConstrainedText"]["constraint"] == held
    assert asked["ConstrainedText"]["sampling"]["temperature"] == 1_000
    assert constraint({"json_schema": text}) == held
    assert constraint({"lark": "start: A"})["form"] == "Lark" and constraint({"regex": "a"})["form"] == "Regex"
    assert list(ask(prompt="a", parameters={"constraint": None}).stored["Inline"]) == ["TextGeneration"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "one of"),
        ({"json_schema": {}, "regex": "a"}, "one of"),
        ({"gbnf": "a"}, "one of"),
        ({"regex": ""}, "1 to 8192"),
        ({"regex": "a" * 8_193}, "1 to 8192"),
        ({"lark": 3}, "1 to 8192"),
    ],
)
def test_what_is_no_constraint(given, says):
    with pytest.raises(InputError, match=says):
        constraint(given)


def test_large_tensors_stay_in_the_transaction():
    assert ask(inputs={"x": np.zeros(65_536, "u1")}).data is None
    large = ask(inputs={"x": np.ones(65_537, "u1"), "y": np.zeros(1, "u1")})
    assert large.data == b"\1" * 65_537 + b"\0"
    tensors, digest = large.stored["Indexed"]["tensors"], large.stored["Indexed"]["data_hash"]
    assert [t["bytes"] for t in tensors[0]] == [65_537, 1] and len(digest) == 66


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "one of"),
        ({"prompt": "a", "text": "b"}, "prompt and text"),
        ({"text": "a", "parameters": {"temperature": 1}}, "temperature: parameters of sampling"),
        ({"messages": [{"role": "bot", "content": "a"}]}, "role is 'bot'"),
        ({"messages": [{"role": "user", "content": None}]}, "models here read text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "models here read text"),
    ],
)
def test_what_is_no_input(given, says):
    with pytest.raises(InputError, match=says):
        ask(**given)


def test_how_it_is_checked():
    assert assurance(3) == {"Committee": 3}
    assert assurance(Sampled(0.25)) == {"Sampled": 250}
    with pytest.raises(InputError):
        assurance(Sampled(1.5))
