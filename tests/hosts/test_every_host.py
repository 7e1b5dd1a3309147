"""What holds on every host beside Senna: LLaVA-1.5, LLaVA-NeXT, Qwen2.5-VL and Qwen3-VL, on tiny random models."""

from __future__ import annotations

import json
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

from senna_prune import Budget, prune, pruner_for
from senna_prune.benchmark.replay import Recorder
from senna_prune.errors import CheckpointError, InputError, PruningError
from senna_prune.hosts.host import UNFINISHED, find_host, host_class, host_names
from senna_prune.hosts.support import verdict
from senna_prune.planner.planner import Planner
from senna_prune.pruning import method_names
from senna_prune.pruning.base import TEXT_ATTENTION, VISION
from tests.engine.policies import ScriptedPruner
from tests.engine.test_prefill import inputs_for
from tests.engine.test_refusals import count_hooks
from tests.fakes import tiny_senna
from tests.masking import last_logits_masked
from tests.tiny_hosts import CLIP, HEADS, HOSTS, LAYERS, MROPE, TEXT, TWO, prompts, tiny_host
from tools import eval_planning

LATE = (1.0, 1.0, 0.5, 0.25)
EARLY = (0.5, 0.5, 0.25, 0.0)

every_host = pytest.mark.parametrize("kind", HOSTS)
every_decoder = pytest.mark.parametrize("kind", [*HOSTS, "qwen3_vl_moe"])
every_method = pytest.mark.parametrize("method", method_names())


@lru_cache(maxsize=8)
def host(kind: str, attention: str = "sdpa") -> tuple[Any, Any]:
    return tiny_host(kind, attention)


def kept_sizes(trace: Any) -> list[tuple[int, ...]]:
    return [sample.entering for sample in trace.samples]


@torch.no_grad()
def generate(model: Any, inputs: dict[str, Any], **options: Any) -> Any:
    options = {"do_sample": False, "max_new_tokens": 4, "min_new_tokens": 4} | options
    options["suppress_tokens"] = [model.config.image_token_id]  # random weights would make one
    return model.generate(**inputs, **options, return_dict_in_generate=True, output_logits=True)


@every_decoder
@every_method
@pytest.mark.parametrize("images", TWO, ids=["two images", "one image"])
def test_pruning_equals_masking(kind: str, method: str, images: list[tuple[int, int]]) -> None:
    model, processor = host(kind, "eager")
    inputs = prompts(processor, images)
    recorder = Recorder(pruner_for(model, method, Budget.retention(0.4), positions="original"))
    with prune(model, recorder) as trace:
        pruned = generate(model, inputs)
    found = find_host(model)
    assert found is not None
    layouts = partial(found.layouts, images=model.get_image_features(**pictures(model, inputs)))
    # The prompt, and the prompt with what was generated, read at once.
    for inputs_then, logits in ((inputs, pruned.logits[0]), (continued(inputs, pruned.sequences), pruned.logits[-1])):
        (layout,) = layouts(inputs_then["input_ids"])
        expected = last_logits_masked(model, inputs_then, layout, recorder.selections)
        torch.testing.assert_close(logits[0], expected, atol=1e-4, rtol=0)
    if method != "none":
        assert trace.samples[0].entering[-1] < layout.num_visual
        assert not torch.allclose(pruned.logits[0], generate(model, inputs).logits[0], atol=1e-3), "nothing was pruned"


def continued(inputs: dict[str, Any], sequences: Tensor) -> dict[str, Any]:
    """The prompt and all generated tokens but the last, which no logits follow."""
    new = sequences.shape[1] - inputs["input_ids"].shape[1] - 1
    longer = {"input_ids": sequences[:, :-1], "attention_mask": torch.ones_like(sequences[:, :-1])}
    kinds = {k: F.pad(v, (0, new)) for k, v in inputs.items() if k == "mm_token_type_ids"}
    return inputs | longer | kinds


def pictures(model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """What `get_image_features` wants of a processor's output."""
    names = ("pixel_values", "image_sizes", "image_grid_thw")
    return {name: inputs[name] for name in names if name in inputs} | {"return_dict": True}


@every_decoder
@every_method
def test_a_full_budget_changes_no_bit(kind: str, method: str) -> None:
    if method == "blind":
        pytest.skip("blind removes every token at any budget")
    for attention in ("sdpa", "eager"):
        model, processor = host(kind, attention)
        inputs, policy = prompts(processor, *TWO), pruner_for(model, method, Budget.retention(1.0))
        with torch.no_grad():
            plain = model(**inputs).logits
            with prune(model, policy):
                assert torch.equal(model(**inputs).logits, plain)


@every_host
@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True}], ids=["greedy", "beams", "sampling"])
def test_generate_with_a_full_budget_gives_the_models_own_tokens(kind: str, options: dict[str, Any]) -> None:
    model, processor = host(kind)
    inputs = prompts(processor, *TWO)
    torch.manual_seed(1)
    plain = generate(model, prompts(processor, *TWO), **options).sequences
    torch.manual_seed(1)
    # It looks at the tower and so takes every detour there is.
    with prune(model, pruner_for(model, "fastervlm", Budget.retention(1.0))):
        assert torch.equal(generate(model, inputs, **options).sequences, plain)


def single(processor: Any, number: int) -> dict[str, Any]:
    """Prompt `number` of the two alone, without padding."""
    inputs = prompts(processor, *([[]] * number), TWO[number])
    inputs = {name: value[number:] if len(value) == number + 1 else value for name, value in inputs.items()}
    real = inputs["attention_mask"][0].bool()
    return inputs | {k: v[:, real] for k, v in inputs.items() if k.endswith(("ids", "attention_mask"))}


@every_decoder
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("fractions", [LATE, EARLY])
def test_a_padded_batch_equals_its_prompts_alone(kind: str, attention: str, fractions: tuple[float, ...]) -> None:
    model, processor = host(kind, attention)
    policy, batch = ScriptedPruner(fractions, merge=fractions[-1] > 0), prompts(processor, *TWO)
    assert (batch["attention_mask"] == 0).any(), "the batch should be ragged"
    with prune(model, policy) as trace:
        together = generate(model, batch)
        sizes = kept_sizes(trace)
    for i in range(len(TWO)):
        with prune(model, policy) as trace:
            alone = generate(model, single(processor, i))
        assert kept_sizes(trace) == [sizes[i]]
        for step, logits in enumerate(alone.logits):
            torch.testing.assert_close(together.logits[step][i], logits[0], atol=1e-4, rtol=1e-4)


@every_decoder
@pytest.mark.parametrize("fractions", [LATE, EARLY])
def test_decoding_from_the_cache_equals_reading_everything_again(kind: str, fractions: tuple[float, ...]) -> None:
    model, processor = host(kind)
    with prune(model, ScriptedPruner(fractions)):
        cached = generate(model, prompts(processor, *TWO))
        again = generate(model, prompts(processor, *TWO), use_cache=False)
    for one, other in zip(cached.logits, again.logits, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@every_host
def test_every_beam_gets_the_scores_of_its_own_prompt(kind: str) -> None:
    model, processor = host(kind)
    policy = ScriptedPruner(LATE, needs=frozenset({VISION, TEXT_ATTENTION}))
    alone = []
    for number in range(len(TWO)):
        with torch.no_grad(), prune(model, policy):
            model(**single(processor, number))
        alone.append(policy.seen[-1].vision)
    policy.seen.clear()
    with prune(model, policy) as trace:
        generate(model, prompts(processor, *TWO), num_beams=3)
    assert len(trace.samples) == 6
    for row, observation in enumerate(policy.seen[:6]):
        torch.testing.assert_close(observation.vision.score, alone[row // 3].score, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(observation.vision.keys, alone[row // 3].keys, atol=1e-5, rtol=1e-4)


@every_host
def test_one_context_serves_prompts_of_any_number_and_length(kind: str) -> None:
    model, processor = host(kind)
    policy = pruner_for(model, "autoprune", Budget.retention(0.5))
    batches = [prompts(processor, *images) for images in ([TWO[1]], TWO, [[]], [TWO[0]])]
    expected = []
    for batch in batches:
        with torch.no_grad(), prune(model, policy):
            expected.append(model(**batch).logits)
    with torch.no_grad(), prune(model, policy) as trace:
        for batch, logits in zip(batches, expected, strict=True):
            assert torch.equal(model(**batch).logits, logits)
            assert len(trace.samples) == len(batch["input_ids"])
            generate(model, batch)


@every_host
def test_bfloat16_runs(kind: str) -> None:
    model, processor = tiny_host(kind)
    inputs = prompts(processor, *TWO)
    inputs["pixel_values"] = inputs["pixel_values"].bfloat16()
    for method in method_names():
        with prune(model.bfloat16(), pruner_for(model, method, Budget.retention(0.4))) as trace:
            generate(model, inputs)
        assert len(trace.samples) == 2


@every_host
def test_the_model_is_untouched_afterwards(kind: str) -> None:
    model, processor = host(kind)
    generate(model, prompts(processor, *TWO))  # transformers leaves hooks of its own on a tower that ran
    before = set(vars(model.model)), count_hooks(model)
    with pytest.raises(RuntimeError, match="broken"), prune(model, ScriptedPruner(LATE, choose=_broken)):
        generate(model, prompts(processor, *TWO))
    assert (set(vars(model.model)), count_hooks(model)) == before


def test_what_was_put_in_place_of_the_encoder_before_is_put_back() -> None:
    model, processor = tiny_host("llava")
    calls: list[Any] = []
    encode = model.model.get_image_features
    model.model.get_image_features = replaced = lambda *args, **kwargs: calls.append(args) or encode(*args, **kwargs)
    with torch.no_grad(), prune(model, pruner_for(model, "fastervlm", Budget.retention(0.5))):
        model(**prompts(processor, *TWO))
    assert len(calls) == 1
    assert model.model.get_image_features is replaced


def _broken(observation: Any, count: int) -> Tensor:
    raise RuntimeError("broken")


@every_host
def test_images_that_nobody_saw_are_refused_as_such(kind: str) -> None:
    model, processor = host(kind)
    inputs = prompts(processor, *TWO)
    seen = model.get_image_features(**pictures(model, inputs))
    rest = {name: value for name, value in inputs.items() if name != "pixel_values"}
    policy = pruner_for(model, "fastervlm", Budget.retention(0.5))
    with torch.no_grad(), prune(model, policy), pytest.raises(PruningError, match="encoded outside the prune context"):
        model(**rest, mm_encoder_outputs={"image": seen})
    with torch.no_grad(), prune(model, policy), pytest.raises(InputError, match="placeholders have no image"):
        model(**{name: inputs[name] for name in ("input_ids", "attention_mask")})


@every_host
@every_method
def test_pruner_for_reads_the_decoder(kind: str, method: str) -> None:
    model, _ = host(kind)
    policy = pruner_for(model, method, Budget.tokens(192))
    assert policy.num_layers == LAYERS
    assert model.config.get_text_config().num_attention_heads == HEADS
    assert kind not in MROPE or policy.positions == "original"


@every_method
@pytest.mark.parametrize("kind", host_names())
def test_the_table_tells_what_happens(kind: str, method: str) -> None:
    told = verdict(method, kind)
    if kind == "senna":
        model, processor = tiny_senna()
        inputs = inputs_for(model, processor)
    else:
        model, processor = host(kind)
        inputs = prompts(processor, *TWO)
    if told.startswith("refused: "):
        with pytest.raises(PruningError), prune(model, pruner_for(model, method, Budget.retention(0.5))):
            generate(model, inputs)
        return
    policy = pruner_for(model, method, Budget.retention(0.5))
    assert told == "runs"
    with prune(model, policy):
        generate(model, inputs)
    if not host_class(kind).renumbers:
        policy = pruner_for(model, method, Budget.retention(0.5), positions="repacked")
        with pytest.raises(PruningError, match="option positions"), prune(model, policy):
            pass


def test_the_table_is_printed_with_every_method_host_and_refusal(capsys: pytest.CaptureFixture[str]) -> None:
    assert eval_planning.main(["--methods"]) == 0
    printed = capsys.readouterr().out
    table = printed[printed.index("Methods on hosts") :].splitlines()
    for method in method_names():
        row = next(line.split() for line in table if line.strip().startswith(f"{method} "))
        assert row == [method, *(verdict(method, kind).partition(":")[0] for kind in host_names())]
    text = " ".join(" ".join(table).split())
    for kind, reason in UNFINISHED.items():
        assert f"{kind} is refused: {reason}" in text
    assert all(f"{kind}: tokens keep their positions" in text for kind in MROPE)


def unfinished_hosts() -> dict[str, tuple[Any, str]]:
    return {
        "InternVL": ({}, "pixel_shuffle"),
        "LlavaOnevision": ({"vision_config": {"model_type": "siglip_vision_model", **CLIP}}, "grid of tiles"),
        "Gemma3": ({}, "no file in hosts/"),
    }


@pytest.mark.parametrize("name", unfinished_hosts())
def test_a_host_without_a_file_is_refused_with_what_is_missing(name: str) -> None:
    options, reason = unfinished_hosts()[name]
    text = TEXT | ({"model_type": "qwen2"} if name in ("InternVL", "LlavaOnevision") else {"head_dim": 16})
    config = getattr(transformers, f"{name}Config")(text_config=text, **options)
    with torch.device("meta"):
        model = getattr(transformers, f"{name}ForConditionalGeneration")(config)
    with pytest.raises(PruningError, match=reason) as caught, prune(model, ScriptedPruner(LATE)):
        pass
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["alpamayo_r1", "alpamayo1_5"])
def test_alpamayo_is_refused_with_what_it_would_need(kind: str, tmp_path: Path) -> None:
    class Alpamayo(transformers.PreTrainedModel):
        """Of its own: transformers remembers at the class what it found out, for all that inherit."""

    model = Alpamayo(transformers.PreTrainedConfig())
    model.config.model_type = kind
    for act in (lambda: pruner_for(model, "fastv"), lambda: prune(model, ScriptedPruner(LATE)).__enter__()):
        with pytest.raises(PruningError, match=r"action expert reads the cache .*Prune its language model alone"):
            act()
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, "architectures": ["AlpamayoR1"]}))
    with pytest.raises(CheckpointError, match=f"model_type '{kind}' is not Senna"):
        Planner.from_pretrained(tmp_path)
