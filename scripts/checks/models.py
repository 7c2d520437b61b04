#!/usr/bin/env python3
"""Names the model folders whose files are not what they were made as.

    models.py DIGESTS FOLDER      # a line for each: name, and the first file that is missing, damaged or too much
"""

import hashlib
import json
import os
import sys


def wrong(folder, expected):
    """The first file that is not as it should be."""
    found = {
        os.path.relpath(os.path.join(parent, name), folder) for parent, _, names in os.walk(folder) for name in names
    }
    for name in sorted(found | expected.keys()):
        if name not in found:
            return f"{name} is missing"
        if name not in expected:
            return f"{name} is none of its files"
        with open(os.path.join(folder, name), "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected[name]:
                return f"{name} is damaged"
    return None


def main():
    digests, models = sys.argv[1:]
    with open(digests, encoding="utf-8") as file:
        for name, expected in json.load(file).items():
            reason = wrong(os.path.join(models, name), expected)
            if reason:
                print(f"{name}: {reason}")


if __name__ == "__main__":
    main()
