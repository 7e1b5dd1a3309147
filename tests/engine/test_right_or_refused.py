"""What users of other projects ran into, by kind, for every method and host: it acts as asked, or refuses in a line."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache

from senna_prune import Budget, prune, pruner_for
from senna_prune.errors import InputError, PruningError
from senna_prune.hosts.host import host_names, unwrapped
from senna_prune.planner.planner import Planner
from senna_prune.pruning import method_names
from tests.engine.test_prefill import inputs_for
from tests.fakes import tiny_senna
from tests.tiny_hosts import MROPE, TWO, prompts, tiny_host

every_host = pytest.mark.parametrize("kind", host_names())
every_method = pytest.mark.parametrize("method", method_names())
# One that never cuts, one before the decoder, one inside, one that merges at several layers, one that measures.
FEW = ("none", "fastervlm", "fastv", "sparsevlm", "autoprune")
few_methods = pytest.mark.parametrize(
    "method", [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in method_names()]
)
GREEDY = {"do_sample": False, "max_new_tokens": 5, "min_new_tokens": 5}


@lru_cache(maxsize=8)
def host(kind: str, seed: int = 0) -> tuple[Any, Any]:
    return tiny_senna(seed=seed) if kind == "senna" else tiny_host(kind, seed=seed)


def read_in(kind: str, *numbers: int) -> dict[str, Any]:
    """Inputs of some of two prompts of different lengths."""
    model, processor = host(kind)
    if kind == "senna":
        return inputs_for(model, processor, tuple((6.0, 120.0)[number] for number in numbers))
    return prompts(processor, *(TWO[number] for number in numbers))


def policy(kind: str, method: str, **options: Any) -> Any:
    return pruner_for(host(kind)[0], method, Budget.retention(0.5), **options)


def longer(inputs: dict[str, Any], more: Tensor) -> dict[str, Any]:
    """`inputs` with `more` ids, (batch, k), behind each prompt."""
    ids, k = torch.cat([inputs["input_ids"], more], dim=1), more.shape[1]
    kinds = {name: F.pad(value, (0, k)) for name, value in inputs.items() if name == "mm_token_type_ids"}
    return inputs | {"input_ids": ids, "attention_mask": F.pad(inputs["attention_mask"], (0, k), value=1)} | kinds


def foreign(kind: str, batch: int, count: int) -> Tensor:
    """Ids, (batch, count), of which none is an image."""
    ids = torch.randint(3, 500, (batch, count), generator=torch.Generator().manual_seed(count))
    return ids.where(ids != host(kind)[0].config.image_token_id, 5)


def kept(trace: Any) -> list[Any]:
    return [sample.kept() for sample in trace.samples]


@every_host
@every_method
@torch.no_grad()
def test_text_that_is_no_prompt_has_no_say(kind: str, method: str) -> None:
    model, inputs, k = host(kind)[0], read_in(kind, 0, 1), 3
    lengths = inputs["attention_mask"].sum(dim=1).tolist()
    answered = longer(inputs, foreign(kind, 2, k))
    labels = F.pad(torch.full_like(inputs["input_ids"], -100), (0, k), value=7)
    for options in ({}, {"text_scope": "all_text"}):
        with prune(model, policy(kind, method, **options)) as trace:
            first = model(**inputs).logits[:, -1]
            expected = kept(trace)
            for told in ({"logits_to_keep": k + 1}, {"labels": labels}):
                found = model(**answered, **told)
                assert kept(trace) == expected
                torch.testing.assert_close(found.logits[:, -k - 1], first, atol=1e-4, rtol=1e-4)
        loss = F.cross_entropy(found.logits[:, -k - 1 : -1].flatten(0, 1), labels[:, -k:].flatten())
        torch.testing.assert_close(found.loss, loss)
        with prune(model, policy(kind, method, **options), prompt_lengths=lengths) as trace:
            model(**answered)
            assert kept(trace) == expected


@every_host
@few_methods
@torch.no_grad()
def test_generated_and_drafted_text_has_no_say(kind: str, method: str) -> None:
    model, (draft, _), inputs = host(kind)[0], host(kind, seed=3), read_in(kind, 0)
    with prune(model, policy(kind, method)) as trace:
        wanted = model.generate(**inputs, **GREEDY)
        expected = kept(trace)
        ways: list[dict[str, Any]] = [{"prompt_lookup_num_tokens": 3}, {"use_cache": False}]
        # Senna itself refuses to draft: an assistant gets no images.
        for way in ways + [{"assistant_model": draft}] * (kind != "senna"):
            assert torch.equal(model.generate(**inputs, **GREEDY, **way), wanted)
            assert kept(trace) == expected


@every_host
@torch.no_grad()
def test_where_the_prompt_cannot_end_is_one_line(kind: str) -> None:
    model, inputs = host(kind)[0], read_in(kind, 0)
    width = inputs["input_ids"].shape[1]
    with prune(model, policy(kind, "fastv")) as trace:
        for told in ({"labels": inputs["input_ids"]}, {"logits_to_keep": width}):
            with pytest.raises(InputError, match="before its last image does"):
                model(**inputs, **told)
        with pytest.raises(PruningError, match="logits_to_keep"):
            model(**inputs, logits_to_keep=torch.arange(2))
        with pytest.raises(InputError, match=r"labels .*were given for"):
            model(**inputs, labels=inputs["input_ids"][:, 1:])
        assert not trace.samples


class Adapted(nn.Module):
    """As peft wraps a model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.base_model = model

    def get_base_model(self) -> nn.Module:
        return self.base_model

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.base_model(*args, **kwargs)


@every_host
@pytest.mark.parametrize("method", ["fastv", "fastervlm", "autoprune"])
@torch.no_grad()
def test_wrapped_models_are_pruned_where_they_compute(kind: str, method: str) -> None:
    model, inputs, pruner = host(kind)[0], read_in(kind, 0), policy(kind, method)
    with prune(model, pruner):
        expected = model(**inputs).logits
    for wrapped in (Adapted(model), nn.DataParallel(model), torch.compile(model), nn.DataParallel(Adapted(model))):
        assert unwrapped(wrapped) is model
        for inside in (wrapped, model):
            with prune(inside, pruner_for(inside, method, Budget.retention(0.5))):
                assert torch.equal(wrapped(**inputs).logits, expected)
    if kind == "senna":
        assert Planner(Adapted(model), host(kind)[1]).model is model  # type: ignore[arg-type]


def compiled(way: str) -> tuple[Any, Callable[..., Any]]:
    """A tiny LLaVA of which something is compiled, and how it is called."""
    model = tiny_host("llava")[0]
    inner, compile = model.model, lambda what: torch.compile(what, backend="eager")
    if way == "function":
        return model, compile(lambda **inputs: model(**inputs))
    if way == "forward":
        model.forward = compile(model.forward)
    elif way == "decoder":
        inner.language_model = compile(inner.language_model)
    for part in {"model": [model], "layers": inner.language_model.layers, "tower": [inner.vision_tower]}.get(way, []):
        part.compile(backend="eager")
    return model, model


@pytest.mark.parametrize("way", ["model", "forward", "decoder", "layers", "tower", "function"])
@pytest.mark.slow
@torch.no_grad()
def test_a_model_that_was_compiled_and_ran_is_pruned(way: str) -> None:
    model, called = compiled(way)
    inputs, pruner = read_in("llava", 0), policy("llava", "fastervlm")
    plain = called(**inputs).logits
    with prune(host("llava")[0], pruner):
        expected = host("llava")[0](**inputs).logits
    with prune(model, pruner):
        torch.testing.assert_close(called(**inputs).logits, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(called(**inputs).logits, plain, atol=1e-4, rtol=1e-4)
    torch.compiler.reset()


@torch.no_grad()
def test_a_decoder_that_runs_past_the_hooks_is_refused() -> None:
    model, inputs = tiny_host("llava")[0], read_in("llava", 0)
    with prune(model, policy("llava", "fastv")):
        decoder = model.model.language_model
        model.model.language_model = tiny_host("llava")[0].model.language_model
        with pytest.raises(PruningError, match="not the decoder that was to be pruned"):
            model(**inputs)
        model.model.language_model = decoder
        decoder.config.num_hidden_layers = 2
        with pytest.raises(PruningError, match="2 of 4 decoder layers"):
            model(**inputs)


@every_host
@torch.no_grad()
def test_copies_are_plain_or_refused(kind: str) -> None:
    model, inputs = host(kind)[0], read_in(kind, 0)
    plain = model(**inputs).logits
    with prune(model, policy(kind, "fastervlm")):
        decoder = model.model.language_model  # a tower that ran holds hooks of transformers' own, which pickle refuses
        parts = (model, model.model, decoder, decoder.layers[1])
        for copied in (*(lambda part=part: copy.deepcopy(part) for part in parts), lambda: pickle.dumps(decoder)):
            with pytest.raises(PruningError, match="cannot be copied or pickled inside"):
                copied()
    twin = copy.deepcopy(model)
    with prune(twin, policy(kind, "fastv")):
        assert torch.equal(model(**inputs).logits, plain)
    assert torch.equal(twin(**inputs).logits, plain)


def steps(model: Any, inputs: dict[str, Any], ids: Tensor) -> Iterator[Tensor]:
    """Logits behind a prompt, and then behind each of `ids`, (1, k), fed one by one, each (1, vocabulary)."""
    output = model(**inputs, use_cache=True)
    yield output.logits[:, -1]
    for number, token in enumerate(ids[0], start=inputs["input_ids"].shape[1]):
        place = number + getattr(model.model, "rope_deltas", torch.zeros(1)).long()
        axes = (3, 1, 1) if hasattr(model.model, "rope_deltas") else (1, 1)
        step = {"input_ids": token.view(1, 1), "position_ids": place.expand(axes)}
        yield model(**step, past_key_values=output.past_key_values).logits[:, -1]


@every_host
@few_methods
@torch.no_grad()
def test_prompts_that_are_read_by_turns_do_not_mix(kind: str, method: str) -> None:
    """What threads do to a context, in an order that does not hang on the clock."""
    model, each, ids = host(kind)[0], [read_in(kind, number) for number in (0, 1)], foreign(kind, 1, 3)
    with prune(model, policy(kind, method)):
        alone = [list(steps(model, inputs, ids)) for inputs in each]
        turns = list(zip(*(steps(model, inputs, ids) for inputs in each), strict=True))
    if method == "none" and kind in MROPE:
        return  # the plain model keeps a number of its latest prompt, which shifts the positions of the other one
    for number, expected in enumerate(alone):
        assert all(torch.equal(step[number], logits) for step, logits in zip(turns, expected, strict=True))


@every_host
@torch.no_grad()
def test_one_context_serves_threads(kind: str) -> None:
    model, asked = host(kind)[0], [read_in(kind, number) for number in (0, 1)]

    def answer(number: int) -> Tensor:
        with torch.no_grad():
            return model.generate(**asked[number % 2], **GREEDY)

    with prune(model, policy(kind, "autoprune")), ThreadPoolExecutor(3) as pool:
        alone = [answer(number) for number in (0, 1)]
        for number, found in enumerate(pool.map(answer, range(8))):
            assert torch.equal(found, alone[number % 2])


@every_host
@few_methods
@torch.no_grad()
def test_padding_on_the_right_changes_no_answer(kind: str, method: str) -> None:
    model, inputs, logits = host(kind)[0], read_in(kind, 0, 1), []
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    order = mask.argsort(dim=1, descending=True, stable=True)  # padding to the other side
    moved = {
        k: v.gather(1, order) for k, v in inputs.items() if k in ("input_ids", "attention_mask", "mm_token_type_ids")
    }
    if method == "none":
        return  # the plain model answers behind its padding
    for given in (inputs, inputs | moved):
        with prune(model, policy(kind, method)):
            options: Any = {"output_logits": True, "return_dict_in_generate": True}
            allowed = lambda _, row: [5 + len(row) - ids.shape[1]]  # noqa: E731
            made = model.generate(**given, **GREEDY, **options, prefix_allowed_tokens_fn=allowed)
        logits.append(torch.stack(made.logits))
    torch.testing.assert_close(logits[1], logits[0], atol=1e-4, rtol=1e-3)


@every_host
@few_methods
@torch.no_grad()
def test_a_second_turn_goes_on_where_the_first_ended(kind: str, method: str) -> None:
    model, inputs = host(kind)[0], read_in(kind, 0)
    with prune(model, policy(kind, method)):
        one = model.generate(**inputs, **GREEDY, return_dict_in_generate=True)
        more = torch.cat([one.sequences[:, inputs["input_ids"].shape[1] :], foreign(kind, 1, 4)], dim=1)
        asked = {
            name: value for name, value in longer(inputs, more).items() if "pixel" not in name and "image" not in name
        }
        two = model.generate(**asked, **GREEDY, past_key_values=one.past_key_values)[:, -5:]
        *_, logits = steps(model, inputs, more)
        logits[:, 2] = -torch.inf  # no end before the fifth token
        assert two[0, 0] == logits.argmax()


@every_host
@few_methods
@torch.no_grad()
def test_a_pruned_cache_is_read_in_its_context_alone(kind: str, method: str) -> None:
    model, (other, _), inputs = host(kind)[0], host(kind, seed=3), read_in(kind, 0)
    token = {"input_ids": torch.tensor([[5]])}
    with prune(model, policy(kind, method)):
        cache = model(**inputs, use_cache=True).past_key_values
        twin = copy.deepcopy(cache)
        expected = model(**token, past_key_values=cache).logits
        assert torch.equal(model(**token, past_key_values=twin).logits, expected), "a copied cache is as good"
        images = model.config.image_token_id
        with pytest.raises(PruningError, match="images that follow a prompt"):
            model(input_ids=torch.tensor([[5, images]]), past_key_values=cache)
        with pytest.raises(PruningError, match="is continued by 2"):
            model(input_ids=torch.tensor([[5], [5]]), past_key_values=cache)
        if method != "none":
            with pytest.raises(PruningError, match="filled under prune"):
                other(**token, past_key_values=cache)
        with prune(other, policy(kind, method)), pytest.raises(PruningError, match="not filled inside this prune"):
            other(**token, past_key_values=cache)
    with prune(model, policy(kind, method)), pytest.raises(PruningError, match="not filled inside this prune"):
        model(**token, past_key_values=cache)
    if method != "none":
        for one in (cache, twin):
            with pytest.raises(PruningError, match="filled under prune"):
                model(**token, past_key_values=one)
        cache.reset()
    assert torch.equal(model(**inputs, past_key_values=DynamicCache()).logits, model(**inputs).logits)


@pytest.mark.parametrize(
    ("option", "value"), [("guidance_scale", 1.5), ("prefill_chunk_size", 16), ("assistant_early_exit", 2)]
)
@every_host
def test_generate_that_reads_otherwise_is_refused_by_name(kind: str, option: str, value: Any) -> None:
    model, inputs = host(kind)[0], read_in(kind, 0)
    with prune(model, policy(kind, "fastv")), pytest.raises(PruningError, match=f"^{option}: generate would"):
        model.generate(**inputs, **GREEDY, **{option: value})


def test_caches_that_change_what_they_hold_are_refused_by_name() -> None:
    model, inputs = host("llava")[0], read_in("llava", 0)
    offloaded, quantised = DynamicCache(), DynamicCache()
    offloaded.offloading = True
    quantised.layer_class_to_replicate = type("QuantizedLayer", (nn.Module,), {})
    with torch.no_grad(), prune(model, policy("llava", "fastv")):
        model(**inputs, past_key_values=DynamicCache())
        for cache, name in ((offloaded, "offloaded"), (quantised, "QuantizedLayer")):
            with pytest.raises(PruningError, match=rf"{name}.* cannot hold layers of different lengths"):
                model(**inputs, past_key_values=cache)
