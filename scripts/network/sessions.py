#!/usr/bin/env python3
"""How fast the session lane is: four nodes of a development network on this machine, one client, beside the engine alone.

Prints figures for scripts/checks/figures.py. The network is one of its own, in a temporary folder, and ends with the script.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from cli import Cli
from delay import Line
from line import bring_up
from rpc import Node
from validators import Network

OWNER, CLIENT = "//Alice", "//Ferdie"
# Each is asked once: executors keep what they have read, which would make a second time quicker.
QUESTION = "Explain in a few sentences what {} is, and what it is good for."
SUBJECTS = [
    "a compass", "a lighthouse", "a bicycle", "a telescope", "a bakery", "a piano", "a bridge", "a calendar", "a garden", "a library",
    "a windmill", "a thermometer", "a map", "a canal", "a market", "a clock", "a mirror", "a school", "a ship", "a vaccine",
]  # fmt: skip
TOKENS = 64
# The longest that validators take to certify their keys, in finalised state.
LANES_SECONDS = 300


def say(text):
    print(text, file=sys.stderr, flush=True)


def figure(name, value, goal, words, of="sessions"):
    print(f"figure {of}_{name} = {value:.3f} [{goal}] {words}", flush=True)


def median(values):
    return statistics.median(values)


def await_lanes(validator, model, count):
    """Waits until so many validators take requests: the list that the runtime returns begins with its length."""
    deadline = time.monotonic() + LANES_SECONDS
    with Node(validator.url) as node:
        while time.monotonic() < deadline:
            final = node.call("chain_getFinalizedHead")
            if int(node.call("state_call", "SessionsApi_lanes", model, final)[2:4] or "0", 16) == count << 2:
                return
            time.sleep(1)
    sys.exit(f"error: not {count} validators take part in the session lane after {LANES_SECONDS} s")


class Alone:
    """The engine of a process of its own, with nothing around it."""

    def __init__(self, cli, model, validator):
        self.cli, self.model, self.validator = cli, model, validator

    def run(self, question, tokens):
        reply = self.cli.run(
            "model", "run", self.model, "--prompt", question, "--max-tokens", str(tokens), "--temperature", "0",
            "--base-path", self.validator.folder, "--chain", "local", "--warm-up",
        )  # fmt: skip
        return reply["parameters"], reply["outputs"][0]["data"][0]


class Chat:
    """A client with a channel, that asks one question after another: a process, which keeps its connections."""

    def __init__(self, cli, model, validator, wallet, tokens):
        self.process = subprocess.Popen(
            [
                cli.binary, "chat", "--json", "--no-history", "--model", model, "--suri", CLIENT, "--url", validator.url,
                "--wallet", wallet, "--max-tokens", str(tokens), "--temperature", "0", "--deposit", "20",
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        assert self.process.stdin is not None  # a pipe
        self.process.stdin.close()
        if self.process.wait() != 0:
            sys.exit(f"error: the client ended with {self.process.returncode}")

    def ask(self, question):
        """What came of it, and the receipt."""
        assert self.process.stdout is not None  # a pipe
        print(question, file=self.process.stdin, flush=True)
        receipt = None
        for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] == "receipt":
                receipt = event
            elif event["event"] == "done":
                assert event["status"] == "checked" and event["right"] == 2, event
                return event, receipt
            elif event["event"] == "error":
                sys.exit(f"error: {event['why']}")
        sys.exit("error: the client has ended")


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench sessions")
    parser.add_argument("--binary", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--models", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--model", default="smollm2-135m-instruct-int8")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--delay", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.rounds > len(SUBJECTS) - 5:
        parser.error(f"--rounds: at most {len(SUBJECTS) - 5}")
    with tempfile.TemporaryDirectory(prefix="sessions-") as folder:
        line = Line(arguments.delay / 2000) if arguments.delay else None
        network = Network(os.path.join(folder, "network"), line)
        network.plan(4)
        network.start(arguments.binary)
        try:
            measure(arguments, network, pathlib.Path(folder))
        finally:
            network.stop()


def measure(arguments, network, folder):
    cli = Cli(arguments.binary)
    source = str(pathlib.Path(arguments.models) / arguments.model)
    first = network.validators[0]
    model = bring_up(cli, network, [source], OWNER, say)[source]
    await_lanes(first, model, len(network.validators))
    alone = Alone(cli, model, first)
    questions = iter(QUESTION.format(subject) for subject in SUBJECTS)

    def chat(tokens):
        return Chat(cli, model, first, str(folder / "wallet"), tokens)

    say("the first question opens the channel, and loads the model at whoever answers and checks")
    fresh = []
    for _ in network.validators:
        with chat(16) as once:
            fresh.append(once.ask(next(questions))[0]["first_token_milliseconds"])
    lane, engine, prefills = [], [], []
    with chat(TOKENS) as client:
        client.ask(next(questions))
        # In turns: what else the machine does concerns both.
        for round_, question in zip(range(arguments.rounds), questions):
            done, receipt = client.ask(question)
            alone_parameters, text = alone.run(question, TOKENS)
            assert text == done["answer"], (text, done["answer"])
            whole, _ = alone.run(f"{question} {text}", 1)
            lane.append((done, receipt))
            engine.append(alone_parameters)
            prefills.append(whole["milliseconds"])
            say(
                f"round {round_ + 1}: first token {done['first_token_milliseconds']} ms,"
                f" alone {alone_parameters['first_token_milliseconds']};"
                f" checked {done['checked_after_milliseconds']} ms after the last, one prefill alone {whole['milliseconds']}"
            )
    one = median([done["first_token_milliseconds"] for done, _ in lane])
    other = median([e["first_token_milliseconds"] for e in engine])
    # Over a longer line: a round trip and a half besides.
    delay = arguments.delay
    over, more = (f"_at_{delay}_ms", 1.5 * delay) if delay else ("", 30)
    words = f"from the question to the first token, over the connections of the question before; {arguments.rounds} rounds"
    figure(f"first_token{over}_ms", one, "", words)
    # The first opened a channel and loaded a model.
    words = f"the same, of a client that has just been started; least of {len(fresh) - 1}"
    figure(f"first_token_of_a_process{over}_ms", min(fresh[1:]), "", words)
    figure(f"first_token_more{over}_ms", one - other, f"at most {more:g}", f"than the engine alone, which takes {other:.0f} ms")
    speed = median([
        (r["output_units"] - 1) * 1000 / max(1, r["milliseconds"] - d["first_token_milliseconds"]) for d, r in lane
    ])  # fmt: skip
    single = median([
        (len(e["tokens"]) - 1) * 1000 / max(1, e["milliseconds"] - e["first_token_milliseconds"]) for e in engine
    ])  # fmt: skip
    figure(f"tokens_of_engine{over}", speed / single, "at least 0.95", f"{speed:.1f} tokens a second beside {single:.1f}, slices paid")
    checked = median([done["checked_after_milliseconds"] for done, _ in lane])
    figure(f"checked{over}_ms", checked, "", "from the last token to two checkers' verdicts")
    words = f"than one prefill of the whole text, {median(prefills):.0f} ms alone"
    figure(f"checked_more{over}_ms", checked - median(prefills), "at most 100", words)


if __name__ == "__main__":
    main()
