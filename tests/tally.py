# SPDX-License-Identifier: BSD-3-Clause
"""Counts what a suite's result files say, for tests/run: prints `passed failed skipped`, then the name of each that failed.

    tally.py meson FILE...    meson's testlog.json of cmocka programs: each cmocka test counts
    tally.py junit FILE...    pytest's --junitxml
    tally.py lines FILE...    `ok ...`, `not ok ...`, `skip ...` lines
"""

import json
import re
import sys
import xml.etree.ElementTree
from pathlib import Path

CMOCKA = re.compile(r"^\[ +(OK|FAILED|SKIPPED) +\] +([A-Za-z_]\w*)\s*$", re.MULTILINE)


def read_meson(path):
    passed = skipped = 0
    bad = []
    for line in path.read_text().splitlines():
        program = json.loads(line)
        names = {"OK": set(), "FAILED": set(), "SKIPPED": set()}
        for word, name in CMOCKA.findall(program.get("stdout", "") + "\n" + program.get("stderr", "")):
            names[word].add(name)
        bad += [f"{program['name']}: {name}" for name in sorted(names["FAILED"])]
        if program["result"] == "SKIP":
            skipped += 1
        elif program["result"] != "OK" and not names["FAILED"]:
            bad.append(f"{program['name']}: {program['result']}")  # it crashed, hung or was stopped by a sanitizer
        elif program["result"] == "OK" and not any(names.values()):
            passed += 1  # a test program without cmocka
        passed += len(names["OK"])
        skipped += len(names["SKIPPED"])
    return passed, bad, skipped


def read_junit(path):
    passed = skipped = 0
    bad = []
    for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            bad.append(f"{case.get('classname')}: {case.get('name')}")
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return passed, bad, skipped


def read_lines(path):
    lines = path.read_text(errors="replace").splitlines()
    bad = [line.removeprefix("not ok ") for line in lines if line.startswith("not ok ")]
    return sum(line.startswith("ok ") for line in lines), bad, sum(line.startswith("skip ") for line in lines)


def main(kind, *paths):
    read = {"meson": read_meson, "junit": read_junit, "lines": read_lines}[kind]
    passed, bad, skipped = (list(column) for column in zip(*(read(Path(path)) for path in paths), strict=True))
    names = [name for of_one in bad for name in of_one]
    print(sum(passed), len(names), sum(skipped))
    print(*names, sep="\n", end="\n" if names else "")


if __name__ == "__main__":
    main(*sys.argv[1:])
