"""Ids, images, labels and masks that do not belong together: one line on every host, in `generate` and in a call."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from senna_prune import Budget, prune, pruner_for
from senna_prune.errors import InputError, SennaPruneError
from tests.tiny_hosts import HOSTS, MROPE, TWO, prompts, tiny_host

HOST = {kind: tiny_host(kind) for kind in HOSTS}
WITHOUT = {"llava": "pixel_values", "llava_next": "image_sizes", **dict.fromkeys(MROPE, "image_grid_thw")}


def shortened(kind: str, inputs: dict[str, Any], case: str, by: int) -> dict[str, Any]:
    """Inputs of two images after something was cut off."""
    ids = inputs["input_ids"]
    if case in ("labels", "attention_mask"):
        return inputs | {case: torch.ones_like(ids)[:, :-by]}
    if case == "sizes":
        return {name: value for name, value in inputs.items() if name != WITHOUT[kind]}
    if case == "ids":  # as `max_length` with `truncation` does, inside the last image
        end = int((ids[0] == HOST[kind][0].config.image_token_id).nonzero()[-by])
        return {name: v[:, :end] if v.shape == ids.shape else v for name, v in inputs.items()}
    if kind in MROPE:
        first = inputs["image_grid_thw"][:1]
        return inputs | {"image_grid_thw": first, "pixel_values": inputs["pixel_values"][: int(first.prod())]}
    return inputs | {name: inputs[name][:1] for name in ("pixel_values", "image_sizes") if name in inputs}


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(HOSTS),
    case=st.sampled_from(["ids", "an image", "sizes", "labels", "attention_mask"]),
    method=st.sampled_from(["none", "fastv", "fastervlm", "autoprune"]),
    by=st.integers(1, 7),
    generate=st.booleans(),
)
@torch.no_grad()
def test_what_does_not_belong_together_is_one_line(kind: str, case: str, method: str, by: int, generate: bool) -> None:
    model, processor = HOST[kind]
    inputs = shortened(kind, prompts(processor, TWO[0]), case, by)
    generate &= case not in ("labels", "attention_mask")
    pruner = pruner_for(model, method, None if method == "none" else Budget.retention(0.5))
    with prune(model, pruner), pytest.raises(SennaPruneError) as caught:
        (partial(model.generate, max_new_tokens=2) if generate else model)(**inputs)
    assert isinstance(caught.value, InputError)
    assert "\n" not in str(caught.value)
