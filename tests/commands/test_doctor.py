"""`senna-prune doctor`: what will work and what will not, in at most 25 lines. Broken checkpoints: tests/hostile."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from senna_prune.commands import doctor
from senna_prune.evaluation.run import doctor as ward
from senna_prune.model.configuration import SennaConfig
from senna_prune.model.modeling import SennaForConditionalGeneration
from senna_prune.model.processing import SennaProcessor
from tests.conftest import ROOT
from tests.evaluation.checkpoint import rewrite, write_checkpoint, write_planning_set
from tests.fakes import tiny_senna


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("doctor")
    write_checkpoint(folder / "model")
    write_planning_set(folder / "data", count=2)
    return folder


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the released model's shape, 14 GB of zeros that take no room on disk."""
    folder, config = tmp_path_factory.mktemp("large") / "model", SennaConfig(dtype=torch.float16)
    config.save_pretrained(folder)
    SennaProcessor.for_config(config, tiny_senna()[1].tokenizer).save_pretrained(folder)
    with torch.device("meta"):
        tensors = SennaForConditionalGeneration(config).state_dict()
    header, end = dict[str, Any](), 0
    for name, tensor in tensors.items():
        begin, end = end, end + 2 * tensor.numel()
        header[name] = {"dtype": "F16", "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return folder


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, str]:
    """What a healthy checkpoint is told, by part."""
    assert doctor.main([*map(str, arguments)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 25 and not any(line.startswith("NO") for line in lines)
    return {line[4:18].strip(): line[:4] + line[19:] for line in lines}


def test_what_works(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--planning-set", work / "data" / "set.jsonl", "--image-root", work / "data"]
    for given, assumed in (([], True), (data, False)):
        found = told(capsys, work / "model", *given)
        assert found["none"].endswith(" ms") and "48 of 48 tokens" in found["none"]
        assert re.search("; 1[123] of 48 tokens", found["autoprune@0.25"])
        assert ("assumed" in found["convention"]) == assumed == ("planning set" not in found)
        assert {"checkpoint", "weights", "tower", "tokenizer", "cameras", "memory", "attention"} <= found.keys()


@pytest.mark.slow
def test_the_demo(capsys: pytest.CaptureFixture[str]) -> None:
    demo = ROOT / "data" / "demo"
    found = told(capsys, demo / "model", "--planning-set", demo / "planning_set.jsonl", "--image-root", demo)
    assert "192 of 768" in found["autoprune@0.25"]


@pytest.mark.parametrize(
    ("given", "part"),
    [
        (["model.device=cuda:77"], "device"),
        (["model.attn_implementation=flash_attention_2"], "attention"),
        (["model.attn_implementation=nonsense"], "plan"),
        (["--planning-set", "absent.jsonl"], "planning set"),
        (["--planning-set", "{}/data/set.jsonl", "--image-root", "/nowhere"], "planning set"),
        (["--planning-set", "{}/other.jsonl", "--image-root", "{}/data"], "planning set"),
    ],
)
def test_each_part_that_does_not_work_is_one_line(
    given: list[str], part: str, work: Path, capsys: Any, monkeypatch: Any
) -> None:
    (work / "other.jsonl").write_bytes((work / "data" / "set.jsonl").read_bytes())
    rewrite(work / "other.jsonl", lambda s: s.update(images={"CAM_A": "0/CAM_BACK.png"}, question="<image> ?"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    line = not_well(capsys, work / "model", *(word.format(work) for word in given))
    assert line.startswith(f"NO  {part} ")


def not_well(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The line of the one part that does not work."""
    assert doctor.main([*map(str, arguments)]) == 2
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert len(lines) <= 25 and printed.err.startswith("error: ") and "Traceback" not in printed.err
    (line,) = (line for line in lines if line.startswith("NO"))
    assert line.split("  ")[1] in printed.err
    return line


@pytest.mark.slow
def test_a_checkpoint_of_seven_billion(large: Path, capsys: Any, monkeypatch: Any) -> None:
    """Too large for a small machine; on a larger one, planning on its CPU is only estimated."""
    monkeypatch.setattr(ward, "free_memory", lambda device: 8 * 10**9)
    line = not_well(capsys, large)
    assert line.startswith(
        "NO  memory         does not fit: 14.7 GB for weights and cache (as stored), 8.0 GB are free"
    )
    monkeypatch.undo()
    monkeypatch.setattr(ward, "free_memory", lambda device: 20 * 10**9)
    monkeypatch.setattr(ward, "estimated_seconds", lambda system, device: 400.0)
    assert told(capsys, large)["plan"].startswith("-   not tried: about 800 s each on cpu")


@pytest.mark.slow
def test_the_estimate_grows_with_the_model(work: Path, large: Path) -> None:
    def seconds(folder: Path) -> float:
        config = ward.EvaluationConfig()
        config.model.path, config.model.dtype = str(folder), "float32"
        return ward.estimated_seconds(ward.SennaSystem(config), torch.device("cpu"))

    assert seconds(large) > 1000 * seconds(work / "model")
