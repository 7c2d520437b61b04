#!/usr/bin/env python3
"""Makes a model of fewer bits from another: a substitute for `consilience calibrate`, where no other variant is at hand.

    coarser.py MODEL OUT --bits N

MODEL is a folder with a card (model.json). Every weight matrix is rounded to N bits, with one scale for all of it.
"""

import argparse
import json
import os
import shutil

import card
import numpy as np
import onnx
from onnx import numpy_helper


def coarser(weights, bits):
    if weights.dtype == np.float32:
        scale = max(float(np.abs(weights).max()), 1e-30) / (2 ** (bits - 1) - 1)
        return (np.round(weights / scale) * scale).astype(np.float32)
    step = 2 ** (8 - bits)
    limits = np.iinfo(weights.dtype)
    return np.clip(np.round(weights / step) * step, limits.min, limits.max).astype(weights.dtype)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("out")
    parser.add_argument("--bits", type=int, required=True)
    arguments = parser.parse_args()

    with open(os.path.join(arguments.model, "model.json"), encoding="utf-8") as file:
        description = json.load(file)
    os.makedirs(arguments.out, exist_ok=True)
    for name in description["files"]:
        if not name.startswith(description["graph"]):
            shutil.copyfile(os.path.join(arguments.model, name), os.path.join(arguments.out, name))
    model = onnx.load(os.path.join(arguments.model, description["graph"]))
    for tensor in model.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        # Scales of quantised weights stand in columns or rows; they are no weights.
        matrix = weights.ndim >= 2 and min(weights.shape) > 1
        if matrix and weights.dtype in (np.float32, np.int8, np.uint8):
            tensor.CopyFrom(numpy_helper.from_array(coarser(weights, arguments.bits), tensor.name))
    onnx.save(model, os.path.join(arguments.out, "model.onnx"))
    description["name"] += f"-{arguments.bits}bit"
    card.write(arguments.out, description)


if __name__ == "__main__":
    main()
