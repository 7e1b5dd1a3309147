"""`pruner_for`: a pruning method built for a model."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

from senna_prune.engine.decoder import find_decoder
from senna_prune.errors import require
from senna_prune.hosts.host import find_host, unwrapped
from senna_prune.pruning import Budget, Method, make_pruner


def pruner_for(model: PreTrainedModel, method: str, budget: Budget | None = None, **options: Any) -> Method:
    """A pruning method built for this model.

    Args:
        model: the model it will prune; any that `prune` takes, wrapped or not.
        method: a registered method; "none" leaves every bit of the model's output as it is.
        budget: what the method may spend; None is all visual tokens.
        options: of the method. Where positions follow from the images (M-RoPE), `positions` is "original" by default,
            whatever the method published.

    Raises:
        PruningError: unknown method or option, a budget out of reach, or a model that is no host.
        InputError: an argument of the wrong type.
    """
    model = unwrapped(model)
    require(isinstance(model, PreTrainedModel), "model", model, "a model of transformers")
    require(isinstance(method, str), "method", method, "the name of a method")
    require(budget is None or isinstance(budget, Budget), "budget", budget, "a Budget such as Budget.retention(0.25)")
    host, decoder = find_host(model, required=False), find_decoder(model)
    return make_pruner(
        method,
        Budget.retention(1.0) if budget is None else budget,
        num_layers=decoder.num_layers,
        num_heads=model.config.get_text_config().num_attention_heads,
        num_visual=None if host is None else host.full_size,
        **({"positions": "original"} if decoder.multi_axis else {}) | options,
    )
