#!/usr/bin/env python3
"""Dependencies point one way (docs/ARCHITECTURE.md), what runs on chain knows no floating point, and only a build that asks for it
can lie.

Reads `cargo metadata` from standard input; run from the repository's root. Prints each violation; exit status 1 if there is one.
"""

import json
import pathlib
import re
import sys

# What each crate may use of ours, development dependencies left out: tests may look upwards.
ALLOWED = {
    "consilience-primitives": [],
    "consilience-judge": [],
    "consilience-runtime-api": ["consilience-primitives"],
    "pallet-model-registry": ["consilience-primitives"],
    "pallet-inference": ["consilience-judge", "consilience-primitives", "pallet-model-registry"],
    "pallet-judge": ["consilience-judge"],
    "pallet-moderation": ["consilience-primitives", "pallet-inference"],
    "pallet-sessions": ["consilience-primitives", "pallet-inference", "pallet-model-registry"],
    "consilience-runtime": [
        "consilience-primitives",
        "consilience-runtime-api",
        "pallet-inference",
        "pallet-model-registry",
        "pallet-sessions",
    ],
    "consilience-executor": [],
    "wasm-opt": [],  # in place of Binaryen; only the runtime's build script runs it
    "consilience-files": [],
    "consilience-gateway": [],
    "consilience-canonical": ["consilience-files", "consilience-judge"],
    "consilience-lane": ["consilience-primitives"],
    "consilience-session": ["consilience-lane", "consilience-primitives"],
    "consilience-grammar": ["consilience-primitives"],
    "consilience-engine": [
        "consilience-canonical",
        "consilience-files",
        "consilience-grammar",
        "consilience-judge",
        "consilience-primitives",
    ],
    "consilience-store": ["consilience-canonical", "consilience-files", "consilience-primitives"],
    "consilience-transfer": ["consilience-primitives", "consilience-store"],
    "consilience-calibration": ["consilience-engine", "consilience-primitives", "consilience-store"],
    "consilience-worker": [
        "consilience-engine",
        "consilience-lane",
        "consilience-primitives",
        "consilience-runtime-api",
        "consilience-store",
        "consilience-transfer",
    ],
    "consilience-rpc": [
        "consilience-primitives",
        "consilience-runtime-api",
        "consilience-store",
        "consilience-transfer",
        "consilience-worker",
    ],
    "consilience-node": None,  # wiring: everything
    "consilience-tests": None,
    "consilience-strategist": None,
}

# Crates of the SDK come through the umbrella crate only: their newest versions do not fit each other.
SDK = re.compile(r"^(sc|sp|frame|pallet)-")

# Only the engine knows ONNX Runtime, and one crate what masks are made with.
ONLY_IN = {"ort": ["consilience-engine"], "llguidance": ["consilience-grammar"]}

# Block execution never touches a float.
FLOAT_FREE = ["pallets", "runtime/src", "primitives/src", "primitives/judge/src", "primitives/runtime-api/src"]
FLOAT = re.compile(r"\bf(32|64)\b")


def dependency_violations(metadata):
    ours = {package["name"] for package in metadata["packages"]}
    for package in metadata["packages"]:
        name = package["name"]
        if name not in ALLOWED:
            yield f"{name}: a crate that scripts/checks/layers.py does not know; say there what it may use"
            continue
        for dependency in package["dependencies"]:
            if dependency["kind"] == "dev":
                continue
            used = dependency["name"]
            allowed = ALLOWED[name]
            if used in ours and allowed is not None and used not in allowed:
                yield f"{name} uses {used}: dependencies point the other way"
            if used not in ours and SDK.match(used):
                yield f"{name} uses {used} directly: use a feature of polkadot-sdk"
            if name not in ONLY_IN.get(used, [name]):
                yield f"{name} uses {used}: only {', '.join(ONLY_IN[used])} may"


# The feature with which validators can lie, who has it, and the program that needs it.
LIARS = "liars"
LIARS_OF = {
    "consilience-lane": [],
    "consilience-transfer": [],
    "consilience-worker": ["consilience-lane/liars", "consilience-transfer/liars"],
    "consilience-node": ["consilience-worker/liars"],
}
LIARS_PROGRAM = "consilience-liars"


def liar_violations(metadata):
    """Nothing turns the feature on by itself, and the shipped program does not need it."""
    for package in metadata["packages"]:
        name, features = package["name"], package["features"]
        if features.get(LIARS) != LIARS_OF.get(name):
            yield f"{name}: its feature {LIARS} is {features.get(LIARS)}, not {LIARS_OF.get(name)}"
        for feature, enables in features.items():
            if feature != LIARS and any(e == LIARS or e.endswith(f"/{LIARS}") for e in enables):
                yield f"{name}: the feature {feature} turns {LIARS} on"
        for dependency in package["dependencies"]:
            if LIARS in dependency["features"]:
                yield f"{name} turns {LIARS} on in {dependency['name']}"
        for target in package["targets"]:
            if "bin" in target["kind"]:
                needs = LIARS in target.get("required-features", [])
                if needs != (target["name"] == LIARS_PROGRAM):
                    yield f"{name}: only {LIARS_PROGRAM} needs {LIARS}, and {target['name']} is wrong"


def code_of(text):
    """Rust without comments, and without what comes after the first test module."""
    text = re.sub(r"//[^\n]*", "", text)
    return re.split(r"#\[cfg\(test\)\]\s*mod\s+\w+\s*\{", text)[0]


def float_violations(root):
    for folder in FLOAT_FREE:
        for path in sorted((root / folder).rglob("*.rs")):
            if "tests" in path.parts or path.name in ("tests.rs", "mock.rs"):
                continue
            for number, line in enumerate(code_of(path.read_text()).splitlines(), 1):
                if FLOAT.search(line):
                    yield f"{path.relative_to(root)}:{number}: a floating-point type in code that runs on chain"


def main():
    metadata = json.load(sys.stdin)
    violations = [
        *dependency_violations(metadata),
        *liar_violations(metadata),
        *float_violations(pathlib.Path.cwd()),
    ]
    for violation in violations:
        print(violation, file=sys.stderr)
    sys.exit(1 if violations else 0)


if __name__ == "__main__":
    main()
