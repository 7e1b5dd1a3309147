"""One whole demo scene from one seed: situation, drive, images."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from senna_prune.task.labels import Command
from tools.demo.world.layout import Layout, lay_out
from tools.demo.world.rendering import render
from tools.demo.world.rig import RIG
from tools.demo.world.rollout import roll_out
from tools.demo.world.sampling import Situation, sample_situation
from tools.demo.world.street import Street

MIN_EVIDENCE_PIXELS = 100
"""Pixels of an image in which every deciding object must show, in the camera it is meant for."""

_OTHER_WORDING = {
    Command.LEFT: Command.STRAIGHT_LEFT,
    Command.RIGHT: Command.STRAIGHT_RIGHT,
    Command.STRAIGHT_LEFT: Command.LEFT,
    Command.STRAIGHT_RIGHT: Command.RIGHT,
}


@dataclass(frozen=True)
class DemoScene:
    """A situation, how it looks and how it goes on.

    Attributes:
        poses: ego poses (x, y, heading) at the keyframes of `rollout`, shape (14, 3).
    """

    situation: Situation
    layout: Layout
    poses: np.ndarray


def scene_rng(world_seed: int, number: int) -> np.random.Generator:
    """Independent randomness of one scene: scene `number` looks the same however many others are made."""
    return np.random.default_rng((world_seed, number))


def make_scene(rng: np.random.Generator) -> DemoScene:
    """A scene whose drive shows the expert's plan and whose evidence can be seen."""
    while True:
        situation = sample_situation(rng)
        situations = [situation]
        if situation.command in _OTHER_WORDING:
            situations.append(replace(situation, command=_OTHER_WORDING[situation.command]))
        for candidate in situations:
            poses = roll_out(candidate, rng)
            if poses is not None:
                return DemoScene(candidate, furnish(candidate.street, rng), poses)


def furnish(street: Street, rng: np.random.Generator) -> Layout:
    """Lay a street out, again and again until every deciding object is really visible."""
    while True:
        layout = lay_out(street, rng)
        if not hidden_evidence(layout):
            return layout


def hidden_evidence(layout: Layout) -> list[str]:
    """Deciding objects that their camera shows in fewer than `MIN_EVIDENCE_PIXELS` pixels."""
    shown = dict(zip((camera.channel for camera in RIG), render(layout.mesh, layout.light)[1], strict=True))
    numbers = {name: number for number, name in enumerate(layout.mesh.names)}
    sizes = {name: (shown[channel] == numbers[name]).sum() for name, channel in layout.evidence.items()}
    return [name for name, size in sizes.items() if size < MIN_EVIDENCE_PIXELS]
