"""Whether a driver is a test bed for pruning: its unpruned accuracy, what `random` costs, where its attention lies.

No other pruning method runs here: a recipe must be fixed before any does.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from senna_prune.model.modeling import SennaForConditionalGeneration
from senna_prune.model.processing import SennaProcessor
from senna_prune.task.prompts import planning_prompt
from tools.demo.training.attributes import ATTRIBUTES, DECIDING, SHOWN, grid_pooling, patch_coverage
from tools.demo.training.packing import Packer
from tools.demo.training.pictures import TrainingScene, training_scenes
from tools.demo.training.validation import VALIDATION_SEED, HeldOut, random_share, right_answers

SHARES = (0.25, 0.125)
_READABLE, _RIDGE = 0.9, 5.0
_FEWEST = 20
"""Images that must show an attribute for its probe to mean something."""


@torch.no_grad()
def judge(
    model: SennaForConditionalGeneration, processor: SennaProcessor, num_scenes: int, num_probed: int
) -> Iterator[str]:
    """Lines for the terminal.

    Args:
        num_scenes: held-out scenes that are answered. num_probed: scenes on which linear probes are fitted and tried.
    """
    model.float().set_attn_implementation("eager")
    packer, held_out = Packer(processor), HeldOut(num_scenes)
    rights: dict[str, list[bool]] = {}
    attention: list[np.ndarray] = []
    looks: list[tuple[float, float]] = []
    for number, scene, asked in held_out.scenes:
        seen = model.get_image_features(_pixels(model, scene)[None], output_vision_scores=True)
        features = seen.tokens[0]
        for (kind, _), right in zip(asked, right_answers(model, packer, features, [q for _, q in asked]), strict=True):
            rights.setdefault(kind, []).append(right)
        plan = asked[0][1]
        for share in SHARES:
            kept = random_share(packer, share, number)
            (right,) = right_answers(model, packer, features, [plan], kept)
            rights.setdefault(f"plan, random {share:.1%}", []).append(right)
        shown = token_shares(model, scene)
        deciding = (shown[:, DECIDING] >= SHOWN).any(dim=1).flatten()
        if deciding.any():
            attention.append(_attention(model, processor, plan.text, seen.tokens, deciding))
        things = patch_coverage(scene.coverage(), int(model.config.num_patches**0.5)).amax(dim=1) >= 2 * SHOWN
        assert seen.cls_attention is not None
        looks += [
            (_auc(one, there), _effective(one))
            for one, there in zip(seen.cls_attention[0], things, strict=True)
            if there.any()
        ]
    for kind, found in rights.items():
        yield f"{kind}: {np.mean(found):.1%} of {len(found)} exact"
    if looks:
        yield "class token: AUC for things within a view {:.2f}, effective patches {:.0f}".format(
            *np.mean(looks, axis=0)
        )
    for layer, (auc, effective) in enumerate(np.mean(np.array(attention), axis=0).T if attention else ()):
        yield f"layer {layer}: AUC for tokens that see what decides {auc:.2f}, effective tokens {effective:.0f}"
    yield from _probes(model, list(training_scenes(VALIDATION_SEED + 1, (0, num_probed))))


def token_shares(model: SennaForConditionalGeneration, scene: TrainingScene) -> Tensor:
    """Share of each token's part that shows each attribute, shape (views, attributes, T)."""
    patches = patch_coverage(scene.coverage(), int(model.config.num_patches**0.5))
    return patches @ grid_pooling(model.config).T


def _pixels(model: SennaForConditionalGeneration, scene: TrainingScene) -> Tensor:
    return scene.pixel_values(model.config.vision_config.image_size).to(model.device)


def _attention(
    model: SennaForConditionalGeneration, processor: SennaProcessor, text: str, tokens: Tensor, deciding: Tensor
) -> np.ndarray:
    """Of the prompt's last row, by layer: AUC for the deciding tokens and effective number, shape (2, layers)."""
    ids = processor.encode_prompt(planning_prompt(text))[None]
    visual = ids[0] == processor.image_token_id
    embeds = model.model.embed(ids, tokens)
    layers = model.model.language_model(inputs_embeds=embeds, output_attentions=True).attentions
    rows = [layer[0, :, -1].mean(dim=0)[visual] for layer in layers]
    return np.array([[_auc(row, deciding) for row in rows], [_effective(row) for row in rows]])


def _auc(scores: Tensor, positive: Tensor) -> float:
    """Probability that a positive scores above a negative."""
    ranks, where = rankdata(scores.numpy()), positive.numpy()
    ones = where.sum()
    return float((ranks[where].sum() - ones * (ones + 1) / 2) / (ones * (len(where) - ones)))


def _effective(weights: Tensor) -> float:
    """Exponential of the entropy of normalised weights: among how many they are spread."""
    shares = weights / weights.sum()
    return float((-(shares * (shares + 1e-12).log()).sum()).exp())


def _probes(model: SennaForConditionalGeneration, scenes: list[TrainingScene]) -> Iterator[str]:
    """From how many of a view's tokens each attribute that decides can be read by a linear probe."""
    tokens = torch.stack([model.get_image_features(_pixels(model, scene)[None]).tokens[0] for scene in scenes])
    present = torch.stack([(token_shares(model, scene) >= SHOWN).any(dim=-1) for scene in scenes])
    half, counts = len(scenes) // 2, []
    for attribute in DECIDING:
        view = int(present[:, :, attribute].sum(dim=0).argmax())
        there = present[:, view, attribute]
        if min(there[:half].sum(), there[half:].sum()) < _FEWEST:
            continue
        found = [_probe(tokens[:, view, place], there, half) for place in range(tokens.shape[2])]
        counts.append(sum(accuracy >= _READABLE for accuracy in found))
        yield f"{ATTRIBUTES[attribute]}: readable from {counts[-1]} tokens of view {view}, best {max(found):.2f}"
    if counts:
        yield f"median over {len(counts)} attributes: {np.median(counts):g} of {tokens.shape[2]} tokens"


def _probe(features: Tensor, there: Tensor, half: int) -> float:
    """Balanced accuracy, on the second half, of a ridge classifier fitted on the first."""
    centred = (features - features[:half].mean(dim=0)) / (features[:half].std(dim=0) + 1e-6)
    inputs = torch.cat([centred, torch.ones(len(centred), 1)], dim=1)
    share = there[:half].float().mean()
    weighted = inputs[:half].T * torch.where(there[:half], 0.5 / share, 0.5 / (1 - share))
    gram = weighted @ inputs[:half] + _RIDGE * torch.eye(inputs.shape[1])
    guessed = inputs[half:] @ torch.linalg.solve(gram, weighted @ (2.0 * there[:half] - 1)) > 0
    truth = there[half:]
    return float((guessed[truth].float().mean() + (~guessed[~truth]).float().mean()) / 2)
