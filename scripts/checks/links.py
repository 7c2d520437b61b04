#!/usr/bin/env python3
"""Checks what documents point to inside the repository: files, headings, and the documents that code cites.

    links.py        # run from the repository's root; prints each link that leads nowhere, exit status 1 if there is one

Pages elsewhere are not asked for: a gate must not fail because somebody's server does.
"""

import pathlib
import re
import subprocess
import sys
import urllib.parse

FENCE = re.compile(r"^ *(```+|~~~+).*?^ *\1[^\n]*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
LINK = re.compile(
    r"\]\(\s*<?([^()\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)"  # [words](target "title")
    r"|\b(?:href|src)=\"([^\"]+)\""
    r"|^ {0,3}\[[^]]+\]:\s+<?([^\s>]+)",  # [words]: target
    re.MULTILINE,
)
HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.+?)\s*#*\s*$", re.MULTILINE)
ANCHOR = re.compile(r"<a\s+(?:id|name)=\"([^\"]+)\"")
ELSEWHERE = re.compile(r"^[a-z][a-z0-9+.-]*:|^//", re.IGNORECASE)

# Paths that prose and comments name: in full from the repository's root, so that they can be followed.
TOP = r"(?:chain-spec|clients|docs|node|offchain-worker|pallets|primitives|runtime|scripts|tests)"
NAMED = re.compile(rf"(?<![\w/.$}}-]){TOP}/[\w./-]*\w\.(?:md|py|rs|sh|toml|json|ts|tsx|js|service|yml|yaml|txt)\b")
# Written where it belongs, from another crate's point of view: `tests/engine/hostile.rs` of the engine.
CRATE_FOLDERS = ("tests/", "runtime/")


def tracked():
    """Every file that is part of the repository, or will be with the next commit."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], capture_output=True, text=True, check=True
    )
    return {name for name in listed.stdout.split("\0") if name and pathlib.Path(name).is_file()}


def blank(match):
    """As many lines as the match has, and nothing else: line numbers stay right."""
    return "\n" * match[0].count("\n")


def prose_of(text):
    """The document without its blocks of code and its comments, which have links of their own meaning."""
    return COMMENT.sub(blank, FENCE.sub(blank, text))


def slug(heading):
    """The anchor of a heading, as GitHub makes it."""
    heading = re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    heading = re.sub(r"<[^>]+>", "", heading)
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors_of(text):
    """All anchors of a document; a heading that stands twice gets a number."""
    found = set(ANCHOR.findall(text))
    for heading in HEADING.findall(prose_of(text)):
        base = name = slug(heading)
        number = 0
        while name in found:
            number += 1
            name = f"{base}-{number}"
        found.add(name)
    return found


def wrong_link(target, document, files, folders):
    """Why a link leads nowhere, or None."""
    if ELSEWHERE.match(target):
        return None
    path, _, anchor = urllib.parse.unquote(target).partition("#")
    place = document
    if path:
        if path.startswith("/"):
            return "a path from the root of a machine or site"
        parts: list[str] = []
        for part in [*document.parent.parts, *pathlib.PurePosixPath(path).parts]:
            if part == "..":
                if not parts:
                    return "leads out of the repository"
                parts.pop()
            elif part != ".":
                parts.append(part)
        place = pathlib.PurePosixPath(*parts)
        if str(place) not in files and str(place) not in folders:
            return "no such file"
    if not anchor or str(place) not in files or place.suffix != ".md":
        return None
    if anchor in anchors_of(pathlib.Path(place).read_text(encoding="utf-8")):
        return None
    return f"{place} has no heading with this anchor"


def broken(files):
    """Every link and name that leads nowhere, as `file:line: what: why`."""
    folders = {str(parent) for name in files for parent in pathlib.PurePosixPath(name).parents}
    for name in sorted(files):
        path = pathlib.PurePosixPath(name)
        if path.suffix == ".md":
            text = prose_of(pathlib.Path(name).read_text(encoding="utf-8"))
            for match in LINK.finditer(CODE.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text)):
                target = next(group for group in match.groups() if group)
                why = wrong_link(target, path, files, folders)
                if why:
                    yield f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {target}: {why}"
        elif path.suffix not in (".rs", ".py", ".sh", ".toml", ".ts", ".tsx", ".js") and path.parent.name != "scripts":
            continue
        else:
            text = pathlib.Path(name).read_text(encoding="utf-8")
        for match in NAMED.finditer(text):
            named = match[0]
            if named in files or (named.startswith(CRATE_FOLDERS) and any(file.endswith("/" + named) for file in files)):
                continue
            yield f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {named}: no such file"


def main():
    # A link's target is a name as well.
    found = list(dict.fromkeys(broken(tracked())))
    for line in found:
        print(line, file=sys.stderr)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
