#!/usr/bin/env python3
"""Writes requests of the Open Inference Protocol to magika about files, one a line: prompts for `consilience calibrate`.

    requests.py MODEL FILE ... > requests.jsonl

MODEL is the folder of the model; its labels.json says how bytes become the input.
"""

import json
import os
import sys

from features import features


def main():
    with open(os.path.join(sys.argv[1], "labels.json"), encoding="utf-8") as file:
        layout = json.load(file)
    for path in sys.argv[2:]:
        with open(path, "rb") as file:
            row = features(file.read(), layout["begin"], layout["end"])
        tensor = {"name": "bytes", "shape": [1, len(row)], "datatype": "INT32", "data": row}
        print(json.dumps({"inputs": [tensor]}))


if __name__ == "__main__":
    main()
