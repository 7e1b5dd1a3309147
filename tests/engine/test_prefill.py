"""The engine against independent ways of computing the same thing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from senna_prune.benchmark.replay import Recorder
from senna_prune.engine import PruneTrace, prune
from senna_prune.engine.decoder import find_decoder
from senna_prune.model.token_layout import TokenLayout
from senna_prune.pruning.base import TEXT_ATTENTION
from senna_prune.task.prompts import planning_prompt, planning_question
from tests.engine.policies import ScriptedPruner
from tests.fakes import tiny_senna, tiny_views
from tests.masking import last_logits_masked

LATE = (1.0, 1.0, 0.5, 0.25)
EARLY = (0.5, 0.5, 0.25, 0.0)


def inputs_for(model: Any, processor: Any, speeds: tuple[float, ...] = (6.0,), side: str = "left") -> dict[str, Any]:
    commands = ("go straight", "go straight and turn left", "turn right")
    prompts = [planning_prompt(planning_question(v, commands[i % 3])) for i, v in enumerate(speeds)]
    images = [tiny_views(seed=i) for i in range(len(speeds))]
    return dict(processor(text=prompts, images=images, padding_side=side))


@torch.no_grad()
def read(model: Any, inputs: dict[str, Any], pruner: Any, **options: Any) -> tuple[Any, PruneTrace]:
    """What a pruned forward gives, and the trace."""
    with prune(model, pruner) as trace:
        return model(**inputs, **options), trace


@torch.no_grad()
def generate(model: Any, inputs: dict[str, Any], **kwargs: Any) -> Tensor:
    return model.generate(**inputs, max_new_tokens=6, min_new_tokens=6, do_sample=False, **kwargs)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("speeds", [(6.0,), (6.0, 12.0, 0.0)])
def test_keep_all_is_bit_identical(attention: str, speeds: tuple[float, ...]) -> None:
    model, processor = tiny_senna(attn_implementation=attention)
    inputs, keep_all = inputs_for(model, processor, speeds), ScriptedPruner((1.0,) * 4)
    with torch.no_grad():
        plain = model(**inputs).logits
    pruned, trace = read(model, inputs, keep_all)
    assert torch.equal(plain, pruned.logits)
    assert trace.samples[0].entering == (48,) * 4
    ids = generate(model, inputs)
    with prune(model, keep_all):
        assert torch.equal(generate(model, inputs), ids)


@pytest.mark.parametrize("fractions", [LATE, EARLY, (1.0, 0.5, 0.5, 0.5)])
def test_dropping_equals_masking_with_original_positions(fractions: tuple[float, ...]) -> None:
    model, processor = tiny_senna(attn_implementation="eager")
    inputs, recorder = inputs_for(model, processor), Recorder(ScriptedPruner(fractions))
    pruned = read(model, inputs, recorder)[0].logits[0, -1]
    layout = TokenLayout.from_ids(inputs["input_ids"][0], model.config.image_token_id, model.config.num_view_tokens)
    expected = last_logits_masked(model, inputs, layout, recorder.selections)
    torch.testing.assert_close(pruned, expected, atol=2e-5, rtol=1e-5)
    with torch.no_grad():
        assert not torch.allclose(pruned, model(**inputs).logits[0, -1], atol=1e-3), "nothing was pruned"


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("positions", ["original", "repacked"])
@pytest.mark.parametrize(("fractions", "merge"), [(LATE, False), (EARLY, False), (LATE, True)])
def test_batch_equals_singles(attention: str, positions: str, fractions: tuple[float, ...], merge: bool) -> None:
    model, processor = tiny_senna(attn_implementation=attention)
    pruner = ScriptedPruner(fractions, merge=merge, positions=positions)
    speeds = (6.0, 12.0, 0.0)
    batch = inputs_for(model, processor, speeds)
    assert (batch["attention_mask"] == 0).any(), "the batch should be ragged"
    with prune(model, pruner) as trace:
        together = generate(model, batch, return_dict_in_generate=True, output_logits=True)
        entering = [sample.entering for sample in trace.samples]
    for i in range(len(speeds)):
        row = {key: value[i : i + 1] for key, value in batch.items()}
        real = row["attention_mask"][0].bool()
        row["input_ids"], row["attention_mask"] = row["input_ids"][:, real], row["attention_mask"][:, real]
        with prune(model, pruner) as trace:
            alone = generate(model, row, return_dict_in_generate=True, output_logits=True)
        assert trace.samples[0].entering == entering[i]
        for step, logits in enumerate(alone.logits):
            torch.testing.assert_close(together.logits[step][i], logits[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("positions", ["original", "repacked"])
@pytest.mark.parametrize("fractions", [LATE, EARLY])
def test_decoding_from_the_cache_equals_reading_everything_again(positions: str, fractions: tuple[float, ...]) -> None:
    model, processor = tiny_senna()
    inputs = inputs_for(model, processor)
    pruner = ScriptedPruner(fractions, positions=positions)
    with prune(model, pruner):
        cached = generate(model, inputs, return_dict_in_generate=True, output_logits=True)
        again = generate(model, inputs, use_cache=False, return_dict_in_generate=True, output_logits=True)
    assert torch.equal(cached.sequences, again.sequences)
    for one, other in zip(cached.logits, again.logits, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_cache_holds_what_entered_each_layer() -> None:
    model, processor = tiny_senna()
    output, trace = read(model, inputs_for(model, processor), ScriptedPruner(LATE), use_cache=True)
    text = trace.samples[0].num_text
    assert [output.past_key_values.get_seq_length(layer) - text for layer in range(4)] == [48, 48, 24, 12]
    assert trace.cache_lengths == [[text + n] for n in (48, 48, 24, 12)]
    assert trace.samples[0].after == (48, 24, 12, 12)


def test_merged_tokens_stand_behind_their_view() -> None:
    model, processor = tiny_senna()
    first_of_each_view = lambda obs, count: torch.arange(48).view(6, 8)[:, : -(-count // 6)].flatten()[:count]  # noqa: E731
    pruner = ScriptedPruner((1.0, 0.5, 0.5, 0.5), choose=first_of_each_view, merge=True)
    (sample,) = read(model, inputs_for(model, processor), pruner)[1].samples
    origins, views = sample.origins[1].tolist(), sample.views[1].tolist()
    assert origins[-1] == -2, "the token merged at layer 1, anchored in the last view, comes last"
    assert views == sorted(views)
    assert len(origins) == 24


def test_beam_search_and_sampling_run() -> None:
    model, processor = tiny_senna()
    inputs = inputs_for(model, processor, (6.0, 12.0))
    with prune(model, ScriptedPruner(LATE)) as trace:
        beams = model.generate(**inputs, num_beams=3, max_new_tokens=4, do_sample=False)
        assert len(trace.samples) == 6
        torch.manual_seed(0)
        sampled = model.generate(**inputs, do_sample=True, max_new_tokens=4)
    assert beams.shape[0] == sampled.shape[0] == 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_runs(dtype: torch.dtype) -> None:
    model, processor = tiny_senna()
    inputs = inputs_for(model, processor)
    inputs["pixel_values"] = inputs["pixel_values"].to(dtype)
    with prune(model.to(dtype), ScriptedPruner(LATE, merge=True, needs=frozenset({TEXT_ATTENTION}))) as trace:
        generate(model, inputs)
    assert trace.samples[0].entering == (48, 48, 24, 12)


def test_no_host_sync_while_the_layers_run() -> None:
    """Reading a number off the device stalls it; between the first and the last layer none may be read."""
    model, processor = tiny_senna()
    inputs = inputs_for(model, processor)
    decoder, counter = find_decoder(model), SyncCounter()
    starts: list[int] = []
    handles = [
        decoder.layers[0].register_forward_pre_hook(lambda *_: starts.append(counter.count)),
        decoder.layers[-1].register_forward_hook(lambda *_: starts.append(counter.count)),
    ]
    with torch.no_grad(), prune(model, ScriptedPruner(EARLY, needs=frozenset({TEXT_ATTENTION}))), counter:
        model(**inputs)
    for handle in handles:
        handle.remove()
    assert starts[0] > 0, "the counter does not count"
    assert starts[1] == starts[0]


class SyncCounter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            self.count += 1
        return func(*args, **(kwargs or {}))
