#!/usr/bin/env python3
"""Why tests failed, from the JUnit report of nextest: what each said itself at its end, without the logs of the nodes it ran.

    failures.py JUNIT.xml
"""

import re
import sys
import xml.etree.ElementTree as ElementTree

LINES = 24
WIDTH = 300

# A network test prints the lines of its nodes behind their names, and the lines of their WebAssembly traps.
NODE = re.compile(r"^\s*(alice|bob|charlie|dave|eve|ferdie|one): ")
FRAME = re.compile(r"^\s*(\d+: |at |stack backtrace:|note: )")


def said(text):
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return [line for line in lines if not NODE.match(line) and not FRAME.match(line)]


def main():
    for case in ElementTree.parse(sys.argv[1]).iter("testcase"):
        failure = next((case.find(kind) for kind in ("failure", "error") if case.find(kind) is not None), None)
        if failure is None:
            continue
        print(f"== {case.get('classname')} {case.get('name')}: {failure.get('type') or failure.tag} after {case.get('time')} s")
        lines = [line for part in ("system-out", "system-err") for line in said(case.findtext(part) or "")]
        for line in lines[-LINES:]:
            print("   ", line[:WIDTH])


if __name__ == "__main__":
    main()
