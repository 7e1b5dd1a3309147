"""Whatever is wrong with a checkpoint is named in one line, by a typed error."""

from __future__ import annotations

import os
import shutil
import struct
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
from tests.model.damage import CONFIG, INDEX, OURS, RELEASED, TOKENS, WEIGHTS, Change, pristine, replaced
from tests.model.reference import reference_tensors, write_weights

__all__ = ["pristine"]


class Code:
    """A pickle that would run a command when it is opened without care."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch ran_code",)


def config(**fields: Any) -> Change:
    return replaced(CONFIG, fields)


def weights(change: Any) -> Change:
    return replaced(WEIGHTS, change)


def without(part: str) -> Change:
    return weights(lambda w: {name: tensor for name, tensor in w.items() if part not in name})


def sharded(damage: Change) -> Change:
    def change(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        write_weights(folder, reference_tensors(tiny_senna()[0]), ".safetensors", "sharded")
        damage(folder)

    return change


def in_bin(share: float | None = None, legacy: bool = False, content: Any = None) -> Change:
    """A `.bin` file in place of the weights: of the weights or of `content`, whole or cut."""

    def change(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        held = reference_tensors(tiny_senna()[0]) if content is None else content
        torch.save(held, folder / BIN, _use_new_zipfile_serialization=not legacy)
        if share is not None:
            replaced(BIN, share)(folder)

    return change


def no_tower(folder: Path) -> None:
    without("vision_tower")(folder)
    shutil.rmtree(folder / "tower")


def big_tokenizer(folder: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<extra>"])
    tokenizer.save_pretrained(folder)


BIN, DAMAGED, KEY, NAN = "pytorch_model.bin", "truncated or damaged", "model.norm.weight", float("nan")
SECOND, DEEP = "model-00002-of-00002.safetensors", b"[" * 10_000
HUGE = b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'
LFS = "version https://git-lfs.github.com/spec/v1\n"
ODD_TOKENIZER = {"auto_map": {"AutoTokenizer": ["x.Y", None]}, "tokenizer_class": "Y"}

RELEASED_CASES: dict[str, tuple[Change, tuple[str, ...]]] = {
    "truncated safetensors": (replaced(WEIGHTS, 0.5), (WEIGHTS, DAMAGED)),
    "safetensors cut in its header": (replaced(WEIGHTS, 0.001), (DAMAGED,)),
    "truncated shard": (sharded(replaced(SECOND, 0.5)), ("model-00002", DAMAGED)),
    "truncated bin": (in_bin(0.5), (BIN, DAMAGED)),
    "truncated legacy bin": (in_bin(0.5, legacy=True), (BIN, DAMAGED)),
    "pickle with code": (in_bin(content={"lm_head.weight": Code()}), (BIN, "run code", "safetensors")),
    "legacy pickle with code": (in_bin(content=Code(), legacy=True), ("run code",)),
    "bin with other things": (in_bin(content={"epoch": 3}), ("entry 'epoch' is a int",)),
    "bin of a list": (in_bin(content=[torch.zeros(2)]), ("holds a list",)),
    "sparse": (in_bin(content={"a": torch.eye(2).to_sparse()}), ("entry 'a' is a Tensor, not a dense tensor",)),
    "number as name": (in_bin(content={3: torch.eye(2)}), ("the name 3 is no text",)),
    "git lfs pointer": (replaced(WEIGHTS, LFS), ("Git LFS pointer", "git lfs pull")),
    "no weights": (replaced(WEIGHTS, None), ("no weight files",)),
    "missing shard": (sharded(replaced(SECOND, None)), (f"1 of 2 shards are absent ({SECOND})",)),
    "index is not json": (sharded(replaced(INDEX, "{")), (INDEX, "not JSON")),
    "index without a map": (sharded(replaced(INDEX, '{"weight_map": 3}')), ("no weight_map",)),
    "index points outside": (replaced(INDEX, '{"weight_map": {"a": "../x.safetensors"}}'), ("points outside",)),
    "wrong shape": (
        weights(lambda w: w | {"lm_head.weight": torch.zeros(7, 7)}),
        ("1 tensors have the wrong shape", "lm_head.weight is (7, 7), expected (512, 64)"),
    ),
    "missing tensor": (without(KEY), ("1 tensors are missing (model.language_model.norm.weight)",)),
    "many missing tensors": (without("layers.1."), ("25 tensors are missing", "and 15 more")),
    "extra tensor": (
        weights(lambda w: w | {"model.layers.9.self_attn.q_proj.weight": torch.zeros(2)}),
        ("1 tensors are not part of the model (model.language_model.layers.9",),
    ),
    "whole numbers": (weights(lambda w: w | {KEY: w[KEY].long()}), ("norm.weight is torch.int64)",)),
    "truth values": (weights(lambda w: w | {KEY: w[KEY].bool()}), ("1 tensors are no floating-point weights",)),
    "no adapter": (without("img_adapter"), ("image adapter is missing", "LLaVA")),
    "no config": (replaced(CONFIG, None), ("config.json: cannot be read (No such file",)),
    "config is a list": (replaced(CONFIG, "[]"), ("not a JSON object",)),
    "another model": (config(model_type="gpt2"), ("model_type 'gpt2' is not Senna",)),
    "no model type": (config(model_type=...), ("model_type None is not Senna",)),
    "another projector": (config(mm_projector_type="linear"), ("mm_projector_type is 'linear'",)),
    "features with class token": (config(mm_vision_select_feature="cls_patch"), ("mm_vision_select_feature",)),
    "a layer the tower lacks": (config(mm_vision_select_layer=-9), ("vision_feature_layer -9",)),
    "unsupported images": (config(image_aspect_ratio="anyres"), ("image_aspect_ratio 'anyres'",)),
    "config without sizes": (config(hidden_size=...), ("hidden_size is missing",)),
    "heads that do not divide": (config(num_attention_heads=3), ("num_attention_heads 3 is no",)),
    "unknown activation": (config(hidden_act="magic"), ("config.json: cannot be used", "magic")),
    "unknown dtype": (config(torch_dtype="float17"), (CONFIG, "float17")),
    "dtype of another type": (config(torch_dtype=3), (CONFIG, "dtype 3")),
    "layer in words": (config(mm_vision_select_layer="last"), ("vision_feature_layer is 'last'",)),
    "config of another vocabulary": (config(vocab_size=600), ("wrong shape", "expected (600, 64)")),
    "tower name too long": (config(mm_vision_tower="x" * 300), ("File name too long",)),
    "no tower": (no_tower, ("no vision tower", "--vision-tower")),
    "tower of unknown shape": (replaced("tower", None), ("shape of the vision tower 'tower' is unknown",)),
    "tower of another kind": (
        replaced("tower/config.json", '{"model_type": "siglip"}'),
        ("model_type 'siglip' is not a CLIP model",),
    ),
    "tokens in a list": (replaced("special_tokens_map.json", "[]"), ("tokenizer.json: cannot be used",)),
    "tokenizer too large": (big_tokenizer, ("the tokenizer has 513 pieces, the model embeds 512",)),
    "no tokenizer": (replaced("tokenizer.json", None), ("no tokenizer",)),
    "broken tokenizer": (replaced("tokenizer.json", "{}"), ("tokenizer.json: cannot be used",)),
    "broken sentencepiece": (
        lambda folder: (folder / "tokenizer.json").rename(folder / "tokenizer.model"),
        ("tokenizer.model: cannot be used",),
    ),
}
OUR_CASES: dict[str, tuple[Change, tuple[str, ...]]] = {
    "truncated": (replaced(WEIGHTS, 0.5), (WEIGHTS, DAMAGED)),
    "deep header": (replaced(WEIGHTS, struct.pack("<Q", len(DEEP)) + DEEP), (WEIGHTS, DAMAGED)),
    "terabytes": (replaced(WEIGHTS, struct.pack("<Q", len(HUGE)) + HUGE), (WEIGHTS, DAMAGED)),
    "shard name too long": (replaced(INDEX, f'{{"weight_map": {{"a": "{"x" * 300}"}}}}'), ("File name too long",)),
    "shard name is no text": (replaced(INDEX, '{"weight_map": {"a": "\\ud800"}}'), ("1 of 1 shards are absent",)),
    "no processor": (replaced("processor_config.json", None), ("processor_config.json: cannot be read (No such file",)),
    "no tokenizer": (replaced("tokenizer.json", None), ("no tokenizer.json",)),
    "bad processor": (replaced("processor_config.json", {"image_aspect_ratio": "any"}), ("image_aspect_ratio 'any'",)),
    "processor of another model": (
        replaced("processor_config.json", {"num_view_tokens": 7}),
        ("num_view_tokens is 7, the model has 8",),
    ),
    "no BOS": (replaced(TOKENS, {"bos_token": None}), (f"{TOKENS}: the tokenizer lacks a BOS",)),
    "no tokenizer configuration": (replaced(TOKENS, None), (f"{TOKENS}: the tokenizer lacks a BOS",)),
    "length in words": (replaced(TOKENS, {"model_max_length": "long"}), ("model_max_length is 'long'",)),
    "code in the tokenizer": (replaced(TOKENS, ODD_TOKENIZER), ("tokenizer.json: cannot be used",)),
    "another decoder": (config(text_config={"model_type": "gpt2"}), ("text_config is not", "'llama'")),
    "no tower's shape": (config(vision_config=3), ("vision_config is not", "'clip_vision_model'")),
    "base deep inside": (config(text_config={"rope_parameters": {"rope_theta": NAN}}), ("rope_theta of text_config",)),
    "patch beyond the image": (config(vision_config={"patch_size": 57}), ("patch_size 57 is larger than image_size",)),
    "whole numbers as type": (config(dtype="int8"), ("is no floating-point type",)),
    "views in words": (config(num_views="six"), ("num_views is 'six', not a whole number",)),
    "no views": (config(num_views=0), ("num_views of the model is 0, not in 1..64",)),
    "placeholder is a word": (config(image_token_id=5), ("image_token_id 5 is a word",)),
    "bad feature layer": (config(vision_feature_layer=7), ("vision_feature_layer 7",)),
    "other number of view tokens": (config(num_view_tokens=9), ("wrong shape", "img_adapter.adapter.0.weight")),
}
CASES = [(RELEASED, name) for name in RELEASED_CASES] + [(OURS, name) for name in OUR_CASES]


def assert_one_line(error: BaseException, fragments: tuple[str, ...]) -> None:
    text = str(error)
    assert "\n" not in text
    assert len(text) < 1500
    for fragment in fragments:
        assert fragment in text


@pytest.mark.parametrize(("kind", "case"), CASES)
def test_broken_checkpoint(kind: str, case: str, pristine: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    damage, fragments = (RELEASED_CASES if kind == RELEASED else OUR_CASES)[case]
    folder = shutil.copytree(pristine[kind], tmp_path / "model")
    damage(folder)
    for attempt in (lambda: load_senna(folder), lambda: import_checkpoint(folder, tmp_path / "copy")):
        with pytest.raises(SennaPruneError) as caught:
            attempt()
        assert isinstance(caught.value, CheckpointError) or case == "bad processor"
        assert_one_line(caught.value, fragments)
    assert not (tmp_path / "copy").exists()
    assert not (tmp_path / "ran_code").exists(), "the pickle was executed"


OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown dtype": ({"dtype": "float17"}, "unknown dtype 'float17'"),
    "no dtype": ({"dtype": "nn"}, "unknown dtype 'nn'"),
    "whole numbers": ({"dtype": "int8"}, "unknown dtype 'int8'"),
    "dtype of another type": ({"dtype": 3}, "unknown dtype 3"),
    "unknown attention": ({"attn_implementation": "psychic"}, "psychic"),
    "unknown device": ({"device": "warp:0"}, "cannot load with these options"),
    "no device": ({"device": "meta"}, "meta device computes nothing"),
    "no device in a map": ({"device": {"": "meta"}}, "meta device computes nothing"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_bad_options(case: str, pristine: dict[str, Path]) -> None:
    options, fragment = OPTIONS[case]
    with pytest.raises(InputError) as caught:
        load_senna(pristine[RELEASED], **options)
    assert_one_line(caught.value, (fragment,))


def test_names_that_are_no_checkpoint(pristine: dict[str, Path], tmp_path: Path, monkeypatch: Any) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint folder"):
        load_senna(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="holds its tower"):
        load_senna(pristine[OURS], vision_tower=pristine[RELEASED] / "tower")

    def offline(*_: Any, **__: Any) -> str:
        raise LocalEntryNotFoundError("Cannot reach the hub\nand a second line")

    monkeypatch.setattr(checkpoint, "snapshot_download", offline)
    with pytest.raises(CheckpointError) as caught:
        load_senna("someone/senna")
    assert_one_line(caught.value, ("someone/senna", "Cannot reach the hub", "pass its folder"))
