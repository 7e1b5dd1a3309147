"""Answers about motions, written by hand and read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senna_prune.nuscenes.questions import motion_answer
from senna_prune.task.answers import Answer
from senna_prune.task.labels import PLANS, Path, Speed
from senna_prune.task.scene_answers import (
    MotionAnswer,
    parse_motions,
)

KEEP, FASTER, SLOWER, STOP = Speed.KEEP, Speed.ACCELERATE, Speed.DECELERATE, Speed.STOP
STRAIGHT, LEFT, RIGHT = Path.STRAIGHT, Path.LEFT_TURN, Path.RIGHT_TURN
Halves = tuple[Speed | None, Path | None]

MOTIONS: list[tuple[str, dict[int, Halves]]] = [
    # as the reference words them
    ("Object 1: KEEP, STRAIGHT\n", {1: (KEEP, STRAIGHT)}),
    ("Object 1: STOP, STRAIGHT\nObject 2: KEEP, STRAIGHT\n", {1: (STOP, STRAIGHT), 2: (KEEP, STRAIGHT)}),
    (
        "Object 1: KEEP, STRAIGHT\nObject 2: DECELERATE, RIGHT_TURN\nObject 3: ACCELERATE, LEFT_CHANGE\n",
        {1: (KEEP, STRAIGHT), 2: (SLOWER, RIGHT), 3: (FASTER, Path.LEFT_CHANGE)},
    ),
    ("Object 1: STOP, RIGHT_CHANGE\n", {1: (STOP, Path.RIGHT_CHANGE)}),
    ("Object 12: ACCELERATE, LEFT_TURN\n", {12: (FASTER, LEFT)}),
    # spelling and case
    ("object 1: keep, straight", {1: (KEEP, STRAIGHT)}),
    ("OBJECT 1: KEEP, STRAIGHT", {1: (KEEP, STRAIGHT)}),
    ("Object 1:KEEP,STRAIGHT", {1: (KEEP, STRAIGHT)}),
    ("Object 1 : KEEP , STRAIGHT", {1: (KEEP, STRAIGHT)}),
    ("Object 1 - KEEP, STRAIGHT", {1: (KEEP, STRAIGHT)}),
    ("Object 1. KEEP, STRAIGHT", {1: (KEEP, STRAIGHT)}),
    ("Object 1 KEEP STRAIGHT", {1: (KEEP, STRAIGHT)}),
    ("Object1: KEEP, STRAIGHT", {1: (KEEP, STRAIGHT)}),
    ("Object #1: KEEP, STRAIGHT", {1: (KEEP, STRAIGHT)}),
    ("Object_1: KEEP, STRAIGHT", {}),
    ("Object (1): KEEP, STRAIGHT", {1: (KEEP, STRAIGHT)}),
    ("**Object 1**: KEEP, STRAIGHT", {1: (KEEP, STRAIGHT)}),
    ("<s> Object 1: KEEP, STRAIGHT</s>", {1: (KEEP, STRAIGHT)}),
    ("Object 01: KEEP, STRAIGHT", {1: (KEEP, STRAIGHT)}),
    ("Object 0: KEEP, STRAIGHT", {0: (KEEP, STRAIGHT)}),
    ("Ｏｂｊｅｃｔ　１：ＫＥＥＰ，ＳＴＲＡＩＧＨＴ", {1: (KEEP, STRAIGHT)}),
    ("Object 1: KEEP, left turn", {1: (KEEP, LEFT)}),
    ("Object 1: KEEP, LEFT-TURN", {1: (KEEP, LEFT)}),
    ("Object 1: STRAIGHT, KEEP", {1: (KEEP, STRAIGHT)}),
    ("Object 1: SPEED KEEP, PATH STRAIGHT", {1: (KEEP, STRAIGHT)}),
    ("Object 1: the car will KEEP its speed and go STRAIGHT.", {1: (KEEP, STRAIGHT)}),
    # one line, many objects, order
    ("Object 1: KEEP, STRAIGHT Object 2: STOP, STRAIGHT", {1: (KEEP, STRAIGHT), 2: (STOP, STRAIGHT)}),
    ("Object 1: KEEP, STRAIGHT; Object 2: STOP, STRAIGHT", {1: (KEEP, STRAIGHT), 2: (STOP, STRAIGHT)}),
    ("Object 2: STOP, STRAIGHT\nObject 1: KEEP, STRAIGHT", {1: (KEEP, STRAIGHT), 2: (STOP, STRAIGHT)}),
    ("Object 1: KEEP, STRAIGHT\nObject 3: STOP, STRAIGHT", {1: (KEEP, STRAIGHT), 3: (STOP, STRAIGHT)}),
    ("Object 1: KEEP, STRAIGHT\r\nObject 2: KEEP, STRAIGHT", {1: (KEEP, STRAIGHT), 2: (KEEP, STRAIGHT)}),
    ("Sure.\nObject 1: KEEP, STRAIGHT\nThat is all.", {1: (KEEP, STRAIGHT)}),
    ("Object 9999: KEEP, STRAIGHT", {9999: (KEEP, STRAIGHT)}),
    ("Object 10000: KEEP, STRAIGHT", {}),
    # named twice
    ("Object 1: KEEP, STRAIGHT\nObject 1: KEEP, STRAIGHT", {1: (KEEP, STRAIGHT)}),
    ("Object 1: KEEP, STRAIGHT\nObject 1: STOP, STRAIGHT", {1: (None, STRAIGHT)}),
    ("Object 1: KEEP, STRAIGHT\nObject 1: KEEP, LEFT_TURN", {1: (KEEP, None)}),
    ("Object 1: KEEP, STRAIGHT\nObject 1: STOP, LEFT_TURN", {1: (None, None)}),
    ("Object 1: KEEP, STRAIGHT\nObject 1: STOP, STRAIGHT\nObject 1: KEEP, STRAIGHT", {1: (None, STRAIGHT)}),
    ("Object 1: KEEP, STRAIGHT\nObject 1:", {1: (None, None)}),
    # halves that are missing or contradict each other
    ("Object 1: KEEP", {1: (KEEP, None)}),
    ("Object 1: STRAIGHT", {1: (None, STRAIGHT)}),
    ("Object 1:", {1: (None, None)}),
    ("Object 1", {1: (None, None)}),
    ("Object 1: parked", {1: (None, None)}),
    ("Object 1: KEEP or STOP, STRAIGHT", {1: (None, STRAIGHT)}),
    ("Object 1: KEEP, STRAIGHT or LEFT_TURN", {1: (KEEP, None)}),
    ("Object 1: KEEPING, STRAIGHT", {1: (None, STRAIGHT)}),
    ("Object 1: KEEP, LEFT", {1: (KEEP, None)}),
    ("Object 1: KEEP, STRAIGHT\nObject 2: ", {1: (KEEP, STRAIGHT), 2: (None, None)}),
    ("Object 1: KEEP, STRAIGHT\nObject 2: KE", {1: (KEEP, STRAIGHT), 2: (None, None)}),
    # nothing
    ("", {}),
    ("\n", {}),
    ("KEEP, STRAIGHT", {}),
    ("KEEP, STRAIGHT\nSTOP, STRAIGHT", {}),
    ("1: KEEP, STRAIGHT", {}),
    ("Object one: KEEP, STRAIGHT", {}),
    ("Object : KEEP, STRAIGHT", {}),
    ("Objection 1: KEEP, STRAIGHT", {}),
    ("Car 1: KEEP, STRAIGHT", {}),
    ("subobject 1: KEEP, STRAIGHT", {}),
    ("I see no objects.", {}),
    ("\x00\ud800 🚗", {}),
]


@pytest.mark.parametrize(("text", "expected"), MOTIONS)
def test_motions(text: str, expected: dict[int, Halves]) -> None:
    assert parse_motions(text) == MotionAnswer({number: Answer(*halves) for number, halves in expected.items()})
    assert parse_motions(text).parsed == bool(expected)


@given(st.lists(st.sampled_from(PLANS), min_size=1, max_size=12))
def test_reference_answers_about_motions_are_read_back(plans: list[tuple[Speed, Path]]) -> None:
    expected = {number: Answer(*plan) for number, plan in enumerate(plans, start=1)}
    assert parse_motions(motion_answer(plans)).objects == expected


def test_there_are_sixty_answers() -> None:
    assert len(MOTIONS) >= 60
