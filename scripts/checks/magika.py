"""Compares `consilience model run` with the onnxruntime Python package on real files. Usage is in scripts/check-magika."""

import argparse
import gzip
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import zlib

import numpy as np
import onnxruntime

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "models"))
from features import features  # the recipe's own code turns bytes into the input

# The engine's library is the package's own, but threads and optimiser may differ: far below what could move a top class.
TOLERANCE = 1e-4


def png():
    """A small picture."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + bytes((x * y) % 256 for x in range(64) for _ in range(3)) for y in range(64))
    header = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


HTML = b"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Models</title></head>
<body><h1>Models</h1><table><tr><th>Name</th><th>Task</th></tr><tr><td>MiniLM</td><td>embedding</td></tr></table></body></html>
"""


def samples(repository, binary):
    """Name, bytes and expected class of ten files: the repository's own, the node itself, and three made here."""
    read = lambda path: (repository / path).read_bytes()
    return [
        ("primitives/src/lib.rs", read("primitives/src/lib.rs"), "rust"),
        ("Cargo.lock", read("Cargo.lock"), None),
        ("Cargo.toml", read("Cargo.toml"), "toml"),
        ("README.md", read("README.md"), "markdown"),
        ("scripts/setup", read("scripts/setup"), "shell"),
        ("scripts/models/canonical.py", read("scripts/models/canonical.py"), "python"),
        ("clients/javascript/src/index.js", read("clients/javascript/src/index.js"), None),
        ("clients/javascript/package-lock.json", read("clients/javascript/package-lock.json"), "json"),
        ("the node's binary", pathlib.Path(binary).read_bytes(), "elf"),
        ("a picture", png(), "png"),
        ("a compressed file", gzip.compress(read("Cargo.toml"), mtime=0), "gzip"),
        ("a web page", HTML, "html"),
    ]


def ask(binary, model, row):
    """The engine's probabilities, through the Open Inference Protocol's JSON."""
    request = {"inputs": [{"name": "bytes", "shape": [1, len(row)], "datatype": "INT32", "data": row}]}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(request, file)
        file.flush()
        ran = subprocess.run(
            [binary, "model", "run", model, "--input", file.name, "--json"], capture_output=True, text=True, check=False
        )
    if ran.returncode != 0:
        sys.exit(f"consilience model run failed:\n{ran.stderr}")
    output = json.loads(ran.stdout)["outputs"][0]
    if output["name"] != "target_label" or output["datatype"] != "FP32":
        sys.exit(f"consilience model run answered {output['name']} of {output['datatype']}, not target_label of FP32")
    return np.array(output["data"], np.float32).reshape(-1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--repository", required=True, type=pathlib.Path)
    arguments = parser.parse_args()

    with open(os.path.join(arguments.model, "labels.json"), encoding="utf-8") as file:
        settings = json.load(file)
    session = onnxruntime.InferenceSession(
        os.path.join(arguments.model, "model.onnx"), providers=["CPUExecutionProvider"]
    )
    wrong, files = 0, samples(arguments.repository, arguments.binary)
    for name, content, expected in files:
        row = features(content, settings["begin"], settings["end"])
        ours = ask(arguments.binary, arguments.model, row)
        theirs = session.run(None, {"bytes": np.array([row], np.int32)})[0][0]
        classes = [settings["labels"][int(p.argmax())] for p in (ours, theirs)]
        distance = float(np.abs(ours - theirs).max())
        good = classes[0] == classes[1] and distance <= TOLERANCE and expected in (None, classes[0])
        wrong += not good
        print(f"{'same' if good else 'DIFFERENT':9} {name:38} {classes[0]:12} {classes[1]:12} largest difference {distance:.1e}")
    print(f"{len(files) - wrong} of {len(files)} files have the class that the onnxruntime package gives")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
