"""The 150 scenes of nuScenes val, so that published figures are shown beside no other data."""

from __future__ import annotations

_RANGES = """3 12-18 35-36 38-39 92-110 221 268-278 329-332 344-346 519-524 552-565 625-627 629-630 632-638 770-771 775
777-778 780-784 794-800 802 904-917 919-931 962-963 966-969 971-972 1059-1073"""
"""Numbers of the scenes (nuScenes devkit, `nuscenes.utils.splits.val`)."""


def _scenes() -> frozenset[str]:
    numbers: list[int] = []
    for part in _RANGES.split():
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return frozenset(f"scene-{number:04d}" for number in numbers)


SCENES = _scenes()


def in_nuscenes_val(scene: str) -> bool:
    """Whether a scene is one of nuScenes val."""
    return scene in SCENES
