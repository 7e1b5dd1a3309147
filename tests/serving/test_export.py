"""The exported decoder is the language model of the checkpoint, in the same files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from senna_prune.errors import CheckpointError
from senna_prune.serving.export import export_decoder
from tests.fakes import tiny_senna
from tools import export_decoder as tool


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    model, processor = tiny_senna()
    model.save_pretrained(tmp_path / "senna", max_shard_size="200KB")
    processor.save_pretrained(tmp_path / "senna")
    return tmp_path / "senna"


@torch.no_grad()
def test_the_exported_decoder_computes_what_the_checkpoint_computes(checkpoint: Path, tmp_path: Path) -> None:
    assert tool.main([str(checkpoint), str(tmp_path / "out")]) == 0
    model, processor = tiny_senna()
    decoder = LlamaForCausalLM.from_pretrained(tmp_path / "out").eval()
    embeds = torch.randn(1, 9, 64)
    assert torch.equal(decoder(inputs_embeds=embeds).logits, model(inputs_embeds=embeds).logits)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer("KEEP, STRAIGHT").input_ids == processor.tokenizer("KEEP, STRAIGHT").input_ids
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert not any("vision" in name or "adapter" in name for name in index["weight_map"])
    assert 1 < len(set(index["weight_map"].values())) <= len(list(checkpoint.glob("*.safetensors")))


def test_nothing_is_overwritten_and_nothing_is_left_behind(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(CheckpointError, match="the destination exists"):
        export_decoder(checkpoint, tmp_path / "there")
    (checkpoint / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is not Senna"):
        export_decoder(checkpoint, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["senna", "there"]
