#!/usr/bin/env python3
"""Chats through the gateway on four validators, beside the same gateway on an engine alone: latency, throughput, and a crowd of which
nobody may be lost.

Prints figures for scripts/checks/figures.py. The network is one of its own, in a temporary folder, and ends with the script.
"""

import argparse
import asyncio
import contextlib
import functools
import http.client
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse

import sessions
from cli import Cli
from line import bring_up
from sessions import OWNER, await_lanes, say
from validators import Network

figure = functools.partial(sessions.figure, of="access")

# Each is asked once: engines keep what they have read, which would make a second time quicker.
QUESTION = "Explain in a few sentences what a {} {} is, and what it is good for."
KINDS = ["small", "large", "wooden", "modern", "French", "broken", "famous", "public", "new", "silent", "green", "cheap", "round"]
SUBJECTS = [
    "compass", "lighthouse", "bicycle", "telescope", "bakery", "piano", "bridge", "calendar", "garden", "library", "windmill",
    "thermometer", "map", "canal", "market", "clock", "mirror", "school", "ship", "vaccine", "violin", "castle", "lamp", "tunnel",
    "kitchen", "museum", "harbour", "camera", "ladder", "fountain",
]  # fmt: skip
TOKENS = 64
# Of each of a crowd.
FEW = 16
# A crowd of hundreds waits for one another on a machine of two cores.
PATIENCE = 1_800


class Chats:
    """A gateway, asked by many at once with nothing but HTTP: what the clients' libraries do is no part of it."""

    def __init__(self, url, model):
        self.address, self.model = urllib.parse.urlsplit(url), model

    def ask(self, question, tokens, wait, checks):
        """One streamed chat. Returns seconds to the first text, to the last and to the end, its tokens and how it ended."""
        body = {
            "model": self.model, "messages": [{"role": "user", "content": question}], "max_tokens": tokens, "temperature": 0,
            "stream": True, "stream_options": {"include_usage": True},
        }  # fmt: skip
        if wait:
            body["consilience"] = {"lane": "session", "wait": wait, "verifiers": checks}
        connection = http.client.HTTPConnection(self.address.hostname, self.address.port, timeout=PATIENCE)
        began = time.monotonic()
        first = last = None
        used, status, text = 0, None, ""
        with contextlib.closing(connection):
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
            reply = connection.getresponse()
            if reply.status != 200:
                raise RuntimeError(f"{reply.status}: {reply.read().decode(errors='replace')[:300]}")
            for line in reply:
                if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                    continue
                event = json.loads(line[6:])
                if "error" in event:
                    raise RuntimeError(str(event["error"])[:300])
                for choice in event.get("choices", []):
                    if choice["delta"].get("content"):
                        last = time.monotonic() - began
                        first = first or last
                        text += choice["delta"]["content"]
                used = (event.get("usage") or {}).get("completion_tokens", used)
                status = (event.get("consilience") or {}).get("status", status)
        return {
            "first": first, "last": last, "end": time.monotonic() - began, "tokens": used, "status": status, "text": text
        }  # fmt: skip

    async def crowd(self, questions, tokens, wait, checks, at_once):
        """Asks all, so many at once. Returns what came of each, an exception among it, and the seconds it took."""
        gate = asyncio.Semaphore(at_once)

        async def one(question):
            async with gate:
                return await asyncio.to_thread(self.ask, question, tokens, wait, checks)

        began = time.monotonic()
        done = await asyncio.gather(*map(one, questions), return_exceptions=True)
        return done, time.monotonic() - began


class Several(Chats):
    """Several gateways, asked in turns."""

    def __init__(self, all_):
        self.turns = itertools.cycle(all_)

    def ask(self, *arguments):
        return next(self.turns).ask(*arguments)


def questions():
    return (QUESTION.format(kind, subject) for kind, subject in itertools.product(KINDS, SUBJECTS))


@contextlib.contextmanager
def alone(binary, model, folder, threads):
    """The gateway on an engine alone. Its address."""
    folder.mkdir()
    command = [binary, model, "--data", str(folder), "--threads", str(threads)]
    with open(folder / "log", "wb") as log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        try:
            assert process.stdout is not None  # a pipe
            url = process.stdout.readline().strip()
            if not url:
                sys.exit(f"error: {binary} does not start: {(folder / 'log').read_text(errors='replace')[-1000:]}")
            yield url
        finally:
            process.terminate()


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench access")
    parser.add_argument("--binary", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--alone", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--models", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--model", default="smollm2-135m-instruct-int8")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--crowd", type=int, default=200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="access-") as folder:
        network = Network(os.path.join(folder, "network"))
        network.plan(4)
        network.start(arguments.binary)
        try:
            measure(arguments, network, pathlib.Path(folder))
        finally:
            network.stop()


def stored(validator, model):
    """The folder in which a node keeps a model."""
    folder = pathlib.Path(validator.folder, "models", model.removeprefix("0x"))
    if not (folder / "manifest.json").is_file():
        sys.exit(f"error: {folder} holds no model")
    return str(folder)


def measure(arguments, network, folder):
    cli = Cli(arguments.binary)
    source = str(pathlib.Path(arguments.models) / arguments.model)
    first = network.validators[0]
    model = bring_up(cli, network, [source], OWNER, say)[source]
    await_lanes(first, model, len(network.validators))
    lane = Chats(network.start_gateway(arguments.binary), model)
    asked = questions()
    say("the first questions load the model at whoever answers and checks")
    asyncio.run(lane.crowd(itertools.islice(asked, 8), FEW, "checked", 2, 4))
    place = stored(first, model)
    with alone(arguments.alone, place, folder / "alone-1", 1) as url:
        latency(arguments, lane, Chats(url, model), asked)
    with alone(arguments.alone, place, folder / "alone-2", len(os.sched_getaffinity(0))) as url:
        one = speed(arguments, "one engine alone", Chats(url, model), asked)
    with contextlib.ExitStack() as stack:
        count = len(network.validators)
        each = [stack.enter_context(alone(arguments.alone, place, folder / f"alone-{3 + i}", 1)) for i in range(count)]
        several = speed(arguments, f"{count} engines alone", Several([Chats(url, model) for url in each]), asked)
    throughput(arguments, lane, (one, several, count), asked)
    crowd(arguments, lane, asked)


def latency(arguments, lane, bare, asked):
    bare.ask(next(asked), FEW, None, 0)
    pairs = []
    # In turns: what else the machine does concerns both.
    for round_ in range(arguments.rounds):
        question = next(asked)
        ours = lane.ask(question, TOKENS, "streaming", 0)
        other = bare.ask(question, TOKENS, None, 0)
        assert ours["text"] == other["text"], (ours, other)
        pairs.append((ours, other))
        both = [f"{key} {ours[key]:.3f} s, alone {other[key]:.3f}" for key in ("first", "last")]
        say(f"round {round_ + 1}: {'; '.join(both)}")
    ours, other = ([statistics.median([p[i][key] for p in pairs]) for key in ("first", "last")] for i in (0, 1))
    words = f"s to the first text, {other[0]:.3f} from the engine alone; one chat at a time, {arguments.rounds} rounds"
    figure("first_s", ours[0], "", words)
    ratio = statistics.median([b["last"] / a["last"] for a, b in pairs])
    words = f"of the engine alone behind the same gateway: {ours[1]:.3f} s to the last token beside {other[1]:.3f}, vouchers paid"
    figure("latency", ratio, "at least 0.9", words)


def speed(arguments, name, chats, asked, wait=None, checks=0):
    """Tokens a second of all chats."""
    questions_ = list(itertools.islice(asked, arguments.at_once * 2))
    done, seconds = asyncio.run(chats.crowd(questions_, TOKENS, wait, checks, arguments.at_once))
    lost = [one for one in done if isinstance(one, BaseException)]
    if lost:
        say(f"{name}: {len(lost)} failed, {lost[0]}")
    tokens = sum(one["tokens"] for one in done if not isinstance(one, BaseException)) / seconds
    say(f"{name}: {tokens:.1f} tokens a second, {arguments.at_once} chats at once")
    return tokens


def throughput(arguments, lane, bare, asked):
    one, several, count = bare
    unchecked = speed(arguments, "unchecked", lane, asked, "streaming")
    checked = speed(arguments, "checked", lane, asked, "checked", 2)
    words = f"of one engine alone that has all cores and batches all chats: {{:.1f}} tokens a second beside {one:.1f}"
    words += f", {arguments.at_once} chats at once"
    figure("throughput", unchecked / one, "at least 0.9", words.format(unchecked) + ", nobody checks")
    figure("throughput_checked", checked / one, "", words.format(checked) + ", two check each answer on the same cores")
    # Whoever has a machine to itself batches all chats; validators share this one, and each batches its own.
    words = f"of {count} engines alone that share the cores as the validators do, {several:.1f} tokens a second; nobody checks"
    figure("throughput_of_engines", unchecked / several, "at least 0.9", words)


def crowd(arguments, lane, asked):
    everyone = list(itertools.islice(asked, arguments.crowd))
    done, seconds = asyncio.run(lane.crowd(everyone, FEW, "checked", 2, arguments.crowd))
    lost = [one for one in done if isinstance(one, BaseException)]
    for why in lost[:5]:
        say(f"lost: {why}")
    answered = [one for one in done if not isinstance(one, BaseException)]
    unchecked = sum(one["status"] != "checked" for one in answered)
    words = f"of {arguments.crowd} chats of {FEW} tokens, all at once, each checked by two; {seconds:.0f} s"
    figure("crowd_lost", len(lost), "at most 0", words)
    figure("crowd_unchecked", unchecked, "at most 0", f"of {len(answered)} that were answered")
    figure("crowd_answers_a_second", len(answered) / seconds, "", words)


if __name__ == "__main__":
    sys.exit(main())
