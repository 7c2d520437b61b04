#!/usr/bin/env python3
"""Features reach every dependency that has them, as zepter checks it: a crate built with `std` uses no `no_std` half of another, and
`runtime-benchmarks` and `try-runtime` turn on the code of every pallet below.

Reads `cargo metadata` from standard input. Prints each feature that is not forwarded; exit status 1 if there is one.
"""

import json
import sys

FORWARDED = ("std", "runtime-benchmarks", "try-runtime")


def missing(metadata):
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    for member in metadata["workspace_members"]:
        package = packages[member]
        features = package["features"]
        # What is found below a dependency's name: a name may stand for several versions.
        below = {}
        for dependency in nodes[member]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                below[packages[dependency["pkg"]]["name"]] = packages[dependency["pkg"]]
        for dependency in package["dependencies"]:
            used = below.get(dependency["name"])
            if dependency["kind"] is not None or used is None:
                continue
            key = dependency["rename"] or dependency["name"]
            for feature in FORWARDED:
                if feature not in used["features"]:
                    continue
                if feature in features:
                    if feature in dependency["features"]:
                        continue
                    if not {f"{key}/{feature}", f"{key}?/{feature}"} & set(features[feature]):
                        yield f"{package['name']}: its {feature} lacks \"{key}/{feature}\""
        if package["name"].startswith("pallet-") or package["name"].endswith("-runtime"):
            for feature in FORWARDED:
                if feature not in features:
                    yield f"{package['name']}: a pallet or runtime without the feature {feature}"


def main():
    found = list(missing(json.load(sys.stdin)))
    for line in found:
        print(line, file=sys.stderr)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
