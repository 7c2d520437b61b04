"""Model cards: what `consilience model import` reads beside the files. Field names are those of the manifest."""

import json
import os

import onnx

# One CSL, the chain's token, has 12 decimals.
CSL = 10**12

EXACT = {
    "class": "exact",
    "positions": 16,
    "entries": 1,
    "fraction_bits": 0,
    "accept": {"mean": 0, "max": 0, "margin_max": 0, "margin_mean": 0},
    "fraud": {"mean": 0, "max": 0, "margin_max": 0, "margin_mean": 0},
    "min_verifiers": 2,
}


def tolerant(positions, entries, fraction_bits, accept, fraud):
    """A policy from bounds in the model's own numbers: (mean, largest, largest margin, mean margin)."""

    def bounds(mean, largest, margin, mean_margin):
        steps = 1 << fraction_bits
        return {
            "mean": round(mean * steps * 256),
            "max": round(largest * steps),
            "margin_max": round(margin * 65536),
            "margin_mean": round(mean_margin * 65536),
        }

    return {
        "class": "tolerant",
        "positions": positions,
        "entries": entries,
        "fraction_bits": fraction_bits,
        "accept": bounds(*accept),
        "fraud": bounds(*fraud),
        "min_verifiers": 2,
    }


def numerics(element_type, opset, exact):
    """The exact class is measured for the versions named, with the optimiser on and off; off loads sooner."""
    return {
        "element_type": element_type,
        "opset": opset,
        "onnxruntime_min": "1.20.1" if exact else "1.31.1",
        "onnxruntime_max": "1.31.1",
        "providers": ["CPUExecutionProvider"],
        "optimization": "disable" if exact else "all",
    }


def opset(path):
    """Version of ONNX's own operators that a graph asks for."""
    imports = onnx.load(path, load_external_data=False).opset_import
    return next(i.version for i in imports if i.domain in ("", "ai.onnx"))


def write(folder, card, graph="model.onnx", indent=2):
    """Writes model.json; lists every other file of the folder. Without indentation where it is too long to read anyway."""
    files = sorted(
        os.path.relpath(os.path.join(parent, name), folder)
        for parent, _, names in os.walk(folder)
        for name in names
        if name != "model.json"
    )
    write_json(folder, "model.json", {**card, "graph": graph, "files": files}, indent)


def llama_config(config, generation):
    """The hub's config.json of a Llama-family model; `generation` is what its generation_config.json holds."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": config["hidden"],
        "intermediate_size": config["intermediate"],
        "num_hidden_layers": config["layers"],
        "num_attention_heads": config["heads"],
        "num_key_value_heads": config["kv_heads"],
        "head_dim": config["head_dim"],
        "max_position_embeddings": config["context"],
        "rms_norm_eps": config["eps"],
        "rope_theta": config["theta"],
        "tie_word_embeddings": True,
        "vocab_size": config["vocabulary"],
        **generation,
    }


def write_json(folder, name, value, indent=2):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        json.dump(value, file, indent=indent, ensure_ascii=False)
        file.write("\n")
