"""`pruner_for`: a pruning method built for a model."""

from __future__ import annotations

from typing import Any

from senna_prune.model.modeling import SennaForConditionalGeneration
from senna_prune.planner.inputs import require
from senna_prune.pruning import Budget, Pruner, make_pruner


def pruner_for(
    model: SennaForConditionalGeneration, method: str, budget: Budget | None = None, **options: Any
) -> Pruner:
    """A pruning method built for this model.

    Args:
        model: the model it will prune.
        method: a registered method; "none" leaves every bit of the model's output as it is.
        budget: what the method may spend; None is all visual tokens.
        options: of the method.

    Raises:
        PruningError: unknown method or option, or a budget out of reach.
        InputError: an argument of the wrong type.
    """
    require(isinstance(model, SennaForConditionalGeneration), "model", model, "a SennaForConditionalGeneration")
    require(isinstance(method, str), "method", method, "the name of a method")
    require(budget is None or isinstance(budget, Budget), "budget", budget, "a Budget such as Budget.retention(0.25)")
    config = model.config
    return make_pruner(
        method,
        Budget.retention(1.0) if budget is None else budget,
        num_layers=config.text_config.num_hidden_layers,
        num_heads=config.text_config.num_attention_heads,
        num_visual=config.num_views * config.num_view_tokens,
        **options,
    )
