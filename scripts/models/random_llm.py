#!/usr/bin/env python3
"""Writes a language model of a current small model's architecture with random weights: says nothing, and takes the time and the
memory of a real one.

    random_llm.py --size 3b --variant q4 --out FOLDER [--seed N] [--tokenizer FOLDER]

--size      tiny (for tests), 135m (SmolLM2's shape), 1b, 3b (Llama 3.2's shapes)
--variant   q4: 4-bit weights (MatMulNBits, accuracy level 4), numbers in between float32: for CPUs
            fp16: all of it, for CUDA
--tokenizer folder with tokenizer.json and what belongs to it; ids beyond it say nothing

The folder has the hub's layout (config.json, generation_config.json, tokenizer.json, tokenizer_config.json, chat_template.jinja,
onnx/*.onnx) and a card, model.json, for `consilience model import`. Grouped heads, SwiGLU, tied embeddings; names, cache and fused
operators (GroupQueryAttention, RotaryEmbedding, SimplifiedLayerNormalization) as the hub's exporters write them. The same seed
gives the same bytes on every machine: weights come from raw bits by exact arithmetic, piece by piece, so that the maker's memory
stays small however large the model is.
"""

import argparse
import json
import math
import os
import shutil
import zlib

import card
import numpy as np
from onnx import TensorProto
from onnx_graph import F32, I64, Graph, Stream, hub_values
from rotary import tables
from smollm2 import FP16_PEERS

F16 = np.float16
INT4_BLOCK = 32
PIECE = 1 << 24  # elements that are made at a time
HEAD_GAIN = 2.5  # logits as far apart as a trained model's


def _shape(layers, hidden, heads, kv_heads, head_dim, intermediate, vocabulary, theta, context=2048):
    return {
        "layers": layers,
        "hidden": hidden,
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "intermediate": intermediate,
        "vocabulary": vocabulary,
        "context": context,
        "theta": theta,
        "eps": 1e-5,
    }


SIZES = {
    "tiny": _shape(2, 128, 4, 2, 32, 256, 49152, 10000.0, context=512),
    "135m": _shape(30, 576, 9, 3, 64, 1536, 49152, 100000.0),
    "1b": _shape(16, 2048, 32, 8, 64, 8192, 128256, 500000.0),
    "3b": _shape(28, 3072, 24, 8, 128, 8192, 128256, 500000.0),
}


class RandomLlm:
    def __init__(self, config, variant, seed):
        self.config, self.seed, self.graph = config, seed, Graph()
        self.int4 = variant == "q4"
        self.float, self.float_type = (F32, TensorProto.FLOAT) if self.int4 else (F16, TensorProto.FLOAT16)
        # Residual branches add up: each is as small as makes the sum of all about one.
        self.branch = 1 / math.sqrt(2 * config["layers"])

    def save(self, folder, file_name="model.onnx"):
        self._build()
        dimensions = ("batch_size", "sequence_length", "past_sequence_length", "total_sequence_length")
        inputs, outputs = hub_values(self.config, self.float_type, dimensions)
        self.graph.save(inputs, outputs, folder, microsoft=True, file_name=file_name)

    def _bits(self, name, dtype, rows, columns, step):
        """Random integers [rows, columns] in pieces of so many rows. PCG64's stream is the same in every version of NumPy."""
        source = np.random.PCG64([self.seed, zlib.crc32(name.encode())])
        size = np.dtype(dtype).itemsize
        assert columns * size % 8 == 0, name
        for first in range(0, rows, step):
            n = min(step, rows - first)
            raw = source.random_raw(n * columns * size // 8).astype("<u8", copy=False)
            yield raw.view(np.dtype(dtype).newbyteorder("<")).reshape(n, columns)

    def _uniform(self, name, rows, columns, deviation):
        """float16 [rows, columns] of this standard deviation."""
        step = F32(deviation * math.sqrt(3) / 32768)
        bits = lambda: self._bits(name, np.int16, rows, columns, _rows(columns))
        return Stream(F16, [rows, columns], lambda: ((b.astype(F32) * step).astype(F16) for b in bits()))

    def _packed(self, name, inputs, outputs):
        """MatMulNBits's weights [outputs, inputs / 32, 16], the first of two in the low half, and its scales."""
        blocks = inputs // INT4_BLOCK
        packed = lambda: self._bits(name, np.uint8, outputs, inputs // 2, _rows(inputs))
        return Stream(
            np.uint8,
            [outputs, blocks, INT4_BLOCK // 2],
            lambda: (p.reshape(-1, blocks, INT4_BLOCK // 2) for p in packed()),
        )

    def _scales(self, name, inputs, outputs, deviation):
        # Sixteen equally likely steps from -8 to 7, in blocks that differ by up to a quarter from the mean.
        step = F32(deviation / math.sqrt(21.5))
        blocks = inputs // INT4_BLOCK
        # Rounded up to whole words of bits.
        width = -(-blocks // 4) * 4
        bits = lambda: self._bits(name + ".scales", np.uint16, outputs, width, _rows(inputs))
        scaled = lambda b: (b[:, :blocks].astype(F32) * F32(2**-17) + F32(0.75)) * step
        return Stream(F32, [outputs, blocks], lambda: (scaled(b) for b in bits()))

    def _linear(self, x, name, inputs, outputs, gain=1.0):
        g, deviation = self.graph, gain / math.sqrt(inputs)
        if not self.int4:
            return g.op("MatMul", x, g.weight(name, self._uniform(name, inputs, outputs, deviation)))
        return g.op(
            "MatMulNBits",
            x,
            g.weight(name + ".q4", self._packed(name, inputs, outputs)),
            g.weight(name + ".scales", self._scales(name, inputs, outputs, deviation)),
            domain="com.microsoft",
            K=inputs,
            N=outputs,
            bits=4,
            block_size=INT4_BLOCK,
            accuracy_level=4,
        )

    def _table(self):
        """The embedding table [vocabulary, hidden] in float16. Where the last layer has 4-bit weights, they are the table's."""
        c, name = self.config, "embed_tokens"
        deviation = HEAD_GAIN / math.sqrt(c["hidden"])
        if not self.int4:
            return self._uniform(name, c["vocabulary"], c["hidden"], deviation)

        def rows():
            packed = self._packed(name, c["hidden"], c["vocabulary"]).pieces()
            scales = self._scales(name, c["hidden"], c["vocabulary"], deviation).pieces()
            for piece, scale in zip(packed, scales):
                halves = np.stack([piece & 15, piece >> 4], -1).reshape(len(piece), -1, INT4_BLOCK)
                values = (halves.astype(np.int8) - np.int8(8)).astype(F32) * scale[:, :, None]
                yield values.reshape(len(piece), -1).astype(F16)

        return Stream(F16, [c["vocabulary"], c["hidden"]], rows)

    def _norm(self, x, name):
        g, hidden = self.graph, self.config["hidden"]
        return g.op(
            "SimplifiedLayerNormalization",
            x,
            g.weight(name, np.ones(hidden, self.float)),
            axis=-1,
            epsilon=self.config["eps"],
            stash_type=1,
        )

    def _rotate(self, x):
        return self.graph.op("RotaryEmbedding", x, "position_ids", self.cos, self.sin, domain="com.microsoft", interleaved=0)

    def _attention(self, x, layer):
        g, c, p = self.graph, self.config, f"layers.{layer}.attn."
        wide, narrow = c["heads"] * c["head_dim"], c["kv_heads"] * c["head_dim"]
        q = self._rotate(self._linear(x, p + "q_proj", c["hidden"], wide))
        k = self._rotate(self._linear(x, p + "k_proj", c["hidden"], narrow))
        v = self._linear(x, p + "v_proj", c["hidden"], narrow)
        o = g.op_named(
            "GroupQueryAttention",
            [
                q,
                k,
                v,
                f"past_key_values.{layer}.key",
                f"past_key_values.{layer}.value",
                self.lengths,
                self.total,
            ],
            [f"attention_{layer}", f"present.{layer}.key", f"present.{layer}.value"],
            domain="com.microsoft",
            num_heads=c["heads"],
            kv_num_heads=c["kv_heads"],
            scale=c["head_dim"] ** -0.5,
        )
        return self._linear(o, p + "o_proj", wide, c["hidden"], self.branch)

    def _mlp(self, x, layer):
        g, c, p = self.graph, self.config, f"layers.{layer}.mlp."
        gate = self._linear(x, p + "gate_proj", c["hidden"], c["intermediate"])
        up = self._linear(x, p + "up_proj", c["hidden"], c["intermediate"])
        silu = g.op("Mul", gate, g.op("Sigmoid", gate))
        return self._linear(g.op("Mul", silu, up), p + "down_proj", c["intermediate"], c["hidden"], self.branch)

    def _build(self):
        g, c = self.graph, self.config
        half = c["head_dim"] // 2
        for table, name in zip(tables(c["context"], c["head_dim"], c["theta"]), ("cos", "sin")):
            setattr(self, name, g.weight(name + "_cache", table[:, :half].astype(self.float)))
        seen = g.op("ReduceSum", "attention_mask", g.const([1], I64), keepdims=0)
        self.lengths = g.op("Cast", g.op("Sub", seen, g.const([1], I64)), to=TensorProto.INT32)
        total = g.op("Squeeze", g.op("Shape", "attention_mask", start=1, end=2), g.const([0], I64))
        self.total = g.op("Cast", total, to=TensorProto.INT32)
        table = g.weight("embed_tokens", self._table())
        x = g.op("Gather", table, "input_ids", axis=0)
        if self.int4:
            x = g.op("Cast", x, to=TensorProto.FLOAT)
        for layer in range(c["layers"]):
            x = g.op("Add", x, self._attention(self._norm(x, f"layers.{layer}.input_norm"), layer))
            x = g.op("Add", x, self._mlp(self._norm(x, f"layers.{layer}.post_attention_norm"), layer))
        x = self._norm(x, "final_norm")
        if self.int4:
            logits = self._linear(x, "embed_tokens", c["hidden"], c["vocabulary"], HEAD_GAIN)
        else:
            # The table is stored once and read both ways.
            flat = g.op("Reshape", x, g.const([-1, c["hidden"]], I64))
            size = g.op("Shape", "input_ids")
            shape = g.op("Concat", size, g.const([c["vocabulary"]], I64), axis=0)
            logits = g.op("Reshape", g.op("Gemm", flat, table, transB=1), shape)
        g.op("Identity", logits, name="logits")


def _rows(columns):
    """Rows that are made at a time."""
    return max(1, PIECE // columns)


def _hub_files(config, tokenizer, folder):
    """What the hub has beside a model. Beginning and end of text are the tokenizer's."""
    shutil.copy(os.path.join(tokenizer, "tokenizer.json"), folder)
    with open(os.path.join(tokenizer, "tokenizer_config.json"), encoding="utf-8") as file:
        words = json.load(file)
    template = words.pop("chat_template", None)
    card.write_json(folder, "tokenizer_config.json", {**words, "model_max_length": config["context"]})
    if template is not None:
        with open(os.path.join(folder, "chat_template.jinja"), "w", encoding="utf-8") as file:
            file.write(template)
    with open(os.path.join(tokenizer, "generation_config.json"), encoding="utf-8") as file:
        generation = json.load(file)
    card.write_json(folder, "generation_config.json", generation)
    card.write_json(folder, "config.json", card.llama_config(config, generation))


def write(size, variant, seed, tokenizer, folder):
    config = SIZES[size]
    os.makedirs(os.path.join(folder, "onnx"), exist_ok=True)
    _hub_files(config, tokenizer, folder)
    graph = f"model_{variant}.onnx"
    RandomLlm(config, variant, seed).save(os.path.join(folder, "onnx"), graph)
    numerics = card.numerics("int4" if variant == "q4" else "fp16", 17, exact=False)
    if variant == "fp16":
        numerics["providers"] = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    card.write(
        folder,
        {
            "name": f"random-{size}-{variant}",
            "license": "Apache-2.0",
            "source": f"scripts/models/random_llm.py --size {size} --variant {variant} --seed {seed}",
            "task": "text-generation",
            "class": "tolerant",
            "details": {},
            "numerics": numerics,
            "limits": {"max_input_units": config["context"] * 11 // 16, "max_output_units": config["context"] // 4},
            "time": {"base_blocks": 20, "output_units_per_block": 4},
            "policy": FP16_PEERS,
            "price": {
                "per_request": card.CSL // 100,
                "per_input_unit": card.CSL // 100_000,
                "per_output_unit": card.CSL // 10_000,
            },
            "reference": {"chat": {"messages": [["user", "What is the capital of France?"]], "max_tokens": 16}},
        },
        graph="onnx/" + graph,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, required=True)
    parser.add_argument("--variant", choices=("q4", "fp16"), required=True)
    parser.add_argument("--seed", type=int, default=1)
    home = os.environ.get("CONSILIENCE_HOME") or os.path.join(
        os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share"), "consilience"
    )
    parser.add_argument("--tokenizer", default=os.path.join(home, "models/smollm2-135m-instruct-fp32"))
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()
    # Made beside the final place and moved, so that an interrupted run leaves nothing half done.
    scratch = arguments.out.rstrip("/") + ".new"
    shutil.rmtree(scratch, ignore_errors=True)
    write(arguments.size, arguments.variant, arguments.seed, arguments.tokenizer, scratch)
    shutil.rmtree(arguments.out, ignore_errors=True)
    os.rename(scratch, arguments.out)


if __name__ == "__main__":
    main()
