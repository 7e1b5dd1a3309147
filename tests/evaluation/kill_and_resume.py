"""Kill an evaluation at random moments, run it again, and compare every result file with an uninterrupted run's.

    python -m tests.evaluation.kill_and_resume --times 20 -- tools/eval_planning.py limit=40

Prints how many of the killed runs ended byte-identical, e.g. `20/20`. `--picture FILE` names an image that the runs
read; take it from a copy of the data, as it is overwritten for a moment. After each kill, if a decision has seen it,
the run is first continued with other bytes in it, which must be refused.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

TIMING = ("timing.json", "timing.jsonl", "image_stats.json")
"""Measured times differ from run to run, and those of image files from copy to copy."""


class Process(Protocol):
    """What `subprocess.Popen` and a forked child have in common."""

    def kill(self) -> None: ...

    def wait(self, seconds: float | None) -> int | None:
        """Exit status after at most so long (None: to the end), None if it still runs."""
        ...


class Command:
    """A run in a process of its own, and of its own group: `accelerate launch` has children."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *command, f"output={folder}"], stdout=subprocess.DEVNULL, start_new_session=True
        )

    def kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def wait(self, seconds: float | None) -> int | None:
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None


def kill_and_resume(
    start: Callable[[Path], Process],
    times: int,
    work: Path,
    kills: int = 2,
    seed: int = 0,
    picture: Path | None = None,
) -> tuple[int, int, int]:
    """Number of killed runs that ended identical, of all kills, and of tries refused as `picture` had changed.

    Args:
        start: starts (or continues) a run in a folder.
        times: runs, each killed at least once.
        work: for the run folders.
        kills: a run is killed at most so often, at moments drawn over the time that a whole run takes.
        seed: of the moments.
        picture: changed after every kill, and restored.
    """
    moments = random.Random(seed)
    duration = run_whole(start, work / "whole")
    expected = result_files(work / "whole")
    identical = hits = refused = 0
    for number in range(times):
        folder = work / f"killed-{number}"
        left = kills
        while left:
            process = start(folder)
            status = process.wait(moments.random() * duration)
            assert not status, "a continued run failed"
            if status is None:
                process.kill()
                hits += 1
                left -= 1
                if picture is not None and was_seen(picture, folder):
                    refused += refuses_a_change(start, folder, picture)
            elif left < kills:
                break
            else:
                # It ended unharmed: the machine is faster than it was.
                shutil.rmtree(folder)
                duration = run_whole(start, folder)
                shutil.rmtree(folder)
        assert start(folder).wait(None) == 0, "the last continued run failed"
        identical += result_files(folder) == expected
        shutil.rmtree(folder)
    return identical, hits, refused


def was_seen(picture: Path, folder: Path) -> bool:
    """Whether a decision saw the image: a whole line of a journal names it."""
    lines = [line for journal in folder.glob("journal/*.jsonl") for line in journal.read_bytes().splitlines(True)]
    return any(picture.name.encode() in line and line.endswith(b"\n") for line in lines)


def refuses_a_change(start: Callable[[Path], Process], folder: Path, picture: Path) -> int:
    """1 for a run that refuses to go on with other bytes in the image, and changes none of its files."""
    content, before = picture.read_bytes(), result_files(folder)
    picture.write_bytes(content + b"\0")
    try:
        assert start(folder).wait(None) == 2, "a changed image was not refused"
        after = result_files(folder)
    finally:
        picture.write_bytes(content)
    for files in (before, after):
        files.pop("journal/lock", None)
    assert after == before, "a refused run changed a file"
    return 1


def run_whole(start: Callable[[Path], Process], folder: Path) -> float:
    """Seconds of an uninterrupted run."""
    began = time.perf_counter()
    assert start(folder).wait(None) == 0, "the uninterrupted run failed"
    return time.perf_counter() - began


def result_files(folder: Path) -> dict[str, bytes]:
    """Content of every file of a run but its times."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in TIMING
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--kills", type=int, default=2, help="per run, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path, metavar="FILE", help="an image to change; its name must be unique")
    parser.add_argument("command", nargs="+", help="a Python script or `-m module` and its arguments, without output=")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        identical, hits, refused = kill_and_resume(
            lambda folder: Command(options.command, folder),
            options.times,
            Path(work),
            options.kills,
            options.seed,
            options.picture,
        )
    changed = f", a changed image refused {refused} times" if options.picture else ""
    print(f"{identical}/{options.times} identical after {hits} kills{changed}")
    sys.exit(identical != options.times)


if __name__ == "__main__":
    main()
