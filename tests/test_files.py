"""Files that survive a crash."""

from __future__ import annotations

import errno
import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from senna_prune.errors import ConfigError, FileError
from senna_prune.evaluation.run.records import Record
from senna_prune.evaluation.run.run_folder import RunFolder
from senna_prune.files import (
    Journal,
    check_output,
    confined,
    decode_json,
    digest,
    open_regular,
    read_bytes,
    read_json,
    read_lines,
    to_line,
    write_json,
    write_whole,
)
from tests.conftest import ROOT
from tests.hostile import fifo


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
    """Process 1 of 2 could not read the image; once it was mended, process 0 of 1 decided the sample."""
    folder = RunFolder(tmp_path)
    failed = Record(
        "s", "none", "scene", "corrected", "KEEP, STRAIGHT", error={"type": "ImageError", "message": "gone"}
    )
    decided = replace(failed, error=None, answer="KEEP, STRAIGHT")
    for rank, record in ((1, failed), (0, decided)):
        with folder.open_journal(rank) as journal:
            journal.append({"record": record.to_dict(), "timing": {}})
    (tmp_path / "run.json").touch()
    wanted: Any = SimpleNamespace(key={}, conditions=[SimpleNamespace(id="none")])
    samples: Any = [SimpleNamespace(key="s")]
    assert folder.read(wanted, samples).lines == {("s", "none"): (decided, {})}


# Reading


def bound(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))
    return path


NOT_FILES: dict[str, Callable[[Path], Path | str]] = {
    "a pipe": lambda f: fifo(f / "pipe"),
    "a socket": lambda f: bound(f / "socket"),
    "a device": lambda f: "/dev/zero",
    "a folder": lambda f: f,
    "nothing": lambda f: f / "nothing",
    "a name too long": lambda f: f / ("x" * 300),
    "a name with a NUL": lambda f: str(f / "a\0b"),
    "a name that is no text": lambda f: f / "\ud800",
    "a file as folder": lambda f: f / "file" / "inner",
}


@pytest.mark.parametrize("case", NOT_FILES)
def test_only_ordinary_files_are_read_and_none_is_waited_for(case: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = NOT_FILES[case](tmp_path)
    for read in (open_regular, read_bytes, read_json, digest, lambda path: list(read_lines(path))):
        with pytest.raises(FileError, match="cannot be read") as caught:
            read(path)
        assert caught.value.where == path


def test_limit_hint_and_type_of_a_failure_are_the_callers(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(3 << 20))
    assert len(read_bytes(tmp_path / "large", 3 << 20)) == 3 << 20
    with pytest.raises(ConfigError, match="larger than 2 MiB"):
        read_bytes(tmp_path / "large", 2 << 20, error=ConfigError)
    with pytest.raises(ConfigError, match="Look elsewhere"):
        read_bytes(tmp_path / "absent", hint="look elsewhere", error=ConfigError)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "..", "a\0b"])
def test_names_from_files_stay_below_their_root(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="leads out of its root"):
        confined(tmp_path, name)


def test_other_names_are_taken_as_they_are(tmp_path: Path) -> None:
    assert confined(tmp_path, "a/b..c/x.png") == tmp_path / "a" / "b..c" / "x.png"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"{", "not JSON"),
        (b"", "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b"[" * 10_000 + b"]" * 10_000, "nested too deeply"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "Exceeds the limit"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'"text"', "not a JSON object"),
    ],
)
def test_odd_json_is_one_line(text: bytes, reason: str) -> None:
    with pytest.raises(FileError, match=f"^table 3: .*{reason}") as caught:
        decode_json(text, "table 3")
    assert len(str(caught.value)) < 200


def test_json_of_another_kind_and_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(tmp_path / "a.json", list) == [1]
    with pytest.raises(FileError, match="not a JSON object or array"):
        decode_json("3", "here", (dict, list))


# Writing


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "new").symlink_to("made")
    for name in ("link", "new"):
        write_whole(tmp_path / name, "text")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "text"
    assert (tmp_path / "new").is_symlink() and (tmp_path / "made").read_text() == "text"


def never() -> Iterator[str]:
    raise AssertionError("the place is to be checked before the content is made")
    yield ""


def test_what_is_no_ordinary_file_is_neither_replaced_nor_waited_for(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for path in (
        fifo(tmp_path / "pipe"),
        bound(tmp_path / "socket"),
        Path("/dev/full"),
        Path("/"),
        tmp_path,
        tmp_path / "loop",
    ):
        before = path.lstat().st_mode
        for write in (check_output, lambda path: write_whole(path, never()), Journal):
            with pytest.raises(FileError, match="cannot be written"):
                write(path)
        assert path.lstat().st_mode == before


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "\ud800", "file/inner"])
def test_names_that_cannot_be_written(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for write in (check_output, lambda path: write_whole(path, never())):
        with pytest.raises(FileError, match="cannot be written"):
            write(f"{tmp_path}/{name}")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_longest_names_and_folders_that_are_not_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "new" / ("\u00e9" * 127)
    check_output(path)
    assert list(path.parent.iterdir()) == []
    assert write_whole(path, ["a", "b"]) == 2
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_draft_that_is_a_link_or_a_pipe_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "a.part").symlink_to("precious")
    fifo(tmp_path / "b.part")
    for name in ("a", "b"):
        check_output(tmp_path / name)
        write_whole(tmp_path / name, "text")
        assert (tmp_path / name).read_text() == "text"
    assert (tmp_path / "precious").read_text() == "mine"
    assert not list(tmp_path.glob("*.part"))


def test_a_failing_source_leaves_what_stood_there(tmp_path: Path) -> None:
    def pieces() -> object:
        yield "half"
        raise KeyboardInterrupt

    write_whole(tmp_path / "a", "old")
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "a", pieces())  # type: ignore[arg-type]
    assert (tmp_path / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


FILL = """
import resource, sys
from senna_prune.errors import FileError
from senna_prune.files import write_whole
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    write_whole(sys.argv[1], ["x" * 900] * int(sys.argv[2]))
except FileError as error:
    sys.exit(str(error))
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit on file sizes here")
@pytest.mark.parametrize("count", [3, 1000], ids=["on closing", "while writing"])
def test_a_full_disk_leaves_nothing(count: int, tmp_path: Path) -> None:
    command = [sys.executable, "-c", FILL, str(tmp_path / "file"), str(count)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{tmp_path}/file: cannot be written (File too large)")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_streams_take_the_content(capsys: pytest.CaptureFixture[str]) -> None:
    assert write_whole("/dev/stdout", iter(["a\n", "b\n"])) == 2
    assert write_whole("/dev/null", "lost") == 1
    check_output("/dev/stdout")
    assert capsys.readouterr().out == "a\nb\n"


def test_json_is_written_whole(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [2]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": 1, "a": [2]}
    assert (tmp_path / "a.json").read_bytes().endswith(b"}\n")


@pytest.mark.parametrize("content", [b"some notes\n", b"notes without end", b'{"a":1}\nnotes', b"\x89PNG\r\n\x1a\n"])
def test_a_journal_refuses_some_other_file_and_leaves_it(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "notes").write_bytes(content)
    with pytest.raises(FileError, match="no file of JSON lines"):
        Journal(tmp_path / "notes")
    assert (tmp_path / "notes").read_bytes() == content


def test_zeros_behind_a_journal_are_removed(tmp_path: Path) -> None:
    """Some file systems leave them behind the last line after a power failure."""
    (tmp_path / "journal").write_bytes(b'{"a":1}\n' + bytes(50))
    with Journal(tmp_path / "journal") as journal:
        journal.append({"a": 2})
    assert [record["a"] for _, record in read_lines(tmp_path / "journal")] == [1, 2]


def test_lines_end_at_line_feeds_alone(tmp_path: Path) -> None:
    (tmp_path / "journal").write_bytes(b'{"a":1}\r\n{"b":\r2}\n')
    assert [record for _, record in read_lines(tmp_path / "journal")] == [{"a": 1}, {"b": 2}]
