"""Pruned visual tokens for an engine that takes prompt embeddings; plain `generate` stands in for the engine.

python examples/prompt_embeddings.py                            # a frame of the demo set, 25 % of its visual tokens
python examples/prompt_embeddings.py --method cdpruner --retention 0.4

Only a method that acts before the decoder can be used like this (`tools/eval_planning.py --methods` says which): the
engine then sees a shorter prompt and knows nothing of pruning. It numbers positions 0, 1, 2, ..., so take
positions "repacked".
"""

# ruff: noqa: T201 - its output is what it prints

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import torch

from senna_prune.errors import SennaPruneError
from senna_prune.model.checkpoint import load_senna
from senna_prune.planner.planner import Planner, pruner_for
from senna_prune.pruning import Budget
from senna_prune.task.prompts import planning_question
from senna_prune.task.sample import read_samples

DEMO = Path(__file__).resolve().parents[1] / "data" / "demo"


def run(options: argparse.Namespace) -> None:
    model, processor = load_senna(DEMO / "model")
    pruner = pruner_for(model, options.method, Budget.retention(options.retention), positions="repacked")
    planner = Planner(model, processor, pruner, readout="generate")
    sample = read_samples(DEMO / "planning_set.jsonl", "plan")[options.frame]
    assert sample.speed is not None and sample.command is not None
    images = {camera: DEMO / path for camera, path in sample.images.items()}

    kept = planner.visual_tokens(images, planning_question(sample.speed, sample.command))
    prompt = kept.prompt[None]
    print(f"{prompt.shape[1]} prompt embeddings, {len(kept.cameras)} of them visual:", dict(Counter(kept.cameras)))
    # From here on the model is not pruned: any engine that takes embeddings can do the same.
    mask = torch.ones(prompt.shape[:2], dtype=torch.long)
    ids = model.generate(inputs_embeds=prompt, attention_mask=mask, do_sample=False, max_new_tokens=32)
    print("plain generate:", processor.tokenizer.decode(ids[0], skip_special_tokens=True).strip())
    print("planner:       ", planner.plan(images, sample.speed, sample.command).text)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="divprune", help="a method that acts before the decoder")
    parser.add_argument("--retention", type=float, default=0.25, help="share of visual tokens that is kept")
    parser.add_argument("--frame", type=int, default=0, help="which frame of the demo set")
    try:
        run(parser.parse_args(arguments))
    except SennaPruneError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
