"""What a harness gives as arguments, and the configurations of the paper's tables; lmms-eval is not needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import GenerationConfig

from senna_prune import Budget
from senna_prune.errors import InputError, PruningError
from senna_prune.harness.arguments import batch_size_of, budget_of, cut, generation_arguments
from senna_prune.harness.manifests import CLASSES
from senna_prune.hosts.host import host_names
from senna_prune.pruning import make_pruner
from tests.conftest import ROOT

KNOWN = vars(GenerationConfig())
GREEDY = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
CONFIGS = ROOT / "configs" / "lmms_eval"


def test_a_budget_is_one_of_two_numbers() -> None:
    assert budget_of("autoprune", 0.25, None) == Budget.retention(0.25)
    assert budget_of("autoprune", None, 64, "published") == Budget.tokens(64, "published")
    assert budget_of("none", None, None) is None
    with pytest.raises(InputError, match="both retention and tokens"):
        budget_of("autoprune", 0.25, 64)
    with pytest.raises(InputError, match=r"autoprune has no budget\. Add retention=0\.25"):
        budget_of("autoprune", None, None)
    with pytest.raises(PruningError, match="above 1"):
        budget_of("autoprune", 25, None)
    with pytest.raises(PruningError, match=r"budget\.retention"):
        budget_of("autoprune", "a quarter", None)


@pytest.mark.parametrize("given", ["auto", 0, "-1", 1.5, None])
def test_a_batch_size_is_a_count(given: Any) -> None:
    assert batch_size_of(2) == batch_size_of("2") == 2
    with pytest.raises(InputError, match="batch_size"):
        batch_size_of(given)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, {"max_new_tokens": 128, "num_beams": 1, **GREEDY}),
        (
            {"max_new_tokens": 16, "temperature": 0, "top_p": 1.0, "num_beams": 3, "do_sample": False},
            {"max_new_tokens": 16, "num_beams": 3, **GREEDY},
        ),
        ({"temperature": 0.7, "top_p": 0.9}, {"temperature": 0.7, "top_p": 0.9, "do_sample": True}),
        ({"temperature": 0.7, "do_sample": False}, GREEDY),
        ({"temperature": 0, "do_sample": True}, GREEDY),
        ({"do_sample": True}, {"do_sample": True}),
        ({"repetition_penalty": 1.1}, {"repetition_penalty": 1.1}),
    ],
)
def test_how_to_generate(asked: dict[str, Any], expected: dict[str, Any]) -> None:
    before = dict(asked)
    given = generation_arguments(asked, KNOWN, 128)
    assert expected.items() <= given.items()
    assert asked == before, "the harness stores an answer under these arguments"


def test_arguments_for_other_models_are_left_out() -> None:
    given = generation_arguments({"until": ["\n"], "image_aspect_ratio": "original"}, KNOWN, 128)
    assert not given.keys() & {"until", "image_aspect_ratio"}


def test_an_answer_ends_at_the_first_stop_string() -> None:
    assert cut("yes\n\nASSISTANT: no", ["ASSISTANT:", "\n\n"]) == "yes"
    assert cut("yes. no", "no") == "yes. "
    assert cut("yes", None) == cut("yes", [""]) == "yes"


def test_every_host_beside_senna_is_a_model_of_lmms_eval() -> None:
    assert {name.removeprefix("senna_prune_") for name in CLASSES} == set(host_names()) - {"senna"}


@pytest.mark.parametrize(("file", "visual"), [("table1.yaml", 576), ("table2.yaml", 2880)])
def test_every_condition_of_the_papers_tables_meets_its_budget(file: str, visual: int) -> None:
    """On decoders of the paper's size. A method that chooses the counts by what it sees is planned without evidence."""
    entries = yaml.safe_load((CONFIGS / file).read_text(encoding="utf-8"))
    places, tokens = set(), set()
    for entry in entries:
        assert entry["model"] in CLASSES
        given: dict[str, Any] = dict(part.split("=") for part in entry["model_args"].split(","))
        places.add(entry["output_path"])
        number = float(given["tokens"]) if "tokens" in given else None
        budget = budget_of(given["method"], None, number) or Budget.retention(1.0)
        pruner = make_pruner(given["method"], budget, num_layers=32, num_heads=32, num_visual=None)
        mean = sum(pruner.plan(visual, 32).tokens[:32]) / 32
        assert mean == pytest.approx(number or visual, rel=0.005), entry["model_args"]
        assert Path(entry["output_path"]).name == (f"{given['method']}@{number:g}" if number else "none")
        tokens.add(number)
    assert len(places) == len(entries) == (19 if visual == 576 else 17)
    assert tokens == {None, *({192, 128, 64} if visual == 576 else {640, 320, 160})}
