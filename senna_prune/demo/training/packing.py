"""Several questions behind one shared image prefix: each sees the prefix and itself, none sees another.

Every question's positions restart behind the prefix, so the model learns exactly what it will be asked one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from senna_prune.demo.training.question_pool import Question
from senna_prune.model.modeling import IGNORED_LABEL, SennaForConditionalGeneration
from senna_prune.model.processing import SennaProcessor
from senna_prune.task.prompts import planning_prompt

LENGTH_STEP = 64
"""Rows are padded to multiples of this: a CPU compiles its kernels anew for every shape it meets."""


@dataclass(frozen=True)
class Pack:
    """The questions of one scene behind its prefix.

    Attributes:
        ids: shape (S,). positions: shape (S,).
        labels: what each position is to predict next, -100 where nothing is learnt, shape (S,).
        blocks: 0 for the prefix, then the number of the question, shape (S,).
    """

    ids: Tensor
    positions: Tensor
    labels: Tensor
    blocks: Tensor


class Packer:
    """Tokenises questions once and packs them.

    Args:
        processor: of the model; its chunk-wise tokenisation is what evaluation uses.
    """

    def __init__(self, processor: SennaProcessor) -> None:
        self.processor = processor
        self._tails: dict[Question, tuple[list[int], list[int]]] = {}
        self.prefix: Tensor | None = None

    def pack(self, questions: Sequence[Question]) -> Pack:
        """One row of ids, positions, labels and blocks."""
        tails = [self._tail(question) for question in questions]
        assert self.prefix is not None
        start = len(self.prefix)
        ids, labels = self.prefix.tolist(), [IGNORED_LABEL] * start
        positions, blocks = list(range(start)), [0] * start
        for number, (asked, answer) in enumerate(tails, start=1):
            ids += asked + answer[:-1]
            labels += [IGNORED_LABEL] * (len(asked) - 1) + answer
            positions += range(start, start + len(asked) + len(answer) - 1)
            blocks += [number] * (len(asked) + len(answer) - 1)
        return Pack(*(torch.tensor(values) for values in (ids, positions, labels, blocks)))

    def _tail(self, question: Question) -> tuple[list[int], list[int]]:
        """Ids after the last picture: what is asked, and the answer with its end."""
        if question not in self._tails:
            ids = self.processor.encode_prompt(planning_prompt(question.text))
            last_picture = int((ids == self.processor.image_token_id).nonzero()[-1])
            self.prefix = ids[: last_picture + 1]
            tokenizer = self.processor.tokenizer
            answer = [*tokenizer(question.answer, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
            self._tails[question] = (ids[last_picture + 1 :].tolist(), answer)
        return self._tails[question]


def collate(packs: Sequence[Pack], pad_id: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows to a batch: ids, positions and labels of shape (B, S), additive mask of shape (B, 1, S, S)."""
    longest = max(len(pack.ids) for pack in packs)
    length = -(-longest // LENGTH_STEP) * LENGTH_STEP

    def stack(rows: Sequence[Tensor], value: int) -> Tensor:
        return torch.stack([nn.functional.pad(row, (0, length - len(row)), value=value) for row in rows])

    ids = stack([pack.ids for pack in packs], pad_id)
    positions = stack([pack.positions for pack in packs], 0)
    labels = stack([pack.labels for pack in packs], IGNORED_LABEL)
    blocks = stack([pack.blocks for pack in packs], -1)
    causal = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    seen = (blocks[:, None, :] == 0) | (blocks[:, None, :] == blocks[:, :, None])
    mask = torch.zeros(seen.shape, dtype=dtype).masked_fill(~(seen & causal), torch.finfo(dtype).min)
    return ids, positions, labels, mask[:, None]


def answer_loss(
    model: SennaForConditionalGeneration, packer: Packer, pixels: Tensor, packs: Sequence[Pack]
) -> tuple[Tensor, dict[str, float]]:
    """Mean cross entropy of the answers' tokens; the share of right tokens goes into the log.

    Args:
        pixels: shape (B, views, 3, H, W).
    """
    batch = collate(packs, packer.processor.tokenizer.pad_token_id, model.dtype)
    ids, positions, labels, mask = (part.to(model.device) for part in batch)
    embeddings = model.model.embed(ids, model.get_image_features(pixels).tokens)
    hidden = model.model.language_model(
        inputs_embeds=embeddings, attention_mask=mask, position_ids=positions, use_cache=False
    ).last_hidden_state
    logits = model.lm_head(hidden).float().flatten(0, 1)
    labels = labels.flatten()
    right = (logits.argmax(dim=-1) == labels)[labels != IGNORED_LABEL].float()
    return nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED_LABEL), {"right": float(right.mean())}
