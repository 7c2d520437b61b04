"""A gateway on a network that only behaves like one: examples/gateway-on-a-double.rs."""

import contextlib
import hashlib
import os
import subprocess

import pytest

KEY = "a key for tests"


@contextlib.contextmanager
def running(folder, *arguments):
    program = os.environ["CONSILIENCE_GATEWAY_DOUBLE"]
    command = [program, "--data", str(folder / "data"), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as gateway:
        try:
            yield gateway.stdout.readline().strip()
        finally:
            gateway.terminate()


@pytest.fixture(scope="session")
def gateway(tmp_path_factory):
    """Address of a gateway with one key, whose budget is large."""
    folder = tmp_path_factory.mktemp("gateway")
    keys = folder / "keys.toml"
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    keys.write_text(f'[[keys]]\nname = "tests"\nsha256 = "{digest}"\nbudget_per_day = "1"\n')
    with running(folder, "--keys", str(keys)) as url:
        yield url


@pytest.fixture(scope="session")
def poor_gateway(tmp_path_factory):
    """Address of a gateway with one key, whose budget is used up."""
    folder = tmp_path_factory.mktemp("poor")
    keys = folder / "keys.toml"
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    keys.write_text(f'[[keys]]\nname = "tests"\nsha256 = "{digest}"\nbudget_per_day = 0\n')
    with running(folder, "--keys", str(keys)) as url:
        yield url


@pytest.fixture(scope="session")
def slow_gateway(tmp_path_factory):
    """Address of a gateway without keys, whose network is slow enough to see it ping."""
    with running(tmp_path_factory.mktemp("slow"), "--block", "100") as url:
        yield url
