"""Keep lists: what is written is what the decoder reads, and a line that contradicts itself is refused by name."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from senna_prune.errors import FileError
from senna_prune.planner.planner import Planner, pruner_for
from senna_prune.pruning import Budget, describe, method_names
from senna_prune.serving.keep_lists import MERGED, KeepList, keep_list, read_keep_lists, write_keep_lists
from senna_prune.task.labels import CAMERAS
from senna_prune.task.prompts import planning_question
from tests.fakes import tiny_senna, tiny_views

BEFORE = [name for name in method_names() if describe(name).stage in ("before the decoder, once", "nowhere")]


@cache
def lines(method: str, positions: str) -> tuple[list[KeepList], Any, torch.Tensor]:
    model, processor = tiny_senna()
    planner = Planner(model, processor, pruner_for(model, method, Budget.retention(0.5), positions=positions))
    images, question = dict(zip(CAMERAS, tiny_views(), strict=True)), planning_question(6.0, "go straight")
    tokens = planner.visual_tokens(images, question)
    frame = planner.encode(list(images.values()), question)
    return [keep_list(planner, tokens, f"frame {number}") for number in range(2)], tokens, frame.tokens.flatten(0, -2)


@pytest.mark.parametrize("positions", ["original", "repacked"])
@pytest.mark.parametrize("method", BEFORE)
def test_a_file_names_the_tokens_that_the_decoder_reads(method: str, positions: str, tmp_path: Path) -> None:
    made, tokens, whole = lines(method, positions)
    write_keep_lists(tmp_path / "kept.jsonl", made)
    assert list(read_keep_lists(tmp_path / "kept.jsonl")) == made
    (line, _) = made
    assert (line.method, line.budget, line.visual) == (method, ("retention", 0.5, "entering"), len(whole))
    for index, view, slot, position in zip(line.kept, line.views, line.slots, line.positions, strict=True):
        assert tokens.prompt_positions[slot] == position and position == (slot if positions == "repacked" else position)
        assert index == MERGED or torch.equal(whole[index], tokens.prompt[slot]) or method in ("visionzip", "tome")
        assert index == MERGED or index // (len(whole) // 6) == view
    assert (MERGED in line.kept) <= (method in ("visionzip", "tome"))


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "another version": ({"schema": 2}, "schema"),
    "a field too many": ({"layer": 3}, "layer"),
    "no number": ({"kept": ["a"]}, "kept"),
    "lengths": ({"kept": [0]}, "differ in length"),
    "order": ({"kept": [5, 4, 3, 2, 1, 0]}, "does not ascend"),
    "outside": ({"kept": [0, 1, 2, 3, 4, 24]}, "does not ascend"),
    "slots": ({"slots": [0, 0, 1, 2, 3, 4]}, "slots does not ascend"),
    "another camera": ({"views": [5, 0, 0, 0, 0, 0]}, "token 0 is not of camera 5"),
    "no camera": ({"cameras": []}, "is not of camera"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_line_that_contradicts_itself_names_its_place(case: str, tmp_path: Path) -> None:
    good = {"schema": 1, "frame": "a", "method": "uniform", "budget": ["retention", 0.25, "entering"]}
    good |= {"numbering": "repacked", "cameras": list(CAMERAS), "visual": 24, "kept": [0, 1, 2, 3, 4, 5]}
    good |= {"views": [0, 0, 0, 0, 1, 1], "slots": [3, 4, 5, 6, 9, 10], "positions": [3, 4, 5, 6, 9, 10]}
    change, complaint = BROKEN[case]
    path = tmp_path / "kept.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in (good, good | change)))
    read = read_keep_lists(path)
    next(read)
    with pytest.raises(FileError, match=rf"kept\.jsonl:2: it is no keep list of schema 1.*{complaint}"):
        next(read)
