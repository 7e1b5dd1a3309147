"""Where every camera's tokens and the question's tokens stand in a sample's sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from senna_prune.errors import InputError


@dataclass(frozen=True)
class TokenLayout:
    """Positions within one *unpadded* sequence.

    Attributes:
        length: number of tokens, text and visual.
        views: positions of each view's visual tokens, by label, in sequence order.
        answer: tokens at the end that are no prompt: an answer that is scored, or a draft of one. They are carried
            along, and have no say in which visual tokens are kept.
    """

    length: int
    views: Mapping[str, range]
    answer: int = 0

    def __post_init__(self) -> None:
        end = 0
        for name, span in self.views.items():
            if span.step != 1 or span.start < end or span.stop > self.length:
                raise InputError(f"view {name!r} at {span} overlaps another or leaves the sequence")
            end = span.stop
        if not 0 <= self.answer <= self.length - end:
            raise InputError(f"the prompt ends at token {self.length - self.answer}, before its last image does")

    @property
    def num_visual(self) -> int:
        return sum(len(span) for span in self.views.values())

    @property
    def visual(self) -> Tensor:
        """Positions of all visual tokens, in sequence order, shape (num_visual,)."""
        spans = [torch.arange(span.start, span.stop) for span in self.views.values()]
        return torch.cat(spans) if spans else torch.empty(0, dtype=torch.long)

    @property
    def view_of_visual(self) -> Tensor:
        """View number of each visual token, shape (num_visual,)."""
        sizes = torch.tensor([len(span) for span in self.views.values()], dtype=torch.long)
        return torch.repeat_interleave(torch.arange(len(self.views)), sizes)

    @property
    def text(self) -> Tensor:
        """Positions of all text tokens, shape (num_text,)."""
        mask = torch.ones(self.length, dtype=torch.bool)
        mask[self.visual] = False
        return mask.nonzero().squeeze(-1)

    @property
    def question(self) -> Tensor:
        """Positions of the prompt's text after the last view: these tokens have seen every view.

        Shape (num_question,)."""
        last = max((span.stop for span in self.views.values()), default=0)
        return torch.arange(last, self.length - self.answer)

    @classmethod
    def from_ids(cls, input_ids: Tensor, image_token_id: int, view_tokens: int) -> TokenLayout:
        """The layout of one unpadded row of ids, shape (length,), whose placeholders come in runs of `view_tokens`;
        adjacent runs are split. Views are labelled by their number.

        Raises:
            InputError: the number of placeholders is not a multiple of `view_tokens`, or a run is cut.
        """
        positions = (input_ids == image_token_id).nonzero().squeeze(-1).tolist()
        if len(positions) % view_tokens:
            raise InputError(f"{len(positions)} image placeholders are not a multiple of {view_tokens} per view")
        starts = positions[::view_tokens]
        for number in range(len(starts)):
            run = positions[number * view_tokens : (number + 1) * view_tokens]
            if run[-1] - run[0] != view_tokens - 1:
                raise InputError(f"the placeholders of view {number} are interrupted")
        spans = {str(number): range(start, start + view_tokens) for number, start in enumerate(starts)}
        return cls(length=int(input_ids.shape[0]), views=spans)


def require_placeholders(found: Sequence[int], expected: int) -> None:
    """Refuse rows of ids that do not hold as many placeholders as there are visual tokens.

    Raises:
        InputError: one of the `found` counts is not `expected`.
    """
    if any(count != expected for count in found):
        problem = (
            f"the rows of input_ids hold {list(found)} image placeholders, but {expected} visual tokens each were given"
        )
        raise InputError(
            problem,
            hint="pass pixel_values or image_features of every frame, and ids from SennaProcessor",
        )
