"""chrF and BLEU of free text by sacrebleu. Both compare words, not meaning: weak measures of a description."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from senna_prune.errors import ConfigError
from senna_prune.task.answers import parse_text

FREE_TEXT = ("description", "explanation")
"""Kinds whose answers nothing but these measures compares."""


def text_metrics(truths: Sequence[str], answers: Sequence[str | None]) -> dict[str, Any]:
    """Corpus chrF2 and BLEU-4 (sacrebleu's own tokens), in [0, 1], and the share of empty answers.

    Raises:
        ConfigError: sacrebleu is not installed.
    """
    true, given = [parse_text(text) for text in truths], [parse_text(text or "") for text in answers]
    measures = _sacrebleu()
    return {
        "count": len(true),
        "chrf": float(measures.corpus_chrf(given, [true]).score) / 100,
        "bleu": float(measures.corpus_bleu(given, [true]).score) / 100,
        "unparsed": sum(not text for text in given) / len(given),
    }


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
