"""Hosts whose parts are not what their name says: layers that can only be run, and towers of another geometry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import disk_offload
from accelerate.hooks import remove_hook_from_module
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import LlavaConfig, LlavaForConditionalGeneration

from senna_prune import Budget, prune, pruner_for
from senna_prune.errors import InputError, PruningError
from senna_prune.hosts.host import find_host, host_names
from senna_prune.hosts.senna import adapter_paths
from senna_prune.pruning import method_names
from tests.engine.test_prefill import inputs_for
from tests.fakes import tiny_senna
from tests.tiny_hosts import CLIP, TEXT, TWO, prompts, tiny_host


class FourBit(nn.Linear):
    """As bitsandbytes': its weight has another shape and type than what it multiplies with."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__(plain.in_features, plain.out_features)
        self.own = (plain,)
        self.weight = nn.Parameter(torch.zeros(plain.weight.numel() // 2, 1, dtype=torch.uint8), requires_grad=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.own[0](inputs)


class OnlyMultiplies(Tensor):
    """As torchao's: a weight that knows `linear` and hardly anything else."""

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in (torch.abs, Tensor.abs, Tensor.float, Tensor.to, Tensor.matmul, Tensor.__matmul__):
            raise NotImplementedError(f"{function} is not implemented for this weight")
        if function is not nn.functional.linear:
            return super().__torch_function__(function, types, args, kwargs or {})
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **(kwargs or {}))


class LowRank(nn.Module):
    """As peft's: a layer with an addition beside it."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__()
        self.base_layer, self.rest = nn.Linear(plain.in_features, plain.out_features), nn.Linear(plain.in_features, 2)
        self.back = nn.Linear(2, plain.out_features, bias=False)
        nn.init.zeros_(self.rest.bias)
        self.base_layer.bias = plain.bias
        added = self.back.weight @ self.rest.weight
        self.base_layer.weight = nn.Parameter((plain.weight - added).detach())

    def forward(self, inputs: Tensor) -> Tensor:
        return self.base_layer(inputs) + self.back(self.rest(inputs))


def only_multiplies(plain: nn.Linear) -> nn.Linear:
    plain.weight = nn.Parameter(plain.weight.detach().as_subclass(OnlyMultiplies), requires_grad=False)
    return plain


WRAPPED: dict[str, Callable[[nn.Linear], nn.Module]] = {
    "4 bit": FourBit,
    "own tensor class": only_multiplies,
    "low rank": LowRank,
}


def built(kind: str) -> tuple[Any, dict[str, Any]]:
    if kind != "senna":
        model, processor = tiny_host(kind)
        return model, prompts(processor, TWO[1])
    model, processor = tiny_senna()
    for linear in model.model.img_adapter.adapter[::2]:
        nn.init.normal_(linear.bias)
    return model, inputs_for(model, processor)


def replaced(model: nn.Module, wrap: Callable[[nn.Linear], nn.Module], folder: Path) -> None:
    """Every linear layer of the model but its head, which transformers leaves alone too."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and name != "lm_head":
                setattr(parent, name, wrap(child))


def on_disk(model: nn.Module, folder: Path) -> None:
    newline = getattr(getattr(model, "model", None), "image_newline", None)
    disk_offload(model, str(folder), execution_device=torch.device("cpu"))
    if newline is not None:  # transformers reads it outside of any hook: with these, plain generate fails too
        remove_hook_from_module(model.model)
        model.model.image_newline = newline


@pytest.mark.parametrize("how", [*WRAPPED, "on disk"])
@pytest.mark.parametrize("kind", host_names())
@torch.no_grad()
def test_layers_are_run_never_read(kind: str, how: str, tmp_path: Path) -> None:
    model, inputs = built(kind)
    plain = {}
    for method in method_names():
        with prune(model, pruner_for(model, method, Budget.retention(0.5))) as trace:
            plain[method] = model(**inputs, logits_to_keep=1).logits, trace.samples[0].entering
    paths = adapter_paths(model) if kind == "senna" else None
    on_disk(model, tmp_path) if how == "on disk" else replaced(model, WRAPPED[how], tmp_path)
    if paths is not None:
        torch.testing.assert_close(adapter_paths(model), paths, atol=1e-6, rtol=1e-4)
    for method, (logits, entering) in plain.items():
        with prune(model, pruner_for(model, method, Budget.retention(0.5))) as trace:
            found = model(**inputs, logits_to_keep=1).logits
        assert sum(trace.samples[0].entering) == pytest.approx(sum(entering), abs=2)
        if how in ("4 bit", "on disk") and kind != "senna":
            assert torch.equal(found, logits), method


def test_an_adapter_that_does_not_run_is_one_line() -> None:
    model, _ = tiny_senna()
    model.model.img_adapter.adapter[2] = nn.Linear(8, 8, device="meta")
    with pytest.raises(InputError, match="Linear cannot be run"):
        adapter_paths(model)


@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 500), width=st.integers(1, 500), thin=st.sampled_from([None, "high", "wide"]))
@torch.no_grad()
def test_images_of_any_shape_have_finite_scores_on_llava_next(height: int, width: int, thin: str | None) -> None:
    model, processor = NEXT
    size = {None: (height, width), "high": (height, 1 + width % 4), "wide": (1 + height % 4, width)}[thin]
    inputs, host = prompts(processor, [size]), find_host(model)
    assert host is not None
    arguments = {name: inputs[name] for name in ("pixel_values", "image_sizes")}
    outputs, scores = host.encode_with_vision_scores(model.get_image_features, arguments)
    assert len(scores.score) == len(scores.keys) == len(outputs.pooler_output[0])
    assert scores.score.isfinite().all() and scores.keys.isfinite().all()
    for method in ("fastervlm", "autoprune", "visionzip"):
        with prune(model, pruner_for(model, method, Budget.retention(0.5))) as trace:
            model(**inputs)
        assert trace.samples[0].entering[0] <= len(scores.score)


NEXT = tiny_host("llava_next")


def llava(tower: dict[str, Any], **options: Any) -> Any:
    text = {"model_type": "llama", **TEXT}
    config = LlavaConfig(vision_config=tower, text_config=text, image_token_id=5, **options)
    return LlavaForConditionalGeneration._from_config(config).eval()


TOWERS = {
    "clip": {"model_type": "clip_vision_model", **CLIP},
    "siglip": {"model_type": "siglip_vision_model", **CLIP, "vision_use_head": False},
    "pixtral": {"model_type": "pixtral", **CLIP, "head_dim": 8},
    "dinov2": {"model_type": "dinov2", **CLIP},
}
MISFITS: dict[str, tuple[str, dict[str, Any], str]] = {
    "no class token, sizes vary": ("pixtral", {}, "Pixtral"),
    "another kind of layer": ("dinov2", {}, "no CLIP-like attention"),
    "class token kept": ("clip", {"vision_feature_select_strategy": "full"}, "class token is among"),
    "the patches themselves": ("clip", {"vision_feature_layer": 0}, "feature layer 0"),
    "a layer that is not there": ("clip", {"vision_feature_layer": -9}, "feature layer -9"),
    "one of several is not there": ("siglip", {"vision_feature_layer": [-1, 7]}, r"feature layer \[-1, 7\]"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_another_geometry_is_refused_when_the_context_is_entered(case: str) -> None:
    tower, options, complaint = MISFITS[case]
    model = llava(TOWERS[tower], **options)
    for method in method_names() if tower == "pixtral" else ("fastervlm", "autoprune", "visionzip"):
        with pytest.raises(PruningError, match=complaint) as caught, prune(model, pruner_for(model, method)):
            pass
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("strategy", ["default", "full"])
@pytest.mark.parametrize("layer", [-1, -2, 1, [-3, -1]])
@pytest.mark.parametrize("tower", ["clip", "siglip"])
@torch.no_grad()
def test_every_choice_of_features_runs_with_as_many_scores_as_tokens(tower: str, layer: Any, strategy: str) -> None:
    model = llava(TOWERS[tower], vision_feature_layer=layer, vision_feature_select_strategy=strategy)
    pixels = torch.randn(2, 3, 56, 56)
    tokens = 2 * len(model.get_image_features(pixels).pooler_output[0])
    ids = torch.tensor([[7, *[5] * tokens, 8, 9]])
    for method in method_names():
        pruner = pruner_for(model, method, Budget.retention(0.5))
        if (tower, strategy) == ("clip", "full") and "vision" in pruner.needs:
            continue
        with prune(model, pruner) as trace:
            model(input_ids=ids, pixel_values=pixels)
        assert (trace.samples[0].num_visual, trace.samples[0].num_views) == (tokens, 2)


def test_a_row_end_that_is_offloaded_is_named() -> None:
    model, _ = tiny_host("llava_next")
    model.model.image_newline = nn.Parameter(torch.zeros(64, device="meta"))
    with pytest.raises(PruningError, match="image_newline"), prune(model, pruner_for(model, "none")):
        pass
