from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from senna_prune.errors import ImageError, SampleError
from senna_prune.nuscenes.captions import CaptionCache
from senna_prune.nuscenes.conversion import ConversionSettings, convert
from senna_prune.task.sample import PlanningSample, read_samples
from tests.nuscenes.tiny_tables import VERSION, straight, write_tables

KINDS = ("traffic_light", "description", "explanation", "plan")


class CountingCaptioner:
    """Answers with the names of the cameras it was shown; breaks down after some answers."""

    name = "counting"

    def __init__(self, breaks_after: int | None = None) -> None:
        self.asked: list[str] = []
        self.breaks_after = breaks_after

    def caption(self, images: Sequence[Path], question: str) -> str:
        if len(self.asked) == self.breaks_after:
            raise KeyboardInterrupt
        self.asked.append(question)
        return " " + ", ".join(path.parent.name for path in images) + "\n"


@pytest.fixture
def settings(tmp_path: Path) -> ConversionSettings:
    root = write_tables(tmp_path / "data", {"scene-0103": straight(8, 5.0)})
    plain = ConversionSettings(root, VERSION, tmp_path / "set.jsonl")
    convert(plain)
    for sample in read_samples(plain.out):
        for path in sample.images.values():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).touch()
    return replace(plain, kinds=KINDS, require_images=True)


def test_captioned_kinds(settings: ConversionSettings) -> None:
    captioner = CountingCaptioner()
    report = convert(settings, captioner)
    assert report.samples == {"traffic_light": 2, "description": 12, "explanation": 2, "plan": 2}
    samples = read_samples(settings.out)
    first = [sample for sample in samples if sample.token == "scene-0103-sample-0"]
    assert [sample.kind for sample in first] == ["traffic_light", *["description"] * 6, "plan", "explanation"]
    assert [sample.answer for sample in first if sample.kind == "description"] == [
        "CAM_FRONT",
        "CAM_FRONT_RIGHT",
        "CAM_FRONT_LEFT",
        "CAM_BACK",
        "CAM_BACK_LEFT",
        "CAM_BACK_RIGHT",
    ]
    assert "the car's back left camera" in next(s.question for s in first if s.answer == "CAM_BACK_LEFT")
    assert first[0].answer == first[-1].answer == "CAM_FRONT"
    assert "your driving decision for the next three seconds is to maintain the current speed and go straight" in (
        first[-1].question
    )
    assert first[0].source.endswith("/counting")
    assert first[-1].source == f"{first[-2].source}/counting"
    assert first[-2].source.endswith("/displacement")
    assert all(sample.question.count("<image>") == 6 for sample in samples)
    assert not any("<image>" in question for question in captioner.asked)


def test_an_interrupted_run_goes_on(settings: ConversionSettings) -> None:
    with pytest.raises(KeyboardInterrupt):
        convert(settings, CountingCaptioner(breaks_after=5))
    assert not settings.out.exists() or "traffic_light" not in settings.out.read_text()
    cache = settings.out.with_name(settings.out.name + ".captions.jsonl")
    with cache.open("ab") as out:
        out.write(b'{"caption":"cut sho')
    second = CountingCaptioner()
    convert(settings, second)
    assert len(second.asked) == 16 - 5
    once = settings.out.read_bytes()
    third = CountingCaptioner(breaks_after=0)
    convert(settings, third)
    assert settings.out.read_bytes() == once
    assert len(CaptionCache(cache)) == 16


def test_another_captioner_is_asked_anew(settings: ConversionSettings) -> None:
    convert(settings, CountingCaptioner())
    other = CountingCaptioner()
    other.name = "other"
    convert(settings, other)
    assert len(other.asked) == 16


def test_images_must_be_there(settings: ConversionSettings) -> None:
    sample: PlanningSample = read_samples(settings.out)[0]
    (settings.dataroot / sample.images["CAM_FRONT"]).unlink()
    with pytest.raises(ImageError, match=r"CAM_FRONT.*the image to caption is missing"):
        convert(replace(settings, require_images=False), CountingCaptioner())


def test_a_spoilt_cache_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    cache = CaptionCache(path)
    cache.put("a", "text", ["image.jpg"])
    assert CaptionCache(path).get("a") == "text"
    path.write_text(path.read_text() + '{"caption": "no key"}\n')
    with pytest.raises(SampleError, match=r"captions\.jsonl:2: not a caption"):
        CaptionCache(path)
