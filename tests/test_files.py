"""Files that survive a crash."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from senna_prune.errors import FileError
from senna_prune.evaluation.run.records import Record
from senna_prune.evaluation.run.run_folder import RunFolder
from senna_prune.files import Journal, read_lines, to_line, write_whole


def test_torn_last_line_is_dropped_and_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"a":1}\n{"a":2}\n{"a":')
    assert [record for _, record in read_lines(path)] == [{"a": 1}, {"a": 2}]
    with Journal(path) as journal:
        journal.append({"a": 3})
    assert path.read_bytes() == b'{"a":1}\n{"a":2}\n{"a":3}\n'


def test_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"a":1}\n{"a":\n{"a":2}\n')
    with pytest.raises(FileError, match=r"journal\.jsonl:2: not JSON"):
        list(read_lines(path))


def test_atomic_file_keeps_the_old_one_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole(tmp_path / "a.json", "old")

    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(FileError):
        write_whole(tmp_path / "a.json", "new")
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == "old"


def test_same_record_gives_the_same_bytes_whatever_it_holds() -> None:
    assert to_line({"b": "\ud800 \u00e9", "a": 1.5}) == to_line({"a": 1.5, "b": "\ud800 \u00e9"})
    assert to_line({"a": "\ud800"}).encode()
    with pytest.raises(ValueError, match="JSON compliant"):
        to_line({"a": float("nan")})


def test_decision_stands_against_an_error_in_a_later_journal(tmp_path: Path) -> None:
    """Process 1 of 2 could not read the picture; once it was mended, process 0 of 1 decided the sample."""
    folder = RunFolder(tmp_path)
    failed = Record(
        "s", "none", "scene", "corrected", "KEEP, STRAIGHT", error={"type": "ImageError", "message": "gone"}
    )
    decided = replace(failed, error=None, answer="KEEP, STRAIGHT")
    for rank, record in ((1, failed), (0, decided)):
        with folder.open_journal(rank) as journal:
            journal.append({"record": record.to_dict(), "timing": {}})
    assert folder.read_lines() == {("s", "none"): (decided, {})}
