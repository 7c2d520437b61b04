#!/usr/bin/env python3
"""Licences, sources and bans of all crates that are built, by deny.toml: the part of cargo-deny that needs neither a long compilation nor
its database of advisories.

    crates.py        # run from the repository's root; prints each violation, exit status 1 if there is one

What it does not do: read licence texts (it believes what a crate declares) and know advisories.
"""

import pathlib
import re
import subprocess
import sys
import tomllib

# An older way to write OR.
OR = re.compile(r"\s*/\s*")
TOKEN = re.compile(r"\(|\)|[^\s()]+")


def satisfied(expression, allowed):
    """Whether what is allowed is enough for an SPDX expression. OR binds less than AND, WITH belongs to its licence."""
    tokens = TOKEN.findall(OR.sub(" OR ", expression))

    def either():
        result = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            result = both() or result
        return result

    def both():
        result = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            result = one() and result
        return result

    def one():
        token = tokens.pop(0)
        if token == "(":
            result = either()
            tokens.pop(0)
            return result
        if tokens and tokens[0] == "WITH":
            token = " ".join([token, tokens.pop(0), tokens.pop(0)])
        return token in allowed

    return either()


def crates():
    """Name, version and licence of every crate that is built for some target, tests left out."""
    listed = subprocess.run(
        ["cargo", "tree", "--workspace", "--locked", "--edges=normal,build", "--target=all", "--prefix=none", "--format={p}\t{l}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        sys.exit(f"error: cargo tree failed: {listed.stderr.strip()}")
    found = set()
    for line in listed.stdout.splitlines():
        if line:
            package, _, licence = line.removesuffix(" (*)").partition("\t")
            name, version = package.split()[:2]
            found.add((name, version, licence.removesuffix(" (*)").strip()))
    return sorted(found)


def violations(policy, lock):
    licences = policy["licenses"]
    allowed = set(licences["allow"])
    exceptions = {entry["crate"]: set(entry["allow"]) for entry in licences["exceptions"]}
    unused = set(exceptions)
    banned = {entry["crate"] for entry in policy["bans"]["deny"]}
    for name, version, licence in crates():
        if name in banned:
            yield f"{name} {version}: banned"
        if not licence:
            yield f"{name} {version}: declares no licence"
        elif not satisfied(licence, allowed):
            if satisfied(licence, allowed | exceptions.get(name, set())):
                unused.discard(name)
            else:
                yield f"{name} {version}: {licence}"
    for name in sorted(unused):
        yield f"{name}: an exception that nothing needs"
    registries = {f"registry+{registry}" for registry in policy["sources"]["allow-registry"]}
    for package in lock["package"]:
        source = package.get("source")
        if source is not None and source not in registries:
            yield f"{package['name']} {package['version']}: comes from {source}"


def main():
    policy = tomllib.loads(pathlib.Path("deny.toml").read_text(encoding="utf-8"))
    lock = tomllib.loads(pathlib.Path("Cargo.lock").read_text(encoding="utf-8"))
    found = list(violations(policy, lock))
    for line in found:
        print(line, file=sys.stderr)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
