#!/usr/bin/env python3
"""Runs ONNX's own backend test data through the `onnxruntime` Python package, and writes down what does not pass.

    $CONSILIENCE_HOME/python/bin/python scripts/checks/conformance.py DATA > offchain-worker/engine/tests/conformance.txt

The engine's conformance test asks for every other model of DATA (what `scripts/setup conformance` prepares).
"""

import argparse
import os
import re

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

FOLDERS = ("simple", "pytorch-converted", "pytorch-operator")
# What a tensor on chain may hold: MAX_TENSOR_BYTES.
LARGEST = 65_536


def tensor(path):
    proto = onnx.TensorProto()
    with open(path, "rb") as file:
        proto.ParseFromString(file.read())
    return numpy_helper.to_array(proto)


def numbered(folder, kind):
    count = sum(name.startswith(kind) for name in os.listdir(folder))
    return [tensor(os.path.join(folder, f"{kind}_{i}.pb")) for i in range(count)]


def check(folder):
    """Kind and reason of what is wrong, or nothing."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            os.path.join(folder, "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        text = str(error).splitlines()[0]
        return ("locale" if "string_normalizer" in text else "load", text)
    large = 0
    for name in sorted(os.listdir(folder)):
        if not name.startswith("test_data_set"):
            continue
        data = os.path.join(folder, name)
        inputs, expected = numbered(data, "input"), numbered(data, "output")
        try:
            found = session.run(None, dict(zip([i.name for i in session.get_inputs()], inputs)))
            for a, b in zip(found, expected, strict=True):
                assert a.shape == b.shape and a.dtype == b.dtype, "another shape or type"
                if b.dtype.kind == "f":
                    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-7)
                else:
                    np.testing.assert_array_equal(a, b)
        except Exception as error:
            return ("run", str(error).splitlines()[0])
        large = max([large] + [t.nbytes for t in inputs + expected])
    if large > LARGEST:
        return ("large", f"a tensor of {large} bytes; the chain carries {LARGEST}")
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    data = parser.parse_args().data
    print(f"# What onnxruntime {onnxruntime.__version__} (Python, CPU) does not pass of onnx {onnx.__version__}'s backend")
    print("# test data, or the chain cannot carry. Made by scripts/checks/conformance.py. Kinds: load, run: ONNX Runtime fails.")
    print("# locale: it needs en_US.UTF-8, which may be missing. large: passes, but holds a tensor larger than a request's.")
    for group in FOLDERS:
        for name in sorted(os.listdir(os.path.join(data, group))):
            wrong = check(os.path.join(data, group, name))
            if wrong:
                # Paths of a machine are no reason.
                print(f"{group}/{name}\t{wrong[0]}\t{re.sub(r'[^ ]*/[^ ]*', '…', wrong[1])[:160].strip()}")


if __name__ == "__main__":
    main()
