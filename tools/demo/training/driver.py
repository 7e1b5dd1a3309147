"""The demo driver from nothing: tokenizer, model, all stages, and the folder that evaluation opens."""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib.metadata import version
from math import sqrt
from pathlib import Path
from typing import Any

import cv2
import torch

from senna_prune.files import accessing, check_output, write_json
from senna_prune.model.modeling import SennaForConditionalGeneration
from senna_prune.model.processing import SennaProcessor
from senna_prune.task.prompts import planning_prompt
from tools.demo.training.attributes import set_adapter
from tools.demo.training.checkpoints import load_checkpoint
from tools.demo.training.loop import LOG, progress_bar
from tools.demo.training.packing import Packer, layer_step
from tools.demo.training.pictures import TrainingScenes, world_fingerprint
from tools.demo.training.question_pool import all_texts
from tools.demo.training.recipe import Recipe
from tools.demo.training.stages import STAGES, train_answers, train_tower
from tools.demo.training.tokenizer import train_tokenizer
from tools.demo.training.validation import VALIDATION_SEED

RECORD = "training.json"
"""Beside the weights: what the driver was trained with."""
_OF_ANSWERS = (
    *("answer_steps", "answer_batch", "answer_lr", "long_plans", "short_plans", "perception", "road_users", "motions"),
    *("stretched", "least_stretch", "most_stretch", "validate_every", "validation_scenes", "layers", "heads", "mlp"),
)
"""Numbers of the recipe that the tower does not depend on."""
_LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "pillow")


def new_driver(
    recipe: Recipe, dtype: torch.dtype = torch.bfloat16
) -> tuple[SennaForConditionalGeneration, SennaProcessor]:
    """An untrained driver and its processor."""
    tokenizer = train_tokenizer(planning_prompt(text) for text in all_texts())
    config = recipe.model_config(len(tokenizer))
    torch.manual_seed(recipe.seed)
    model = SennaForConditionalGeneration(config)
    set_adapter(model.model)
    for linear in (model.model.multi_modal_projector.linear_1, model.model.multi_modal_projector.linear_2):
        torch.nn.init.xavier_normal_(linear.weight, gain=1.2)  # visual tokens begin at about the scale they are to have
    _calm_residuals(model)
    model.set_attn_implementation("sdpa")
    torch.nn.Module.to(model, dtype)
    return model, SennaProcessor.for_config(config, tokenizer)


@torch.no_grad()
def _calm_residuals(model: SennaForConditionalGeneration) -> None:
    """Start what writes into the residual stream smaller the deeper the decoder is, as GPT-2 does."""
    layers = model.model.language_model.layers
    for layer in layers:
        for linear in (layer.self_attn.o_proj, layer.mlp.down_proj):
            linear.weight.mul_(1 / sqrt(2 * len(layers)))


def run_identity(recipe: Recipe, stage: str) -> dict[str, Any]:
    """What a stage is tied to: the recipe's numbers up to it, the world's images, the libraries that computed it.

    The number of its own steps is not among them: until its cool-down a stage may be made longer or shorter.
    """
    open_ = {"answers": ("answer_steps",), "tower": ("tower_steps", *_OF_ANSWERS)}.get(stage, ())
    return {
        **{name: value for name, value in asdict(recipe).items() if name not in open_},
        "world": world_fingerprint(recipe.world_seed),
        "validation_seed": VALIDATION_SEED,
        "python": platform.python_version(),
        **{library: version(library) for library in _LIBRARIES},
        "opencv": cv2.__version__,
    }


def train_driver(
    recipe: Recipe, work: Path, workers: int, device: str = "cpu", compiled: bool = False
) -> tuple[SennaForConditionalGeneration, SennaProcessor]:
    """Train in `work`, going on from whatever images and checkpoints it already holds.

    Args:
        work: scratch folder for images (0.4 GB with the default recipe), checkpoints and `log.jsonl`.
        workers: processes that render, then threads that train; set PyTorch's own threads to 1.
        device: `cpu` or `cuda`.
        compiled: with `torch.compile`, which needs a C++ compiler and saves a third of the time.

    Raises:
        CheckpointError: `work` holds a run of another recipe, or something else.
        FileError: `work` cannot be read or written.
    """
    check_output(work / LOG)
    identities = {stage: run_identity(recipe, stage) for stage in STAGES}
    for stage, identity in identities.items():  # before hours are spent on images
        load_checkpoint(work / f"{stage}.safetensors", identity)
    model, processor = new_driver(recipe)
    torch.nn.Module.to(model, device)
    step = torch.compile(layer_step, dynamic=False) if compiled else layer_step
    scenes = TrainingScenes(work / "scenes", recipe.num_scenes, recipe.world_seed)
    with progress_bar() as progress:
        task = progress.add_task("pictures", total=None, note="")
        scenes.prepare(workers, lambda done, total: progress.update(task, completed=done, total=total))
    packer = Packer(processor)
    for stage in STAGES:
        if compiled:
            model.model.vision_tower.set_attn_implementation("eager")  # compiled, twice as fast as the fused kernel
            for layer in model.model.vision_tower.encoder.layers:
                layer.compile(dynamic=False)
        if stage == "tower":
            train_tower(model, scenes, recipe, work, workers, identities[stage])
        else:
            train_answers(model, packer, scenes, recipe, work, workers, identities[stage], step)
    return model, processor


def save_driver(
    model: SennaForConditionalGeneration, processor: SennaProcessor, folder: Path, record: dict[str, Any]
) -> None:
    """Write weights (bfloat16 safetensors), configuration, tokenizer and processor for `from_pretrained`.

    Args:
        record: what it was trained with, kept as `training.json`.

    Raises:
        FileError: the folder cannot be written.
    """
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    model.generation_config.bos_token_id = processor.tokenizer.bos_token_id
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    check_output(folder / RECORD)
    with accessing(folder, "written"):
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    write_json(folder / RECORD, record)
