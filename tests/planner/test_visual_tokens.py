"""`Planner.visual_tokens`: a pruned prompt that an unpruned model reads as the pruned one would."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from senna_prune.engine import prune
from senna_prune.errors import InputError, PruningError
from senna_prune.planner.planner import Planner, pruner_for
from senna_prune.pruning import Budget, describe, method_names
from senna_prune.pruning.methods.tome import destinations, mean_of_merged, merge_rounds
from senna_prune.task.labels import CAMERAS, CAMERAS_UPSTREAM
from senna_prune.task.prompts import planning_question
from tests.fakes import tiny_senna, tiny_views

QUESTION = planning_question(6.0, "go straight")
BEFORE = [name for name in method_names() if describe(name).stage in ("before the decoder, once", "nowhere")]


def planner_with(name: str, retention: float = 0.5, **options: Any) -> Planner:
    model, processor = tiny_senna()
    return Planner(model, processor, pruner_for(model, name, Budget.retention(retention), **options))


def images() -> dict[str, Any]:
    return dict(zip(CAMERAS, tiny_views(), strict=True))


@pytest.mark.parametrize("positions", ["original", "repacked"])
@pytest.mark.parametrize("name", BEFORE)
@torch.no_grad()
def test_the_plain_model_reads_what_the_pruned_one_reads(name: str, positions: str) -> None:
    planner = planner_with(name, positions=positions)
    kept = planner.visual_tokens(images(), QUESTION)
    frame = planner.encode(list(images().values()), QUESTION)
    scores = [frame.vision_scores]
    with prune(planner.model, planner.pruner, vision=scores) as trace:
        pruned = planner.model(input_ids=frame.input_ids[None], image_features=frame.tokens).logits
    plain = planner.model(inputs_embeds=kept.prompt[None], position_ids=kept.prompt_positions[None]).logits
    torch.testing.assert_close(plain, pruned, atol=1e-4, rtol=1e-4)

    sample = trace.samples[0]
    assert kept.embeddings.shape == (sample.entering[0], 64)
    assert [kept.cameras.count(camera) for camera in CAMERAS] == sample.per_view()[0]
    assert torch.equal(kept.embeddings, kept.prompt[kept.slots])
    assert kept.positions.tolist() == kept.prompt_positions[kept.slots].tolist()
    if positions == "repacked" and name != "none":
        assert torch.equal(kept.positions, kept.slots)
    elif name not in ("visionzip", "tome"):
        layout = planner._layout(frame.input_ids)
        assert kept.positions.tolist() == layout.visual[sample.origins[0]].tolist()


def test_merged_tokens_are_among_the_embeddings() -> None:
    planner = planner_with("tome")
    kept = planner.visual_tokens(images(), QUESTION)
    frame = planner.encode(list(images().values()), QUESTION)
    tokens = frame.tokens.flatten(0, 2)
    time, into, _ = merge_rounds(tokens, torch.arange(6).repeat_interleave(8), 6)
    keep = time.argsort(descending=True, stable=True)[:24].sort().values
    expected = mean_of_merged(tokens, destinations(into, keep), keep)
    torch.testing.assert_close(kept.embeddings, expected)
    assert not torch.allclose(expected, tokens[keep]), "nothing was merged"


def test_cameras_are_those_of_the_pictures_not_of_the_labels() -> None:
    model, processor = tiny_senna()
    planner = Planner(model, processor, convention="upstream")
    kept = planner.visual_tokens(images(), QUESTION)
    assert list(dict.fromkeys(kept.cameras)) == list(CAMERAS_UPSTREAM) != list(CAMERAS)


@pytest.mark.parametrize("name", ["fastv", "autoprune", "dart", "prune2drive", "pyramiddrop"])
def test_a_method_inside_the_decoder_is_refused(name: str) -> None:
    with pytest.raises(PruningError, match=f"method '{name}' cuts tokens inside the decoder"):
        planner_with(name).visual_tokens(images(), QUESTION)


def test_wrong_inputs_are_named_as_by_plan() -> None:
    planner = planner_with("divprune")
    with pytest.raises(InputError, match="no image of CAM_BACK"):
        planner.visual_tokens({camera: view for camera, view in images().items() if camera != "CAM_BACK"}, QUESTION)
    with pytest.raises(InputError, match="is not a question"):
        planner.visual_tokens(images(), None)  # type: ignore[arg-type]
