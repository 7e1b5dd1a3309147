"""Lists of kept tokens, one line per frame: another implementation of a pruner is compared with them token by token."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from senna_prune.cost import Count
from senna_prune.errors import FileError
from senna_prune.files import raw_lines, to_line, write_whole
from senna_prune.planner.plan import VisualTokens
from senna_prune.planner.planner import Planner

MERGED = -1
"""Stands for the index of a token that was made of several."""


class KeepList(Struct, frozen=True, forbid_unknown_fields=True):
    """What one method kept of one frame before the decoder: n of N visual tokens.

    Attributes:
        frame: its name, such as the token of a sample.
        method: registered name.
        budget: kind, value and accounting of a `Budget`; None: all tokens.
        numbering: how the decoder numbers the tokens that are left.
        cameras: channels, in the order of the views in the prompt.
        visual: N, the same number for each camera.
        kept: index of each kept token in the N of the unpruned prompt, camera by camera and row by row, ascending;
            `MERGED` for a token that was made of several.
        views: index of each kept token's camera in `cameras`.
        slots: where each stands in the pruned prompt, ascending.
        positions: what the decoder takes for its place.
        schema: version of these fields.
    """

    frame: str
    method: str
    budget: tuple[str, float, str] | None
    numbering: Literal["original", "repacked"]
    cameras: tuple[str, ...]
    visual: Count
    kept: tuple[int, ...]
    views: tuple[Count, ...]
    slots: tuple[Count, ...]
    positions: tuple[Count, ...]
    schema: Literal[1] = 1

    def __post_init__(self) -> None:
        if not len(self.kept) == len(self.views) == len(self.slots) == len(self.positions) <= self.visual:
            raise ValueError("kept, views, slots and positions differ in length, or are more than visual")
        own = [token for token in self.kept if token != MERGED]
        if own != sorted(set(own)) or (own and not 0 <= own[0] <= own[-1] < self.visual):
            raise ValueError("kept does not ascend from 0 to visual - 1")
        if list(self.slots) != sorted(set(self.slots)):
            raise ValueError("slots does not ascend")
        per_view, rest = divmod(self.visual, max(len(self.cameras), 1))
        if rest or (self.kept and not per_view):
            raise ValueError(f"{self.visual} tokens are not as many for each of {len(self.cameras)} cameras")
        for token, view in zip(self.kept, self.views, strict=True):
            if view >= len(self.cameras) or (token != MERGED and token // per_view != view):
                raise ValueError(f"token {token} is not of camera {view}")


def keep_list(planner: Planner, tokens: VisualTokens, frame: str) -> KeepList:
    """What `planner.visual_tokens` kept of a frame, as a line of the file.

    Args:
        planner: which made `tokens`.
        frame: its name.
    """
    config, pruner = planner.model.config, planner.pruner
    budget = getattr(pruner, "budget", None)
    return KeepList(
        frame=frame,
        method=pruner.name,
        budget=None if budget is None else (budget.kind, float(budget.value), budget.accounting),
        numbering=pruner.positions,
        cameras=tuple(planner.cameras),
        visual=config.num_views * config.num_view_tokens,
        kept=tuple(max(token, MERGED) for token in tokens.origin.tolist()),
        views=tuple(planner.cameras.index(camera) for camera in tokens.cameras),
        slots=tuple(tokens.slots.tolist()),
        positions=tuple(tokens.positions.tolist()),
    )


def write_keep_lists(path: Path | str, lines: Iterable[KeepList]) -> int:
    """Write a file of keep lists, line by line as they come; returns its bytes.

    Raises:
        FileError: it cannot be written; nothing of it is then left.
    """
    return write_whole(path, (to_line(msgspec.to_builtins(line)) for line in lines))


def read_keep_lists(path: Path | str) -> Iterator[KeepList]:
    """The lines of a file of keep lists, as they are read.

    Raises:
        FileError: the file or a line of it cannot be read; names the line and the field.
    """
    for where, line in raw_lines(Path(path)):
        try:
            yield msgspec.json.decode(line, type=KeepList)
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            problem = f"it is no keep list of schema 1: {error}"
            raise FileError(problem, where=where, hint="see docs/reference/files.md") from error
