"""A gateway on a network that only behaves like one, a server that says what a test wants, and a node of a real network."""

import contextlib
import hashlib
import os
import socket
import subprocess
import threading

import pytest

KEY = "a key for tests"


@contextlib.contextmanager
def running(folder, *arguments):
    command = [os.environ["CONSILIENCE_GATEWAY_DOUBLE"], "--data", str(folder / "data"), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as gateway:
        try:
            yield gateway.stdout.readline().strip() + "/v1"
        finally:
            gateway.terminate()


def running_with_budget(folder, budget):
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
def slow_gateway(tmp_path_factory):
    """Address of a gateway without keys, whose network is slow enough to see it ping."""
    with running(tmp_path_factory.mktemp("slow"), "--block", "100") as url:
        yield url


class Server:
    """Answers each connection with the next of the given bytes, and closes it; keeps what it was sent."""

    def __init__(self, *replies, reset=False):
        self._replies = replies
        self._reset = reset
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self.asked = []
        self._thread = threading.Thread(target=self._serve)

    def _serve(self):
        for reply in self._replies:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.asked.append(self._read(connection))
                if callable(reply):
                    reply(connection)
                    continue
                connection.sendall(reply)
                if self._reset:
                    linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    @staticmethod
    def _read(connection):
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(65_536)
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:])}
        while len(body) < int(headers.get("content-length", 0)):
            body += connection.recv(65_536)
        return lines[0], headers, body

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


def reply(status, body, **headers):
    """Bytes of a reply."""
    body = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} Status", f"content-length: {len(body)}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def stream(*events, kind="text/event-stream; charset=utf-8"):
    """Bytes of a stream that ends with the connection."""
    return f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n".encode() + "".join(events).encode()


@pytest.fixture(scope="session")
def node():
    """Address of a node of a network with models."""
    url = os.environ.get("CONSILIENCE_URL")
    if not url:
        pytest.skip("CONSILIENCE_URL names no node: scripts/demo starts a network")
    return url
