"""What a reference answer must say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senna_prune.task.answers import fault_of
from senna_prune.task.labels import KINDS

GOOD = {
    "plan": "KEEP, STRAIGHT\n",
    "vru": "No, I don't see any vulnerable road users ahead of me.",
    "motion": "Object 1: KEEP, STRAIGHT\nObject 2: STOP, STRAIGHT\n",
    "traffic_light": "None",
    "description": "A street.",
    "explanation": "Because.",
}
BAD = {
    "plan": ("KEEP", "is no plan"),
    "vru": ("Perhaps.", "says neither yes nor no"),
    "motion": ("Object 1: KEEP, STRAIGHT\nObject 2: STOP", "does not name a speed and a path for each object"),
    "traffic_light": ("Red or green", "names no traffic light, and not 'None'"),
    "description": (" \n", "is empty"),
    "explanation": ("", "is empty"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_answers_and_what_does_not(kind: str) -> None:
    text, fault = BAD[kind]
    assert fault_of(kind, GOOD[kind]) is None
    assert fault_of(kind, text) == fault


@given(kind=st.sampled_from(KINDS), text=st.text())
def test_any_text_is_judged(kind: str, text: str) -> None:
    assert fault_of(kind, text) in (None, BAD[kind][1])
