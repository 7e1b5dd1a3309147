"""Planning sets on disk: what is refused, where it is named, and what stays behind."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from senna_prune.errors import FileError, SampleError
from senna_prune.files import digest
from senna_prune.task.labels import CAMERAS, Convention
from senna_prune.task.prompts import IMAGE_PROMPT, plan_question
from senna_prune.task.sample import PlanningSample, iter_samples, read_samples, write_samples

SAMPLE = PlanningSample(
    token="token",
    scene="scene-0001",
    timestamp=1,
    kind="plan",
    images={camera: f"samples/{camera}/0.jpg" for camera in CAMERAS},
    question=IMAGE_PROMPT + plan_question(3.0, "go straight"),
    answer="KEEP, STRAIGHT\n",
    speed=3.0,
    command="go straight",
    convention=Convention("upstream", "corrected"),
    trajectory=((0.0, 1.5), (0.5, 3.0)),
    source="0123/can_bus",
)


def decoded() -> dict[str, Any]:
    record: dict[str, Any] = json.loads(json.dumps(SAMPLE.to_dict()))
    return record


def test_there_and_back(tmp_path: Path) -> None:
    bare = replace(SAMPLE, token="other", speed=None, command=None, trajectory=None)
    assert write_samples(tmp_path / "new" / "set.jsonl", iter([SAMPLE, bare])) == 2
    assert read_samples(tmp_path / "new" / "set.jsonl") == [SAMPLE, bare]
    assert PlanningSample.from_dict(SAMPLE.to_dict()) == SAMPLE


SPOILT: list[tuple[dict[str, Any], str]] = [
    *[({name: None}, f"{name} is None, not a text") for name in ("token", "scene", "kind", "question", "answer")],
    ({"token": 7}, "token is 7, not a text"),
    ({"source": 7}, "source is 7, not a text"),
    ({"timestamp": 1.5}, "timestamp is 1.5, not a whole number"),
    ({"timestamp": True}, "timestamp is True"),
    ({"index": "0"}, "index is '0'"),
    ({"index": None}, "index is None"),
    ({"speed": "3"}, "speed is '3', not a number or null"),
    ({"speed": True}, "speed is True"),
    ({"speed": float("nan")}, "speed is nan"),
    ({"speed": 10**400}, "speed is a number of 1329 bits"),
    ({"command": 1}, "command is 1, not a text or null"),
    ({"images": dict.fromkeys(CAMERAS)}, "not an image path by camera"),
    ({"images": dict.fromkeys(CAMERAS, "")}, "not an image path by camera"),
    ({"images": list(CAMERAS)}, "not an image path by camera"),
    ({"images": {"CAM_FRONT": "a.jpg"}}, "holds 6 <image> markers for 1 cameras"),
    ({"question": "How are you?"}, "holds 0 <image> markers for 6 cameras"),
    ({"convention": {"camera": "upstream"}}, "not a convention"),
    ({"convention": {"cameras": "mirrored"}}, "not a convention"),
    ({"convention": None}, "convention is None, not an object"),
    ({"convention": {}}, "{} is not a convention of cameras and command"),
    ({"convention": {"cameras": "upstream"}}, "is not a convention of cameras and command"),
    ({"convention": {"cameras": [], "command": "upstream"}}, "is not a convention"),
    ({"kind": "PLAN"}, "unknown kind 'PLAN'. Choose from vru, "),
    ({"kind": "plans"}, "unknown kind 'plans'. Did you mean 'plan'?"),
    ({"scene": "\ud800"}, "scene is '\\ud800', not a text"),
    ({"images": {**dict.fromkeys(CAMERAS, "a.jpg"), "CAM_BACK": "\udfff.jpg"}}, "not an image path by camera"),
    ({"trajectory": [1, 2]}, "not a list of"),
    ({"trajectory": [[1, 2, 3]]}, "not a list of"),
    ({"trajectory": [["a", "b"]]}, "not a list of"),
    ({"trajectory": "there"}, "not a list of"),
    ({"schema": 0}, "schema version 0, expected 1"),
    ({"colour": "red"}, "unknown field 'colour'"),
]


@pytest.mark.parametrize(
    ("spoilt", "problem"), SPOILT, ids=lambda value: None if isinstance(value, str) else str(value)[:40]
)
def test_spoilt_fields_are_named_with_their_line(tmp_path: Path, spoilt: dict[str, Any], problem: str) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text(json.dumps(decoded()) + "\n\n" + json.dumps({**decoded(), **spoilt}) + "\n")
    with pytest.raises(SampleError) as caught:
        list(iter_samples(path))
    assert str(caught.value).startswith(f"{path}:3: ")
    assert problem in str(caught.value)


@pytest.mark.parametrize("junk", [b"\xff\xfe\x00\x01", b"{", b"[]", b"[" * 100_000, b"1" * 5000])
def test_lines_that_are_no_records_are_named(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "set.jsonl"
    path.write_bytes(json.dumps(decoded()).encode() + b"\n" + junk + b"\n")
    with pytest.raises(SampleError, match=r"set\.jsonl:2: not"):
        list(iter_samples(path))


@pytest.mark.parametrize("name", ["answer", "convention"])
def test_a_missing_field(name: str) -> None:
    record = decoded()
    del record[name]
    with pytest.raises(SampleError, match=f"here: field '{name}' is missing"):
        PlanningSample.from_dict(record, where="here")


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SampleError, match="no such planning set"):
        read_samples(tmp_path / "absent")
    for read in (digest, read_samples):
        with pytest.raises(FileError, match="cannot be read"):
            read(tmp_path)
    write_samples(tmp_path / "set.jsonl", [SAMPLE])

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(FileError, match=r"set\.jsonl: cannot be read \(Permission denied\)"):
        read_samples(tmp_path / "set.jsonl")
