"""Hostile settings: configuration files, `key=value` words and the environment."""

from __future__ import annotations

import socket
from datetime import timedelta
from pathlib import Path

import pytest

from senna_prune.evaluation.run import processes
from tests.conftest import ROOT
from tests.hostile import fifo
from tests.hostile.conftest import Refuse
from tools import eval_planning

DEMO = [f"data.planning_set={ROOT}/data/demo/planning_set.jsonl", f"data.image_root={ROOT}/data/demo"]
DEMO += [f"model.path={ROOT}/data/demo/model", "limit=1", "scoring.resamples=10"]

FILES: list[tuple[str | bytes, str]] = [
    ("name: " + "[" * 20_000, "line 1: exceeded maximum nesting depth"),
    ("pruning: {options: {a: {b: " + "[" * 600 + "]" * 600 + "}}}", "not readable"),
    ("name: x\n? [a]\n: b\n", "line 2: found unhashable key"),
    ("name: a\nname: b\n", "line 2: found duplicate key name"),
    ("name: !!python/object/apply:os.system [ls]\n", "line 1: could not determine"),
    ('name: "\\uD800"\n', "line 1: found invalid Unicode"),
    ("name: \0", "control characters are not allowed"),
    (b"\xff\xfe\x00", "not readable as YAML"),
    ("data:\n\timage_root: x\n", "line 2: found character"),
    ("limit: 1\n---\nlimit: 2\n", "another document"),
    ("name: ${name}\n", "Recursive interpolation"),
    ("name: ${\n", "not readable as YAML"),
    ("name: &a\n  - *a\n", "aliases are not supported"),
    ("null: 2\n", "not readable as YAML"),
    ("name: !!binary aGVsbG8=\n", "name: Cannot convert 'bytes'"),
]


@pytest.mark.parametrize(("text", "message"), FILES, ids=range(len(FILES)))
def test_configuration_files(refuse: Refuse, tmp_path: Path, text: str | bytes, message: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    line = refuse(eval_planning.main, ["--config", file], message)
    assert str(file) in line or "name:" in line


def test_configuration_files_that_are_none(refuse: Refuse, tmp_path: Path) -> None:
    for path in (fifo(tmp_path / "pipe"), tmp_path, tmp_path / ("n" * 300), "/dev/zero", "a\udcffb.yaml"):
        refuse(eval_planning.main, ["--config", path], "no such configuration file")


WORDS: list[tuple[str, str]] = [
    ("nonsense", "command line: 'nonsense' is not key=value"),
    ("pruning.retention=0.3", "unknown key 'pruning.retention'. Did you mean 'pruning.retentions'?"),
    ("--config absent.yaml", "absent.yaml: no such configuration file"),
    ("--limit ten", "limit: Value 'ten' of type 'str' could not be converted to Integer"),
    ("--limit 0", "limit: 0 is less than 1"),
    ("--methods autoprun", "unknown pruning method 'autoprun'. Did you mean 'autoprune'?"),
    ("--methods random,random", "pruning: 'random@0.25#0' is listed twice"),
    ("pruning.retentions=0", "pruning.retentions: 0.0 is no share of tokens"),
    ("pruning.retentions=25", "pruning.retentions: 25.0 is no share of tokens"),
    ("pruning.options.autoprune.colour=red", "unknown option 'colour'"),
    ("pruning.options.autoprune.variant=beta", "'beta' is not one of released, paper"),
    ("readout.mode=guess", "readout.mode: unknown value 'guess'"),
    ("scoring.on_error=hope", "scoring.on_error: unknown value 'hope'"),
    ("scoring.protocol=mine", "scoring.protocol: unknown value 'mine'"),
    ("model.dtype=int7", "model.dtype: unknown value 'int7'"),
    ("model.path=absent", "absent"),
    ("model.device=quantum", "quantum"),
    ("model.attn_implementation=psychic", "psychic"),
    ("data.planning_set=absent.jsonl", "absent.jsonl: no such planning set"),
    ("data.image_root=absent", "no such image (6 of 6 images are missing)"),
    ("output=/proc/nowhere", "/proc/nowhere: cannot be written"),
    ("name=../../x", "name: '../../x' cannot name a run"),
    ("name=..\\x", "cannot name a run"),
    ("name=[/x]", "name: Cannot convert 'ListConfig'"),
    ('name="[/x]"', "name: '[/x]' cannot name a run"),
    ('name="a\\x1bb"', "cannot name a run"),
    ('name=""', "name: '' cannot name a run"),
    ("name=" + "n" * 300, "cannot name a run"),
    ("name=a\udcffb", "surrogates not allowed"),
    ("name=" + "[" * 3000, "exceeded maximum nesting depth"),
    ("scoring.seed=-1", "scoring.seed: -1 is less than 0"),
    ("pruning.seeds=[0,-1]", "pruning.seeds: -1 is less than 0"),
    ("scoring.resamples=100000000000", "scoring.resamples: 100000000000 is more than 100000"),
    ("scoring.resamples=" + "9" * 5000, "Exceeds the limit"),
    ("readout.max_new_tokens=1000000000", "readout.max_new_tokens: 1000000000 is more than"),
    ("kept_samples=1e11", "kept_samples: Value '100000000000.0'"),
    ("pruning.options=[1]", "Cannot merge incompatible container types"),
    ("pruning.options.mine.method=null", "pruning.options.mine.method: None is no method"),
    ("pruning.options.mine.method=[autoprune]", "pruning.options.mine.method: ['autoprune'] is no method"),
    ("pruning.methods=[[autoprune]]", "'pruning.methods' takes single values"),
    ("pruning.methods=[{a: b}]", "'pruning.methods' takes single values"),
    ('pruning.methods=["a\\nb"]', "cannot be a label"),
    ("data.planning_set={a: b}", "'data.planning_set' takes single values"),
    ("data.planning_set=" + "n" * 300, "nnn"),
    ("data.image_root=" + "n" * 300, "no such image"),
    ("model.device=meta", "model.device: meta computes nothing here"),
    ("output=" + "n" * 300, "cannot be written (File name too long)"),
]


@pytest.fixture
def chdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("word", "message"), WORDS, ids=range(len(WORDS)))
def test_key_value_words(refuse: Refuse, chdir: Path, word: str, message: str) -> None:
    words = word.split() if word.startswith("--") else [word]
    refuse(eval_planning.main, [*DEMO, *words], message)
    assert not list(chdir.rglob("decisions.jsonl"))


def test_more_kept_samples_than_there_are(tmp_path: Path) -> None:
    """A count of 1e11 once looped over that many numbers."""
    assert eval_planning.main([*DEMO, "kept_samples=100000000000", f"output={tmp_path}/run", "--methods", "none"]) == 0


ENVIRONMENTS: list[tuple[dict[str, str], str]] = [
    ({"WORLD_SIZE": "abc"}, "WORLD_SIZE: 'abc' is no whole number"),
    ({"WORLD_SIZE": ""}, "WORLD_SIZE: '' is no whole number"),
    ({"WORLD_SIZE": "2"}, "RANK: is not set, but WORLD_SIZE is"),
    ({"WORLD_SIZE": "2", "RANK": "x"}, "RANK: 'x' is no whole number"),
    ({"WORLD_SIZE": "2", "RANK": "0"}, "MASTER_PORT: is not set"),
]
LAUNCH = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": ""}
ENVIRONMENTS += [(LAUNCH | {"RANK": rank}, f"process {rank} of 2: 1 other") for rank in "01"]


@pytest.mark.parametrize(("environment", "message"), ENVIRONMENTS, ids=range(len(ENVIRONMENTS)))
def test_environments_that_no_launch_makes(
    refuse: Refuse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, environment: dict[str, str], message: str
) -> None:
    """Also one whose other process does not come: it is not awaited for ever."""
    monkeypatch.setattr(processes, "JOIN_WAIT", timedelta(seconds=1))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    for name, value in environment.items():
        monkeypatch.setenv(name, value or (port if name == "MASTER_PORT" else ""))
    refuse(eval_planning.main, [*DEMO, f"output={tmp_path}/run"], message)
