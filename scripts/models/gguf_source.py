"""Reads a Llama-family GGUF file: configuration, dequantised weights, tokenizer, chat template."""

import numpy as np
from gguf import GGUFReader, dequantize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

CONTROL_TOKEN = 3  # GGUF's token type

# The rotary tables are in the graph; longer contexts make them larger for nothing on a model of this size.
LONGEST_CONTEXT = 2048


class Source:
    def __init__(self, path):
        self.reader = GGUFReader(path)
        self.config = self._config()
        self.weights = self._weights()

    def field(self, key):
        return self.reader.fields[key].contents()

    def _config(self):
        get = lambda key: self.field("llama." + key)
        config = {
            "layers": get("block_count"),
            "hidden": get("embedding_length"),
            "intermediate": get("feed_forward_length"),
            "heads": get("attention.head_count"),
            "kv_heads": get("attention.head_count_kv"),
            "eps": get("attention.layer_norm_rms_epsilon"),
            "theta": get("rope.freq_base"),
            "context": min(get("context_length"), LONGEST_CONTEXT),
            "vocabulary": get("vocab_size"),
            "bos": self.field("tokenizer.ggml.bos_token_id"),
            "eos": self.field("tokenizer.ggml.eos_token_id"),
            "pad": self.field("tokenizer.ggml.padding_token_id"),
        }
        config["head_dim"] = config["hidden"] // config["heads"]
        return config

    def _weights(self):
        """Float32 arrays, matrices as [inputs, outputs], the embedding table as [vocabulary, hidden]."""
        config, weights = self.config, {}
        for tensor in self.reader.tensors:
            array = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
            array = array.reshape([int(n) for n in tensor.shape[::-1]])
            if tensor.name.endswith(("attn_q.weight", "attn_k.weight")):
                # GGUF interleaves the two halves that a rotation turns; the hub's models keep them apart.
                halves = array.reshape(-1, config["head_dim"] // 2, 2, config["hidden"])
                array = halves.swapaxes(1, 2).reshape(array.shape)
            if array.ndim == 2 and tensor.name != "token_embd.weight":
                array = np.ascontiguousarray(array.T)
            weights[tensor.name] = array
        return weights

    def chat_template(self):
        return self.field("tokenizer.chat_template")

    def token(self, index):
        return self.field("tokenizer.ggml.tokens")[index]

    def tokenizer(self):
        """The byte-level BPE tokenizer in the hub's format."""
        tokens = self.field("tokenizer.ggml.tokens")
        kinds = self.field("tokenizer.ggml.token_type")
        merges = [tuple(m.split(" ")) for m in self.field("tokenizer.ggml.merges")]
        made = Tokenizer(models.BPE(vocab={s: i for i, s in enumerate(tokens)}, merges=merges))
        made.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
        made.decoder = decoders.ByteLevel()
        made.add_special_tokens(
            [
                AddedToken(s, special=True, normalized=False)
                for s, kind in zip(tokens, kinds)
                if kind == CONTROL_TOKEN
            ]
        )
        return made
