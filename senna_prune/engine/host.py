"""What a prefill needs from outside the decoder: where the tokens stand, and what the vision tower saw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from senna_prune.errors import InputError, PruningError
from senna_prune.hosts.senna import adapter_paths, senna_evidence
from senna_prune.model.token_layout import TokenLayout
from senna_prune.pruning.interface import VISION, VisionEvidence
from senna_prune.pruning.pruner import Pruner


class HostInputs:
    """Layouts and vision evidence of the batch at hand: given by the caller, or read off Senna's own inputs."""

    def __init__(
        self,
        model: nn.Module,
        pruner: Pruner,
        layouts: Sequence[TokenLayout] | None,
        vision: Sequence[VisionEvidence] | None,
    ) -> None:
        self.model, self.pruner = model, pruner
        self.given_layouts, self.given_vision = layouts, vision
        self.is_senna = getattr(getattr(model, "config", None), "model_type", None) == "senna"
        if layouts is None and not self.is_senna:
            raise PruningError(
                f"{type(model).__name__} does not tell where its visual tokens stand", hint="pass layouts= to prune()"
            )
        self.release()

    def release(self) -> None:
        self.input_ids: Tensor | None = None
        self.read_vision: Sequence[VisionEvidence] | None = None

    def hooks(self) -> Iterator[Any]:
        """Register on Senna, whose inputs tell everything; the handles are the caller's to remove."""
        if self.is_senna:
            yield self.model.register_forward_pre_hook(self._read, with_kwargs=True)

    def _read(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.release()
        self.input_ids = kwargs.get("input_ids", args[0] if args else None)
        pixels = kwargs.get("pixel_values")
        if VISION in self.pruner.needs and self.given_vision is None and pixels is not None:
            model: Any = self.model
            features = model.get_image_features(pixels, output_evidence=True)
            self.read_vision = senna_evidence(features, self.paths)
            kwargs = kwargs | {"pixel_values": None, "image_features": features.tokens}
        return args, kwargs

    @cached_property
    def paths(self) -> Tensor:
        return adapter_paths(self.model)

    def layouts_for(self, embeds: Tensor, mask: Tensor | None) -> tuple[list[TokenLayout], list[int]]:
        """Layouts of the batch and the column at which each sample begins, for `embeds` of shape (batch, width, d).

        Raises:
            InputError: layouts and inputs disagree in number or length.
            PruningError: the attention mask is not (batch, width), or does not mask one side alone.
        """
        batch, width = embeds.shape[:2]
        if mask is not None and (mask.ndim != 2 or mask.shape[1] != width):
            raise PruningError("pruning needs the two-dimensional attention mask of the whole prompt")
        if mask is None:
            lengths, starts = [width] * batch, [0] * batch
        else:
            ones = mask.int()
            ends = width - ones.flip(1).argmax(dim=1)
            lengths, starts, last = torch.stack([ones.sum(dim=1), ones.argmax(dim=1), ends]).tolist()
            if any(n == 0 or start + n != end for start, n, end in zip(starts, lengths, last, strict=True)):
                raise PruningError("the attention mask has a gap or an empty row", hint="pad on one side only")
        if self.given_layouts is not None:
            layouts = self._expand(self.given_layouts, batch, "layouts")
        else:
            layouts = self._layouts_from_ids(lengths, starts)
        for layout, length in zip(layouts, lengths, strict=True):
            if layout.length != length:
                raise InputError(f"a layout of {layout.length} tokens was given for a prompt of {length}")
        return layouts, starts

    def evidence(self, batch: int, device: torch.device) -> list[VisionEvidence] | None:
        """Vision evidence of the batch on `device`, if there is any."""
        given = self.given_vision if self.given_vision is not None else self.read_vision
        if given is None or VISION not in self.pruner.needs:
            return None
        return [
            VisionEvidence(v.score.to(device), None if v.keys is None else v.keys.to(device))
            for v in self._expand(given, batch, "vision")
        ]

    def _layouts_from_ids(self, lengths: list[int], starts: list[int]) -> list[TokenLayout]:
        if self.input_ids is None:
            raise InputError("no input_ids to read the layout from", hint="pass layouts= to prune()")
        config: Any = self.model.config
        rows = self.input_ids.cpu()
        return [
            TokenLayout.from_ids(row[start : start + length], config.image_token_id, config.num_view_tokens)
            for row, start, length in zip(rows, starts, lengths, strict=True)
        ]

    @staticmethod
    def _expand(items: Sequence[Any], batch: int, name: str) -> list[Any]:
        """Beam search repeats each sample; what was given per sample repeats with it."""
        if not items or batch % len(items):
            raise InputError(f"{len(items)} {name} were given for a batch of {batch}")
        return [item for item in items for _ in range(batch // len(items))]
