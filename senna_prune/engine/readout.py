"""Reading the plan out of a prefilled model: a plan is one of 20 known answers, so one pass can score them all.

The answers form a token trie. Its inner nodes run through the decoder together, each seeing the prompt, its ancestors
and itself; their logits hold every conditional that any answer needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from senna_prune.devices import copied_once, device_of, moved
from senna_prune.engine.decode import TokenTree
from senna_prune.engine.decoder import Decoder, find_decoder
from senna_prune.engine.prune import is_pruned
from senna_prune.errors import InputError


@dataclass(frozen=True)
class AnswerTrie:
    """Known answers as a token trie.

    Attributes:
        answers: token ids of each answer.
        nodes: token of each inner node, parents before children, shape (nodes,). Leaves need no pass of their own.
        tree: how the inner nodes see each other, and their depths.
        step_nodes: where the conditional of each answer's t-th token is read: 0 = the prompt's last logits, i + 1 =
            inner node i; shape (answers, longest), -1 beyond an answer's end.
        step_tokens: the t-th token, same shape, 0 beyond the end.
    """

    answers: tuple[tuple[int, ...], ...]
    nodes: Tensor
    tree: TokenTree
    step_nodes: Tensor
    step_tokens: Tensor

    @classmethod
    def build(cls, answers: Sequence[Sequence[int]]) -> AnswerTrie:
        """Build the trie.

        Raises:
            InputError: no answer, an empty one, or one that is the beginning of another (or equal to it).
        """
        rows = tuple(tuple(ids) for ids in answers)
        if not rows or not all(rows):
            raise InputError("a trie needs at least one answer and no empty ones")
        for one in rows:
            if sum(other[: len(one)] == one for other in rows) > 1:
                raise InputError(f"answer {list(one)} begins another answer", hint="end every answer with a terminator")
        prefixes = sorted({row[:t] for row in rows for t in range(1, len(row))}, key=lambda p: (len(p), p))
        number = {(): 0} | {prefix: i + 1 for i, prefix in enumerate(prefixes)}
        visible = torch.tensor([[node[: len(other)] == other for other in prefixes] for node in prefixes])
        longest = max(map(len, rows))
        return cls(
            answers=rows,
            nodes=torch.tensor([prefix[-1] for prefix in prefixes], dtype=torch.long),
            tree=TokenTree(visible.view(len(prefixes), len(prefixes)), torch.tensor([len(p) - 1 for p in prefixes])),
            step_nodes=torch.tensor(
                [[number[row[:t]] if t < len(row) else -1 for t in range(longest)] for row in rows]
            ),
            step_tokens=torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows]),
        )


@dataclass(frozen=True)
class AnswerScores:
    """Scores of a batch.

    Attributes:
        steps: log-probability of each answer's t-th token given the prompt and the tokens before it, float32,
            (batch, answers, longest), 0 beyond the end.
        finite: whether all logits they come from are finite, 0-d boolean.
    """

    trie: AnswerTrie
    steps: Tensor
    finite: Tensor

    @property
    def log_probabilities(self) -> Tensor:
        """Log-probability of every answer, (batch, answers)."""
        return self.steps.sum(dim=-1)

    @property
    def distribution(self) -> Tensor:
        """Probabilities over the known answers, normalised to 1, (batch, answers)."""
        return self.log_probabilities.softmax(dim=-1)

    def most_probable(self) -> list[int]:
        """Number of the most probable answer, per sample."""
        return self.log_probabilities.argmax(dim=-1).tolist()

    def greedy(self) -> list[int]:
        """Number of the answer that greedy decoding restricted to the trie would spell, per sample."""
        chosen = []
        for steps in self.steps.tolist():
            left = list(range(len(self.trie.answers)))
            for t in range(self.steps.shape[-1]):
                # Answers still left share their first t tokens, so equal tokens have equal conditionals.
                best = max(left, key=lambda a: steps[a][t])
                left = [a for a in left if self.trie.answers[a][t] == self.trie.answers[best][t]]
                if len(left) == 1:
                    break
            chosen.append(left[0])
        return chosen


def score_answers(model: nn.Module, cache: Any, prompt_logits: Tensor, trie: AnswerTrie) -> AnswerScores:
    """Score every answer in one pass, inside the `prune` context that made the cache.

    Args:
        model: the model that was prefilled.
        cache: its KV cache; left as it was found.
        prompt_logits: logits at the last prompt token, (batch, vocabulary).
        trie: the answers, on any device; copies on the model's are kept.
    """
    decoder = find_decoder(model)
    if not is_pruned(decoder):
        raise InputError("score_answers needs the prune context that made the cache", hint="call it inside prune()")
    host: Any = model
    batch, count, known = prompt_logits.shape[0], trie.nodes.shape[0], cache.get_seq_length()
    logits, device = prompt_logits[:, None], prompt_logits.device
    if count:
        ids = copied_once(trie.nodes, device_of(host.get_input_embeddings(), device)).expand(batch, count)
        with _tree_masks(decoder):
            nodes = host(input_ids=ids, past_key_values=cache, use_cache=True, token_tree=trie.tree).logits
        if cache.get_seq_length() > known:  # a captured pass leaves it alone
            cache.crop(-count)
        logits = torch.cat([logits, moved(nodes, device)], dim=1)
    conditionals, step_nodes = logits.float().log_softmax(dim=-1), copied_once(trie.step_nodes, device)
    steps = conditionals[:, step_nodes.clamp(min=0), copied_once(trie.step_tokens, device)]
    return AnswerScores(trie, steps.masked_fill(step_nodes < 0, 0.0), logits.isfinite().all())


@contextmanager
def _tree_masks(decoder: Decoder) -> Iterator[None]:
    """Inside, the decoder attends by SDPA where its own implementation takes no mask among new tokens (flash)."""
    config: Any = decoder.module.config
    before = config._attn_implementation
    try:
        if decoder.attention.startswith("flash"):
            config._attn_implementation = "sdpa"
        yield
    finally:
        config._attn_implementation = before
