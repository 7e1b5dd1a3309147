"""chrF and BLEU of free text by sacrebleu. Both compare words, not meaning: weak measures of a description."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from senna_prune.errors import ConfigError
from senna_prune.task.scene_answers import parse_text

FREE_TEXT = ("description", "explanation")
"""Kinds whose answers nothing but these measures compares."""


@dataclass(frozen=True)
class TextMetrics:
    """Free text over `count` samples.

    Attributes:
        chrf: corpus chrF2 in [0, 1].
        bleu: corpus BLEU-4 in [0, 1], sacrebleu's own tokens.
        unparsed: share of empty answers.
    """

    count: int
    chrf: float
    bleu: float
    unparsed: float


def text_metrics(truths: Sequence[str], answers: Sequence[str | None]) -> TextMetrics:
    """Metrics of equally long, non-empty lists of true and given answers (None: no answer could be given).

    Raises:
        ConfigError: sacrebleu is not installed.
    """
    true, given = [parse_text(text) for text in truths], [parse_text(text or "") for text in answers]
    measures = _sacrebleu()
    return TextMetrics(
        count=len(true),
        chrf=float(measures.corpus_chrf(given, [true]).score) / 100,
        bleu=float(measures.corpus_bleu(given, [true]).score) / 100,
        unparsed=sum(not text for text in given) / len(given),
    )


def sentence_chrf(truth: str, answer: str | None) -> float:
    """chrF2 of one answer, in [0, 1]; raises ConfigError as `text_metrics` does."""
    return float(_sacrebleu().sentence_chrf(parse_text(answer or ""), [parse_text(truth)]).score) / 100


def require_text_metrics(kinds: Sequence[str]) -> None:
    """Refuse to evaluate free text without sacrebleu, before anything is decided.

    Raises:
        ConfigError: a kind needs it, and it is not installed.
    """
    if set(kinds) & set(FREE_TEXT):
        _sacrebleu()


@cache
def _sacrebleu() -> Any:
    try:
        import sacrebleu
    except ImportError as error:
        hint = 'pip install "senna_prune[text]", or leave description and explanation out of data.kinds'
        raise ConfigError("free text is compared by sacrebleu, which is not installed", hint=hint) from error
    return sacrebleu
