"""Checkpoints: every released layout opens, the import writes our format, memory and digests behave."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer, LlamaTokenizer

from senna_prune.errors import CheckpointError
from senna_prune.model import checkpoint, importing
from senna_prune.model.checkpoint import DIGEST_FILE, checkpoint_digest, load_senna, open_checkpoint
from senna_prune.model.importing import import_checkpoint, open_released
from senna_prune.task.prompts import planning_prompt, planning_question
from tests.conftest import ROOT
from tests.fakes import tiny_senna
from tests.model.reference import write_reference, write_tower
from tools import import_checkpoint as tool


def assert_same(one: nn.Module, other: nn.Module) -> None:
    expected, found = one.state_dict(), other.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name].to(expected[name].dtype)) for name in expected)


@pytest.mark.parametrize("tower_inside", [True, False])
@pytest.mark.parametrize("layout", ["single", "sharded"])
@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_released_layouts_open_and_import(tmp_path: Path, suffix: Any, layout: Any, tower_inside: bool) -> None:
    model, processor = tiny_senna()
    source = write_reference(tmp_path / "released", model, processor, suffix, layout, tower_inside)
    opened, read = load_senna(source)
    assert_same(model, opened)
    assert not opened.training
    assert read.image_aspect_ratio == "pad"
    assert (read.num_view_tokens, read.image_size, read.image_token_id) == (8, 56, 512)
    digest = import_checkpoint(source, tmp_path / "ours")
    assert_same(model, load_senna(tmp_path / "ours")[0])
    assert_same(model, AutoModelForImageTextToText.from_pretrained(tmp_path / "ours"))
    read = AutoProcessor.from_pretrained(tmp_path / "ours")
    answer = "KEEP, STRAIGHT"
    assert read(text=answer)["input_ids"].tolist() == processor(text=answer)["input_ids"].tolist()
    assert digest == checkpoint_digest(tmp_path / "ours")


def test_old_and_unindexed_bin_files_open(tmp_path: Path) -> None:
    model, processor = tiny_senna()
    assert_same(model, load_senna(write_reference(tmp_path / "old", model, processor, ".bin", legacy=True))[0])
    source = write_reference(tmp_path / "shards", model, processor, ".bin", "sharded")
    (source / "pytorch_model.bin.index.json").unlink()
    assert_same(model, load_senna(source)[0])


@pytest.mark.parametrize("whole_clip", [True, False])
def test_a_given_tower_wins(tmp_path: Path, whole_clip: bool) -> None:
    model, processor = tiny_senna()
    source = write_reference(tmp_path / "released", model, processor)
    other = tiny_senna(seed=5)[0]
    tower = write_tower(tmp_path / "clip", other, whole_clip)
    opened = load_senna(source, vision_tower=tower)[0]
    expected = other.model.vision_tower.state_dict()
    assert all(torch.equal(t, expected[name]) for name, t in opened.model.vision_tower.state_dict().items())
    assert torch.equal(opened.lm_head.weight, model.lm_head.weight)


@pytest.mark.parametrize(("dtype", "expected"), [("auto", torch.bfloat16), ("float32", torch.float32)])
def test_dtype(tmp_path: Path, dtype: str, expected: torch.dtype) -> None:
    model, processor = tiny_senna()
    narrow: Any = model
    source = write_reference(tmp_path, narrow.to(torch.bfloat16), processor, ".bin", torch_dtype="bfloat16")
    opened = load_senna(source, dtype)[0]
    assert {parameter.dtype for parameter in opened.parameters()} == {expected}
    assert_same(model, opened)


@pytest.mark.parametrize("device_map", ["auto", {"": "cpu"}])
def test_device_maps(tmp_path: Path, device_map: Any) -> None:
    model, processor = tiny_senna()
    import_checkpoint(write_reference(tmp_path / "released", model, processor), tmp_path / "ours")
    assert_same(model, load_senna(tmp_path / "ours", device=device_map)[0])


def test_low_memory_loading_with_layers_on_disk(tmp_path: Path) -> None:
    model, processor = tiny_senna()
    import_checkpoint(write_reference(tmp_path / "released", model, processor), tmp_path / "ours")
    device_map = {"model.vision_tower": "cpu", "model.multi_modal_projector": "cpu", "model.img_adapter": "cpu"}
    device_map |= {"model.language_model": "disk", "lm_head": "cpu"}
    loaded = AutoModelForImageTextToText.from_pretrained(
        tmp_path / "ours", device_map=device_map, offload_folder=tmp_path / "offload"
    )
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        torch.testing.assert_close(loaded(input_ids=ids).logits, model(input_ids=ids).logits)


def test_what_the_released_files_say_or_leave_out(tmp_path: Path) -> None:
    source = write_reference(tmp_path / "plain", *tiny_senna(), image_aspect_ratio=None)
    (source / "generation_config.json").write_text(json.dumps({"temperature": 0.9, "top_p": 0.6}))
    model, processor = load_senna(source)
    assert processor.image_aspect_ratio == "plain"
    config: Any = model.generation_config
    assert (config.do_sample, config.pad_token_id, config.eos_token_id) == (False, 0, 2)
    source = write_reference(tmp_path, *tiny_senna(), mm_vision_tower="openai/clip-vit-large-patch14-336")
    assert open_released(source).config.vision_config.num_hidden_layers == 24, "the released tower needs no folder"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_import_holds_one_shard_at_a_time_and_leaves_nothing_when_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    source = write_reference(tmp_path / "released", *tiny_senna(), ".safetensors", "sharded", tower_inside=False)
    counts: list[int] = []

    def stopped(tensors: dict[str, Tensor], path: Path, *_: Any) -> None:
        path.write_bytes(b"half")
        counts.append(len(tensors))
        if len(counts) == 2:
            raise error

    monkeypatch.setattr(importing, "save_file", stopped)
    with pytest.raises(
        (CheckpointError, KeyboardInterrupt), match="No space left" if isinstance(error, OSError) else ""
    ):
        import_checkpoint(source, tmp_path / "ours")
    index = json.loads((source / "model.safetensors.index.json").read_text())["weight_map"]
    files = [file for name, file in index.items() if "inv_freq" not in name]
    assert counts == [files.count(file) for file in sorted(set(files))]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["released"]


def test_a_killed_import_is_cleared_by_the_next(tmp_path: Path) -> None:
    source = write_reference(tmp_path / "released", *tiny_senna())
    (tmp_path / ".ours.part").mkdir()
    (tmp_path / ".ours.part" / "model.safetensors").write_bytes(b"half")
    import_checkpoint(source, tmp_path / "ours")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours", "released"]


def test_digest_follows_contents_not_the_folder_and_a_record_saves_reading(tmp_path: Path) -> None:
    source = write_reference(tmp_path / "released", *tiny_senna())
    one, two = tmp_path / "one", tmp_path / "two"
    digest = import_checkpoint(source, one)
    assert digest == import_checkpoint(source, two) and len(digest) == 16
    (one / DIGEST_FILE).unlink()
    assert checkpoint_digest(one) == digest, "recorded and computed digest are the same"
    (two / DIGEST_FILE).write_text((two / DIGEST_FILE).read_text().replace(digest, "recorded"))
    assert checkpoint_digest(two) == "recorded"
    with pytest.raises(CheckpointError, match="no such checkpoint folder"):
        checkpoint_digest(tmp_path / "nothing")


def test_a_record_is_not_believed_after_a_byte_changed_and_the_time_was_set_back(tmp_path: Path) -> None:
    digest = import_checkpoint(write_reference(tmp_path / "released", *tiny_senna()), tmp_path / "ours")
    weights = tmp_path / "ours" / "model.safetensors"
    before, content = weights.stat(), bytearray(weights.read_bytes())
    content[-1] ^= 1
    time.sleep(0.05)  # a file system's clock ticks every few milliseconds
    weights.write_bytes(content)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert checkpoint_digest(tmp_path / "ours") != digest


def test_the_digest_covers_the_tower_that_the_configuration_names(tmp_path: Path) -> None:
    source = write_reference(tmp_path, *tiny_senna(), tower_inside=False)
    digest = checkpoint_digest(source)
    write_tower(source / "tower", tiny_senna(seed=5)[0])
    assert checkpoint_digest(source) != digest


def test_tool_prints_the_digest_or_one_line(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_reference(tmp_path / "released", *tiny_senna(), tower_inside=False)
    ours, tower = tmp_path / "ours", ["--vision-tower", str(source / "tower")]
    assert tool.main([str(source), str(ours), *tower]) == 0
    assert capsys.readouterr().out == f"{ours}: digest {checkpoint_digest(ours)}\n"
    (tmp_path / "file").touch()
    for destination, problem in ((ours, "the destination exists"), (tmp_path / "file" / "ours", "cannot be written")):
        assert tool.main([str(source), str(destination), *tower]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {destination}") and problem in error and error.count("\n") == 1
    monkeypatch.setattr(importing, "import_checkpoint", interrupted)
    assert tool.main(["source", "destination"]) == 130
    assert capsys.readouterr().err == "\ninterrupted; nothing was imported; run the same command again\n"


def interrupted(*_: object) -> str:
    raise KeyboardInterrupt


def test_our_own_reader_gives_the_processor_that_transformers_gives(tmp_path: Path) -> None:
    import_checkpoint(write_reference(tmp_path / "released", *tiny_senna()), tmp_path / "ours")
    for folder in (tmp_path / "ours", ROOT / "data" / "demo" / "model"):
        ours, theirs = open_checkpoint(folder).processor, AutoProcessor.from_pretrained(folder)
        assert ours.to_dict() == theirs.to_dict()
        assert ours.tokenizer.init_kwargs == theirs.tokenizer.init_kwargs
        prompt = planning_prompt(planning_question(6.0, "go straight"))
        assert torch.equal(ours.encode_prompt(prompt), theirs.encode_prompt(prompt))


def test_code_beside_a_tokenizer_is_never_asked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers asks on a terminal whether to run it, unless it is told not to."""
    source = write_reference(tmp_path / "released", *tiny_senna())
    import_checkpoint(source, tmp_path / "ours")
    told = []
    for kind in (AutoTokenizer, LlamaTokenizer):

        def read(*given: Any, kind: Any = kind, **options: Any) -> Any:
            told.append(options["trust_remote_code"])
            return kind.from_pretrained(*given, **options)

        monkeypatch.setattr(
            importing if kind is LlamaTokenizer else checkpoint, kind.__name__, SimpleNamespace(from_pretrained=read)
        )
    open_checkpoint(source)
    open_checkpoint(tmp_path / "ours")
    assert told == [False, False]
