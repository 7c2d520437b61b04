"""A development network on this machine. Usage is in scripts/devnet."""

import argparse
import json
import subprocess
import sys

from validators import Network, NetworkError


def main():
    parser = argparse.ArgumentParser(prog="scripts/devnet")
    parser.add_argument("--dir", required=True, help="where the validators' data lives")
    parser.add_argument("--binary", required=True, help="the node")
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("start", help="start validators and wait for finality")
    start.add_argument("count", nargs="?", type=int, default=4, help="validators: 1, 3 or 4 (default 4)")
    start.add_argument("--keep", action="store_true", help="go on with the chain of the last run")
    commands.add_parser("stop", help="end all validators")
    status = commands.add_parser("status", help="heights and addresses")
    status.add_argument("--json", action="store_true")
    logs = commands.add_parser("logs", help="what the validators wrote")
    logs.add_argument("names", nargs="*", help="alice, bob, … (default: all)")
    logs.add_argument("-f", "--follow", action="store_true")
    arguments = parser.parse_args()
    network = Network(arguments.dir)

    if arguments.command == "start":
        network.plan(arguments.count)
        if not arguments.keep:
            network.purge_chains()
        network.start(arguments.binary)
        print_status(network.status())
    elif arguments.command == "stop":
        killed = network.stop()
        if killed:
            print(f"did not end in time and were killed: {', '.join(killed)}", file=sys.stderr)
    elif arguments.command == "status":
        rows = network.status()
        if arguments.json:
            print(json.dumps({"validators": rows}))
        else:
            print_status(rows)
        sys.exit(0 if rows and all(row["running"] for row in rows) else 1)
    else:
        chosen = [v for v in network.validators if not arguments.names or v.name in arguments.names]
        if not chosen:
            raise NetworkError(f"no such validators in {arguments.dir}")
        follow = ["-n", "100", "-F"] if arguments.follow else ["-n", "100"]
        sys.exit(subprocess.call(["tail", *follow, *[v.log for v in chosen]]))


def print_status(rows):
    if not rows:
        print("no network", file=sys.stderr)
    for row in rows:
        if row["running"]:
            state = f"best {row['best']}, finalised {row['finalized']}, {row['peers']} peers, pid {row['pid']}"
        else:
            state = "not running"
        print(f"{row['name']:8} {row['url']:22} {state}", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except (NetworkError, OSError) as error:
        sys.exit(f"error: {error}")
