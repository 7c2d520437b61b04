"""The canonical graph of the exact class: its bits do not depend on how it is run.

Inputs   input_ids, position_ids           int64 [B,S]
         past_key_values.L.key             float [B,H,D,C]   (D before C, so that Q.K needs no transpose)
         past_key_values.L.value           float [B,H,C,D]
Outputs  logits                            float [B,S,V]
         present.L.key, present.L.value    same shapes as the past

C is the capacity in tokens, a multiple of 128; slot c belongs to position c for good. A row sees the slots up to its own
position, so sequences of different lengths share a batch, and a cache grows by adding empty slots at the end. Slots that were
never written must hold finite numbers.

Equal over decode and prefill, chunks, batches, numbers of threads, optimiser on and off, and versions of ONNX Runtime. What that
takes stands at each place; each was found by taking it away.
"""

from onnx import TensorProto

import numpy as np
from onnx_graph import F32, I64, Graph, value
from quantize import int8_columns, int8_rows, rest
from rotary import tables

BLOCK = 128  # no sum over positions is longer: see Canonical._attention

# Of quantised rows: the largest magnitude of a high one, steps of the low one in one of the high, and what stands for zero.
HIGH, STEPS, ZERO = 63, 127, 64

# Weights that are multiplied with the same rows; those in 15 bits, and those only where rows are shorter: docs/adr/0013.
GROUPS = {"attn_qkv": ("attn_q", "attn_k", "attn_v"), "ffn_gate_up": ("ffn_gate", "ffn_up")}
FINE, FINE_IF_SMALL, SMALL = ("attn_v",), ("ffn_down",), 2048


class Canonical:
    def __init__(self, config, weights, integer):
        self.config, self.weights, self.integer = config, weights, integer
        self.graph, self.products = Graph(), {}

    def save(self, folder):
        self._build()
        config = self.config
        heads, dim = config["kv_heads"], config["head_dim"]
        inputs = [value(n, TensorProto.INT64, ["B", "S"]) for n in ("input_ids", "position_ids")]
        outputs = [value("logits", TensorProto.FLOAT, ["B", "S", config["vocabulary"]])]
        for layer in range(config["layers"]):
            for kind, shape in (("key", ["B", heads, dim, "C"]), ("value", ["B", heads, "C", dim])):
                inputs.append(value(f"past_key_values.{layer}.{kind}", TensorProto.FLOAT, shape))
                outputs.append(value(f"present.{layer}.{kind}", TensorProto.FLOAT, shape))
        self.graph.save(inputs, outputs, folder)

    def _weight(self, name):
        return self.weights["token_embd.weight"].T if name == "output.weight" else self.weights[name]

    def _linear(self, x, name):
        """x.W. Constant float weights are packed by ONNX Runtime, and one kernel then serves every number of rows: along K,
        blocks of 256, in a block one chain of fused multiply-adds from zero, block results added in order."""
        if not self.integer:
            return self.graph.op("MatMul", x, self.graph.weight(name, self._weight(name)))
        if name not in self.products:
            kind = name.removesuffix(".weight").split(".")[-1]
            group = next((g for g, kinds in GROUPS.items() if kind in kinds), kind)
            self._products(x, name.removesuffix(kind + ".weight"), group, GROUPS.get(group, (kind,)))
        return self.products[name]

    def _quantised(self, x):
        """Activations as two rows of 7 bits, and the scales of those rows; x is [B,S,1,K]. One pair a row, so that a row does
        not depend on its neighbours. 8 bits cost this model its answers: 14 bits, as two rows of 7, cost next to nothing.

        Two products of a 7-bit and a signed 8-bit number fit 16 bits: no kernel saturates, and the fast ones can be used. The
        Clip changes one value in thousands by one step, and shows whoever reads the graph that the bound holds."""
        g = self.graph
        largest = g.op("ReduceMax", g.op("Abs", x), axes=[-1], keepdims=1)
        scales = g.op("Mul", largest, g.const([[1 / HIGH], [1 / (HIGH * STEPS)]], F32))
        # Last, so that nothing looks like a product of scales, which ONNX Runtime's optimiser would fuse.
        scales = g.op("Max", scales, g.const([[STEPS * 1e-12], [1e-12]], F32))
        rows = g.op("Round", g.op("Div", x, scales))
        # The low row is what the high one leaves over. Whole numbers, so that any order of adding gives the same.
        rows = g.op("MatMul", g.const([[1, 0], [-STEPS, 1]], F32), rows)
        rows = g.op("Clip", g.op("Add", rows, g.const(ZERO, F32)), g.const(0, F32), g.const(127, F32))
        return g.op("Cast", rows, to=TensorProto.UINT8), scales

    def _products(self, x, prefix, group, kinds):
        """x.W with 8-bit weights for all W that take the same x, in one product. Those that move the logits most have two
        columns each: what the first leaves over is in the second."""
        g = self.graph
        rows, scales = self._quantised(x)
        names = [f"{prefix}{kind}.weight" for kind in kinds]
        matrices = [self._weight(name) for name in names]
        columns = [int8_columns(matrix) for matrix in matrices]
        small = self.config["hidden"] < SMALL
        fine = [i for i, kind in enumerate(kinds) if kind in FINE or (small and kind in FINE_IF_SMALL)]
        columns += [int8_columns(rest(matrices[i], *columns[i])) for i in fine]
        weights, zeros, column_scales = (np.concatenate(parts, -1) for parts in zip(*columns))
        stem = prefix + group
        product = g.op(
            "MatMulInteger",
            rows,
            g.weight(stem + ".weight", weights),
            g.const(ZERO, np.uint8),
            g.weight(stem + ".zero", zeros),
        )
        product = g.op("Mul", g.op("Cast", product, to=TensorProto.FLOAT), scales)
        y = g.op("Add", *g.op("Split", product, outputs=2, axis=-2))
        y = g.op("Mul", y, g.weight(stem + ".scale", column_scales))
        sizes = [len(part[1]) for part in columns]
        parts = g.op("Split", y, g.const(sizes, I64), outputs=len(sizes), axis=-1) if len(sizes) > 1 else [y]
        for i, part in zip(fine, parts[len(kinds) :]):
            parts[i] = g.op("Add", parts[i], part)
        self.products.update(zip(names, parts))

    def _norm(self, x, name):
        """RMSNorm. The sum is a MatMul with ones, whose order is known; the root goes through double, because ONNX Runtime
        1.20's float Sqrt is off by one unit in the last place."""
        g, n = self.graph, self.config["hidden"]
        squares = g.op("MatMul", g.op("Mul", x, x), g.weight("ones", np.ones((n, 16), F32)))
        squares = g.op("Slice", squares, g.const([0], I64), g.const([1], I64), g.const([-1], I64))
        mean = g.op("Add", g.op("Mul", squares, g.const(1 / n, F32)), g.const(self.config["eps"], F32))
        root = g.op("Sqrt", g.op("Cast", mean, to=TensorProto.DOUBLE))
        scaled = g.op("Div", x, g.op("Cast", root, to=TensorProto.FLOAT))
        return g.op("Mul", scaled, g.weight(name, self.weights[name]))

    def _rotate(self, x):  # [B,S,heads,D]
        g = self.graph
        a, b = g.op("Split", x, outputs=2, axis=-1)
        turned = g.op("Concat", g.op("Neg", b), a, axis=-1)
        return g.op("Add", g.op("Mul", x, self.cos), g.op("Mul", turned, self.sin))

    def _shape(self, x, *dims):
        """Reshape; a dimension is a number or the name of a tensor [1]."""
        g, parts, run = self.graph, [], []
        for dim in dims:
            if isinstance(dim, str):
                if run:
                    parts.append(g.const(run, I64))
                parts.append(dim)
                run = []
            else:
                run.append(dim)
        if run:
            parts.append(g.const(run, I64))
        return g.op("Reshape", x, g.op("Concat", *parts, axis=0))

    def _attention(self, x, layer):
        """Grouped queries are stacked as rows, so that no MatMul of two computed tensors ever has one row: that case has a
        kernel of its own, with another order. Softmax is spelled out, because its kernel's order depends on the vector width.
        P.V is summed in blocks of 128 positions anchored at position 0, and the blocks by a MatMul with two rows of ones: longer
        sums are cut at places that depend on the number of threads, and so is ReduceSum. Sixteen columns of ones beside V give
        the denominator."""
        g, c, p = self.graph, self.config, f"blk.{layer}."
        heads, group, dim = c["kv_heads"], c["heads"] // c["kv_heads"], c["head_dim"]
        assert group > 1, "a model without grouped queries needs its query rows stacked twice"
        assert dim <= BLOCK
        B, S, C = self.B, self.S, self.C
        q = self._rotate(self._shape(self._linear(x, p + "attn_q.weight"), B, S, heads * group, dim))
        k = self._rotate(self._shape(self._linear(x, p + "attn_k.weight"), B, S, heads, dim))
        v = self._shape(self._linear(x, p + "attn_v.weight"), B, S, heads, dim)
        key = g.op(
            "ScatterElements",
            f"past_key_values.{layer}.key",
            self.key_slots,
            g.op("Transpose", k, perm=[0, 2, 3, 1]),
            name=f"present.{layer}.key",
            axis=3,
        )
        values = g.op(
            "ScatterElements",
            f"past_key_values.{layer}.value",
            self.value_slots,
            g.op("Transpose", v, perm=[0, 2, 1, 3]),
            name=f"present.{layer}.value",
            axis=2,
        )
        q = g.op("Transpose", self._shape(q, B, S, heads, group, dim), perm=[0, 2, 3, 1, 4])
        q = self._shape(q, B, heads, -1, dim)
        score = g.op("Mul", g.op("MatMul", q, key), g.const(dim**-0.5, F32))  # [B,H,G*S,C]
        score = self._shape(score, B, heads, group, S, C)
        score = g.op("Where", self.seen, score, g.const(-1e9, F32))
        largest = g.op("ReduceMax", score, axes=[-1], keepdims=1)
        e = g.op("Mul", g.op("Exp", g.op("Sub", score, largest)), self.seen_as_float)
        e = self._shape(e, B, heads, -1, self.blocks, BLOCK)
        e = g.op("Transpose", e, perm=[0, 1, 3, 2, 4])  # [B,H,blocks,G*S,128]
        v = self._shape(g.op("Concat", values, self.ones, axis=-1), B, heads, self.blocks, BLOCK, dim + 16)
        o = self._shape(g.op("MatMul", e, v), B, heads, self.blocks, -1)
        o = g.op("MatMul", self.two_rows, o)
        o = g.op("Slice", o, g.const([0], I64), g.const([1], I64), g.const([2], I64))
        o = self._shape(o, B, heads, -1, dim + 16)
        column = lambda start, end: g.op(
            "Slice", o, g.const([start], I64), g.const([end], I64), g.const([-1], I64)
        )
        o = self._shape(g.op("Div", column(0, dim), column(dim, dim + 1)), B, heads, group, S, dim)
        row = (1,) if self.integer else ()
        o = self._shape(g.op("Transpose", o, perm=[0, 3, 1, 2, 4]), B, S, *row, heads * group * dim)
        return self._linear(o, p + "attn_output.weight")

    def _mlp(self, x, layer):
        g, p = self.graph, f"blk.{layer}."
        gate, up = self._linear(x, p + "ffn_gate.weight"), self._linear(x, p + "ffn_up.weight")
        silu = g.op("Div", gate, g.op("Add", g.op("Exp", g.op("Neg", gate)), g.const(1, F32)))
        return self._linear(g.op("Mul", silu, up), p + "ffn_down.weight")

    def _embed(self):
        g, table = self.graph, self.weights["token_embd.weight"]
        if not self.integer:
            return g.op("Gather", g.weight("token_embd.weight", table), "input_ids", axis=0)
        rows, scale = int8_rows(table)
        row = g.op("Gather", g.weight("token_embd.q", rows), "input_ids", axis=0)
        scale = g.op("Gather", g.weight("token_embd.scale", scale), "input_ids", axis=0)
        row = g.op("Mul", g.op("Cast", row, to=TensorProto.FLOAT), scale)
        return g.op("Unsqueeze", row, g.const([2], I64))  # the axis of the two rows

    def _logits(self, x):
        g, c = self.graph, self.config
        if self.integer:
            g.op("Squeeze", self._linear(x, "output.weight"), g.const([2], I64), name="logits")
            return
        # Gemm reads the table transposed, so that it is stored once.
        flat = g.op("Reshape", x, g.const([-1, c["hidden"]], I64))
        rows = g.op("Gemm", flat, "token_embd.weight", transB=1)
        shape = g.op("Concat", self.B, self.S, g.const([c["vocabulary"]], I64), axis=0)
        g.op("Reshape", rows, shape, name="logits")

    def _build(self):
        g, c = self.graph, self.config
        heads, dim = c["kv_heads"], c["head_dim"]
        size = lambda tensor, axis: g.op("Shape", tensor, start=axis, end=axis + 1)
        self.B, self.S = size("input_ids", 0), size("input_ids", 1)
        self.C = size("past_key_values.0.value", 2)
        self.blocks = g.op("Div", self.C, g.const([BLOCK], I64))
        slot = g.op("Range", g.const(0, I64), g.op("Squeeze", self.C), g.const(1, I64))
        positions = lambda axes: g.op("Unsqueeze", "position_ids", g.const(axes, I64))
        self.seen = g.op("LessOrEqual", slot, positions([1, 2, 4]))  # [B,1,1,S,C]
        self.seen_as_float = g.op("Cast", self.seen, to=TensorProto.FLOAT)
        expand = lambda x, *dims: g.op("Expand", x, g.op("Concat", *dims, axis=0))
        number = lambda *n: g.const(list(n), I64)
        self.key_slots = expand(positions([1, 2]), self.B, number(heads, dim), self.S)
        self.value_slots = expand(positions([1, 3]), self.B, number(heads), self.S, number(dim))
        one = g.const(1, F32)
        self.ones = expand(one, self.B, number(heads), self.C, number(16))
        self.two_rows = expand(one, number(2), self.blocks)
        for table, name in zip(tables(c["context"], dim, c["theta"]), ("cos", "sin")):
            row = g.op("Gather", g.weight("rope." + name, table), "position_ids", axis=0)
            setattr(self, name, g.op("Unsqueeze", row, number(2)))
        x = self._embed()
        for layer in range(c["layers"]):
            normed = self._norm(x, f"blk.{layer}.attn_norm.weight")
            x = g.op("Add", x, self._attention(normed, layer))
            normed = self._norm(x, f"blk.{layer}.ffn_norm.weight")
            x = g.op("Add", x, self._mlp(normed, layer))
        self._logits(self._norm(x, "output_norm.weight"))
