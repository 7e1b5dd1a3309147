"""Makes a trained decoder deeper: a shallow one learns the task in a fraction of the time.

Each layer becomes several, each of which writes its share of what the one wrote into the residual stream: the finer
steps of the same movement, so that the deep decoder starts almost where the shallow one ended. (Residual layers as
steps of an ordinary differential equation, halved: Chang et al., ICLR 2018.)
"""

from __future__ import annotations

from copy import deepcopy

import torch

from senna_prune.model.modeling import SennaForConditionalGeneration


@torch.no_grad()
def deepen(model: SennaForConditionalGeneration, num_layers: int) -> SennaForConditionalGeneration:
    """A model with the same weights and a decoder of `num_layers` layers, a multiple of what `model` has."""
    config = deepcopy(model.config)
    shallow = config.text_config.num_hidden_layers
    share = num_layers // shallow
    config.text_config.num_hidden_layers = num_layers
    deep = SennaForConditionalGeneration(config)
    torch.nn.Module.to(deep, device=model.device, dtype=model.dtype)
    prefix = "model.language_model.layers."
    state = {}
    for name, weight in model.state_dict().items():
        if not name.startswith(prefix):
            state[name] = weight
            continue
        number, _, rest = name.removeprefix(prefix).partition(".")
        writes = rest in ("self_attn.o_proj.weight", "mlp.down_proj.weight")
        for copy in range(share):
            state[f"{prefix}{int(number) * share + copy}.{rest}"] = weight / share if writes else weight
    deep.load_state_dict(state)
    return deep
