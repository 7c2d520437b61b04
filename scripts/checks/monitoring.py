#!/usr/bin/env python3
"""Checks what Prometheus and Grafana are given in scripts/monitoring: alerts and their tests, the board's queries, and that the page for
operators speaks of every alert.

    monitoring.py PROMTOOL        # run from the repository's root; prints what is wrong, exit status 1 if something is

That the metrics exist is tested with real nodes: tests/tests/validator.rs.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

FOLDER = pathlib.Path("scripts/monitoring")
PAGE = pathlib.Path("docs/operators/monitoring.md")
WIDTH = 24


def promtool(program, *arguments):
    """What promtool says where it is not content."""
    told = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if told.returncode != 0:
        yield f"{told.stdout.strip()}\n{told.stderr.strip()}".strip()


def queries(board):
    """Every query of the board, with its panel's title and Grafana's variables filled in."""
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"].replace("$instance", ".*")


def wrong_queries(program, board):
    """Queries that Prometheus cannot read. A file of rules is what promtool reads."""
    for number, (title, query) in enumerate(queries(board)):
        rule = {"groups": [{"name": "board", "rules": [{"record": f"board:query:{number}", "expr": query}]}]}
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
            # JSON is YAML.
            json.dump(rule, file)
            file.flush()
            for why in promtool(program, "check", "rules", file.name):
                yield f"grafana.json: {title}: {query}: {why}"


def wrong_places(board):
    """Panels that lie on each other or beside the board, or have no words."""
    taken: dict[tuple[int, int], str] = {}
    numbers: set[int] = set()
    for panel in board["panels"]:
        title, place = panel["title"], panel["gridPos"]
        if panel["id"] in numbers:
            yield f"grafana.json: {title}: another panel has the number {panel['id']}"
        numbers.add(panel["id"])
        if panel["type"] != "row" and not panel.get("description"):
            yield f"grafana.json: {title}: it says nothing of what it shows"
        if place["x"] + place["w"] > WIDTH:
            yield f"grafana.json: {title}: it reaches beyond the board"
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                other = taken.setdefault((x, y), title)
                if other != title:
                    yield f"grafana.json: {title}: it lies on {other}"
                    return


def unspoken(page):
    """Alerts of which the page does not say what to do."""
    alerts = re.findall(r"^ *- alert: (\w+)$", (FOLDER / "alerts.yml").read_text(encoding="utf-8"), re.MULTILINE)
    tests = (FOLDER / "alerts_test.yml").read_text(encoding="utf-8")
    for alert in alerts:
        if f"`{alert}`" not in page:
            yield f"{PAGE}: it does not speak of the alert {alert}"
        if alert not in tests:
            yield f"alerts_test.yml: nothing tests {alert}"
    for named in re.findall(r"`(Consilience\w+)`", page):
        if named not in alerts:
            yield f"{PAGE}: there is no alert {named}"


def main():
    program = sys.argv[1]
    board = json.loads((FOLDER / "grafana.json").read_text(encoding="utf-8"))
    wrong = [
        *promtool(program, "check", "config", str(FOLDER / "prometheus.yml")),
        *promtool(program, "test", "rules", str(FOLDER / "alerts_test.yml")),
        *wrong_queries(program, board),
        *wrong_places(board),
        *unspoken(PAGE.read_text(encoding="utf-8")),
    ]
    for line in wrong:
        print(line, file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
