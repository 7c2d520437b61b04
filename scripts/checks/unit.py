#!/usr/bin/env python3
"""Checks the systemd unit: that systemd reads it, that it is as closed as it was, and that the engine can still shut itself in under it.

    unit.py        # run from the repository's root; prints what is wrong, exit status 1 if something is

Without systemd-analyze only the last is looked at as far as names go.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

UNIT = pathlib.Path("scripts/package/consilience.service")
CALLS = pathlib.Path("offchain-worker/engine/src/isolation/calls.rs")
# What `systemd-analyze security` may say, in tenths: 2.5 today.
EXPOSURE = 26
# What the engine does to itself before its own list of calls is in force: guard.rs, files.rs.
BEFORE = {
    "chdir",
    "landlock_add_rule",
    "landlock_create_ruleset",
    "landlock_restrict_self",
    "mount",
    "pidfd_open",
    "pivot_root",
    "prctl",
    "seccomp",
    "setrlimit",
    "setsid",
    "umount2",
    "unshare",
}
NAMESPACES = {"user", "net", "pid", "ipc", "uts", "mnt"}


def setting(unit, name):
    """The words of a setting."""
    return set(" ".join(re.findall(rf"^{name}=(.*)$", unit, re.MULTILINE)).split())


def members(wanted):
    """System calls of a filter's words, groups among them taken apart."""
    found, todo, seen = set(), list(wanted), set()
    while todo:
        word = todo.pop()
        if not word.startswith("@"):
            found.add(word)
        elif word not in seen:
            seen.add(word)
            told = subprocess.run(["systemd-analyze", "syscall-filter", word], capture_output=True, text=True, check=True)
            lines = (line.strip() for line in told.stdout.splitlines()[1:])
            todo.extend(line for line in lines if line and not line.startswith("#"))
    return found


def analyse(unit):
    """What systemd-analyze has to say. The program of the unit need not be installed here."""
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / UNIT.name
        copy.write_text(unit.replace("/usr/bin/consilience", "/bin/true"), encoding="utf-8")
        for command in (["verify"], ["security", "--offline=true", f"--threshold={EXPOSURE}"]):
            told = subprocess.run(["systemd-analyze", *command, str(copy)], capture_output=True, text=True, check=False)
            # It looks at the machine's other units, too, and may warn of those.
            ours = "\n".join(line for line in told.stderr.splitlines() if UNIT.name in line)
            if told.returncode != 0 or (command == ["verify"] and ours):
                yield f"systemd-analyze {command[0]}: {ours or told.stderr.strip() or told.stdout.strip().splitlines()[-1]}"


def main():
    unit = UNIT.read_text(encoding="utf-8")
    wrong = []
    if NAMESPACES - setting(unit, "RestrictNamespaces"):
        wrong.append(f"the engine makes namespaces that the unit forbids: {sorted(NAMESPACES - setting(unit, 'RestrictNamespaces'))}")
    if "MemoryDenyWriteExecute" in re.sub(r"^#.*$", "", unit, flags=re.MULTILINE):
        wrong.append("runtimes are compiled: the node needs memory that is written and executed")
    if shutil.which("systemd-analyze"):
        wrong.extend(analyse(unit))
        used = set(re.findall(r"\bSYS_(\w+)", CALLS.read_text(encoding="utf-8"))) | BEFORE
        known = members(["@known"])
        shut = used & known - members(setting(unit, "SystemCallFilter"))
        if shut:
            wrong.append(f"the engine makes system calls that the unit forbids: {sorted(shut)}")
    else:
        print("names alone were looked at: systemd-analyze is not here")
    for line in wrong:
        print(line, file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
