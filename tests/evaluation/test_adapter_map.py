"""The adapter's map at one input: against autograd, and whether it tells better what an object's tokens are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from senna_prune.config import EvaluationConfig, load_config
from senna_prune.errors import ConfigError
from senna_prune.evaluation.audit.adapter_map import entering_adapter, input_paths
from senna_prune.evaluation.audit.attention import roc_area
from senna_prune.evaluation.audit.survival import View
from senna_prune.evaluation.evaluate import evaluate
from senna_prune.evaluation.run import senna_system
from senna_prune.evaluation.run.senna_system import SennaSystem
from senna_prune.files import read_lines
from senna_prune.hosts.senna import adapter_paths
from senna_prune.model.checkpoint import load_senna
from senna_prune.nuscenes.conversion import ConversionSettings, convert
from senna_prune.planner.planner import Planner, pruner_for
from senna_prune.pruning.budget import Budget
from senna_prune.task.objects import SeenObject
from senna_prune.task.sample import read_samples, write_samples
from tests.conftest import ROOT
from tests.evaluation.checkpoint import arguments, write_checkpoint, write_planning_set
from tests.fakes import tiny_senna


def test_the_map_is_the_mean_absolute_jacobian() -> None:
    model, _ = tiny_senna()
    adapter = model.model.img_adapter
    for layer in adapter.adapter[::2]:  # wide enough that units open and close
        torch.nn.init.normal_(layer.weight, std=1.0)
        torch.nn.init.normal_(layer.bias, std=1.0)
    entering = torch.randn(2, 16, 64)
    found = input_paths(adapter, entering)
    for view, states in zip(found, entering, strict=True):
        jacobian = torch.func.jacrev(lambda x: adapter(x[None])[0])(states)  # (T, D, P, D): nothing across features
        own = torch.einsum("tdpd->dtp", jacobian).abs().mean(dim=0)
        torch.testing.assert_close(view, own / own.sum(dim=1, keepdim=True), rtol=1e-4, atol=1e-6)
    some = input_paths(adapter, entering, features=16)
    assert torch.corrcoef(torch.stack([some.flatten(), found.flatten()]))[0, 1] > 0.8


def test_an_adapter_whose_units_are_open_and_positive_has_the_weights_map() -> None:
    model, _ = tiny_senna()
    adapter = model.model.img_adapter
    with torch.no_grad():
        for layer in adapter.adapter[::2]:
            layer.weight.abs_()
            layer.bias.fill_(50.0)
    torch.testing.assert_close(input_paths(adapter, torch.randn(1, 16, 64))[0], adapter_paths(model))


def test_a_run_may_go_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def one_patch_each(adapter: object, entering: torch.Tensor) -> torch.Tensor:
        return torch.eye(8, 16).expand(len(entering), 8, 16)

    monkeypatch.setattr(senna_system, "input_paths", one_patch_each)
    write_checkpoint(tmp_path / "model", num_layers=4)
    path = write_planning_set(tmp_path / "data", count=2)
    seen = (SeenObject("car", {"CAM_FRONT": (80.0, 5.0, 120.0, 45.0)}, 9.0),)  # the seventh patch
    write_samples(path, [replace(sample, objects=seen) for sample in read_samples(path)])
    found = []
    for number, more in enumerate((["token_map=inputs"], ["token_map=inputs", "batch_size=2"], [])):
        given = [*arguments(tmp_path, "pruning.methods=[uniform]", *more), f"output={tmp_path}/run{number}"]
        config = load_config(EvaluationConfig, overrides=given)
        evaluate(config, SennaSystem(config))
        lines = read_lines(tmp_path / f"run{number}" / "decisions.jsonl")
        found.append({(line["sample"], line["condition"]): line["survival"] for _, line in lines})
    assert found[0] == found[1]
    assert {tuple(told["objects"][0][:1]) for told in found[0].values()} == {(1,)}
    assert {tuple(told["objects"][0][:1]) for told in found[2].values()} != {(1,)}
    with pytest.raises(ConfigError, match="compiled adapter"):
        load_config(EvaluationConfig, overrides=["token_map=inputs", "model.compiled=true"])


def compare_maps(scenes: int, removed: int = 16, size: int = 3) -> dict[str, list[float]]:
    """On the bundled driver, per object that is near: KL of the plans' distribution when the `removed` tokens that see
    it most by a map are dropped, and how well the map tells which tokens change when the object's pixels are greyed.

    Args:
        scenes: of the demo.
        removed: tokens.
        size: objects per scene, the nearest.
    """
    root = ROOT / "data" / "demo"
    model, processor = load_senna(root / "model", "float32")
    planner, draw = Planner(model, processor), np.random.default_rng(0)
    weights, found = adapter_paths(model).double().numpy(), {name: list[float]() for name in NAMES}

    def encoded(images: list[Image.Image], question: str) -> tuple[Any, Any]:
        with entering_adapter(model) as entering:
            frame = planner.encode(images, question)
        return frame, entering[0]

    def plans(frame: Any, drop: np.ndarray | None) -> np.ndarray:
        pruner = None
        if drop is not None:
            options = {"nearness": tuple(drop.tolist()), "positions": "original"}
            pruner = pruner_for(model, "anti_oracle", Budget.retention(1 - removed / len(drop)), **options)
        return np.array(list((planner.decide(frame, pruner).distribution or {}).values()))

    for sample in read_samples(demo_with_objects(root))[:scenes]:
        images = [Image.open(root / path).convert("RGB") for path in sample.view_paths()]
        frame, entering = encoded(images, sample.question)
        full, tokens = plans(frame, None), frame.tokens[0].flatten(0, 1)
        inputs = input_paths(model.model.img_adapter, entering).double().numpy()
        for seen in sorted(sample.objects or (), key=lambda one: one.distance or 0)[:size]:
            covers, grey = {name: list[np.ndarray]() for name in ("weights", "inputs")}, list(images)
            for number, camera in enumerate(sample.cameras):
                box = seen.boxes.get(camera, (0.0, 0.0, 0.0, 0.0))
                for name, shares in (("weights", weights), ("inputs", inputs[number])):
                    covers[name].append(View.square(images[number].size, True, shares).token_cover(box))
                if camera in seen.boxes:
                    grey[number] = images[number].copy()
                    ImageDraw.Draw(grey[number]).rectangle(box, fill=(128, 128, 128))
            moved = (encoded(grey, sample.question)[0].tokens[0].flatten(0, 1) - tokens).norm(dim=1).numpy()
            changed = moved >= np.sort(moved)[-removed]
            ranks = {name: np.concatenate(cover) for name, cover in covers.items()} | {
                "random": draw.random(len(moved))
            }
            for name, cover in ranks.items():
                order = np.zeros(len(cover))
                order[np.argsort(-cover, kind="stable")[:removed]] = 1.0
                pruned = plans(frame, order)
                found[f"KL {name}"].append(float((full * np.log(full / np.maximum(pruned, 1e-12))).sum()))
                found[f"AUC {name}"].append(float(roc_area(cover, changed)))
    return found


NAMES = [f"{what} {name}" for what in ("KL", "AUC") for name in ("weights", "inputs", "random")]


def demo_with_objects(root: Path) -> Path:
    out = Path.cwd() / "demo_objects.jsonl"
    convert(ConversionSettings(dataroot=root, version="v1.0-demo", out=out, kinds=("plan",), objects=True))
    return out


@pytest.mark.slow
def test_which_map_tells_better_what_an_objects_tokens_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prints the comparison (-s); only its form is checked, the driver changes."""
    monkeypatch.chdir(tmp_path)
    found = compare_maps(scenes=12)
    for name, values in found.items():
        print(f"{name}: mean {np.mean(values):.3f}, median {np.median(values):.3f} of {len(values)} objects")
    assert all(len(values) == len(found[NAMES[0]]) > 0 and np.isfinite(values).all() for values in found.values())
    assert np.mean(found["AUC random"]) == pytest.approx(0.5, abs=0.15)
