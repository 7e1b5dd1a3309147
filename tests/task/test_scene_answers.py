"""Parsers of answers about the scene, on what models write: at least 60 answers a kind, and on any text at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senna_prune.nuscenes.questions import vru_answer
from senna_prune.task.scene_answers import (
    Light,
    RoadUser,
    RoadUserAnswer,
    SeenUser,
    Side,
    parse_light,
    parse_motions,
    parse_road_users,
    parse_text,
)

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


LIGHTS: dict[Light | None, list[str]] = {
    Light.RED: [
        "Red",
        "red",
        "RED",
        "'Red'",
        '"Red"',
        "Red.",
        " Red\n",
        "Red</s>",
        "<s>Red",
        "The light is red.",
        "Ｒｅｄ",
        "Red, red",
        "It is a red light; stop.",
        "**Red**",
        "red-light",
    ],
    Light.GREEN: [
        "Green",
        "green",
        "GREEN!",
        "'Green'",
        "Green\n",
        "The traffic light ahead is green, so the car may go.",
        "green green",
        "Answer: Green",
        "(Green)",
        "Green,",
        "it's green",
        "- Green",
    ],
    Light.YELLOW: [
        "Yellow",
        "yellow",
        "YELLOW.",
        "'Yellow'",
        "The light turns yellow.",
        "Yellow\t",
        "Yellow light",
        "light: yellow",
        "[Yellow]",
        "yellow?",
    ],
    Light.NONE: [
        "None",
        "none",
        "NONE",
        "'None'",
        "None.",
        "None\n",
        "None of them affects the car.",
        "Answer: None",
        "none, none",
        "There is none",
    ],
    None: [
        "",
        " ",
        "Blue",
        "Amber",
        "Redd",
        "infrared",
        "greenish",
        "nonetheless",
        "no",
        "There is no traffic light.",
        "Red or Green",
        "None, but the other is red",
        "Red, Green, Yellow, None",
        "yellow and red",
        "I cannot tell.",
        "KEEP, STRAIGHT",
        "R e d",
        "\x00\ud800 🚦",
    ],
}


@pytest.mark.parametrize(("light", "text"), [(light, text) for light, texts in LIGHTS.items() for text in texts])
def test_traffic_lights(light: Light | None, text: str) -> None:
    assert parse_light(text) is light


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


def test_either_kind_has_sixty_answers() -> None:
    assert min(len(ROAD_USERS), sum(map(len, LIGHTS.values()))) >= 60


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
