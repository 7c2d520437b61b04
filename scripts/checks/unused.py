#!/usr/bin/env python3
"""Names dependencies that no source names, as cargo-machete does; what that cannot see, it names too: what only tests use.

Reads `cargo metadata --no-deps` from standard input. A dependency that is wanted for its features or by a macro's output stands in the
manifest under [package.metadata.cargo-machete], ignored, with the reason. Exit status 1 if anything is found.
"""

import json
import pathlib
import re
import sys
import tomllib


def rust(folders):
    """All code in these folders, comments left out: a name in prose uses nothing."""
    texts = [path.read_text(encoding="utf-8") for folder in folders for path in sorted(folder.rglob("*.rs"))]
    return "\n".join(re.sub(r"//[^\n]*", "", text) for text in texts)


def names(code, name):
    return re.search(rf"\b{re.escape(name.replace('-', '_'))}\b", code) is not None


def unused_in(package):
    """What one package depends on without need."""
    manifest = pathlib.Path(package["manifest_path"])
    root = manifest.parent
    ignored = ((package["metadata"] or {}).get("cargo-machete") or {}).get("ignored", [])
    source = rust([root / "src"])
    tests = rust([root / folder for folder in ("tests", "benches", "examples")])
    build = (root / "build.rs").read_text(encoding="utf-8") if (root / "build.rs").exists() else ""
    code = {None: source, "dev": source + tests, "build": build}
    # Modules of tests inside the crate stand in files of their own.
    shipped = re.sub(r"#\[cfg\(test\)\]\s*mod \w+\s*\{.*", "", source, flags=re.DOTALL)
    # A crate of tests alone makes no difference between the two.
    tells_tests_apart = any(dependency["kind"] == "dev" for dependency in package["dependencies"])
    for dependency in package["dependencies"]:
        key, kind = dependency["rename"] or dependency["name"], dependency["kind"]
        if key in ignored or names(code[kind], key):
            continue
        if kind is None and names(tests, key):
            if tells_tests_apart:
                yield f"{manifest}: {key}: only tests use it: a dev-dependency"
        else:
            yield f"{manifest}: {key}{'' if kind is None else f' ({kind})'}: nothing names it"
    declared = {d["rename"] or d["name"] for d in package["dependencies"]}
    for name in ignored:
        if name not in declared or names(shipped, name):
            yield f"{manifest}: {name} stands in ignored without need"


def unused_in_workspace(metadata):
    """What the workspace declares and no member takes."""
    root = pathlib.Path(metadata["workspace_root"]) / "Cargo.toml"
    with root.open("rb") as file:
        declared = tomllib.load(file)["workspace"]["dependencies"]
    taken = set()
    for package in metadata["packages"]:
        with open(package["manifest_path"], "rb") as file:
            manifest = tomllib.load(file)
        for section in ("dependencies", "dev-dependencies", "build-dependencies"):
            taken |= manifest.get(section, {}).keys()
        for target in manifest.get("target", {}).values():
            taken |= target.get("dependencies", {}).keys() | target.get("dev-dependencies", {}).keys()
    for name in sorted(declared.keys() - taken):
        yield f"{root}: {name}: no member takes it"


def main():
    metadata = json.load(sys.stdin)
    found = [line for package in metadata["packages"] for line in unused_in(package)] + list(unused_in_workspace(metadata))
    for line in found:
        print(line.replace(metadata["workspace_root"] + "/", ""), file=sys.stderr)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
