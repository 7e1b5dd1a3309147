"""The answer parser on what models really write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senna_prune.task.answers import Answer, parse_answer
from senna_prune.task.labels import PLANS, Path, Speed, plan_text


@pytest.mark.parametrize(("speed", "path"), PLANS)
def test_every_plan_is_read_back(speed: Speed, path: Path) -> None:
    assert parse_answer(plan_text(speed, path)) == Answer(speed, path)


@pytest.mark.parametrize(
    ("text", "speed", "path"),
    [
        ("keep, straight\n", Speed.KEEP, Path.STRAIGHT),
        ("I plan to STOP, LEFT_CHANGE.</s>", Speed.STOP, Path.LEFT_CHANGE),
        ("<s> Decelerate and then right turn", Speed.DECELERATE, Path.RIGHT_TURN),
        ("ACCELERATE,LEFT-CHANGE", Speed.ACCELERATE, Path.LEFT_CHANGE),
        ("STOP, STRAIGHT, STRAIGHT", Speed.STOP, Path.STRAIGHT),
        ("ＫＥＥＰ， ＳＴＲＡＩＧＨＴ", Speed.KEEP, Path.STRAIGHT),
        ("_KEEP_ STRAIGHT_", Speed.KEEP, Path.STRAIGHT),
        ("KEEP, LEFT_TURN, STRAIGHT", Speed.KEEP, None),
        ("KEEP or STOP, STRAIGHT", None, Path.STRAIGHT),
        ("UPKEEP, STRAIGHTEN", None, None),
        ("STOPPED, LEFT", None, None),
        ("KEEP", Speed.KEEP, None),
        ("unclear", None, None),
        ("", None, None),
        ("\x00\ud800, 🚗", None, None),
    ],
)
def test_noisy_answers(text: str, speed: Speed | None, path: Path | None) -> None:
    assert parse_answer(text) == Answer(speed, path)


def test_decelerate_is_not_accelerate() -> None:
    assert parse_answer("DECELERATE, STRAIGHT").speed is Speed.DECELERATE


@given(st.text())
def test_total(text: str) -> None:
    answer = parse_answer(text)
    assert answer.parsed == (answer.speed is not None and answer.path is not None)


@given(st.text(alphabet="abc ,.;:!?\n", max_size=20), st.text(alphabet="abc ,.;:!?\n", max_size=20))
def test_surrounding_noise_changes_nothing(before: str, after: str) -> None:
    assert parse_answer(f"{before} KEEP, LEFT_TURN {after}") == Answer(Speed.KEEP, Path.LEFT_TURN)
