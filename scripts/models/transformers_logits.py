"""Logits of small random models by Hugging Face transformers, for the tests of offchain-worker/canonical.

    pip install torch transformers      # versions are written into the file
    python scripts/models/transformers_logits.py offchain-worker/canonical/src/tests/transformers.json

Weights are those of offchain-worker/canonical/src/tests/fixtures.rs: the tests make them again and need neither package.
"""

import json
import sys

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

LAYERS, HIDDEN, INNER, VOCABULARY, CONTEXT, EPS = 2, 24, 40, 19, 130, 1e-5
TOKENS, LONG_TEXT = 100, 3_000  # of a text
POSITIONS = [9, 50, 99]  # whose logits are kept; of the long text those of its last token


class Noise:
    """Numbers from -1 to 1 that look random."""

    def __init__(self):
        self.state = 7

    def take(self, count):
        values = np.empty(count, np.float32)
        for i in range(count):
            self.state = (self.state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
            values[i] = np.float32(self.state >> 40) / np.float32(1 << 23) - np.float32(1)
        return values


def weights(config):
    noise, tensors = Noise(), {}

    def add(name, shape, size, middle):
        values = np.float32(middle) + np.float32(size) * noise.take(int(np.prod(shape)))
        tensors[name] = torch.from_numpy(values.reshape(shape))

    kind, dim = config["model_type"], config["head_dim"]
    gemma, biases = kind.startswith("gemma"), kind == "qwen2"
    norm = 0 if gemma else 1
    add("model.embed_tokens.weight", [VOCABULARY, HIDDEN], 0.8, 0)
    add("model.norm.weight", [HIDDEN], 0.3, norm)
    if not config["tie_word_embeddings"]:
        add("lm_head.weight", [VOCABULARY, HIDDEN], np.sqrt(np.float32(3) / np.float32(HIDDEN)), 0)
    q, kv = config["num_attention_heads"] * dim, config["num_key_value_heads"] * dim
    for layer in range(LAYERS):
        p = f"model.layers.{layer}."
        for part, rows, columns in [
            ("self_attn.q_proj", q, HIDDEN),
            ("self_attn.k_proj", kv, HIDDEN),
            ("self_attn.v_proj", kv, HIDDEN),
            ("self_attn.o_proj", HIDDEN, q),
            ("mlp.gate_proj", INNER, HIDDEN),
            ("mlp.up_proj", INNER, HIDDEN),
            ("mlp.down_proj", HIDDEN, INNER),
        ]:
            add(f"{p}{part}.weight", [rows, columns], np.sqrt(np.float32(3) / np.float32(columns)), 0)
            if biases and part in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"):
                add(f"{p}{part}.bias", [rows], 0.5, 0)
        norms = [("input_layernorm", HIDDEN), ("post_attention_layernorm", HIDDEN)]
        if kind in ("gemma2", "gemma3_text"):
            norms += [("pre_feedforward_layernorm", HIDDEN), ("post_feedforward_layernorm", HIDDEN)]
        if kind in ("qwen3", "gemma3_text"):
            norms += [("self_attn.q_norm", dim), ("self_attn.k_norm", dim)]
        for part, length in norms:
            add(f"{p}{part}.weight", [length], 0.3, norm)
        if kind == "phi3":
            for whole, parts in [
                ("self_attn.qkv_proj", ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
                ("mlp.gate_up_proj", ["mlp.gate_proj", "mlp.up_proj"]),
            ]:
                made = [tensors.pop(f"{p}{part}.weight") for part in parts]
                tensors[f"{p}{whole}.weight"] = torch.cat(made)
    return tensors


COMMON = {
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": EPS,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def case(name, model_type, **more):
    base = {} if "rope_parameters" in more else {"rope_theta": 10_000.0}
    return name, {"model_type": model_type} | base | more


LLAMA_3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
LONG = {"type": "longrope", "short_factor": [1.0, 1.1, 1.3], "long_factor": [1.2, 2.5, 6.0]}
CASES = [
    case("llama", "llama"),
    case("llama untied, llama3", "llama", tie_word_embeddings=False, rope_scaling=LLAMA_3),
    case("llama linear", "llama", rope_scaling={"type": "linear", "factor": 2.5}),
    case("llama dynamic", "llama", rope_scaling={"type": "dynamic", "factor": 2.0}),
    case("llama yarn", "llama", rope_scaling=YARN),
    case("llama yarn, a long text", "llama", rope_scaling=YARN, max_position_embeddings=8_192),
    case("mistral with a window", "mistral", sliding_window=5),
    case("qwen2", "qwen2"),
    case("qwen2 yarn", "qwen2", rope_scaling={"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}),
    case("qwen3", "qwen3"),
    case(
        "qwen3 yarn, everything said",
        "qwen3",
        rope_parameters=YARN
        | {"rope_theta": 300.0, "beta_fast": 4.0, "beta_slow": 0.5, "mscale": 1.3, "mscale_all_dim": 0.7, "truncate": False},
    ),
    case("qwen3 yarn, a given factor", "qwen3", rope_parameters=YARN | {"rope_theta": 1e4, "attention_factor": 0.8}),
    case("smollm3", "smollm3", no_rope_layers=[1, 0]),
    case("smollm3 by interval", "smollm3", no_rope_layer_interval=2, rope_parameters={"rope_theta": 2e6, "rope_type": "default"}),
    case("phi3", "phi3", tie_word_embeddings=False, sliding_window=7),
    case("phi3 in part", "phi3", partial_rotary_factor=0.67, rope_scaling=None),
    case(
        "phi3 longrope, short",
        "phi3",
        partial_rotary_factor=1.0,
        original_max_position_embeddings=120,
        rope_scaling=LONG,
    ),
    case(
        "phi3 longrope, long and in part",
        "phi3",
        partial_rotary_factor=0.67,
        original_max_position_embeddings=64,
        rope_scaling={"type": "longrope", "short_factor": [1.0, 1.1], "long_factor": [1.2, 2.5]},
    ),
    case("gemma", "gemma", hidden_activation="gelu_pytorch_tanh"),
    case(
        "gemma2",
        "gemma2",
        hidden_activation="gelu_pytorch_tanh",
        attn_logit_softcapping=5.0,
        final_logit_softcapping=3.0,
        query_pre_attn_scalar=9,
        sliding_window=3,
        layer_types=["sliding_attention", "full_attention"],
    ),
    case(
        "gemma3",
        "gemma3_text",
        hidden_activation="gelu_pytorch_tanh",
        query_pre_attn_scalar=6,
        sliding_window=4,
        rope_local_base_freq=100.0,
        rope_scaling={"rope_type": "linear", "factor": 8.0},
        layer_types=["sliding_attention", "full_attention"],
    ),
]


def text(count):
    return [(5 * i * i + 3 * i + i // 19) % VOCABULARY for i in range(count)]


def logits(config, tokens, positions):
    made = AutoConfig.for_model(**config)
    model = AutoModelForCausalLM.from_config(made, attn_implementation="eager", dtype=torch.float32).eval()
    tensors = weights(config)
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    tied = {"lm_head.weight"} if config["tie_word_embeddings"] else set()
    assert not unexpected and set(missing) <= tied, (missing, unexpected)
    model.tie_weights()
    with torch.no_grad():
        rows = model(torch.tensor([tokens])).logits[0]
    return [[float(np.format_float_positional(v, 7, unique=True, fractional=False)) for v in rows[p].numpy()] for p in positions]


def main():
    torch.manual_seed(0)
    made = {
        "made_by": f"scripts/models/transformers_logits.py, transformers {transformers.__version__}, torch {torch.__version__}",
        "common": COMMON,
    }
    cases = []
    for name, config in CASES:
        tokens, positions = (LONG_TEXT, [LONG_TEXT - 1]) if "a long text" in name else (TOKENS, POSITIONS)
        made_of = logits(COMMON | config, text(tokens), positions)
        cases.append({"name": name, "config": config, "tokens": tokens, "positions": positions, "logits": made_of})
    lines = ",\n".join("  " + json.dumps(case) for case in cases)
    with open(sys.argv[1], "w") as file:
        file.write(json.dumps(made)[:-1] + ', "cases": [\n' + lines + "\n]}\n")


main()
