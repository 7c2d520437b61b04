"""A graph as the hub's exporters write it: growing cache, attention mask, Softmax. A model of the tolerant class.

Inputs   input_ids, position_ids           int64 [batch,sequence]
         attention_mask                    int64 [batch,past + sequence]
         past_key_values.L.key, .value     float [batch,heads,past,dim]
Outputs  logits                            float [batch,sequence,vocabulary]
         present.L.key, present.L.value    float [batch,heads,past + sequence,dim]
"""

import numpy as np
from onnx import TensorProto
from onnx_graph import F32, I64, Graph, hub_values
from quantize import int4_blocks, int8_blocks
from rotary import tables

EMBEDDINGS = "token_embd.weight"
INT4_BLOCK = 32
INT8_BLOCK = 32


class HubExport:
    def __init__(self, config, weights, int4):
        self.config, self.weights, self.int4, self.graph = config, weights, int4, Graph()

    def save(self, folder):
        self._build()
        dimensions = ("batch", "sequence", "past", "total")
        inputs, outputs = hub_values(self.config, TensorProto.FLOAT, dimensions)
        self.graph.save(inputs, outputs, folder, microsoft=self.int4)

    def _linear(self, x, name):
        g, weight = self.graph, self.weights[name]
        if not self.int4:
            return g.op("MatMul", x, g.weight(name, weight))
        inputs, outputs = weight.shape
        packed, scales, zeros = int4_blocks(weight, INT4_BLOCK)
        return g.op(
            "MatMulNBits",
            x,
            g.weight(name + ".q4", packed),
            g.weight(name + ".scales", scales),
            g.weight(name + ".zeros", zeros),
            domain="com.microsoft",
            K=inputs,
            N=outputs,
            bits=4,
            block_size=INT4_BLOCK,
            accuracy_level=4,
        )

    def _table(self):
        """The embeddings, stored once and read both ways: rows of tokens, and logits."""
        g, table = self.graph, self.weights[EMBEDDINGS]
        if not self.int4:
            return [g.weight(EMBEDDINGS, table)]
        # Four bits would cost answers; thirty-two would be most of what a token reads.
        values, scales = int8_blocks(table, INT8_BLOCK)
        return [g.weight(EMBEDDINGS + ".q8", values), g.weight(EMBEDDINGS + ".scales", scales)]

    def _embed(self, table):
        g, c = self.graph, self.config
        rows = [g.op("Gather", part, "input_ids", axis=0) for part in table]
        if not self.int4:
            return rows[0]
        values = g.op("Sub", g.op("Cast", rows[0], to=TensorProto.FLOAT), g.const(128, F32))
        scaled = g.op("Mul", values, g.op("Unsqueeze", rows[1], g.const([3], I64)))
        return g.op("Reshape", scaled, g.const([0, 0, c["hidden"]], I64))

    def _head(self, x, table):
        g, c = self.graph, self.config
        if not self.int4:
            return g.op("Gemm", x, table[0], transB=1)
        return g.op(
            "MatMulNBits",
            x,
            *table,
            domain="com.microsoft",
            K=c["hidden"],
            N=c["vocabulary"],
            bits=8,
            block_size=INT8_BLOCK,
            accuracy_level=4,
        )

    def _norm(self, x, name):
        g = self.graph
        mean = g.op("ReduceMean", g.op("Mul", x, x), axes=[-1], keepdims=1)
        root = g.op("Sqrt", g.op("Add", mean, g.const(self.config["eps"], F32)))
        return g.op("Mul", g.op("Div", x, root), g.weight(name, self.weights[name]))

    def _heads(self, x, heads):
        """[batch,sequence,heads*dim] -> [batch,heads,sequence,dim]"""
        g = self.graph
        split = g.op("Reshape", x, g.const([0, 0, heads, self.config["head_dim"]], I64))
        return g.op("Transpose", split, perm=[0, 2, 1, 3])

    def _rotate(self, x):
        g = self.graph
        a, b = g.op("Split", x, outputs=2, axis=-1)
        turned = g.op("Concat", g.op("Neg", b), a, axis=-1)
        return g.op("Add", g.op("Mul", x, self.cos), g.op("Mul", turned, self.sin))

    def _repeat(self, x):
        """A key or value head for each query head: [batch,kv_heads,total,dim] -> [batch,heads,total,dim]"""
        g, c = self.graph, self.config
        group = c["heads"] // c["kv_heads"]
        wide = g.op("Unsqueeze", x, g.const([2], I64))
        wide = g.op("Expand", wide, g.const([1, 1, group, 1, 1], I64))
        target = g.op(
            "Concat", self.batch, g.const([c["heads"]], I64), self.total, g.const([c["head_dim"]], I64), axis=0
        )
        return g.op("Reshape", wide, target)

    def _attention(self, x, layer):
        g, c, p = self.graph, self.config, f"blk.{layer}."
        q = self._rotate(self._heads(self._linear(x, p + "attn_q.weight"), c["heads"]))
        k = self._rotate(self._heads(self._linear(x, p + "attn_k.weight"), c["kv_heads"]))
        v = self._heads(self._linear(x, p + "attn_v.weight"), c["kv_heads"])
        cached = lambda new, kind: g.op(
            "Concat", f"past_key_values.{layer}.{kind}", new, name=f"present.{layer}.{kind}", axis=2
        )
        k, v = self._repeat(cached(k, "key")), self._repeat(cached(v, "value"))
        score = g.op("MatMul", q, g.op("Transpose", k, perm=[0, 1, 3, 2]))
        score = g.op("Mul", score, g.const(c["head_dim"] ** -0.5, F32))
        score = g.op("Where", self.visible, score, g.const(np.finfo(F32).min, F32))
        o = g.op("MatMul", g.op("Softmax", score, axis=-1), v)
        o = g.op("Transpose", o, perm=[0, 2, 1, 3])
        o = g.op("Reshape", o, g.const([0, 0, c["heads"] * c["head_dim"]], I64))
        return self._linear(o, p + "attn_output.weight")

    def _mlp(self, x, layer):
        g, p = self.graph, f"blk.{layer}."
        gate, up = self._linear(x, p + "ffn_gate.weight"), self._linear(x, p + "ffn_up.weight")
        silu = g.op("Mul", gate, g.op("Sigmoid", gate))
        return self._linear(g.op("Mul", silu, up), p + "ffn_down.weight")

    def _build(self):
        g, c = self.graph, self.config
        size = lambda tensor, axis: g.op("Shape", tensor, start=axis, end=axis + 1)
        self.batch, self.total = size("input_ids", 0), size("attention_mask", 1)
        past = size("past_key_values.0.key", 2)
        # A row sees the positions of the cache up to its own, where the mask lets it.
        count = lambda end: g.op("Range", g.const(0, I64), g.op("Squeeze", end), g.const(1, I64))
        row = g.op("Unsqueeze", g.op("Add", count(size("input_ids", 1)), past), g.const([1], I64))
        causal = g.op("LessOrEqual", count(self.total), row)
        mask = g.op("Cast", "attention_mask", to=TensorProto.BOOL)
        self.visible = g.op("And", causal, g.op("Unsqueeze", mask, g.const([1, 2], I64)))
        for table, name in zip(tables(c["context"], c["head_dim"], c["theta"]), ("cos", "sin")):
            rows = g.op("Gather", g.weight("rope." + name, table), "position_ids", axis=0)
            setattr(self, name, g.op("Unsqueeze", rows, g.const([1], I64)))
        table = self._table()
        x = self._embed(table)
        for layer in range(c["layers"]):
            x = g.op("Add", x, self._attention(self._norm(x, f"blk.{layer}.attn_norm.weight"), layer))
            x = g.op("Add", x, self._mlp(self._norm(x, f"blk.{layer}.ffn_norm.weight"), layer))
        x = self._norm(x, "output_norm.weight")
        flat = g.op("Reshape", x, g.const([-1, c["hidden"]], I64))
        rows = self._head(flat, table)
        shape = g.op("Concat", self.batch, size("input_ids", 1), g.const([c["vocabulary"]], I64), axis=0)
        g.op("Reshape", rows, shape, name="logits")
