"""magika: which of 214 content types a file has, from 2,048 of its bytes. A model of plain tensors."""

import json
import os
import shutil

import card
from features import features

GRAPH = "magika/magika/models/standard_v3_3/model.onnx"
CONFIG = "magika/magika/models/standard_v3_3/config.min.json"
NAMES = ["magika-standard-v3.3"]

# From docs/calibration.md. Bounds are those of sums over probabilities.
POLICY = card.tolerant(64, 1, 20, (2**-18, 2**-14, 0, 0), (2**-14, 2**-10, 0, 0))


def build(name, sources, folder):
    shutil.copyfile(os.path.join(sources, GRAPH), os.path.join(folder, "model.onnx"))
    with open(os.path.join(sources, CONFIG), encoding="utf-8") as file:
        config = json.load(file)
    labels = config["target_labels_space"]
    # How bytes become the input and what the output's entries mean, for whoever asks this model.
    card.write_json(
        folder,
        "labels.json",
        {
            "labels": labels,
            "begin": config["beg_size"],
            "end": config["end_size"],
            "block": config["block_size"],
            "padding": config["padding_token"],
        },
    )
    length = config["beg_size"] + config["end_size"]
    sample = features(b"#!/usr/bin/env python3\nprint('Consilience')\n", config["beg_size"], config["end_size"])
    card.write(
        folder,
        {
            "name": name,
            "license": "Apache-2.0",
            "source": "magika by Google, model standard_v3_3 of magika 1.0.3",
            "task": "tensor",
            "class": "tolerant",
            "details": {
                "inputs": [{"name": "bytes", "datatype": "INT32", "shape": [None, length]}],
                "outputs": [{"name": "target_label", "datatype": "FP32", "shape": [None, len(labels)]}],
            },
            "numerics": card.numerics("fp32", card.opset(os.path.join(folder, "model.onnx")), exact=False),
            "limits": {"max_input_units": length, "max_output_units": len(labels)},
            "time": {"base_blocks": 20, "output_units_per_block": 25600},
            "policy": POLICY,
            "price": {
                "per_request": card.CSL // 100,
                "per_input_unit": card.CSL // 1_000_000,
                "per_output_unit": 0,
            },
            "reference": {
                "inputs": [{"name": "bytes", "datatype": "INT32", "shape": [1, length], "data": sample}]
            },
        },
    )
