"""Several questions behind one shared image prefix: each sees the prefix and itself, none sees another.

Every question's positions restart behind the prefix, so the model learns exactly what it will be asked one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, apply_rotary_pos_emb

from senna_prune.model.modeling import IGNORED_LABEL, SennaForConditionalGeneration
from senna_prune.model.processing import SennaProcessor
from senna_prune.task.prompts import planning_prompt
from tools.demo.training.question_pool import Question

_SURE = 0.3
"""Cross entropy, nats: a token that knows its camera with a probability of 0.74."""
LENGTH_STEP = 64
"""Rows are padded to multiples of this: a CPU compiles its kernels anew for every shape it meets."""


@dataclass(frozen=True)
class Pack:
    """The questions of one scene behind its prefix.

    Attributes:
        prefix_positions: of the prefix, shape (P,); fractions where visual tokens advance by less than 1.
        ids: of questions and answers, shape (S,). positions: shape (S,).
        labels: what each position is to predict next, -100 where nothing is learnt, shape (S,).
        blocks: number of the question, from 1, shape (S,).
    """

    prefix_positions: Tensor
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

    def pack(self, questions: Sequence[Question], stretch: float = 1.0) -> Pack:
        """One row of ids, positions, labels and blocks.

        Args:
            stretch: by how much a visual token advances the position; text always advances it by 1.
        """
        tails = [self._tail(question) for question in questions]
        assert self.prefix is not None
        advance = torch.where(self.prefix == self.processor.image_token_id, stretch, 1.0)
        start = float(advance.sum())
        ids: list[int] = []
        labels: list[int] = []
        positions: list[float] = []
        blocks: list[int] = []
        for number, (asked, answer) in enumerate(tails, start=1):
            length = len(asked) + len(answer) - 1
            ids += asked + answer[:-1]
            labels += [IGNORED_LABEL] * (len(asked) - 1) + answer
            positions += [start + place for place in range(length)]
            blocks += [number] * length
        return Pack(advance.cumsum(0) - advance, *map(torch.tensor, (ids, positions, labels, blocks)))

    def _tail(self, question: Question) -> tuple[list[int], list[int]]:
        """Ids after the last image: what is asked, and the answer with its end."""
        if question not in self._tails:
            ids = self.processor.encode_prompt(planning_prompt(question.text))
            last_picture = int((ids == self.processor.image_token_id).nonzero()[-1])
            self.prefix = ids[: last_picture + 1]
            tokenizer = self.processor.tokenizer
            answer = [*tokenizer(question.answer, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
            self._tails[question] = (ids[last_picture + 1 :].tolist(), answer)
        return self._tails[question]


@dataclass(frozen=True)
class Batch:
    """Packs side by side.

    Attributes:
        prefix_positions: shape (B, P).
        ids, positions, labels, blocks: as in `Pack`, padded, shape (B, S); a pad's block is -1.
        mask: additive, shape (B, 1, S, P + S).
    """

    prefix_positions: Tensor
    ids: Tensor
    positions: Tensor
    labels: Tensor
    blocks: Tensor
    mask: Tensor


def collate(packs: Sequence[Pack], pad_id: int, dtype: torch.dtype, device: torch.device | str = "cpu") -> Batch:
    """Rows to a batch."""
    longest = max(len(pack.ids) for pack in packs)
    length = -(-longest // LENGTH_STEP) * LENGTH_STEP

    def stack(rows: Sequence[Tensor], value: int) -> Tensor:
        return torch.stack([nn.functional.pad(row, (0, length - len(row)), value=value) for row in rows]).to(device)

    blocks = stack([pack.blocks for pack in packs], -1)
    causal = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    seen = (blocks[:, None, :] == blocks[:, :, None]) & causal
    own = torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill(~seen, torch.finfo(dtype).min)
    prefix_positions = torch.stack([pack.prefix_positions for pack in packs]).to(device)
    return Batch(
        prefix_positions,
        stack([pack.ids for pack in packs], pad_id),
        stack([pack.positions for pack in packs], 0),
        stack([pack.labels for pack in packs], IGNORED_LABEL),
        blocks,
        nn.functional.pad(own, (prefix_positions.shape[1], 0))[:, None],
    )


LayerStep = Callable[[LlamaDecoderLayer, Tensor, Tensor, Tensor, Tensor, int], Tensor]


def layer_step(layer: LlamaDecoderLayer, hidden: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, prefix: int) -> Tensor:
    """One decoder layer over prefix and questions.

    Attention is written out: compiled, it takes half the time of PyTorch's fused kernel on heads as narrow as these.

    Args:
        hidden: shape (B, P + S, D). cos, sin: rotary tables, shape (B, P + S, head width).
        mask: additive, of the questions, shape (B, 1, S, P + S).
        prefix: P.

    Returns:
        Shape (B, P + S, D).
    """
    attention = layer.self_attn
    normed = layer.input_layernorm(hidden)
    shape = (*hidden.shape[:2], -1, attention.head_dim)
    query, key, value = (
        project(normed).view(shape).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    query, key = apply_rotary_pos_emb(query, key, cos, sin)
    half = prefix // 2  # the second half of the prefix alone looks at all of it: a quarter of the work is saved
    seen = [
        _attend(query[:, :, start:end], key[:, :, :end], value[:, :, :end], _causal(start, end, hidden))
        for start, end in ((0, half), (half, prefix))
    ]
    seen.append(_attend(query[:, :, prefix:], key, value, mask))
    hidden = hidden + attention.o_proj(torch.cat(seen, dim=2).transpose(1, 2).flatten(2))
    return hidden + layer.mlp(layer.post_attention_layernorm(hidden))


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    scores = (query @ key.transpose(-1, -2)).float() * query.shape[-1] ** -0.5 + mask
    return scores.softmax(dim=-1).to(value.dtype) @ value


def _causal(start: int, end: int, like: Tensor) -> Tensor:
    """Additive mask of rows start..end over columns 0..end."""
    places = torch.arange(end, device=like.device)
    return torch.where(places <= places[start:, None], 0.0, -torch.inf)


def packed_hidden(
    model: SennaForConditionalGeneration,
    packer: Packer,
    features: Tensor,
    batch: Batch,
    step: LayerStep = layer_step,
    kept: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Last hidden states of questions and answers, and those of the visual tokens a quarter of the way through.

    Args:
        features: visual tokens, shape (B, views, T, D).
        step: `layer_step`, perhaps compiled.
        kept: places within the prefix that stay, all where it is absent; visual tokens keep their positions.

    Returns:
        Shapes (B, S, D) and (B, visual tokens, D).
    """
    assert packer.prefix is not None
    ids = packer.prefix.to(features.device)
    kept = torch.arange(len(ids), device=ids.device) if kept is None else kept
    decoder, size = model.model.language_model, len(kept)
    prefix = model.model.embed(ids.expand(len(features), -1), features)[:, kept]
    visual = ids[kept] == packer.processor.image_token_id
    hidden = torch.cat([prefix, decoder.embed_tokens(batch.ids)], dim=1)
    cos, sin = decoder.rotary_emb(hidden, torch.cat([batch.prefix_positions[:, kept], batch.positions], dim=1))
    mask, early = batch.mask[..., len(ids) - size :], prefix
    for number, layer in enumerate(decoder.layers, start=1):
        hidden = step(layer, hidden, cos, sin, mask, size)
        if number == max(1, len(decoder.layers) // 4):
            early = hidden[:, :size][:, visual]
    return decoder.norm(hidden)[:, size:], early


class ViewHead(nn.Module):
    """Reads a visual token's camera off its early hidden state; thrown away after training.

    What an object means depends on the camera that sees it, and a token's camera stands only in the words before its
    image. Without this loss the decoder needs most of its training to find them there.
    """

    def __init__(self, num_views: int, width: int) -> None:
        super().__init__()
        self.norm, self.of_token = nn.LayerNorm(width), nn.Linear(width, num_views)

    def loss(self, early: Tensor) -> tuple[Tensor, float]:
        """Cross entropy and share of right cameras, of hidden states (B, views * T, D).

        Only tokens that are not sure yet count: else the camera soon fills all of a token.
        """
        logits = self.of_token(self.norm(early)).float().flatten(0, 1)
        num_views = logits.shape[-1]
        views = torch.arange(num_views, device=logits.device).repeat_interleave(early.shape[1] // num_views)
        views = views.repeat(len(early))
        right = (logits.argmax(dim=-1) == views).float().mean()
        entropy = nn.functional.cross_entropy(logits, views, reduction="none")
        return (entropy * (entropy.detach() > _SURE)).mean(), float(right)


def answer_loss(
    model: SennaForConditionalGeneration,
    packer: Packer,
    features: Tensor,
    packs: Sequence[Pack],
    views: ViewHead,
    step: LayerStep = layer_step,
) -> tuple[Tensor, dict[str, float]]:
    """Mean cross entropy of the answers' tokens, and of the cameras of visual tokens; shares right go into the log.

    Args:
        features: visual tokens, shape (B, views, T, D).
        step: `layer_step`, perhaps compiled.
    """
    batch = collate(packs, packer.processor.tokenizer.pad_token_id, model.dtype, model.device)
    hidden, early = packed_hidden(model, packer, features, batch, step)
    of_views, right_views = views.loss(early)
    learnt = batch.labels != IGNORED_LABEL
    logits, labels = model.lm_head(hidden[learnt]).float(), batch.labels[learnt]
    right = (logits.argmax(dim=-1) == labels).float()
    answers = nn.functional.cross_entropy(logits, labels)
    figures = {"answers": float(answers.detach()), "right": float(right.mean()), "right_views": right_views}
    return answers + of_views, figures
