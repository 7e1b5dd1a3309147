"""Whatever is wrong with a checkpoint is named in one line, by a typed error."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError

from senna_prune.errors import CheckpointError, InputError, SennaPruneError
from senna_prune.model import checkpoint
from senna_prune.model.checkpoint import load_senna
from senna_prune.model.importing import import_checkpoint
from tests.fakes import tiny_senna, tiny_tokenizer
from tests.model.reference import reference_tensors, write_reference, write_weights

Break = Callable[[Path], Any]


class Code:
    """A pickle that would run a command when it is opened without care."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch ran_code",)


def cut(path: Path, share: float = 0.5) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def rewrite(folder: Path, change: Callable[[dict[str, Any]], Any], suffix: Any = ".safetensors") -> None:
    """Rewrite the weights after `change` to their dictionary."""
    tensors = reference_tensors(tiny_senna()[0])
    change(tensors)
    for path in folder.glob("*.safetensors"):
        path.unlink()
    write_weights(folder, tensors, suffix)


def bin_of(content: Any, **options: Any) -> Break:
    def write(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        torch.save(content, folder / "pytorch_model.bin", **options)

    return write


def config_with(**changes: Any) -> Break:
    def write(folder: Path) -> None:
        raw = json.loads((folder / "config.json").read_text()) | changes
        raw = {key: value for key, value in raw.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(raw))

    return write


def sharded(damage: Break) -> Break:
    def write(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        write_weights(folder, reference_tensors(tiny_senna()[0]), ".safetensors", "sharded")
        damage(folder)

    return write


def index_text(text: str) -> Break:
    return sharded(lambda folder: (folder / "model.safetensors.index.json").write_text(text))


def truncated_bin(legacy: bool) -> Break:
    def write(folder: Path) -> None:
        tensors = reference_tensors(tiny_senna()[0])
        bin_of(tensors, _use_new_zipfile_serialization=not legacy)(folder)
        cut(folder / "pytorch_model.bin")

    return write


def no_tower(folder: Path) -> None:
    rewrite(folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if "vision_tower" in name])
    shutil.rmtree(folder / "tower")


def big_tokenizer(folder: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<extra>"])
    tokenizer.save_pretrained(folder)


def grown(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda tensors: tensors.update({name: torch.zeros(7, 7)})


def drop_layer(tensors: dict[str, Any]) -> None:
    for name in [name for name in tensors if name.startswith(("model.layers.1.", "model.layers.2."))]:
        del tensors[name]


SAFE_OPEN = "truncated or damaged"

CHECKPOINTS: dict[str, tuple[Break, tuple[str, ...]]] = {
    "truncated safetensors": (lambda f: cut(f / "model.safetensors"), ("model.safetensors", SAFE_OPEN)),
    "safetensors cut in its header": (lambda f: cut(f / "model.safetensors", 0.001), (SAFE_OPEN,)),
    "empty weights": (lambda f: (f / "model.safetensors").write_bytes(b""), (SAFE_OPEN,)),
    "truncated shard": (sharded(lambda f: cut(f / "model-00002-of-00002.safetensors")), ("model-00002", SAFE_OPEN)),
    "truncated bin": (truncated_bin(legacy=False), ("pytorch_model.bin", SAFE_OPEN)),
    "truncated legacy bin": (truncated_bin(legacy=True), ("pytorch_model.bin", SAFE_OPEN)),
    "pickle with code": (bin_of({"lm_head.weight": Code()}), ("pytorch_model.bin", "run code", "safetensors")),
    "legacy pickle with code": (bin_of(Code(), _use_new_zipfile_serialization=False), ("run code",)),
    "bin with other things": (bin_of({"epoch": 3}), ("entry 'epoch' is a int",)),
    "bin of a list": (bin_of([torch.zeros(2)]), ("holds a list",)),
    "git lfs pointer": (
        lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n"),
        ("Git LFS pointer", "git lfs pull"),
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), ("no weight files",)),
    "missing shard": (
        sharded(lambda f: (f / "model-00001-of-00002.safetensors").unlink()),
        ("1 of 2 shards are absent (model-00001-of-00002.safetensors)",),
    ),
    "index is not json": (index_text("{"), ("model.safetensors.index.json", "not JSON")),
    "index without a map": (index_text('{"weight_map": 3}'), ("no weight_map",)),
    "index points outside": (index_text('{"weight_map": {"a": "../x.safetensors"}}'), ("points outside",)),
    "wrong shape": (
        lambda f: rewrite(f, grown("lm_head.weight")),
        ("1 tensors have the wrong shape", "lm_head.weight is (7, 7), expected (512, 64)"),
    ),
    "missing tensor": (
        lambda f: rewrite(f, lambda tensors: tensors.pop("model.norm.weight")),
        ("1 tensors are missing (model.language_model.norm.weight)",),
    ),
    "many missing tensors": (lambda f: rewrite(f, drop_layer), ("18 tensors are missing", "and 8 more")),
    "extra tensor": (
        lambda f: rewrite(f, grown("model.layers.9.self_attn.q_proj.weight")),
        ("1 tensors are not part of the model (model.language_model.layers.9",),
    ),
    "no adapter": (
        lambda f: rewrite(f, lambda tensors: [tensors.pop(n) for n in list(tensors) if "img_adapter" in n]),
        ("image adapter is missing", "LLaVA"),
    ),
    "no config": (lambda f: (f / "config.json").unlink(), ("config.json: cannot be read (No such file",)),
    "config is not json": (lambda f: (f / "config.json").write_text("{,"), ("not JSON",)),
    "config is a list": (lambda f: (f / "config.json").write_text("[]"), ("not a JSON object",)),
    "another model": (config_with(model_type="gpt2"), ("model_type 'gpt2' is not Senna",)),
    "no model type": (config_with(model_type=None), ("model_type None is not Senna",)),
    "another projector": (config_with(mm_projector_type="linear"), ("mm_projector_type is 'linear'",)),
    "features with class token": (config_with(mm_vision_select_feature="cls_patch"), ("mm_vision_select_feature",)),
    "a layer the tower lacks": (config_with(mm_vision_select_layer=-9), ("vision_feature_layer -9",)),
    "unsupported images": (config_with(image_aspect_ratio="anyres"), ("image_aspect_ratio 'anyres'",)),
    "config without sizes": (config_with(hidden_size=None), ("hidden_size is missing",)),
    "heads that do not divide": (
        config_with(num_attention_heads=3),
        ("num_attention_heads 3 is no",),
    ),
    "unknown activation": (config_with(hidden_act="magic"), ("config.json: cannot be used", "magic")),
    "unknown dtype": (config_with(torch_dtype="float17"), ("config.json", "float17")),
    "dtype of another type": (config_with(torch_dtype=3), ("config.json", "dtype 3")),
    "layer in words": (config_with(mm_vision_select_layer="last"), ("vision_feature_layer is 'last'",)),
    "config of another vocabulary": (config_with(vocab_size=600), ("wrong shape", "expected (600, 64)")),
    "no tower": (no_tower, ("no vision tower", "--vision-tower")),
    "tower of unknown shape": (lambda f: shutil.rmtree(f / "tower"), ("shape of the vision tower 'tower' is unknown",)),
    "tower of another kind": (
        lambda f: (f / "tower" / "config.json").write_text('{"model_type": "siglip"}'),
        ("model_type 'siglip' is not a CLIP model",),
    ),
    "tokenizer too large": (big_tokenizer, ("the tokenizer has 513 pieces, the model embeds 512",)),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), ("no tokenizer",)),
    "broken tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), ("tokenizer.json: cannot be used",)),
    "broken sentencepiece": (
        lambda f: (f / "tokenizer.json").rename(f / "tokenizer.model"),
        ("tokenizer.model: cannot be used",),
    ),
}


def assert_one_line(error: BaseException, fragments: tuple[str, ...]) -> None:
    text = str(error)
    assert "\n" not in text
    assert len(text) < 1500
    for fragment in fragments:
        assert fragment in text


@pytest.mark.parametrize("case", CHECKPOINTS)
def test_broken_checkpoint(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    damage, fragments = CHECKPOINTS[case]
    folder = write_reference(tmp_path / "released", *tiny_senna())
    damage(folder)
    for attempt in (lambda: load_senna(folder), lambda: import_checkpoint(folder, tmp_path / "ours")):
        with pytest.raises(CheckpointError) as caught:
            attempt()
        assert_one_line(caught.value, fragments)
    assert not (tmp_path / "ours").exists()
    assert not (tmp_path / "ran_code").exists(), "the pickle was executed"


OWN: dict[str, tuple[Break, tuple[str, ...]]] = {
    "truncated": (lambda f: cut(f / "model.safetensors"), ("model.safetensors", SAFE_OPEN)),
    "no processor": (
        lambda f: (f / "processor_config.json").unlink(),
        ("processor_config.json: cannot be read (No such file",),
    ),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), ("no tokenizer.json",)),
    "bad processor": (
        lambda f: (f / "processor_config.json").write_text('{"image_aspect_ratio": "anyres"}'),
        ("image_aspect_ratio 'anyres'",),
    ),
    "processor is not json": (lambda f: (f / "processor_config.json").write_text("{"), ("not JSON",)),
    "processor of another model": (
        lambda f: (f / "processor_config.json").write_text('{"image_size": 56, "num_view_tokens": 7}'),
        ("num_view_tokens is 7, the model has 8",),
    ),
    "another decoder": (config_with(text_config={"model_type": "gpt2"}), ("text_config is not", "'llama'")),
    "no tower's shape": (config_with(vision_config=3), ("vision_config is not", "'clip_vision_model'")),
    "views in words": (config_with(num_views="six"), ("num_views is 'six', not a whole number",)),
    "no views": (config_with(num_views=0), ("num_views of the model is 0, not in 1..64",)),
    "placeholder is a word": (config_with(image_token_id=5), ("image_token_id 5 is a word",)),
    "bad feature layer": (config_with(vision_feature_layer=7), ("vision_feature_layer 7",)),
    "other number of view tokens": (config_with(num_view_tokens=9), ("wrong shape", "img_adapter.adapter.0.weight")),
}


@pytest.mark.parametrize("case", OWN)
def test_broken_imported_checkpoint(case: str, tmp_path: Path) -> None:
    damage, fragments = OWN[case]
    import_checkpoint(write_reference(tmp_path / "released", *tiny_senna()), tmp_path / "ours")
    damage(tmp_path / "ours")
    with pytest.raises(SennaPruneError) as caught:
        load_senna(tmp_path / "ours")
    assert_one_line(caught.value, fragments)


OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown dtype": ({"dtype": "float17"}, "unknown dtype 'float17'"),
    "no dtype": ({"dtype": "nn"}, "unknown dtype 'nn'"),
    "unknown attention": ({"attn_implementation": "psychic"}, "psychic"),
    "unknown device": ({"device": "warp:0"}, "cannot load with these options"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_bad_options(case: str, tmp_path: Path) -> None:
    folder = write_reference(tmp_path, *tiny_senna())
    options, fragment = OPTIONS[case]
    with pytest.raises(InputError) as caught:
        load_senna(folder, **options)
    assert_one_line(caught.value, (fragment,))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint folder"):
        load_senna(tmp_path / "nothing")


def test_a_tower_for_an_imported_checkpoint(tmp_path: Path) -> None:
    source = write_reference(tmp_path / "released", *tiny_senna())
    import_checkpoint(source, tmp_path / "ours")
    with pytest.raises(CheckpointError, match="holds its tower"):
        load_senna(tmp_path / "ours", vision_tower=source / "tower")


def test_a_hub_id_without_network_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> str:
        raise LocalEntryNotFoundError("Cannot reach the hub\nand a second line")

    monkeypatch.setattr(checkpoint, "snapshot_download", offline)
    with pytest.raises(CheckpointError) as caught:
        load_senna("someone/senna")
    assert_one_line(caught.value, ("someone/senna", "Cannot reach the hub", "pass its folder"))
