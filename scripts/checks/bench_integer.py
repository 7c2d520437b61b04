"""The integer class beside the int8 graph of the exact class, pairs in turns in one run. Usage is in scripts/bench."""

import argparse
import os
import pathlib
import statistics
import subprocess
import tempfile

import onnxruntime
from bench_engine import GGUF, MODEL, Other, distance

PROMPT = 260  # tokens of a prompt


def cache_bytes(folder):
    """Bytes that a token takes in the cache, as the graph declares it."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    size = {"tensor(int8)": 1, "tensor(float)": 4}
    of = lambda value: size[value.type] * value.shape[1] * next(n for n in value.shape[2:] if isinstance(n, int))
    return sum(of(value) for value in session.get_inputs() if value.name.startswith("past_key_values."))


def pairs(engine, options):
    """Of each thing the two classes' replies, the integer class's first."""
    both = (MODEL + "integer", MODEL + "int8")
    # An answer may end early: both are as long as the shorter.
    tokens = min(engine.ask("decode", model, 1, options.tokens)["tokens"] for model in both)
    found: dict[str, list[list[dict]]] = {"decode": [], "prefill": [], "load": []}
    for turn in range(options.rounds):
        for name, words in (("decode", (1, tokens)), ("prefill", (PROMPT,)), ("load", ())):
            ask = lambda model, name=name, words=words: engine.ask(name, model, *words)
            # The int8 graph loads for so long that once is enough.
            asked = both[:1] if name == "load" and turn > 0 else both
            in_turns = {model: ask(model) for model in asked[:: 1 if turn % 2 == 0 else -1]}
            found[name].append([in_turns[model] for model in asked])
    return tokens, found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bench", required=True)
    parser.add_argument("--models", type=pathlib.Path, required=True)
    parser.add_argument("--sources", type=pathlib.Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        models = pathlib.Path(scratch)
        for variant in ("fp32", "int8"):
            (models / (MODEL + variant)).symlink_to(options.models / (MODEL + variant))
        made = models / (MODEL + "integer")
        subprocess.run([options.bench, "canonicalise", options.sources / GGUF, made], check=True)
        engine = Other([options.bench, "models", str(models), str(options.threads)])
        tokens, found = pairs(engine, options)
        engine.close()
        figures = {
            "decode": f"times as many tokens a second as int8, {tokens} tokens",
            "prefill": f"times as many tokens a second as int8, a prompt of {PROMPT}",
        }
        goals = {"decode": "at least 1.0", "prefill": "at least 0.95"}
        for name, words in figures.items():
            # Others on the machine change the clock's ratio, and hardly the processor's.
            for kind, suffix in (("seconds", ""), ("cpu", "_cpu")):
                ratio = statistics.median(int8[kind] / max(integer[kind], 1e-3) for integer, int8 in found[name])
                print(f"figure {name}{suffix} = {ratio:.3f} [{goals[name]}] {words}, by {'the clock' if not suffix else 'processor time'}")
        seconds = [statistics.median(replies[n]["seconds"] for replies in found["load"] if n < len(replies)) for n in (0, 1)]
        print(f"figure load = {seconds[0]:.2f} [at most 2.0] seconds until the engine has proven and loaded it; int8 {seconds[1]:.2f}")
        print(f"figure cache = {cache_bytes(made)} [] bytes a token; int8 {cache_bytes(models / (MODEL + 'int8'))}")
        apart = {variant: distance(models, options.threads, variant) for variant in ("integer", "int8")}
        print(f"figure logit = {apart['integer']:.3f} [at most 0.15] mean |logit difference| from fp32; int8 {apart['int8']:.3f}")
    print(f"threads {options.threads}, rounds {options.rounds}, load {os.getloadavg()[0]:.1f} at the end, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
