"""Checkpoints that somebody damaged or made up: one line and exit status 2, nothing allocated, run or waited for."""

from __future__ import annotations

import json
import random
import shutil
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from senna_prune.errors import CheckpointError, InputError
from senna_prune.model.checkpoint import checkpoint_digest, load_senna
from senna_prune.model.importing import import_checkpoint
from senna_prune.model.tensor_files import read_tensors
from tests.fakes import tiny_senna
from tests.hostile import fifo, refused
from tests.model.reference import write_reference
from tools import import_checkpoint as tool

Break = Callable[[Path], Any]
DEEP = "[" * 10_000 + "]" * 10_000
DIGITS = '{"a": ' + "9" * 5_000 + "}"
RELEASED, OURS = "released", "ours"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A whole checkpoint in each format."""
    folder = tmp_path_factory.mktemp("pristine")
    released = write_reference(folder / RELEASED, *tiny_senna())
    import_checkpoint(released, folder / OURS)
    return {RELEASED: released, OURS: folder / OURS}


@pytest.fixture(autouse=True)
def _in_time() -> Iterator[None]:
    """A case that waits for ever, or builds a billion layers, fails."""

    def late(*_: object) -> None:
        raise TimeoutError("the checkpoint was neither opened nor refused in time")

    previous = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


def text(name: str, content: str) -> Break:
    return lambda folder: (folder / name).write_text(content)


def pipe(name: str) -> Break:
    def write(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        fifo(folder / name)

    return write


def dangling(name: str) -> Break:
    def write(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to("nowhere")

    return write


def fields(name: str, *path: str, **changes: Any) -> Break:
    """Change fields of the object that stands at `path` in a JSON file."""

    def write(folder: Path) -> None:
        record = inner = json.loads((folder / name).read_text())
        for key in path:
            inner = inner[key]
        inner |= changes
        (folder / name).write_text(json.dumps(record))

    return write


def norm_as(dtype: torch.dtype) -> Break:
    def write(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        tensors["model.norm.weight"] = tensors["model.norm.weight"].to(dtype)
        save_file(tensors, folder / "model.safetensors")

    return write


def index(name: str) -> Break:
    return text("model.safetensors.index.json", json.dumps({"weight_map": {"lm_head.weight": name}}))


def header(content: bytes) -> Break:
    return lambda folder: (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(content)) + content)


def odd_bin(content: object) -> Break:
    def write(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        torch.save(content, folder / "pytorch_model.bin")

    return write


def broken_bin(change: Callable[[bytearray], None], legacy: bool) -> Break:
    """A `.bin` file with some bytes changed."""

    def write(folder: Path) -> None:
        path = folder / "pytorch_model.bin"
        tensors = load_file(folder / "model.safetensors")
        torch.save(tensors, path, _use_new_zipfile_serialization=not legacy)
        content = bytearray(path.read_bytes())
        change(content)
        path.write_bytes(content)
        (folder / "model.safetensors").unlink()

    return write


def overwritten(places: slice) -> Callable[[bytearray], None]:
    def change(content: bytearray) -> None:
        content[places] = b"(" * len(content[places])

    return change


CASES: dict[str, tuple[str, Break, str]] = {
    "config is a pipe": (RELEASED, pipe("config.json"), "config.json: cannot be read (it is no ordinary file)"),
    "tokenizer is a pipe": (OURS, pipe("tokenizer.json"), "tokenizer.json: cannot be read (it is no ordinary"),
    "chat template is a pipe": (OURS, pipe("chat_template.jinja"), "chat_template.jinja: cannot be read (it is no"),
    "weights are a pipe": (RELEASED, pipe("model.safetensors"), "model.safetensors: cannot be read (it is no ordinary"),
    "dangling weights": (RELEASED, dangling("model.safetensors"), "model.safetensors: cannot be read (No such file"),
    "dangling tower": (RELEASED, lambda f: (shutil.rmtree(f / "tower"), dangling("tower")(f)), "tower: cannot be read"),
    "deep config": (RELEASED, text("config.json", DEEP), "config.json: not JSON (nested too deeply)"),
    "deep index": (OURS, text("model.safetensors.index.json", DEEP), "index.json: not JSON (nested too deeply)"),
    "deep tokenizer": (OURS, text("tokenizer.json", DEEP), "tokenizer.json: not JSON (nested too deeply)"),
    "deep tower": (RELEASED, text("tower/config.json", DEEP), "tower/config.json: not JSON (nested too deeply)"),
    "digits in config": (OURS, text("config.json", DIGITS), "config.json: not JSON (Exceeds the limit"),
    "digits for tokens": (OURS, text("tokenizer_config.json", DIGITS), "tokenizer_config.json: not JSON (Exceeds"),
    "tokens in a list": (RELEASED, text("special_tokens_map.json", "[]"), "tokenizer.json: cannot be used"),
    "no layers": (
        RELEASED,
        fields("config.json", num_hidden_layers=0),
        "num_hidden_layers of text_config is 0, not in",
    ),
    "a billion layers": (
        OURS,
        fields("config.json", "text_config", num_hidden_layers=10**9),
        "num_hidden_layers of text_config is 1000000000, not in 1..1024",
    ),
    "a billion tower layers": (
        RELEASED,
        fields("tower/config.json", num_hidden_layers=10**9),
        "num_hidden_layers of vision_config is 1000000000",
    ),
    "no patches": (OURS, fields("config.json", "vision_config", patch_size=0), "patch_size of vision_config is 0"),
    "patch beyond the picture": (
        OURS,
        fields("config.json", "vision_config", patch_size=57),
        "patch_size 57 is larger than image_size 56",
    ),
    "no heads": (RELEASED, fields("config.json", num_attention_heads=0), "num_attention_heads of text_config is 0"),
    "absurd width": (RELEASED, fields("config.json", hidden_size=10**15), "hidden_size of text_config is 10"),
    "a billion views": (OURS, fields("config.json", num_views=10**9), "num_views of the model is 1000000000"),
    "frequency base not a number": (
        RELEASED,
        fields("config.json", rope_theta=float("nan")),
        "rope_theta of text_config is nan",
    ),
    "frequency base deep inside": (
        OURS,
        fields("config.json", "text_config", "rope_parameters", rope_theta=float("nan")),
        "rope_theta of text_config is nan",
    ),
    "frequency base of zero": (RELEASED, fields("config.json", rope_theta=0), "rope_theta of text_config is 0"),
    "whole numbers as type": (OURS, fields("config.json", dtype="int8"), "is no floating-point type"),
    "norm of whole numbers": (RELEASED, norm_as(torch.int64), "(model.language_model.norm.weight is torch.int64)"),
    "norm of truth values": (RELEASED, norm_as(torch.bool), "1 tensors are no floating-point weights"),
    "no BOS": (
        OURS,
        fields("tokenizer_config.json", bos_token=None),
        "tokenizer_config.json: the tokenizer lacks a BOS",
    ),
    "no tokenizer configuration": (
        OURS,
        lambda folder: (folder / "tokenizer_config.json").unlink(),
        "tokenizer_config.json: the tokenizer lacks a BOS",
    ),
    "length in words": (OURS, fields("tokenizer_config.json", model_max_length="long"), "model_max_length is 'long'"),
    "code in the tokenizer": (
        OURS,
        fields("tokenizer_config.json", auto_map={"AutoTokenizer": ["x.Y", None]}, tokenizer_class="Y"),
        "tokenizer.json: cannot be used",
    ),
    "shard name too long": (OURS, index("x" * 300), "index.json: cannot be read (File name too long)"),
    "shard name is no text": (OURS, index("\ud800"), "1 of 1 shards are absent"),
    "tower name too long": (RELEASED, fields("config.json", mm_vision_tower="x" * 300), "File name too long"),
    "deep header": (OURS, header(DEEP.encode()), "model.safetensors: truncated or damaged"),
    "tensor of terabytes": (
        OURS,
        header(b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'),
        "model.safetensors: truncated or damaged",
    ),
    "sparse tensor": (RELEASED, odd_bin({"a": torch.eye(2).to_sparse()}), "entry 'a' is a Tensor, not a dense tensor"),
    "number as name": (RELEASED, odd_bin({3: torch.eye(2)}), "the name 3 is no text"),
    "scrambled pickle": (RELEASED, broken_bin(overwritten(slice(200, 260)), True), "pytorch_model.bin"),
    "scrambled archive": (RELEASED, broken_bin(overwritten(slice(-60, -20)), False), "pytorch_model.bin"),
}


@pytest.mark.parametrize("case", CASES)
def test_refused(
    case: str,
    pristine: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind, damage, mention = CASES[case]
    folder = shutil.copytree(pristine[kind], tmp_path / "model")
    damage(folder)
    refused(capsys, monkeypatch, tool.main, [folder, tmp_path / "copy"], mention)
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("name", ["x" * 300, "\udcff", "[/x]", "a/" * 3000])
def test_names_no_file_can_have(
    name: str, pristine: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(capsys, monkeypatch, tool.main, [name, "copy"])
    too_long = "x" * 300
    refused(capsys, monkeypatch, tool.main, [pristine[OURS], too_long], "cannot be written (File name too long)")


@pytest.mark.parametrize("options", [{"device": "meta"}, {"device": {"": "meta"}}, {"dtype": "int8"}, {"dtype": 3}])
def test_options_that_give_no_model(pristine: dict[str, Path], options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        load_senna(pristine[OURS], **options)


def test_an_unreadable_folder(pristine: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)
    for attempt in (load_senna, checkpoint_digest):
        with pytest.raises(CheckpointError, match=r"cannot be read \(Permission denied\)"):
            attempt(pristine[OURS])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("legacy", [True, False])
def test_any_byte_of_a_pickle_may_be_wrong(tmp_path: Path, legacy: bool) -> None:
    """torch raises a dozen types of errors over them."""
    path, chance = tmp_path / "pytorch_model.bin", random.Random(0)
    torch.save({"a": torch.eye(4), "b": torch.zeros(3)}, path, _use_new_zipfile_serialization=not legacy)
    whole, refusals = path.read_bytes(), 0
    for _ in range(400):
        content = bytearray(whole)
        content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(content)
        try:
            read_tensors(path)
        except CheckpointError:
            refusals += 1
    assert refusals > 50
