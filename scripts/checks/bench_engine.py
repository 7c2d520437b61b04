"""The engine beside plain onnxruntime, pairs in one run. Usage is in scripts/bench."""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np
import onnxruntime

BLOCK = 128  # slots of the canonical graph's cache come in blocks
TOKENS = 128  # of an answer whose writing is measured
STREAMS = 8
PROMPT = 16  # about what the engine's bench asks


class Engine:
    """The engine's half, in its own process: a command a line, a JSON object a line."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit("error: the engine's half of the bench ended: see its message above")
        return json.loads(line)

    def ask(self, *words):
        self.process.stdin.write(" ".join(str(w) for w in words) + "\n")
        self.process.stdin.flush()
        return self.read()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Plain:
    """The same graph in a loop of onnxruntime with I/O binding."""

    def __init__(self, folder, threads):
        card = json.loads((folder / "model.json").read_text())
        self.config = card["details"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.graph_optimization_level = {
            "disable": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
            "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
        }[card["numerics"]["optimization"]]
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        path = str(folder / "model.onnx")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def empty(self, tokens):
        c, slots = self.config, -(-tokens // BLOCK) * BLOCK
        cache = {}
        for layer in range(c["layers"]):
            for kind, shape in (("key", (c["head_dim"], slots)), ("value", (slots, c["head_dim"]))):
                zeros = np.zeros((1, c["kv_heads"], *shape), np.float32)
                cache[f"{layer}.{kind}"] = onnxruntime.OrtValue.ortvalue_from_numpy(zeros)
        return cache

    def step(self, ids, first, cache, in_place):
        """Feeds tokens; gives the last one's best successor and the next cache."""
        binding = self.session.io_binding()
        binding.bind_cpu_input("input_ids", np.array([ids], np.int64))
        binding.bind_cpu_input("position_ids", np.arange(first, first + len(ids), dtype=np.int64)[None])
        binding.bind_output("logits", "cpu")
        for name, value in cache.items():
            binding.bind_ortvalue_input("past_key_values." + name, value)
            if in_place:
                binding.bind_ortvalue_output("present." + name, value)
            else:
                binding.bind_output("present." + name, "cpu")
        self.session.run_with_iobinding(binding)
        outputs = binding.get_outputs()
        best = int(outputs[0].numpy()[0, -1].argmax())
        return best, cache if in_place else dict(zip(cache, outputs[1:]))

    def decode(self, tokens, in_place):
        began = time.perf_counter()
        cache = self.empty(PROMPT + tokens)
        token, cache = self.step(list(range(100, 100 + PROMPT)), 0, cache, in_place)
        for i in range(tokens - 1):
            token, cache = self.step([token], PROMPT + i, cache, in_place)
        return tokens / (time.perf_counter() - began)

    def prefill(self, tokens):
        """One run over all tokens. Gives seconds."""
        began = time.perf_counter()
        self.step([100 + i % 1_000 for i in range(tokens)], 0, self.empty(tokens), False)
        return time.perf_counter() - began


def rate(reply):
    return reply["tokens"] / reply["seconds"]


def measure(engine, plain, rounds):
    """Lists of figures, one a round."""
    figures = {}
    note = lambda name, figure: figures.setdefault(name, []).append(figure)
    engine.ask("decode", 1, 8)  # first runs allocate
    plain.decode(8, False)
    for _ in range(rounds):
        note("decode_tokens_per_s", rate(engine.ask("decode", 1, TOKENS)))
        note("plain_decode_tokens_per_s", plain.decode(TOKENS, False))
        note("plain_in_place_decode_tokens_per_s", plain.decode(TOKENS, True))
        note("streams_decode_tokens_per_s", rate(engine.ask("decode", STREAMS, TOKENS)))
        prefill = engine.ask("prefill", 1_000)
        note("prefill_tokens_per_s", rate(prefill))
        note("plain_prefill_tokens_per_s", prefill["tokens"] / plain.prefill(prefill["tokens"]))
        check = engine.ask("check", 200)
        note("answer_tokens", check["answer"])
        note("generate_s", check["generate"])
        note("check_s", check["check"])
        note("plain_prefill_of_check_s", plain.prefill(check["fed"]))
        small = engine.ask("small", 100)
        note("small_s", small["engine"])
        note("plain_small_s", small["bare"])
    return figures


# What is compared: name, above, below, goal; a goal is the least where it is positive, the most where it is negative.
PAIRS = [
    ("decode, one stream / plain loop", "decode_tokens_per_s", "plain_decode_tokens_per_s", 1.1),
    ("decode, one stream / loop in place", "decode_tokens_per_s", "plain_in_place_decode_tokens_per_s", None),
    (f"decode, {STREAMS} streams / one", "streams_decode_tokens_per_s", "decode_tokens_per_s", 1.5),
    ("prefill of 1,000 / bare session", "prefill_tokens_per_s", "plain_prefill_tokens_per_s", 0.95),
    ("classifier, engine's process / bare", "small_s", "plain_small_s", -1.1),
    ("check / generate, 200 tokens", "check_s", "generate_s", None),
    ("check / bare prefill", "check_s", "plain_prefill_of_check_s", -1.3),
]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bench", required=True)
    parser.add_argument("--models", type=pathlib.Path, required=True)
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    text = options.models / "smollm2-135m-instruct-fp32"
    small = options.models / "magika-standard-v3.3"
    load = os.getloadavg()[0]
    engine = Engine([options.bench, str(text), str(small), str(options.threads)])
    figures = measure(engine, Plain(text, options.threads), options.rounds)
    engine.close()
    medians = {name: statistics.median(values) for name, values in figures.items()}
    out = sys.stderr if options.json else sys.stdout
    for name, value in medians.items():
        print(f"{name:38} {value:12.4f}", file=out)
    ratios = {}
    for what, above, below, goal in PAIRS:
        # Of each round's pair, not of the medians: what disturbed a round disturbed both.
        of_rounds = [a / b for a, b in zip(figures[above], figures[below])]
        ratio = ratios[what] = statistics.median(of_rounds)
        verdict = ""
        if goal is not None:
            met = ratio >= goal if goal > 0 else ratio <= -goal
            verdict = f"goal {'at least' if goal > 0 else 'at most'} {abs(goal)}: {'met' if met else 'MISSED'}"
        print(f"{what:38} {ratio:12.3f}  ({min(of_rounds):.3f} to {max(of_rounds):.3f})  {verdict}", file=out)
    print(f"threads {options.threads}, rounds {options.rounds}, load when it began {load:.1f} of {os.cpu_count()} cores", file=out)
    if options.json:
        print(json.dumps({"figures": medians, "ratios": ratios, "threads": options.threads, "load": load}))


if __name__ == "__main__":
    main()
