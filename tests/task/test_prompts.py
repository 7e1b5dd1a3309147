"""Prompt text; the recorded prompts are compared in test_goldens.py."""

from __future__ import annotations

import pytest

from senna_prune.errors import InputError
from senna_prune.task import labels, prompts


def test_question_shows_whole_metres_per_second_and_six_views() -> None:
    question = prompts.planning_question(11.99, "turn right")
    assert "Your current speed is 11 m/s, the navigation command is 'turn right'" in question
    assert question.count(prompts.IMAGE_MARKER) == 6
    assert question.startswith("<FRONT VIEW>:\n<image>\n<FRONT LEFT VIEW>:\n<image>\n")


def test_every_class_is_offered() -> None:
    question = prompts.planning_question(0, "go straight")
    assert all(word.value in question for word in [*labels.Speed, *labels.Path])


def test_prompt_ends_where_the_answer_begins() -> None:
    prompt = prompts.planning_prompt("Why?", "v1")
    assert prompt.startswith(prompts.SYSTEMS["v1"] + " USER: Why?")
    assert prompt.endswith(" ASSISTANT:")


def test_unknown_system_sentence() -> None:
    with pytest.raises(InputError, match="vicuna_v9"):
        prompts.planning_prompt("Why?", "vicuna_v9")  # type: ignore[arg-type]
