"""Parsers of answers about the scene, on what models write: at least 60 answers a kind, and on any text at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senna_prune.nuscenes.questions import motion_answer, vru_answer
from senna_prune.task.answers import (
    Answer,
    Light,
    MotionAnswer,
    RoadUser,
    RoadUserAnswer,
    SeenUser,
    Side,
    parse_light,
    parse_motions,
    parse_road_users,
    parse_text,
)
from senna_prune.task.labels import PLANS, Path, Speed

UNCLEAR, NOBODY = RoadUserAnswer(None), RoadUserAnswer(False)
A, L, R = Side.AHEAD, Side.LEFT, Side.RIGHT
BIKE, MOTOR, WALKER = RoadUser.BICYCLE, RoadUser.MOTORCYCLE, RoadUser.PEDESTRIAN


def yes(*seen: tuple[RoadUser, Side, int | None]) -> RoadUserAnswer:
    return RoadUserAnswer(True, tuple(SeenUser(*one) for one in seen))


ROAD_USERS: list[tuple[str, RoadUserAnswer]] = [
    # as the reference words them
    ("Yes, I see a pedestrian located 11 meters ahead of me and 3 meters to the left.", yes((WALKER, L, 10))),
    ("Yes, I see a pedestrian located 18 meters ahead of me.", yes((WALKER, A, 15))),
    ("Yes, I see a bicycle located 0 meters ahead of me and 2 meters to the right.", yes((BIKE, R, 0))),
    ("Yes, I see a motorcycle located 16 meters ahead of me and 9 meters to the right.", yes((MOTOR, R, 15))),
    (
        "Yes, I see a pedestrian located 4 meters ahead of me, and a bicycle located 5 meters ahead of me.",
        yes((WALKER, A, 0), (BIKE, A, 5)),
    ),
    (
        "Yes, I see a pedestrian located 9 meters ahead of me and 5 meters to the left, and a motorcycle located 10 "
        "meters ahead of me and 2 meters to the right, and a pedestrian located 19 meters ahead of me.",
        yes((WALKER, L, 5), (MOTOR, R, 10), (WALKER, A, 15)),
    ),
    ("No, I don't see any vulnerable road users ahead of me, such as bicycles, motorcycles, or pedestrians.", NOBODY),
    # spelling and case
    ("YES, I SEE A PEDESTRIAN LOCATED 11 METERS AHEAD OF ME", yes((WALKER, A, 10))),
    ("yes, i see a bicycle located 7 meters ahead of me and 4 meters to the right", yes((BIKE, R, 5))),
    ("Yes, I see a bicycle located 7 metres ahead of me.", yes((BIKE, A, 5))),
    ("Yes, I see a bicycle located 7 m ahead of me.", yes((BIKE, A, 5))),
    ("Yes, I see a bicycle located 7m ahead.", yes((BIKE, A, 5))),
    ("Yes, I see a pedestrian located 1 meter ahead of me.", yes((WALKER, A, 0))),
    ("Yes, I see a pedestrian located 14.9 meters ahead of me.", yes((WALKER, A, 10))),
    ("Yes,I see a pedestrian located 11 meters ahead of me.</s>", yes((WALKER, A, 10))),
    ("<s> Yes, I see a pedestrian located 11 meters ahead of me.", yes((WALKER, A, 10))),
    ("  Yes, I see a pedestrian\nlocated 11\tmeters  ahead of me. ", yes((WALKER, A, 10))),
    ("Ｙｅｓ, I see a pedestrian located １１ meters ahead of me.", yes((WALKER, A, 10))),
    ("Yes! A cyclist is 12 meters ahead on the right.", yes((BIKE, R, 10))),
    ("Yes. A motorcyclist, 6 meters in front of me, on my left.", yes((MOTOR, L, 5))),
    ("Yes: bicyclist 3 meters directly ahead", yes((BIKE, A, 0))),
    ("Yes - pedestrian 3 meters straight ahead, to my right", yes((WALKER, R, 0))),
    ("Answer: Yes, I see a pedestrian located 11 meters ahead of me.", yes((WALKER, A, 10))),
    ("Yes, I see a pedestrian 8 meters away in front of me.", yes((WALKER, A, 5))),
    # distances
    ("Yes, I see a pedestrian located 5 meters ahead of me.", yes((WALKER, A, 5))),
    ("Yes, I see a pedestrian located 20 meters ahead of me.", yes((WALKER, A, 20))),
    ("Yes, I see a pedestrian located 150 meters ahead of me.", yes((WALKER, A, 20))),
    ("Yes, I see a pedestrian located 999999 meters ahead of me.", yes((WALKER, A, 20))),
    ("Yes, I see a pedestrian located 99999999 meters ahead of me.", yes((WALKER, A, None))),
    ("Yes, I see a pedestrian located some meters ahead of me.", yes((WALKER, A, None))),
    ("Yes, I see a pedestrian located 5 feet ahead of me.", yes((WALKER, A, None))),
    ("Yes, I see a pedestrian 3 meters to the left.", yes((WALKER, L, None))),
    ("Yes, I see a pedestrian located 11 meters behind me.", yes((WALKER, A, None))),
    ("Yes, I see a pedestrian.", yes((WALKER, A, None))),
    # several, and none named
    ("Yes, I see pedestrians located 11 meters ahead of me.", yes((WALKER, A, 10))),
    ("Yes, I see two pedestrians.", yes((WALKER, A, None))),
    ("Yes, I see a pedestrian and a bicycle.", yes((WALKER, A, None), (BIKE, A, None))),
    ("Yes, I see vulnerable road users.", yes()),
    ("Yes", yes()),
    ("yes.", yes()),
    ("Yes, I see a car located 11 meters ahead of me.", yes()),
    ("Yes, I see a pedestrianized street.", yes()),
    # without the first word
    ("I see a pedestrian located 11 meters ahead of me.", yes((WALKER, A, 10))),
    ("I do see a cyclist 11 meters ahead, to the left.", yes((BIKE, L, 10))),
    ("There is a motorcycle 2 meters ahead.", yes((MOTOR, A, 0))),
    ("There are some pedestrians on the right.", yes((WALKER, R, None))),
    ("I see several cyclists.", yes((BIKE, A, None))),
    # nobody
    ("No", NOBODY),
    ("no.", NOBODY),
    ("NO, I DON'T SEE ANY VULNERABLE ROAD USERS", NOBODY),
    ("None.", NOBODY),
    ("No, there are no pedestrians.", NOBODY),
    ("No, I do not see any vulnerable road users.", NOBODY),
    ("I don't see any pedestrians ahead of me.", NOBODY),
    ("I don’t see any pedestrians ahead of me.", NOBODY),
    ("I cannot see any bicycles.", NOBODY),
    ("I see no pedestrians.", NOBODY),
    ("There are no vulnerable road users within 20 meters.", NOBODY),
    ("</s>No, I don't see any", NOBODY),
    # neither, or both
    ("", UNCLEAR),
    ("Pedestrian.", UNCLEAR),
    ("a pedestrian located 11 meters ahead of me", UNCLEAR),
    ("KEEP, STRAIGHT", UNCLEAR),
    ("Yesterday I saw a pedestrian.", UNCLEAR),
    ("Nobody knows.", UNCLEAR),
    ("Yes. No.", UNCLEAR),
    ("No, I see a pedestrian located 11 meters ahead of me.", UNCLEAR),
    ("Yes, I see a pedestrian. There are no bicycles.", UNCLEAR),
    ("\x00\ud800 🚲", UNCLEAR),
]


@pytest.mark.parametrize(("text", "expected"), ROAD_USERS)
def test_road_users(text: str, expected: RoadUserAnswer) -> None:
    assert parse_road_users(text) == expected
    assert expected.parsed == (expected.present is not None)


LIGHTS: dict[Light | None, str] = {
    Light.RED: (
        "Red|red|RED|'Red'|\"Red\"|Red.| Red\n|Red</s>|<s>Red|The light is red.|Ｒｅｄ|Red, red|"
        "It is a red light; stop.|**Red**|red-light"
    ),
    Light.GREEN: (
        "Green|green|GREEN!|'Green'|Green\n|The traffic light ahead is green, so the car may go.|"
        "green green|Answer: Green|(Green)|Green,|it's green|- Green"
    ),
    Light.YELLOW: (
        "Yellow|yellow|YELLOW.|'Yellow'|The light turns yellow.|Yellow\t|Yellow light|light: yellow|[Yellow]|yellow?"
    ),
    Light.NONE: (
        "None|none|NONE|'None'|None.|None\n|None of them affects the car.|Answer: None|none, none|There is none"
    ),
    None: (
        "| |Blue|Amber|Redd|infrared|greenish|nonetheless|no|There is no traffic light.|Red or Green|"
        "None, but the other is red|Red, Green, Yellow, None|yellow and red|I cannot tell.|KEEP, STRAIGHT|"
        "R e d|\x00\ud800 🚦"
    ),
}
"""Answers by what they say, a bar between two."""


@pytest.mark.parametrize(
    ("light", "text"), [(light, text) for light, texts in LIGHTS.items() for text in texts.split("|")]
)
def test_traffic_lights(light: Light | None, text: str) -> None:
    assert parse_light(text) is light


KEEP, FASTER, SLOWER, STOP = Speed.KEEP, Speed.ACCELERATE, Speed.DECELERATE, Speed.STOP
STRAIGHT, LEFT, RIGHT = Path.STRAIGHT, Path.LEFT_TURN, Path.RIGHT_TURN
Halves = tuple[Speed | None, Path | None]
MOTIONS: list[tuple[str, dict[int, Halves]]] = [
    (
        "Object 1: KEEP, STRAIGHT\n|object 1: keep, straight|OBJECT 1: KEEP, STRAIGHT|"
        "Object 1:KEEP,STRAIGHT|Object 1 : KEEP , STRAIGHT|Object 1 - KEEP, STRAIGHT|"
        "Object 1. KEEP, STRAIGHT|Object 1 KEEP STRAIGHT|Object1: KEEP, STRAIGHT|Object #1: KEEP, STRAIGHT|"
        "Object (1): KEEP, STRAIGHT|**Object 1**: KEEP, STRAIGHT|<s> Object 1: KEEP, STRAIGHT</s>|"
        "Object 01: KEEP, STRAIGHT|Ｏｂｊｅｃｔ　１：ＫＥＥＰ，ＳＴＲＡＩＧＨＴ|Object 1: STRAIGHT, KEEP|"
        "Object 1: SPEED KEEP, PATH STRAIGHT|Object 1: the car will KEEP its speed and go STRAIGHT.|"
        "Sure.\nObject 1: KEEP, STRAIGHT\nThat is all.|Object 1: KEEP, STRAIGHT\nObject 1: KEEP, STRAIGHT",
        {1: (KEEP, STRAIGHT)},
    ),
    ("Object 1: STOP, STRAIGHT\nObject 2: KEEP, STRAIGHT\n", {1: (STOP, STRAIGHT), 2: (KEEP, STRAIGHT)}),
    (
        "Object 1: KEEP, STRAIGHT\nObject 2: DECELERATE, RIGHT_TURN\nObject 3: ACCELERATE, LEFT_CHANGE\n",
        {1: (KEEP, STRAIGHT), 2: (SLOWER, RIGHT), 3: (FASTER, Path.LEFT_CHANGE)},
    ),
    ("Object 1: STOP, RIGHT_CHANGE\n", {1: (STOP, Path.RIGHT_CHANGE)}),
    ("Object 12: ACCELERATE, LEFT_TURN\n", {12: (FASTER, LEFT)}),
    (
        "Object_1: KEEP, STRAIGHT|Object 10000: KEEP, STRAIGHT||\n|KEEP, STRAIGHT|"
        "KEEP, STRAIGHT\nSTOP, STRAIGHT|1: KEEP, STRAIGHT|Object one: KEEP, STRAIGHT|"
        "Object : KEEP, STRAIGHT|Objection 1: KEEP, STRAIGHT|Car 1: KEEP, STRAIGHT|"
        "subobject 1: KEEP, STRAIGHT|I see no objects.|\x00\ud800 🚗",
        {},
    ),
    ("Object 0: KEEP, STRAIGHT", {0: (KEEP, STRAIGHT)}),
    ("Object 1: KEEP, left turn|Object 1: KEEP, LEFT-TURN", {1: (KEEP, LEFT)}),
    (
        "Object 1: KEEP, STRAIGHT Object 2: STOP, STRAIGHT|"
        "Object 1: KEEP, STRAIGHT; Object 2: STOP, STRAIGHT|"
        "Object 2: STOP, STRAIGHT\nObject 1: KEEP, STRAIGHT",
        {1: (KEEP, STRAIGHT), 2: (STOP, STRAIGHT)},
    ),
    ("Object 1: KEEP, STRAIGHT\nObject 3: STOP, STRAIGHT", {1: (KEEP, STRAIGHT), 3: (STOP, STRAIGHT)}),
    ("Object 1: KEEP, STRAIGHT\r\nObject 2: KEEP, STRAIGHT", {1: (KEEP, STRAIGHT), 2: (KEEP, STRAIGHT)}),
    ("Object 9999: KEEP, STRAIGHT", {9999: (KEEP, STRAIGHT)}),
    (
        "Object 1: KEEP, STRAIGHT\nObject 1: STOP, STRAIGHT|"
        "Object 1: KEEP, STRAIGHT\nObject 1: STOP, STRAIGHT\nObject 1: KEEP, STRAIGHT|Object 1: STRAIGHT|"
        "Object 1: KEEP or STOP, STRAIGHT|Object 1: KEEPING, STRAIGHT",
        {1: (None, STRAIGHT)},
    ),
    (
        "Object 1: KEEP, STRAIGHT\nObject 1: KEEP, LEFT_TURN|Object 1: KEEP|"
        "Object 1: KEEP, STRAIGHT or LEFT_TURN|Object 1: KEEP, LEFT",
        {1: (KEEP, None)},
    ),
    (
        "Object 1: KEEP, STRAIGHT\nObject 1: STOP, LEFT_TURN|Object 1: KEEP, STRAIGHT\nObject 1:|Object 1:|"
        "Object 1|Object 1: parked",
        {1: (None, None)},
    ),
    (
        "Object 1: KEEP, STRAIGHT\nObject 2: |Object 1: KEEP, STRAIGHT\nObject 2: KE",
        {1: (KEEP, STRAIGHT), 2: (None, None)},
    ),
]
"""Answers with a bar between two, and the meta-actions that each of them names by object."""


@pytest.mark.parametrize(("text", "expected"), [(one, plans) for texts, plans in MOTIONS for one in texts.split("|")])
def test_motions(text: str, expected: dict[int, Halves]) -> None:
    assert parse_motions(text) == MotionAnswer({number: Answer(*halves) for number, halves in expected.items()})
    assert parse_motions(text).parsed == bool(expected)


@given(st.lists(st.sampled_from(PLANS), min_size=1, max_size=12))
def test_reference_answers_about_motions_are_read_back(plans: list[tuple[Speed, Path]]) -> None:
    expected = {number: Answer(*plan) for number, plan in enumerate(plans, start=1)}
    assert parse_motions(motion_answer(plans)).objects == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        (" \n\t", ""),
        ("Clear  road,\n daylight. ", "Clear road, daylight."),
        ("ｄａｙ", "day"),
        ("a\u00a0b", "a b"),
    ],
)
def test_free_text(text: str, expected: str) -> None:
    assert parse_text(text) == expected


def test_each_kind_has_sixty_answers() -> None:
    parted = [
        sum(texts.count("|") + 1 for texts in kind) for kind in (LIGHTS.values(), [texts for texts, _ in MOTIONS])
    ]
    assert min(len(ROAD_USERS), *parted) >= 60


def test_an_answer_that_goes_on_for_ever_is_read_soon() -> None:
    for part in ("9", ". ", "object ", "object 1 ", "yes ", "pedestrian ", "left_", "\n", "a pedestrian 9 meters "):
        text = "Yes, " + part * (100_000 // len(part))
        assert parse_road_users(text).present
        assert parse_motions(text).objects.keys() <= {1}
        assert parse_light(text) is None
        assert parse_text(text)


# What the reference words, and any text

metres = st.floats(0, 30, allow_nan=False)
aside = st.floats(-30, 30, allow_nan=False)


@given(st.lists(st.tuples(st.sampled_from(RoadUser), aside, metres), max_size=8))
def test_reference_answers_about_road_users_are_read_back(users: list[tuple[RoadUser, float, float]]) -> None:
    answer = parse_road_users(vru_answer([(kind.value, right, ahead) for kind, right, ahead in users]))
    expected = tuple(
        SeenUser(kind, A if abs(right) < 2 else R if right > 0 else L, min(int(ahead), 20) // 5 * 5)
        for kind, right, ahead in users
    )
    assert answer == RoadUserAnswer(bool(users), expected)


words = st.lists(
    st.sampled_from(
        ["yes", "no", "object", "1", "pedestrian", "5 meters ahead", "left", ",", "KEEP", "STRAIGHT", "red"]
    )
    | st.text(max_size=5)
)


@given(words.map(" ".join) | st.text())
def test_any_text_gives_a_result(text: str) -> None:
    users = parse_road_users(text)
    assert users.present or not users.seen
    assert all(seen.distance in (None, 0, 5, 10, 15, 20) for seen in users.seen)
    assert all(0 <= number < 10_000 for number in parse_motions(text).objects)
    assert parse_light(text) in {None, *Light}
    assert parse_text(parse_text(text)) == parse_text(text)
