"""How far finality lags behind the best block, and how often the tip is undone. Usage is in scripts/bench, `network`.

Follows the best and finalised heads that one node announces. The lag is printed in three ways:
  - over time: best height minus finalised height, each weighted by how long it stood;
  - at each new best block: the same at that moment, so at least 1;
  - for each block: from when it was announced as best to when it was final.
"""

import argparse
import hashlib
import json
import statistics
import sys
import time

from rpc import Node, RpcError
from websockets.exceptions import WebSocketException


class Stopped(Exception):
    """The node announces nothing any more."""


def compact(number):
    """A number in SCALE's compact form."""
    for bits, mode in ((6, 0), (14, 1), (30, 2)):
        if number < 1 << bits:
            return (number << 2 | mode).to_bytes(1 << mode, "little")
    size = (number.bit_length() + 7) // 8
    return bytes([size - 4 << 2 | 3]) + number.to_bytes(size, "little")


def height(header):
    return int(header["number"], 16)


def block_hash(header):
    """A header's hash. The node can be asked only by height, and may have another block there by then."""
    raw = lambda text: bytes.fromhex(text[2:])
    logs = header["digest"]["logs"]
    encoded = b"".join(
        [
            raw(header["parentHash"]),
            compact(height(header)),
            raw(header["stateRoot"]),
            raw(header["extrinsicsRoot"]),
            compact(len(logs)),
            *map(raw, logs),
        ]
    )
    return "0x" + hashlib.blake2b(encoded, digest_size=32).hexdigest()


class Lag:
    """What the announcements come to. `parent_of` gives the header with a hash."""

    def __init__(self, finalized, parent_of, now):
        self.parent_of, self.now = parent_of, now
        self.finalized = self.best = height(finalized)
        self.chain = {self.finalized: (block_hash(finalized), now)}  # best chain from the finalised block on: hash, announced
        self.lags, self.delays, self.times, self.reversions = [], [], [], []
        self.area = self.span = 0.0
        self.last = None

    def tick(self, now):
        """Weighs the lag that stood until now."""
        self.area += (self.best - self.finalized) * (now - self.now)
        self.span += now - self.now
        self.now = now

    def new_best(self, header, now):
        self.tick(now)
        number, block = height(header), block_hash(header)
        if self.chain.get(number, ("",))[0] == block:
            return
        undone = [n for n in self.chain if n >= number]
        branch, below = {number: block}, header["parentHash"]
        # Down to where the old chain and the new one part, or through blocks that were not announced.
        while number - 1 > self.finalized and self.chain.get(number - 1, ("",))[0] != below:
            number -= 1
            if number in self.chain:
                undone.append(number)
            branch[number] = below
            below = self.parent_of(below)["parentHash"]
        for n in undone:
            del self.chain[n]
        if undone:
            self.reversions.append(len(undone))
        self.chain.update({n: (h, now) for n, h in branch.items()})
        self.best = height(header)
        if self.last and self.best > self.last[0]:
            self.times.append((now - self.last[1]) / (self.best - self.last[0]))
        if not self.last or self.best > self.last[0]:
            self.last = (self.best, now)
        self.lags.append(self.best - self.finalized)

    def new_finalized(self, number, now):
        self.tick(now)
        # Finality of a block is finality of all before it. The last is kept: the next stands on it.
        for n in [n for n in self.chain if n <= number]:
            _, announced = self.chain[n] if n == number else self.chain.pop(n)
            if n > self.finalized:
                self.delays.append(now - announced)
        self.finalized = max(self.finalized, number)
        # A node may announce that a block is final before it announces that it is best.
        self.best = max(self.best, self.finalized)

    def figures(self, block_seconds):
        def of(values):
            if not values:
                return None
            return {
                "average": round(statistics.fmean(values), 2),
                "median": round(statistics.median(values), 2),
                "largest": round(max(values), 2),
            }

        return {
            "blocks": len(self.lags),
            "seconds": round(self.span, 1),
            "lag_over_time": round(self.area / self.span, 2) if self.span else None,
            "lag_at_new_best": of(self.lags),
            "seconds_to_final": of(self.delays),
            "blocks_to_final": of([d / block_seconds for d in self.delays]),
            "block_seconds": of(self.times),
            "reorganisations": len(self.reversions),
            "blocks_reverted": sum(self.reversions),
            "deepest_reversion": max(self.reversions, default=0),
        }


def follow(url, blocks, wait):
    """Follows so many best blocks, and waits for the last of them to become final."""
    with Node(url) as node:
        header = lambda block: node.call("chain_getHeader", block)
        lag = Lag(header(node.call("chain_getFinalizedHead")), header, time.monotonic())
        best = node.call("chain_subscribeNewHeads")
        final = node.call("chain_subscribeFinalizedHeads")
        target = None
        while True:
            try:
                message = node.early.pop(0) if node.early else json.loads(node.socket.recv(timeout=wait))
            except TimeoutError as error:
                raise Stopped(f"the node announced no block for {wait} s") from error
            params = message.get("params", {})
            if params.get("subscription") == best and target is None:
                lag.new_best(params["result"], time.monotonic())
                if len(lag.lags) >= blocks:
                    target = lag.best
            elif params.get("subscription") == final:
                number = height(params["result"])
                lag.new_finalized(number, time.monotonic())
                if target is not None and number >= target:
                    return lag


def people(figures):
    def line(name, values, unit):
        if not values:
            return f"{name:26} none"
        return f"{name:26} {values['average']} {unit} on average, {values['median']} median, {values['largest']} at most"

    return "\n".join(
        [
            f"{'followed':26} {figures['blocks']} best blocks in {figures['seconds']} s",
            f"{'finality lag over time':26} {figures['lag_over_time']} blocks on average",
            line("at each new best block", figures["lag_at_new_best"], "blocks"),
            line("from announced to final", figures["seconds_to_final"], "s"),
            line("", figures["blocks_to_final"], "block times"),
            line("from block to block", figures["block_seconds"], "s"),
            f"{'reorganisations':26} {figures['reorganisations']}: {figures['blocks_reverted']} blocks undone, "
            f"{figures['deepest_reversion']} at once at most",
        ]
    )


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench network")
    parser.add_argument("--url", default="ws://127.0.0.1:9944", help="a node of the network (default %(default)s)")
    parser.add_argument("--blocks", type=int, default=200, help="best blocks to follow (default %(default)s)")
    parser.add_argument("--wait", type=float, default=60, help="seconds without a block after which it gives up")
    parser.add_argument("--block-seconds", type=float, default=3, help="the chain's block time (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="the figures as one line of JSON on standard output, at the end")
    arguments = parser.parse_args()
    if arguments.blocks < 1:
        parser.error("--blocks is at least 1")
    figures = follow(arguments.url, arguments.blocks, arguments.wait).figures(arguments.block_seconds)
    print(people(figures), file=sys.stderr if arguments.json else sys.stdout)
    if arguments.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    try:
        main()
    except (OSError, WebSocketException) as error:
        sys.exit(f"error: no node answers: {error}. Start one (scripts/devnet start), or name one with --url")
    except (RpcError, Stopped) as error:
        sys.exit(f"error: {error}")
