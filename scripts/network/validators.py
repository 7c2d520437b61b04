"""Starts, finds and stops the validators of a development network; what it needs to find them again is in network.json."""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from dataclasses import asdict, dataclass

from rpc import Node, await_finalized, await_node

NAMES = ["alice", "bob", "charlie", "dave"]

# Peer id of the node key 0x00…01, which Alice uses: the others find the network through her.
ALICE_PEER = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"

START_SECONDS, STOP_SECONDS = 300, 20

# The account that the gateway of a development network pays with.
GATEWAY_ACCOUNT = "//Ferdie"
# What its channel holds, in CSL: answers of the session lane are paid from it.
GATEWAY_DEPOSIT = "50"


class NetworkError(Exception):
    """Something about the network that a person has to know."""


class Process:
    """Something that was started. Its classes have name, folder, pid and started."""

    folder: str
    pid: int
    started: str

    @property
    def log(self):
        return os.path.join(self.folder, "node.log")

    def spawn(self, command):
        with open(self.log, "ab") as log:
            # A session of its own: it outlives the script, and its engine can be ended with it.
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self.pid, self.started = process.pid, _start_time(process.pid)

    def running(self):
        """Whether the process is still the one that was started (pids are used again)."""
        return self.started != "" and _start_time(self.pid) == self.started

    def last_words(self, lines=15):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return "".join(file.readlines()[-lines:])


@dataclass
class Validator(Process):
    name: str
    folder: str
    rpc_port: int
    p2p_port: int
    prometheus_port: int
    # None in networks of before there was a session lane.
    session_port: int = 0
    # For light clients, which speak WebSocket; only the first validator has one.
    light_port: int = 0
    pid: int = 0
    started: str = ""

    @property
    def url(self):
        return f"ws://127.0.0.1:{self.rpc_port}"


@dataclass
class Gateway(Process):
    folder: str
    port: int
    pid: int = 0
    started: str = ""
    name: str = "gateway"

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"


def _start_time(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            # The name in brackets may hold spaces; state and start time are counted after it.
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _free_port(preferred, taken):
    """The preferred port, or any other that is free."""
    for port in (preferred, 0):
        if port in taken:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            port = probe.getsockname()[1]
        if port not in taken:
            taken.add(port)
            return port
    return _free_port(0, taken)


def _listen(validator):
    """Where a validator listens for peers."""
    if not validator.light_port:
        return ["--port", str(validator.p2p_port)]
    return ["--listen-addr", f"/ip4/0.0.0.0/tcp/{validator.p2p_port}", f"/ip4/127.0.0.1/tcp/{validator.light_port}/ws"]


class Network:
    def __init__(self, folder, line=None):
        """With a `line` (delay.Line) clients of the session lane reach the validators through it."""
        self.folder, self.file, self.line = folder, os.path.join(folder, "network.json"), line
        self.validators, self.gateway = [], None
        if os.path.exists(self.file):
            with open(self.file, encoding="utf-8") as file:
                known = json.load(file)
            # Until there was a gateway the file held the validators alone.
            known = {"validators": known} if isinstance(known, list) else known
            self.validators = [Validator(**v) for v in known["validators"]]
            self.gateway = Gateway(**known["gateway"]) if known.get("gateway") else None

    def save(self):
        scratch = self.file + ".new"
        with open(scratch, "w", encoding="utf-8") as file:
            gateway = asdict(self.gateway) if self.gateway else None
            json.dump({"validators": [asdict(v) for v in self.validators], "gateway": gateway}, file, indent=2)
        os.replace(scratch, self.file)

    def running(self):
        gateway = [self.gateway] if self.gateway else []
        return [process for process in gateway + self.validators if process.running()]

    def plan(self, count):
        """Chooses folders and ports. Local networks have four session keys, and finality needs three of them."""
        if count not in (1, 3, 4):
            raise NetworkError("a development network has 1 validator, or 3 or 4 of the four that its genesis names")
        if self.running():
            raise NetworkError(f"a network runs in {self.folder} already: scripts/devnet status, scripts/devnet stop")
        os.makedirs(self.folder, exist_ok=True)
        taken: set[int] = set()
        self.validators = [
            Validator(
                name,
                os.path.join(self.folder, name),
                _free_port(9944 + i, taken),
                _free_port(30333 + i, taken),
                _free_port(9615 + i, taken),
                _free_port(9955 + i, taken),
                _free_port(30343, taken) if i == 0 else 0,
            )
            for i, name in enumerate(NAMES[:count])
        ]
        for validator in self.validators:
            os.makedirs(validator.folder, exist_ok=True)
        self.save()

    def purge_chains(self):
        """Forgets the chain and what the worker wrote about it; models stay, because they are large and content-addressed."""
        for validator in self.validators:
            shutil.rmtree(os.path.join(validator.folder, "chains"), ignore_errors=True)

    def start(self, binary, extra=(), chain=None):
        """Starts all and waits until each has seen a finalised block. None is left running where one fails."""
        try:
            self._spawn(binary, extra, chain)
            self.await_finality(time.monotonic() + START_SECONDS)
        except BaseException:
            self.stop()
            raise

    def _spawn(self, binary, extra, chain):
        """`chain` is the file of a specification with the same validators, where it isn't the local one."""
        chain = chain or ("dev" if len(self.validators) == 1 else "local")
        for i, validator in enumerate(self.validators):
            command = [
                binary,
                "--base-path", validator.folder,
                "--chain", chain,
                f"--{validator.name}",
                "--node-key", f"{i + 1:064x}",
                *_listen(validator),
                "--rpc-port", str(validator.rpc_port),
                "--prometheus-port", str(validator.prometheus_port),
                "--rpc-methods", "unsafe",
                "--rpc-cors", "all",
                "--no-mdns",
                "--no-telemetry",
                *extra,
            ]  # fmt: skip
            if validator.session_port:
                command += ["--session-listen", f"127.0.0.1:{validator.session_port}"]
                if self.line:
                    command += ["--session-endpoint", f"ws://127.0.0.1:{self.line.to(validator.session_port)}"]
            if chain == "dev":
                command.append("--force-authoring")
            if i > 0:
                port = self.validators[0].p2p_port
                command += ["--bootnodes", f"/ip4/127.0.0.1/tcp/{port}/p2p/{ALICE_PEER}"]
            validator.spawn(command)
            self.save()

    def start_gateway(self, binary, *extra):
        """Starts a gateway at the first validator and waits until it listens."""
        folder = os.path.join(self.folder, "gateway")
        # What it remembers is of an earlier chain.
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        self.gateway = Gateway(folder, _free_port(8080, set()))
        command = [
            binary,
            "gateway",
            "--url", self.validators[0].url,
            "--suri", GATEWAY_ACCOUNT,
            "--listen", f"127.0.0.1:{self.gateway.port}",
            "--data", folder,
            "--session-deposit", GATEWAY_DEPOSIT,
            *extra,
        ]  # fmt: skip
        self.gateway.spawn(command)
        self.save()
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with urllib.request.urlopen(f"{self.gateway.url}/health", timeout=10) as reply:
                    reply.read()
                return self.gateway.url
            except OSError as error:
                if not self.gateway.running() or time.monotonic() > deadline:
                    words = self.gateway.last_words()
                    raise NetworkError(f"gateway: {error}. End of {self.gateway.log}:\n{words}") from error
                time.sleep(0.2)

    def await_finality(self, deadline):
        for validator in self.validators:
            try:
                with await_node(validator.url, deadline, validator.running) as node:
                    await_finalized(node, 1, deadline)
            except (ChildProcessError, TimeoutError) as error:
                raise NetworkError(f"{validator.name}: {error}. End of {validator.log}:\n{validator.last_words()}") from error

    def stop(self):
        """Ends every validator, politely first. Returns those that had to be killed."""
        running, killed = self.running(), []
        for validator in running:
            os.kill(validator.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for validator in running:
            if not _await_end(validator, deadline):
                killed.append(validator.name)
            # Whatever is left of its session, the node itself or an engine, ends now.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(validator.pid, signal.SIGKILL)
        for validator in self.validators:
            validator.pid, validator.started = 0, ""
        self.gateway = None
        if self.validators:
            self.save()
        return killed

    def status(self):
        """One dictionary a validator."""
        rows = []
        for validator in self.validators:
            row = {"name": validator.name, "url": validator.url, "pid": validator.pid, "running": validator.running()}
            if row["running"]:
                with Node(validator.url) as node:
                    row["best"] = int(node.call("chain_getHeader")["number"], 16)
                    hash_ = node.call("chain_getFinalizedHead")
                    row["finalized"] = int(node.call("chain_getHeader", hash_)["number"], 16)
                    row["peers"] = node.call("system_health")["peers"]
            rows.append(row)
        return rows


def _await_end(validator, deadline):
    """Whether the process ended in time."""
    try:
        descriptor = os.pidfd_open(validator.pid)
    except ProcessLookupError:
        return True
    try:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        return bool(ready)
    finally:
        os.close(descriptor)
