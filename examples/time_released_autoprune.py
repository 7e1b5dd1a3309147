"""Times the released AutoPrune code at one's own checkout: milliseconds of each answer, as its own evaluation runs it.

Run it with the Python that the checkout was installed in; it needs nothing of this package:

    python examples/time_released_autoprune.py CHECKOUT --model-path llava-v1.5-7b --question-file questions.jsonl \
        --image-folder images --answers-file out/answers.jsonl --visual-token-num 576 --target-token-num 144 \
        --temperature 0 --conv-mode vicuna_v1 --max_new_tokens 10

Everything behind CHECKOUT goes to its `llava.eval.model_vqa_loader`. A time begins with the image ready on the host
and ends with the last token; with `--max_new_tokens 1` it is the vision tower and the prefill. For a figure that can be
held against `tools/benchmark.py`, use the same GPU, the same number of new tokens and as many tokens in the prompt.
"""

from __future__ import annotations

import importlib
import runpy
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

WARM_UP = 3


def timed(run: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    """`run`, which notes its milliseconds, the device's work included."""

    def wait() -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        wait()
        began = time.perf_counter()
        result = run(*args, **kwargs)
        wait()
        spent.append(1e3 * (time.perf_counter() - began))
        return result

    return wrapper


def main(checkout: str, arguments: list[str]) -> None:
    """Run the checkout's evaluation, and print what `generate` took."""
    spent: list[float] = []
    sys.path.insert(0, checkout)
    builder: Any = importlib.import_module("llava.model.builder")
    load = builder.load_pretrained_model

    def load_timed(*args: Any, **kwargs: Any) -> Any:
        tokenizer, model, *others = load(*args, **kwargs)
        model.generate = timed(model.generate, spent)
        return (tokenizer, model, *others)

    builder.load_pretrained_model = load_timed
    sys.argv = ["model_vqa_loader", *arguments]
    runpy.run_module("llava.eval.model_vqa_loader", run_name="__main__")
    kept = sorted(spent[WARM_UP:])
    if len(kept) < 2:
        sys.exit(f"{len(spent)} questions are too few: the first {WARM_UP} warm up")
    late = kept[min(len(kept) - 1, round(0.95 * (len(kept) - 1)))]
    found = f"p50 {statistics.median(kept):.1f} ms, p95 {late:.1f} ms, best {kept[0]:.1f} ms"
    sys.stdout.write(f"{len(kept)} answers: {found}\n")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
