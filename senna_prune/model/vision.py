"""From the patches of a view to its visual tokens, and what pruning policies read off the tower on the way."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.clip.modeling_clip import CLIPEncoderLayer

from senna_prune.model.configuration import SennaConfig


@dataclass
class SennaImageFeatures(BaseModelOutputWithPooling):
    """What the views of each frame become. Also a tuple, as every output of transformers; what is None is left out.

    Attributes:
        last_hidden_state: patch features of the selected layer, which enter the projector, shape (B, views, P, vision
            width), without the class token and without the tower's last norm.
        pooler_output: `tokens` as transformers lays them out, one list per frame, shape (B, views * T, D).
        hidden_states: states of the whole tower, class token first, each of shape (B * views, 1 + P, vision width);
            None unless asked for.
        attentions: attention of the whole tower, each of shape (B * views, heads, 1 + P, 1 + P); None unless asked
            for, and empty unless the tower attends with the `eager` implementation.
        tokens: visual tokens as the decoder gets them, shape (B, views, T, D).
        cls_attention: attention of the class token to the patches in the layer that produces the selected features
            (`attentions[-2]` for feature layer -2), mean over heads, not renormalised over patches, float32, shape
            (B, views, P); None unless asked for.
        patch_keys: key projections of the patches in that layer, mean over heads, shape (B, views, P, head_dim); as
            above.
    """

    # Always given; but every field of an output needs the default None.
    tokens: Tensor = None  # type: ignore[assignment]
    cls_attention: Tensor | None = None
    patch_keys: Tensor | None = None


class SennaMultiModalProjector(nn.Module):
    """Patch features to decoder width: Linear, exact GELU, Linear. (N, P, vision width) -> (N, P, D)."""

    def __init__(self, config: SennaConfig) -> None:
        super().__init__()
        width = config.text_config.hidden_size
        self.linear_1 = nn.Linear(config.vision_config.hidden_size, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear_2(nn.functional.gelu(self.linear_1(features)))


class SennaImageAdapter(nn.Module):
    """Mixes the token axis: P patches become T visual tokens, feature by feature. (N, P, D) -> (N, T, D)."""

    def __init__(self, config: SennaConfig) -> None:
        super().__init__()
        tokens = config.num_view_tokens
        self.adapter = nn.Sequential(
            nn.Linear(config.num_patches, tokens),
            nn.GELU(),
            nn.Linear(tokens, tokens),
            nn.GELU(),
            nn.Linear(tokens, tokens),
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.adapter(features.transpose(1, 2)).transpose(1, 2)


def class_attention_and_keys(layer: CLIPEncoderLayer, entering: Tensor) -> tuple[Tensor, Tensor]:
    """Class-token attention (N, P) and mean keys (N, P, head_dim) of one tower layer, from the states entering it.

    Projects anew instead of asking the layer for its weights, which only the eager implementation could return.
    """
    attention = layer.self_attn
    normed = layer.layer_norm1(entering)
    query = attention.q_proj(normed[:, :1]).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
    keys = attention.k_proj(normed).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
    logits = (query @ keys.transpose(2, 3)).squeeze(2) * attention.scale
    weights = logits.float().softmax(dim=-1).mean(dim=1)
    return weights[:, 1:], keys.mean(dim=1)[:, 1:]
