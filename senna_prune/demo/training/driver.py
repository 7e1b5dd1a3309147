"""The demo driver from nothing: tokenizer, model, both stages, and the folder that evaluation opens."""

from __future__ import annotations

from pathlib import Path

import torch

from senna_prune.demo.training.attributes import initialise_adapter
from senna_prune.demo.training.loop import progress_bar
from senna_prune.demo.training.packing import Packer
from senna_prune.demo.training.pictures import TrainingScenes
from senna_prune.demo.training.question_pool import all_texts
from senna_prune.demo.training.recipe import Recipe
from senna_prune.demo.training.stages import train_answers, train_attributes
from senna_prune.demo.training.tokenizer import train_tokenizer
from senna_prune.model.modeling import SennaForConditionalGeneration
from senna_prune.model.processing import SennaProcessor
from senna_prune.task.prompts import planning_prompt


def new_driver(
    recipe: Recipe, dtype: torch.dtype = torch.bfloat16
) -> tuple[SennaForConditionalGeneration, SennaProcessor]:
    """An untrained driver and its processor."""
    tokenizer = train_tokenizer(planning_prompt(text) for text in all_texts())
    config = recipe.model_config(len(tokenizer))
    torch.manual_seed(recipe.seed)
    model = SennaForConditionalGeneration(config)
    initialise_adapter(model.model)
    # On a CPU the backward pass of eager attention is several times faster than SDPA's at this size.
    model.set_attn_implementation("eager")
    torch.nn.Module.to(model, dtype)
    return model, SennaProcessor.for_config(config, tokenizer)


def train_driver(
    recipe: Recipe, work: Path, workers: int, device: str = "cpu"
) -> tuple[SennaForConditionalGeneration, SennaProcessor]:
    """Train in `work`, going on from whatever pictures and checkpoints it already holds.

    Args:
        work: scratch folder for pictures (1.5 GB with the default recipe), checkpoints and `log.jsonl`.
        workers: processes that render, then threads that train; set PyTorch's own threads to 1.
        device: `cpu` or `cuda`.
    """
    model, processor = new_driver(recipe)
    torch.nn.Module.to(model, device)
    scenes = TrainingScenes(work / "scenes", recipe.num_scenes, recipe.world_seed, recipe.image_size)
    with progress_bar() as progress:
        task = progress.add_task("pictures", total=None, note="")
        scenes.prepare(workers, lambda done, total: progress.update(task, completed=done, total=total))
    train_attributes(model, scenes, recipe, work, workers)
    train_answers(model, Packer(processor), scenes, recipe, work, workers)
    return model, processor


def save_driver(model: SennaForConditionalGeneration, processor: SennaProcessor, folder: Path) -> None:
    """Write weights (bfloat16 safetensors), configuration, tokenizer and processor for `from_pretrained`."""
    model.set_attn_implementation("sdpa")
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    model.generation_config.bos_token_id = processor.tokenizer.bos_token_id
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
