"""Arguments as a harness gives them: a budget, a batch size, and how to generate."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from senna_prune.errors import InputError, require
from senna_prune.pruning import Budget


def budget_of(method: str, retention: Any, tokens: Any, accounting: Any = "entering") -> Budget | None:
    """The one budget that is given; None, which is all visual tokens, for the method "none" alone.

    Args:
        retention: a fraction of the visual tokens, mean over layers.
        tokens: visual tokens of one prompt, mean over layers.

    Raises:
        InputError: both are given, or none.
        PruningError: the value is out of range.
    """
    if retention is not None and tokens is not None:
        raise InputError("both retention and tokens are given", where="model_args", hint="give one of them")
    if retention is not None:
        return Budget.retention(retention, accounting)
    if tokens is not None:
        return Budget.tokens(tokens, accounting)
    if method != "none":
        hint = "add retention=0.25 or tokens=128, or choose method=none"
        raise InputError(f"method {method} has no budget", where="model_args", hint=hint)
    return None


def batch_size_of(given: Any) -> int:
    """A number of prompts.

    Raises:
        InputError: it is no whole number above 0, such as "auto".
    """
    holds = str(given).isdecimal() and int(given) >= 1
    require(holds, "batch_size", given, "a number of prompts", hint="give a whole number above 0")
    return int(given)


def generation_arguments(asked: Mapping[str, Any], known: Container[str], max_new_tokens: int) -> dict[str, Any]:
    """Arguments of `generate` out of a task's `generation_kwargs`, which are left as they are: they are part of the key
    under which the harness stores an answer.

    Args:
        asked: the task's; greedy, one beam, if it does not say otherwise. A temperature above 0 asks for sampling.
        known: names that `generate` takes. Others, such as `image_aspect_ratio`, are for other models.
        max_new_tokens: where the task has no limit.

    Raises:
        InputError: `until` is no text, or several answers are asked for.
    """
    until = asked.get("until") or []
    if not isinstance(until, str) and not (isinstance(until, list) and all(isinstance(stop, str) for stop in until)):
        raise InputError(f"{until!r} is no stop string", where="generation_kwargs.until", hint="give text or a list")
    if asked.get("num_return_sequences") not in (None, 1):
        raise InputError("a document has one answer", where="generation_kwargs.num_return_sequences", hint="drop it")
    given = {"max_new_tokens": max_new_tokens, "num_beams": 1} | {n: v for n, v in asked.items() if n in known}
    given["return_dict_in_generate"] = False
    temperature = given.get("temperature")
    given["do_sample"] = bool(given.get("do_sample", temperature)) and temperature != 0
    if not given["do_sample"]:
        # A checkpoint's generation_config may hold values for sampling.
        given |= {"temperature": None, "top_p": None, "top_k": None}
    return given


def cut(text: str, until: str | list[str] | None) -> str:
    """The text before the first stop string in it."""
    for stop in [until] if isinstance(until, str) else until or []:
        text = text.split(stop)[0] if stop else text
    return text
