#!/usr/bin/env python3
"""Writes docs/cli.md, the reference of the command line, from what the program says of itself.

    cli.py PROGRAM FILE              # writes FILE
    cli.py --check PROGRAM FILE      # exit status 1 and the difference if FILE says something else
"""

import argparse
import difflib
import os
import re
import subprocess
import sys

HEAD = """\
# The command line

What `consilience --help` and the help of every command say. Written by `scripts/gates --fix cli`; `scripts/gates cli` compares.
"""

# Nothing in the reference may come from the machine on which it was written: the width of a terminal, colours, a home folder.
ENVIRONMENT = {"COLUMNS": "100", "HOME": "/home/you", "NO_COLOR": "1", "PATH": os.environ.get("PATH", "")}

COMMAND = re.compile(r"^  ([a-z][a-z0-9-]*)(?:  |$)")


def help_of(program, path):
    """What the command says of itself."""
    told = subprocess.run(
        [program, *path, "--help"],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if told.returncode != 0:
        sys.exit(f"error: {' '.join(['consilience', *path, '--help'])} failed: {told.stderr.strip()}")
    return "\n".join(line.rstrip() for line in told.stdout.strip().splitlines())


def commands_in(text):
    """Names of the commands that a help text lists."""
    lines = iter(text.splitlines())
    for line in lines:
        if line == "Commands:":
            break
    for line in lines:
        if line and not line.startswith(" "):
            return
        match = COMMAND.match(line)
        if match and match[1] != "help":
            yield match[1]


def sections(program, path=()):
    """A section for the command and for each below it, in the order in which they are listed."""
    text = help_of(program, path)
    yield f"## {' '.join(['consilience', *path])}\n\n```text\n{text}\n```\n"
    for name in commands_in(text):
        yield from sections(program, (*path, name))


def main():
    parser = argparse.ArgumentParser(prog="cli.py")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("program")
    parser.add_argument("file")
    arguments = parser.parse_args()
    expected = "\n".join([HEAD, *sections(arguments.program)])
    if not arguments.check:
        with open(arguments.file, "w", encoding="utf-8") as file:
            file.write(expected)
        return
    try:
        with open(arguments.file, encoding="utf-8") as file:
            found = file.read()
    except FileNotFoundError:
        found = ""
    if found != expected:
        difference = difflib.unified_diff(
            found.splitlines(), expected.splitlines(), arguments.file, "what the program says", lineterm=""
        )
        print("\n".join(difference), file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
