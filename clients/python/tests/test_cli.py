"""The command line, as a program."""

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import KEY


def cli(*arguments, code=0, **more):
    done = subprocess.run(
        [sys.executable, "-m", "consilience", *arguments], capture_output=True, text=True, timeout=120, **more
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture
def own(gateway):
    return ["--url", gateway, "--api-key", KEY]


def test_models(own):
    said = cli("models", *own).stdout
    assert any(line.startswith("chat\ttext-generation\texact\t4 serve it") for line in said.splitlines())
    assert {"chat", "embed"} <= {model["id"] for model in json.loads(cli("models", *own, "--json").stdout)}


def test_chat(own):
    said = cli("chat", "chat", "Hello", *own, "--wait", "final", "--max-tokens", "9")
    assert said.stdout == "You said: Hello\n"
    assert said.stderr.startswith("[final: request ") and ", checked by 5" in said.stderr
    said = cli("chat", "chat", "-", *own, "--json", input="Hello")
    assert json.loads(said.stdout)["choices"][0]["message"]["content"] == "You said: Hello"


def test_embed(own):
    assert cli("embed", "embed", "a", "bb", *own).stdout == "[1.0, 0.5, -1.0, 0.25]\n[2.0, 0.5, -1.0, 0.25]\n"


def test_infer(own, tmp_path):
    np.save(tmp_path / "x.npy", np.array([[0.5, -1]], dtype=np.float32))
    said = cli("infer", "double", f"x={tmp_path / 'x.npy'}", *own, "--save", str(tmp_path / "out"))
    assert said.stdout == "y\tFP32\t[1, 2]\t[[1.0, -2.0]]\n"
    assert np.load(tmp_path / "out" / "y.npy").tolist() == [[1, -2]]
    said = json.loads(cli("infer", "chat", "prompt=@größer", *own, "--json").stdout)
    assert said["outputs"]["text"]["data"] == ["You said: größer"] and said["consilience"]["checked"]


def test_what_fails_is_said_in_one_line(own):
    for arguments, says in [
        (["chat", "gpt-4o", "a", *own], "does not exist"),
        (["chat", "chat", "busy", *own], "ask again in 7 s"),
        (["chat", "chat", "a", "--url", "http://127.0.0.1:1"], "http://127.0.0.1:1"),
        (["infer", "double", "x", *own], "NAME=FILE.npy"),
        (["infer", "double", "x=/nowhere.npy", *own], "/nowhere.npy"),
        (["verify", "1", "--url", "ws://127.0.0.1:1"], "no node answers at ws://127.0.0.1:1"),
    ]:
        said = cli(*arguments, code=1).stderr
        assert says in said and said.startswith("error: ") and said.count("\n") == 1
    # What had come of a stream is shown, and is no success.
    said = cli("chat", "chat", "reject", *own, code=1)
    assert said.stdout == "You said: reject\n" and "rejected" in said.stderr
    cli("chat", code=2)


def test_verify(node):
    said = cli("verify", str(1 << 40), "--url", node, code=1).stdout
    assert "FAILS" in said and "has no request" in said
    found = json.loads(cli("verify", str(1 << 40), "--url", node, "--json", code=1).stdout)
    assert found["holds"] is False and found["checks"][0]["holds"] is True
