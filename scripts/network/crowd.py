#!/usr/bin/env python3
"""Many clients of the session lane at once: nothing lost, nothing paid twice, and the books of clients and chain equal to the unit.

Four nodes of a development network on this machine, and as many clients, each a process with an account, a channel and a wallet of its
own, that talk for some minutes. Where nobody has a place they wait in the validators' lines; whoever is refused asks something else. In the
end all channels are closed, and what each validator claims of each is held against what its client has signed.

Prints figures for scripts/checks/figures.py. The network is one of its own, in a temporary folder, and ends with the script.
"""

import argparse
import asyncio
import collections
import concurrent.futures
import contextlib
import json
import os
import pathlib
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time

from cli import Cli
from line import bring_up
from rpc import Node
from sessions import OWNER, await_lanes, figure, say
from validators import Network

# What is said; each client begins somewhere else.
QUESTIONS = [
    "What is the capital of France?",
    "Why is the sky blue?",
    "Name three primary colours.",
    "How many legs does a spider have?",
    "Who wrote Hamlet?",
    "What does a baker do?",
    "Say hello in Spanish.",
    "What is two plus two?",
]
TOKENS = 16
DEPOSIT, ENDOWMENT = 20, 1_000
UNIT = 10**12
# A question waits for a place for five minutes, for its answer and for two checks, on a machine that does all of it for everybody. This is
# for one thing that happens after another.
PATIENCE = 600
# After the close a payee has hours; it claims within a few blocks.
CLAIM_SECONDS = 300
# Below this, nothing is claimed (SessionsApi_claim_bounds).
LEAST = UNIT // 200


def specification(binary, folder, clients):
    """The `local` chain with money for the clients. Returns its file."""
    spec = json.loads(subprocess.run([binary, "export-chain-spec", "--chain", "local"], check=True, capture_output=True).stdout)

    balances = spec["genesis"]["runtimeGenesis"]["patch"]["balances"]["balances"]
    for client in range(clients):
        inspected = subprocess.run(
            [binary, "key", "inspect", "--output-type", "json", account(client)], check=True, capture_output=True
        )
        balances.append([json.loads(inspected.stdout)["ss58Address"], ENDOWMENT * UNIT])
    spec["id"] = "consilience_crowd"
    file = folder / "crowd.json"
    file.write_text(json.dumps(spec))
    return str(file)


def account(client):
    return f"//Client//{client}"


class Crowd:
    """The clients, and what became of what they asked."""

    def __init__(self, binary, network, model, folder, seconds):
        self.binary, self.network, self.model, self.folder = binary, network, model, folder
        self.end = time.monotonic() + seconds
        self.answers = 0
        # Questions that got an error, and questions that got neither that nor an answer.
        self.refused: collections.Counter[str] = collections.Counter()
        self.lost: collections.Counter[str] = collections.Counter()
        self.wrong: list[dict] = []
        self.waits: list[float] = []
        self.checks: list[float] = []

    def wallet(self, client):
        return str(self.folder / f"wallet-{client}")

    def url(self, client):
        return self.network.validators[client % len(self.network.validators)].url

    async def talk(self, client):
        """Talks until the time is over; with a new process where one has ended, which goes on with the same wallet."""
        chance = random.Random(client)
        await asyncio.sleep(chance.random() * 10)
        asked = client
        while time.monotonic() < self.end:
            process = await asyncio.create_subprocess_exec(
                self.binary, "chat", "--json", "--model", self.model, "--suri", account(client), "--url", self.url(client),
                "--wallet", self.wallet(client), "--max-tokens", str(TOKENS), "--temperature", "0", "--deposit", str(DEPOSIT),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, limit=1 << 20,
            )  # fmt: skip
            assert process.stdin is not None and process.stderr is not None  # pipes
            complaints = asyncio.create_task(process.stderr.read())
            ended = False
            try:
                while time.monotonic() < self.end and not ended:
                    ended = not await self.ask(process, QUESTIONS[asked % len(QUESTIONS)])
                    asked += 1
                    await asyncio.sleep(chance.random() * 2)
            finally:
                with contextlib.suppress(ProcessLookupError, BrokenPipeError, ConnectionResetError):
                    process.stdin.close()
                    if ended:
                        process.kill()
                await process.wait()
                said = (await complaints).decode(errors="replace").strip().splitlines()
                if ended:
                    self.lost[reason(said[-1] if said else f"ended with {process.returncode}")] += 1
            await asyncio.sleep(1 + chance.random() * 4)

    async def ask(self, process, question):
        """Whether there was an answer or an error; otherwise the process has ended, or says nothing any more."""
        began = time.monotonic()
        try:
            process.stdin.write(question.encode() + b"\n")
            await process.stdin.drain()
            while True:
                line = await asyncio.wait_for(process.stdout.readline(), PATIENCE)
                if not line:
                    return False
                event = json.loads(line)
                if event["event"] in ("done", "error"):
                    break
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            return False
        if event["event"] == "error":
            self.refused[reason(event["why"])] += 1
            return True
        if event["status"] != "checked" or event["right"] != 2:
            self.wrong.append(event)
        self.answers += 1
        self.waits.append(time.monotonic() - began)
        self.checks.append(event["checked_after_milliseconds"] / 1000)
        return True


def reason(words):
    """The same words for the same reason: without accounts and numbers."""
    return re.sub(r"\d+", "N", re.sub(r"\b5[A-HJ-NP-Za-km-z1-9]{40,}\b", "ACCOUNT", words)).strip()[:160]


def memory(network):
    """Resident memory of each node and its engine, in MiB."""
    sizes = []
    for validator in network.validators:
        group = subprocess.run(["ps", "-o", "rss=", "-g", str(validator.pid)], capture_output=True, text=True, check=False)
        sizes.append(sum(int(size) for size in group.stdout.split()) / 1024)
    return sizes


async def watch(crowd, network, seen):
    """Looks at the network all the while: memory, and how far finality is behind."""
    with Node(network.validators[0].url) as node:
        while time.monotonic() < crowd.end:
            best = int(node.call("chain_getHeader")["number"], 16)
            final = int(node.call("chain_getHeader", node.call("chain_getFinalizedHead"))["number"], 16)
            seen.append((best - final, memory(network)))
            say(
                f"block {best}, {best - final} not final; {crowd.answers} answers, {sum(crowd.refused.values())} refused,"
                f" {sum(crowd.lost.values())} lost;"
                f" nodes and engines {' '.join(f'{size:.0f}' for size in seen[-1][1])} MiB"
            )
            await asyncio.sleep(15)


def close(crowd, cli, client):
    """Closes a client's channel. Returns its number, and what was signed for each payee; nothing where none was opened."""
    wallet = crowd.wallet(client)
    records = receipts(crowd.binary, wallet)
    if not records:
        return None
    whole = subprocess.run(
        [crowd.binary, "channel", "receipt", str(records[0]["number"]), "--wallet", wallet], capture_output=True, check=True
    )
    channel = json.loads(whole.stdout)["channel"]
    cli.run("channel", "close", str(channel), "--suri", account(client), "--url", crowd.url(client))
    owed: collections.Counter[str] = collections.Counter()
    for record in records:
        # Whoever refused has a voucher for nothing, and claims nothing for it.
        if record["status"] != "streaming":
            owed[record["executor"]] += int(record["paid"])
    return client, channel, owed


def books(crowd, cli, clients):
    """Closes all channels. Returns what was signed, what was claimed, and where they differ."""
    signed, claimed, differences = 0, 0, []
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        closed = list(pool.map(lambda client: close(crowd, cli, client), range(clients)))
    deadline = time.monotonic() + CLAIM_SECONDS
    for client, channel, owed in filter(None, closed):
        while True:
            view = cli.run("channel", "show", str(channel), "--url", crowd.url(client))
            taken = {a["payee"]: int(a["claimed"]) for a in view["allocations"]}
            due = {payee: amount for payee, amount in owed.items() if amount >= LEAST}
            if all(taken[payee] == amount for payee, amount in due.items()) or time.monotonic() > deadline:
                break
            time.sleep(2)
        for payee, amount in owed.items():
            signed += amount
            claimed += taken[payee]
            if taken[payee] != amount and (amount >= LEAST or taken[payee]):
                differences.append((channel, payee, amount, taken[payee]))
    return signed, claimed, differences


def receipts(binary, wallet):
    if not os.path.exists(wallet):
        return []
    listed = subprocess.run([binary, "channel", "receipt", "--json", "--wallet", wallet], capture_output=True, check=False)
    return [json.loads(line) for line in listed.stdout.splitlines() if line.strip()]


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench crowd")
    parser.add_argument("--binary", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--models", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--model", default="smollm2-135m-instruct-int8")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=30)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="crowd-") as place:
        folder = pathlib.Path(place)
        network = Network(str(folder / "network"))
        network.plan(4)
        say(f"a chain with money for {arguments.clients} clients")
        chain = specification(arguments.binary, folder, arguments.clients)
        network.start(arguments.binary, chain=chain)
        try:
            measure(arguments, network, folder)
        finally:
            network.stop()


def measure(arguments, network, folder):
    cli = Cli(arguments.binary)
    source = str(pathlib.Path(arguments.models) / arguments.model)
    first = network.validators[0]
    model = bring_up(cli, network, [source], OWNER, say)[source]
    await_lanes(first, model, len(network.validators))
    crowd = Crowd(arguments.binary, network, model, folder, arguments.minutes * 60)
    seen: list[tuple[int, list[float]]] = []

    async def all_at_once():
        clients = [crowd.talk(client) for client in range(arguments.clients)]
        await asyncio.gather(watch(crowd, network, seen), *clients)

    asyncio.run(all_at_once())
    for what, counts in ("refused", crowd.refused), ("lost", crowd.lost):
        for why, count in counts.most_common():
            say(f"{what} {count} times: {why}")
    for event in crowd.wrong[:5]:
        say(f"not checked: {event}")
    signed, claimed, differences = books(crowd, cli, arguments.clients)
    for channel, payee, amount, taken in differences:
        say(f"channel {channel}: {payee} was signed {amount} and has claimed {taken}")
    minutes = arguments.minutes
    words = f"{arguments.clients} clients, {minutes:g} minutes, {TOKENS} tokens each, all checked by two"
    figure("crowd_answers_a_second", crowd.answers / minutes / 60, "", words)
    figure("crowd_not_checked", len(crowd.wrong), "at most 0", f"of {crowd.answers} answers")
    figure("crowd_lost", sum(crowd.lost.values()), "at most 0", "questions that got neither an answer nor an error")
    figure("crowd_refused", sum(crowd.refused.values()), "", "questions that nobody had a place for in five minutes, or that failed")
    figure("crowd_wait_s", statistics.median(crowd.waits or [0]), "", "from a question that is taken to its checks, median")
    figure("crowd_checked_s", statistics.median(crowd.checks or [0]), "", "from the last token to two verdicts, median")
    words = f"of channels and payees; {signed / UNIT:.6f} CSL signed, {claimed / UNIT:.6f} claimed, less than {LEAST / UNIT:g} is not"
    figure("crowd_books_differ", len(differences), "at most 0", words)
    lags = [lag for lag, _ in seen]
    words = f"finality behind the best block, at most; {statistics.mean(lags or [0]):.2f} on average"
    figure("crowd_lag_blocks", max(lags, default=0), "at most 2", words)
    third = max(1, len(seen) // 3)
    total = [sum(sizes) for _, sizes in seen]
    growth = statistics.mean(total[-third:]) / statistics.mean(total[third : 2 * third] or total)
    figure("crowd_memory", growth, "at most 1.1", f"the last third of the time beside the second: {total[-1]:.0f} MiB in all")


if __name__ == "__main__":
    sys.exit(main())
