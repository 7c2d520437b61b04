#!/usr/bin/env python3
"""How fast models travel: four nodes of a development network on this machine, one model that is fetched again and again.

Prints figures for scripts/checks/figures.py. The network is one of its own, in a temporary folder, and ends with the script.
"""

import argparse
import hashlib
import json
import os
import pathlib
import random
import shutil
import sys
import tempfile
import threading
import time

from cli import Cli
from rpc import Node
from validators import Network

# The longest that a fetch may take.
FETCH_SECONDS = 600
OWNER = "//Alice"
MIB = 1 << 20


def say(text):
    print(text, file=sys.stderr, flush=True)


def figure(name, value, goal, words):
    print(f"figure transfer_{name} = {value:.3f} [{goal}] {words}", flush=True)


def hash_speed(seconds=3):
    """Bytes a second that one core hashes, by Python's own BLAKE2b in chunks of 256 KiB."""
    block = random.randbytes(1 << 18)
    began, count = time.process_time(), 0
    while time.process_time() - began < seconds:
        for _ in range(64):
            hashlib.blake2b(block, digest_size=32).digest()
        count += 64
    return count * len(block) / (time.process_time() - began)


def anonymous(pid):
    """Bytes of a process's memory that belong to no file."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)


class Watch(threading.Thread):
    """The most memory that a process has while this runs."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.most, self.ends = pid, anonymous(pid), threading.Event()

    def run(self):
        while not self.ends.wait(0.05):
            self.most = max(self.most, anonymous(self.pid))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ends.set()
        self.join()


def fetch(node, model):
    """Fetches and waits. Returns what the node said last of how far it was, and the seconds."""
    began = time.monotonic()
    last: dict = {}
    assert node.call("models_fetch", model), f"{model} is there already"
    while time.monotonic() - began < FETCH_SECONDS:
        here = {m["id"]: m for m in node.call("models_local")}.get(model)
        if here is None or here["state"] == "refused":
            sys.exit(f"error: {model} is not fetched: {here or 'the log says why'}")
        if here["state"] != "fetching":
            return last, time.monotonic() - began
        last = here.get("fetching", last)
        time.sleep(0.02)
    sys.exit(f"error: {model} is not there after {FETCH_SECONDS} s: {last}")


def changed(folder, out):
    """The same model with a tenth of its weights' bytes altered, as one run of tensors would be. Its description stays."""
    shutil.copytree(folder, out)
    card = json.loads((out / "model.json").read_text())
    card["name"] += " v2"
    (out / "model.json").write_text(json.dumps(card))
    largest = max((out / f for f in card["files"]), key=lambda f: f.stat().st_size)
    data = bytearray(largest.read_bytes())
    begin, length = len(data) // 2, len(data) // 10
    # The lowest bit of each weight: the answers hardly change, and every chunk does.
    for at in range(begin, begin + length, 4):
        data[at] ^= 1
    largest.unlink()
    largest.write_bytes(data)


def height(node):
    return int(node.call("chain_getHeader")["number"], 16)


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench transfer")
    parser.add_argument("--binary", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--models", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--model", default="smollm2-135m-instruct-int8")
    arguments = parser.parse_args()
    core = hash_speed()
    figure("hash_mib_per_second", core / MIB, "", "one core, BLAKE2b-256 of hashlib, chunks of 256 KiB")
    with tempfile.TemporaryDirectory(prefix="transfer-") as folder:
        network = Network(os.path.join(folder, "network"))
        network.plan(4)
        network.start(arguments.binary)
        try:
            measure(arguments, network, pathlib.Path(folder), core)
        finally:
            network.stop()


def measure(arguments, network, folder, core):
    cli = Cli(arguments.binary)
    alice, bob, charlie, dave = network.validators
    source = pathlib.Path(arguments.models) / arguments.model
    say(f"importing {arguments.model} at {alice.name}")
    model = cli.import_model(str(source), alice)
    cli.register(model, alice, OWNER)
    changed(source, folder / "changed")
    second = cli.import_model(str(folder / "changed"), alice)
    cli.register(second, alice, OWNER)
    with Node(bob.url) as node, Node(alice.url) as first:
        # The node of the next command has to have seen the block in which the model was registered.
        while node.call("models_get", second) is None:
            time.sleep(0.2)
        before = anonymous(bob.pid)
        began, blocks = time.monotonic(), height(first)
        with Watch(bob.pid) as watch:
            last, seconds = fetch(node, model)
        size = last["size"]
        figure("memory_mib", (watch.most - before) / MIB, "at most 64", "more memory of the node that fetches, at most, while it fetched")
        one = size / seconds
        words = f"{size / MIB:.0f} MiB in {seconds:.1f} s over loopback, four nodes on this machine"
        figure("one_peer_mib_per_second", one / MIB, "", words)
        figure("one_peer_of_hash", one / core, "at least 0.5", "of what one core hashes")
        for validator in (charlie, dave):
            with Node(validator.url) as other:
                while other.call("models_get", second) is None:
                    time.sleep(0.2)
                fetch(other, model)
        node.call("models_remove", model)
        _, seconds = fetch(node, model)
        figure("three_peers_of_one", size / seconds / one, "at least 0.9", f"{size / seconds / MIB:.0f} MiB a second from three peers")
        passed, seen = time.monotonic() - began, height(first) - blocks
        figure("blocks_of_slots", seen * 3 / passed, "at least 0.9", f"{seen} blocks in {passed:.0f} s, while they fetched")
        last, seconds = fetch(node, second)
        moved = (last["size"] - last["copied"]) / last["size"]
        figure("version_moved", moved, "at most 0.15", "of a version's bytes, nine tenths of which are in the store")


if __name__ == "__main__":
    main()
