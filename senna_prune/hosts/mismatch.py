"""Inputs that do not belong together, refused in one line where transformers fails over them in many ways."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from senna_prune.errors import InputError, as_error
from senna_prune.hosts.host import replaced

IMAGES, IDS = ("the images cannot be encoded", "pixel_values"), ("ids and images do not match", "input_ids")
READERS = {"get_image_features": IMAGES, "get_placeholder_mask": IDS, "get_rope_index": IDS}
"""Functions of a model that take what a processor made, and what an error in each says, and of which input."""
FAILS = (AttributeError, LookupError, StopIteration, TypeError, ValueError)


@contextmanager
def mismatches_named(model: Any) -> Iterator[None]:
    """Inside, a host whose ids and images, or ids and labels or mask, do not match is refused in one line."""

    def named(function: Callable[..., Any], problem: str, where: str) -> Callable[..., Any]:
        # Tensors of other sizes are a RuntimeError where they are compared; in the tower it may also be the device's.
        only = FAILS if where == "pixel_values" else (*FAILS, RuntimeError)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with as_error(InputError, problem, where, only):
                return function(*args, **kwargs)

        return call

    encoder = model.base_model
    with ExitStack() as stack:
        for name, says in READERS.items():
            if hasattr(encoder, name):
                stack.enter_context(replaced(encoder, name, named(getattr(encoder, name), *says)))
        stack.callback(model.register_forward_pre_hook(check_lengths, with_kwargs=True).remove)
        yield


def check_lengths(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Refuse labels, and the mask of a prompt, that are not of the length of its ids, and experts' loads as a loss.

    Raises:
        InputError: names which.
    """
    ids, cache = args[0] if args else kwargs.get("input_ids"), kwargs.get("past_key_values")
    if kwargs.get("output_router_logits"):
        problem = "the load of experts is computed of tokens that enter all layers"
        raise InputError(problem, where="output_router_logits", hint="leave it out inside a prune context")
    if ids is None:
        return
    for name in ("labels", "attention_mask"):
        value = kwargs.get(name)
        continues = name == "attention_mask" and cache is not None and cache.get_seq_length() > 0
        if value is not None and value.ndim == 2 and not continues and value.shape != ids.shape:
            problem = f"{name} of shape {tuple(value.shape)} were given for input_ids of shape {tuple(ids.shape)}"
            raise InputError(problem, where=name, hint="give one entry per token")
