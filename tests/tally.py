# SPDX-License-Identifier: BSD-3-Clause
"""Counts what a suite's result files say, for tests/run: prints `passed failed skipped`.

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


def count_meson(path):
    passed = failed = skipped = 0
    for line in path.read_text().splitlines():
        program = json.loads(line)
        names = {"OK": set(), "FAILED": set(), "SKIPPED": set()}
        for word, name in CMOCKA.findall(program.get("stdout", "") + "\n" + program.get("stderr", "")):
            names[word].add(name)
        bad = len(names["FAILED"])
        if program["result"] == "SKIP":
            skipped += 1
        elif program["result"] != "OK" and bad == 0:
            bad = 1  # it crashed, hung or was stopped by a sanitizer
        elif program["result"] == "OK" and not any(names.values()):
            passed += 1  # a test program without cmocka
        passed += len(names["OK"])
        failed += bad
        skipped += len(names["SKIPPED"])
    return passed, failed, skipped


def count_junit(path):
    passed = failed = skipped = 0
    for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def count_lines(path):
    lines = path.read_text(errors="replace").splitlines()
    return tuple(sum(line.startswith(word) for line in lines) for word in ("ok ", "not ok ", "skip "))


def main(kind, *paths):
    count = {"meson": count_meson, "junit": count_junit, "lines": count_lines}[kind]
    print(*(sum(column) for column in zip(*(count(Path(path)) for path in paths), strict=True)))


if __name__ == "__main__":
    main(*sys.argv[1:])
