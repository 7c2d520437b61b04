#!/usr/bin/env python3
"""Collects the figures that tests and benches print, and says which goal was missed.

    figures.py [--json] FILE

A figure is a line with `figure NAME = VALUE [GOAL] words`. The goal is empty, `at most N` or `at least N`.
"""

import argparse
import json
import re
import sys

FIGURE = re.compile(r"figure (?P<name>[a-z0-9_]+) = (?P<value>-?[0-9.]+) \[(?P<goal>[^]]*)\] ?(?P<words>.*)")


def reached(value, goal):
    """Whether the value is within the goal. No goal is always reached."""
    if not goal:
        return True
    kind, bound = goal.rsplit(" ", 1)
    if kind == "at most":
        return value <= float(bound)
    if kind == "at least":
        return value >= float(bound)
    raise ValueError(f"a goal is 'at most N' or 'at least N', not {goal!r}")


def figures(lines):
    """The figures in these lines, by name."""
    found = {}
    for line in lines:
        match = FIGURE.search(line)
        if match:
            value, goal = float(match["value"]), match["goal"]
            found[match["name"]] = {
                "value": int(value) if value.is_integer() else value,
                "goal": goal,
                "ok": reached(value, goal),
                "note": match["words"],
            }
    return found


def main():
    parser = argparse.ArgumentParser(prog="figures.py")
    parser.add_argument("--json", action="store_true", help="one line of JSON on standard output, at the end")
    parser.add_argument("file")
    arguments = parser.parse_args()
    with open(arguments.file, encoding="utf-8") as file:
        found = figures(file)
    if not found:
        sys.exit("error: no figures were printed: see above")
    people = sys.stderr if arguments.json else sys.stdout
    for name, figure in found.items():
        mark = "" if figure["ok"] else "  MISSED"
        goal = f" ({figure['goal']})" if figure["goal"] else ""
        print(f"{name:44} {figure['value']}{goal}{mark}  {figure['note']}", file=people)
    if arguments.json:
        print(json.dumps({"figures": found}))


if __name__ == "__main__":
    main()
