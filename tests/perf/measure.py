# SPDX-License-Identifier: BSD-3-Clause
"""What the benchmarks share: how a figure is taken, and the table it is printed in."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("BUTLERFS_BUILD", TOP / "build" / "release"))
COMMAND = BUILD / "fs" / "butlerfs"
CONTROL = BUILD / "fs" / "butlerfsctl"


class Table:
    """Rows of one case: name, the two medians with their spread, ratio, goal."""

    def __init__(self) -> None:
        self.missed = 0

    def row(
        self, name: str, ours: list[float], base: list[float], unit: str, goal: float | None, bigger: bool
    ) -> None:
        ratios = sorted(a / b for a, b in zip(ours, base))
        ratio = statistics.median(ratios)
        print(
            f"{name:34s} {spread(ours):>28s} {spread(base):>28s} {unit:9s} ratio {ratio:5.2f} "
            f"[{ratios[0]:.2f}..{ratios[-1]:.2f}] {self.verdict(ratio, goal, bigger)}",
            flush=True,
        )

    def figure(self, name: str, values: list[float], unit: str, goal: float | None, bigger: bool) -> None:
        verdict = self.verdict(statistics.median(values), goal, bigger)
        print(f"{name:34s} {spread(values):>28s} {'':28s} {unit:9s} {verdict}", flush=True)

    def verdict(self, value: float, goal: float | None, bigger: bool) -> str:
        if goal is None:
            return ""
        ok = value >= goal if bigger else value <= goal
        self.missed += not ok
        return f" goal {'≥' if bigger else '≤'} {goal:g} {'ok' if ok else 'MISSED'}"


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):,.4g} [{min(values):,.4g}..{max(values):,.4g}]"


def fio(
    path: Path, rw: str, engine: str, block: str, seconds: float | None, jobs: int = 1, loops: int = 2
) -> float:
    """MB/s of sequential reads, IOPS of random ones."""
    args = ["fio", "--name=x", f"--filename={path}", f"--rw={rw}", f"--ioengine={engine}", f"--bs={block}",
            "--readonly", "--invalidate=0", "--output-format=json", "--randrepeat=0", "--norandommap",
            f"--numjobs={jobs}", "--group_reporting"]
    args += [f"--runtime={seconds}", "--time_based"] if seconds else [f"--loops={loops}"]
    out = subprocess.run(args, check=True, capture_output=True)
    read = json.loads(out.stdout[out.stdout.index(b"{"):])["jobs"][0]["read"]
    return read["bw_bytes"] / 1e6 if rw == "read" else read["iops"]


def timed(*command: str | Path) -> float:
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin
