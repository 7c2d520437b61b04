#!/usr/bin/env python3
"""Makes the model folders of the demo and the tests, and checks that every byte is as everywhere else.

    build.py --sources FOLDER --out FOLDER [--accept] [NAME ...]

FOLDER/PACKAGE/PATH of sources.txt must exist (scripts/setup models fetches them). Digests of what is made stand in digests.json;
--accept writes them anew after the recipe was changed on purpose.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys

import content_type
import minilm
import orientation
import smollm2

DIGESTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "digests.json")
RECIPES = {name: recipe for recipe in (smollm2, minilm, content_type, orientation) for name in recipe.NAMES}


def digests(folder):
    """SHA-256 of every file of a folder."""
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, folder)] = hashlib.file_digest(file, "sha256").hexdigest()
    return dict(sorted(found.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--accept", action="store_true")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(RECIPES))
    arguments = parser.parse_args()

    expected = {}
    if os.path.exists(DIGESTS):
        with open(DIGESTS, encoding="utf-8") as file:
            expected = json.load(file)

    for name in arguments.names or RECIPES:
        folder = os.path.join(arguments.out, name)
        if not arguments.accept and os.path.isdir(folder) and digests(folder) == expected.get(name):
            print(f"models: {name} is there")
            continue
        print(f"models: making {name}", flush=True)
        scratch = folder + ".new"
        shutil.rmtree(scratch, ignore_errors=True)
        os.makedirs(scratch)
        RECIPES[name].build(name, arguments.sources, scratch)
        made = digests(scratch)
        if arguments.accept:
            expected[name] = made
        elif made != expected.get(name):
            known = expected.get(name, {})
            different = sorted(f for f in made.keys() | known.keys() if made.get(f) != known.get(f))
            sys.exit(
                f"{scratch}: {', '.join(different)} differ from digests.json. The same tools make the same bytes: compare "
                "requirements.txt with what is installed; after a change of the recipe run build.py --accept"
            )
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(scratch, folder)

    if arguments.accept:
        with open(DIGESTS, "w", encoding="utf-8") as file:
            json.dump(dict(sorted(expected.items())), file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    main()
