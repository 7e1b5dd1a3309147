"""DART, "Stop Looking for Important Tokens in Multimodal Language Models: Duplication Matters More" (EMNLP 2025)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from senna_prune.pruning.base import KEYS, NORMED, Observation
from senna_prune.pruning.options import option
from senna_prune.pruning.ordering import Ordered


@dataclass(frozen=True, kw_only=True)
class Dart(Ordered):
    """Keeps a few pivots and, for each in turn, the tokens least similar to it, before layer 2.

    Pivots are the image and text tokens with the largest L1 norm of keys in the layer before; similarity is the cosine
    of hidden states under the decoder's final norm.

    Six views: one visual list, and image pivots may all lie in one view; text pivots are chosen among the text queries,
    by default the question behind the last view (published: all text behind the one image).

    A budget that leaves a remainder gives the first pivots one token more. Pivots take their turns by falling norm,
    image before text; published is the order of a set of integers in CPython, which depends on where the image stands.
    """

    stage = "inside, once"
    published_layer = 2
    needs = frozenset({KEYS, NORMED})
    image_pivots: int = option(4, "how many of the image; published 4.", least=1)
    text_pivots: int = option(4, "how many of the text; published 4.", least=0)

    def order(self, seen: Observation, count: int) -> Tensor:
        assert seen.sequence_keys is not None and seen.normed is not None
        norm, slots, length = key_norm(seen.sequence_keys), seen.slots, seen.sequence.shape[0]
        image = strongest(norm[slots], min(self.image_pivots, count))
        queries = seen.queries
        text = torch.arange(length - queries, length, device=norm.device) if isinstance(queries, int) else queries
        text = text[strongest(norm[text], min(self.text_pivots, text.shape[0]))]
        states = F.normalize(seen.normed.float(), dim=-1)
        similarity = states[torch.cat([slots[image], text])] @ states[slots].T
        similarity.index_fill_(1, image, math.inf)
        # Behind the tokens that will be kept, the others follow by the same rule.
        kept = min(seen.keep, count)
        totals = (kept - image.shape[0], count - max(kept, image.shape[0]))
        rounds = [shares(total, len(similarity)) for total in totals if total > 0]
        return torch.cat([image, *(in_turns(take_turns(similarity, counts)) for counts in rounds)])


def key_norm(keys: Tensor) -> Tensor:
    """L1 norm of (heads, n, head_dim) keys, all heads together, shape (n,), float32."""
    return keys.float().abs().sum((0, 2))


def strongest(norm: Tensor, count: int) -> Tensor:
    """Indices of the `count` largest, by falling norm, shape (count,); ties go to the lower index."""
    return norm.argsort(descending=True, stable=True)[:count]


def shares(total: int, pivots: int) -> list[int]:
    """How many tokens each pivot takes, so that they are `total` together."""
    return [total // pivots + (pivot < total % pivots) for pivot in range(pivots)]


def take_turns(similarity: Tensor, counts: Sequence[int]) -> list[Tensor]:
    """For each pivot in turn the tokens least similar to it that are left, least similar first.

    Args:
        similarity: shape (pivots, n), infinite at tokens that are not to be taken; those taken become so.
        counts: how many each takes.
    """
    taken = []
    for pivot, count in enumerate(counts):
        taken.append(similarity[pivot].argsort(stable=True)[:count])
        similarity.index_fill_(1, taken[-1], math.inf)
    return taken


def in_turns(taken: Sequence[Tensor]) -> Tensor:
    """The first of every pivot, then the second of every pivot, ...; the first pivots may have one more."""
    least = taken[-1].shape[0]
    common = torch.stack([tokens[:least] for tokens in taken], dim=1).flatten()
    return torch.cat([common, *(tokens[least:] for tokens in taken)])
