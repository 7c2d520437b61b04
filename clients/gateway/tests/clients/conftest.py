"""A gateway on a network that only behaves like one: examples/gateway-on-a-double.rs."""

import contextlib
import hashlib
import os
import subprocess

import pytest

KEY = "a key for tests"
# The double says what it is told, and so calls a tool.
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Paris"}}</tool_call>'


@contextlib.contextmanager
def running(folder, *arguments):
    program = os.environ["CONSILIENCE_GATEWAY_DOUBLE"]
    command = [program, "--data", str(folder / "data"), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as gateway:
        assert gateway.stdout is not None  # a pipe
        try:
            yield gateway.stdout.readline().strip()
        finally:
            gateway.terminate()


def running_with_budget(folder, budget):
    """A gateway with one key that may spend `budget` a day, as TOML writes it."""
    keys = folder / "keys.toml"
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    keys.write_text(f'[[keys]]\nname = "tests"\nsha256 = "{digest}"\nbudget_per_day = {budget}\n')
    return running(folder, "--keys", str(keys))


@pytest.fixture(scope="session")
def gateway(tmp_path_factory):
    """Address of a gateway with one key, whose budget is large."""
    with running_with_budget(tmp_path_factory.mktemp("gateway"), '"1"') as url:
        yield url


@pytest.fixture(scope="session")
def poor_gateway(tmp_path_factory):
    """Address of a gateway with one key, whose budget is used up."""
    with running_with_budget(tmp_path_factory.mktemp("poor"), 0) as url:
        yield url


@pytest.fixture(scope="session")
def session_gateway(tmp_path_factory):
    """Address of a gateway without keys that answers in the session lane, a word each tenth of a second."""
    with running(tmp_path_factory.mktemp("session"), "--session", "--block", "100") as url:
        yield url


@pytest.fixture(scope="session")
def slow_gateway(tmp_path_factory):
    """Address of a gateway without keys, whose network is slow enough to see it ping."""
    with running(tmp_path_factory.mktemp("slow"), "--block", "100") as url:
        yield url
