"""Checkpoints that somebody damaged or made up: one line and exit status 2, nothing allocated, run or waited for.

Single cases, each with its message, are in `tests/model/test_broken_inputs.py`.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from senna_prune.commands import doctor
from senna_prune.errors import CheckpointError, SennaPruneError
from senna_prune.model.checkpoint import checkpoint_digest, load_senna, open_checkpoint
from senna_prune.model.configuration import _LIMITS, _POSITIVE
from senna_prune.model.tensor_files import read_tensors
from tests.hostile import refused
from tests.model.damage import CONFIG, INDEX, OURS, RELEASED, TOKENS, WEIGHTS, pristine, replaced
from tools import import_checkpoint as tool

__all__ = ["pristine"]
SETTINGS = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
DEEP = "[" * 10_000 + "]" * 10_000
TEXTS = {"deep": DEEP, "digits": '{"a": ' + "9" * 5_000 + "}", "empty": "", "cut": '{"a":', "no UTF-8": b"\xff\xfe\xff"}
ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin", "non_lora_trainables.bin")
both = pytest.mark.parametrize("kind", [RELEASED, OURS])


@pytest.fixture
def refuse(pristine: Any, tmp_path: Path, capsys: Any, monkeypatch: Any) -> Any:
    """Copies a checkpoint, changes it, and expects one line with the mentions and no import, within a minute; the
    doctor says the same in its line of the part."""

    def run(kind: str, change: Any, *mentions: str) -> None:
        shutil.rmtree(tmp_path / "model", ignore_errors=True)
        change(shutil.copytree(pristine[kind], tmp_path / "model"))
        signal.alarm(60)  # what waits for ever, or builds a billion layers, ends the process
        refused(capsys, monkeypatch, tool.main, [tmp_path / "model", tmp_path / "copy"], *mentions)
        assert doctor.main([str(tmp_path / "model")]) == 2
        signal.alarm(0)
        assert not (tmp_path / "copy").exists()
        printed = capsys.readouterr()
        faults = [line for line in printed.out.splitlines() if line.startswith("NO")]
        assert "Traceback" not in printed.err and all(mention in faults[0] for mention in mentions), printed

    return run


@both
@pytest.mark.parametrize("how", ["pipe", "dangling", *TEXTS])
def test_any_file_may_be_broken(kind: str, how: str, refuse: Any) -> None:
    files = [CONFIG, TOKENS, INDEX, "tokenizer.json", "generation_config.json", WEIGHTS]
    files += ["tower/config.json"] if kind == RELEASED else ["processor_config.json"]
    files += [] if how in TEXTS else ["chat_template.jinja", "tower"]
    for file in files:
        refuse(kind, replaced(file, TEXTS.get(how, how)), file.partition("/")[0])


@SETTINGS
@given(data=st.data(), kind=st.sampled_from([RELEASED, OURS]), odd=st.sampled_from(["x", 1.5, True, [], {"a": 1}]))
def test_any_number_may_be_absurd(data: Any, kind: str, odd: Any, refuse: Any, pristine: Any) -> None:
    file = data.draw(st.sampled_from([CONFIG, "tower/config.json"] if kind == RELEASED else [CONFIG]))
    config = json.loads((pristine[kind] / file).read_text())
    part = data.draw(st.sampled_from([key for key in ("text_config", "vision_config") if key in config] + [None]))
    fields = config[part] if part else config
    name = data.draw(st.sampled_from([name for name in fields if name in (*_LIMITS, *_POSITIVE)]))
    low, high = _LIMITS.get(name, (0, 0))
    far = st.integers(max_value=low - 1) | st.integers(min_value=high + 1, max_value=10**15) | st.just(odd)
    value = data.draw(far if name in _LIMITS else st.sampled_from([0, -1.0, float("nan"), float("inf")]))
    refuse(kind, replaced(file, {part: {name: value}} if part else {name: value}), CONFIG)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Ways to the first values at every depth of a JSON file."""
    inner = [*value.items()] if isinstance(value, dict) else [*enumerate(value)] if isinstance(value, list) else []
    return [at] * bool(at) + [place for key, part in inner[:12] for place in places(part, (*at, key))]


@SETTINGS
@given(data=st.data(), odd=st.sampled_from([None, [], {}, 3, -1, "x", True, 1e300, [1, 2], {"a": 1}]))
@pytest.mark.parametrize("file", [CONFIG, TOKENS, "tokenizer.json", "processor_config.json"])
def test_any_value_opens_or_is_refused(file: str, data: Any, odd: Any, pristine: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(pristine[OURS], tmp_path / "model", dirs_exist_ok=True)
    content = inner = json.loads((pristine[OURS] / file).read_text())
    *way, last = data.draw(st.sampled_from(places(content)))
    for key in way:
        inner = inner[key]
    inner[last] = odd
    (folder / file).write_text(json.dumps(content))
    with contextlib.suppress(SennaPruneError):
        open_checkpoint(folder).check()


@both
@pytest.mark.parametrize("file", ADAPTERS)
def test_adapters_beside_the_weights_are_named(kind: str, file: str, refuse: Any) -> None:
    refuse(kind, replaced(file, "{}"), f"{file}: an adapter beside the weights is not applied")


@both
@pytest.mark.parametrize("part", ["module", "base_model.model", "_orig_mod", "model.module", "lora_A", "base_layer"])
def test_names_of_wrappers_are_named(kind: str, part: str, refuse: Any) -> None:
    def renamed(name: str) -> str:
        return f"{part}.{name}" if "model" in part or "mod" in part else name.replace("weight", f"{part}.weight")

    refuse(kind, replaced(WEIGHTS, lambda w: {renamed(name): t for name, t in w.items()}), part.removeprefix("model."))


@pytest.mark.parametrize("name", ["x" * 300, "\udcff", "[/x]", "a/" * 3000])
def test_names_no_file_can_have(name: str, pristine: Any, capsys: Any, monkeypatch: Any) -> None:
    refused(capsys, monkeypatch, tool.main, [name, "copy"])
    refused(capsys, monkeypatch, tool.main, [pristine[OURS], "x" * 300], "cannot be written (File name too long)")


def test_an_unreadable_folder(pristine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "iterdir", lambda self: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    for attempt in (load_senna, checkpoint_digest):
        with pytest.raises(CheckpointError, match=r"cannot be read \(Permission denied\)"):
            attempt(pristine[OURS])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["pickle", "archive", "safetensors"])
def test_any_byte_of_the_weights_may_be_wrong(form: str, tmp_path: Path) -> None:
    """torch raises a dozen types of errors over them."""
    path, tensors = tmp_path / f"w.{'safetensors' if form == 'safetensors' else 'bin'}", {"a": torch.eye(4)}
    options = {} if form == "safetensors" else {"_use_new_zipfile_serialization": form == "archive"}
    (save_file if form == "safetensors" else torch.save)(tensors, path, **options)  # type: ignore[operator]
    whole, chance, refusals = path.read_bytes(), random.Random(0), 0
    for number in range(400):
        at, run, content = chance.randrange(len(whole)), 1 + 60 * (number % 2), bytearray(whole)
        content[at : at + run] = chance.randbytes(run)
        path.write_bytes(content[: None if number % 3 else at])
        try:
            read_tensors(path)
        except CheckpointError:
            refusals += 1
    assert refusals > 50
