"""What the decisions of a run need of their samples' objects: which visual tokens see each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from senna_prune.engine.state import SampleTrace
from senna_prune.errors import SampleError
from senna_prune.evaluation.audit.survival import (
    Floats,
    Mask,
    Survival,
    View,
    audited_layers,
    nearness,
    seeing_tokens,
    survival,
)
from senna_prune.files import confined
from senna_prune.task.objects import SeenObject
from senna_prune.task.sample import PlanningSample

KNOWN = 2048
"""Samples whose masks are kept at once: all conditions of a batch, of 1024 at most, ask for the same ones."""


class SeenObjects:
    """Masks of tokens for the samples at hand.

    Args:
        token_shares: share of each patch in each token of a view, see `View`.
        padded: images were centred on a square.
        root: folder of the images.
    """

    def __init__(self, token_shares: Floats, padded: bool, root: Path) -> None:
        self.token_shares, self.padded, self.root = token_shares, padded, root
        self._known: dict[str, tuple[tuple[SeenObject, ...], Mask]] = {}

    def views(self, sample: PlanningSample, token_shares: Floats | None = None) -> dict[str, View]:
        """How the sample's images become visual tokens, by camera, in the order of the prompt.

        Args:
            token_shares: at this sample, (views, tokens, patches); None: the same for all samples.
        """
        sizes = [upright_size(confined(self.root, path, SampleError)) for path in sample.view_paths()]
        shares = [self.token_shares] * len(sizes) if token_shares is None else token_shares
        each = zip(sample.cameras, sizes, shares, strict=True)
        return {camera: View.square(size, self.padded, own) for camera, size, own in each}

    def seeing(self, sample: PlanningSample, token_shares: Floats | None = None) -> Mask:
        """Which visual tokens see each object of a sample that tells them, shape (objects, num_visual).

        `token_shares` as for `views`; what was seen by them is remembered.
        """
        assert sample.objects is not None
        objects, mask = self._known.get(sample.key, (None, None))
        if mask is None or objects is not sample.objects or token_shares is not None:
            views = self.views(sample, token_shares)
            masks = [seeing_tokens(one, views) for one in sample.objects]
            mask = np.array(masks, dtype=bool).reshape(-1, sum(view.num_tokens for view in views.values()))
            if len(self._known) >= KNOWN:
                del self._known[next(iter(self._known))]
            self._known[sample.key] = sample.objects, mask
        return mask

    def nearness(self, sample: PlanningSample) -> tuple[float, ...]:
        """What the oracle controls go by."""
        assert sample.objects is not None
        return nearness(sample.objects, self.seeing(sample))

    def survival(self, sample: PlanningSample, trace: SampleTrace) -> Survival | None:
        """Of a decision whose trace is on the host; None where the sample does not tell its objects."""
        if sample.objects is None:
            return None
        layers = audited_layers(len(trace.origins))
        return survival(self.seeing(sample), {layer: trace.origins[layer].numpy() for layer in layers})


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height of an image that was read before, pixels, as it is shown; its pixels are not decoded."""
    with Image.open(path) as picture:
        turned = picture.getexif().get(ExifTags.Base.Orientation, 1) >= 5
        return picture.size[::-1] if turned else picture.size
