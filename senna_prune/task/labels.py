"""The vocabulary of planning: cameras, conventions, commands and the 4 x 5 meta-actions. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Literal, get_args

from senna_prune.errors import SampleError, one_of

CameraOrder = Literal["upstream", "corrected"]
Readout = Literal["generate", "constrained", "one_pass"]
"""How a plan is read from the model: free greedy decoding, greedy among the 20 plans, or the most probable of them."""

PLAN = "plan"
"""The kind of question that asks for a meta-action; all others are answered in words."""

KINDS = ("vru", "motion", "traffic_light", "description", PLAN, "explanation")
"""Kinds of questions, in the order in which a keyframe is asked them."""

CAMERAS: tuple[str, ...] = (
    "CAM_FRONT",
    "CAM_FRONT_LEFT",
    "CAM_FRONT_RIGHT",
    "CAM_BACK_LEFT",
    "CAM_BACK_RIGHT",
    "CAM_BACK",
)
"""nuScenes camera channels in the order of the prompt's view labels."""


def view_label(camera: str) -> str:
    """The label of a camera's view in the prompt: `CAM_FRONT_LEFT` is shown as `FRONT LEFT`."""
    return camera.removeprefix("CAM_").replace("_", " ")


VIEW_LABELS: tuple[str, ...] = tuple(map(view_label, CAMERAS))
"""The view labels of the prompt; `VIEW_LABELS[i]` describes `CAMERAS[i]` (convention: corrected)."""

CAMERAS_UPSTREAM: tuple[str, ...] = (
    "CAM_FRONT",
    "CAM_FRONT_RIGHT",
    "CAM_FRONT_LEFT",
    "CAM_BACK",
    "CAM_BACK_LEFT",
    "CAM_BACK_RIGHT",
)
"""Order in which the released Senna converter stores images under the same six labels: five of six are swapped."""


class Speed(str, Enum):
    """Longitudinal half of a meta-action."""

    KEEP = "KEEP"
    ACCELERATE = "ACCELERATE"
    DECELERATE = "DECELERATE"
    STOP = "STOP"


class Path(str, Enum):
    """Lateral half of a meta-action."""

    STRAIGHT = "STRAIGHT"
    RIGHT_CHANGE = "RIGHT_CHANGE"
    LEFT_CHANGE = "LEFT_CHANGE"
    RIGHT_TURN = "RIGHT_TURN"
    LEFT_TURN = "LEFT_TURN"


class Command(str, Enum):
    """Navigation commands as they are spelled in the planning question."""

    STRAIGHT = "go straight"
    LEFT = "turn left"
    RIGHT = "turn right"
    STRAIGHT_LEFT = "go straight and turn left"
    STRAIGHT_RIGHT = "go straight and turn right"


PLANS: tuple[tuple[Speed, Path], ...] = tuple((speed, path) for speed in Speed for path in Path)
"""The 20 possible plans, speed-major."""


def plan_text(speed: Speed, path: Path) -> str:
    """The answer text of one plan, e.g. `KEEP, LEFT_CHANGE`."""
    return f"{speed.value}, {path.value}"


@dataclass(frozen=True, slots=True)
class Convention:
    """Which of the two nuScenes-to-prompt conventions a sample follows; the two halves switch separately.

    Attributes:
        cameras: `corrected` puts every image under its own label, `upstream` repeats the released order.
        command: `corrected` reads the navigation command in the ego frame, `upstream` repeats the released rule.
    """

    cameras: CameraOrder = "corrected"
    command: CameraOrder = "corrected"

    def __post_init__(self) -> None:
        for half in ("cameras", "command"):
            one_of(getattr(self, half), get_args(CameraOrder), f"convention.{half}", "convention", SampleError)

    @property
    def name(self) -> str:
        """`upstream`, `corrected`, or both halves spelled out where they differ."""
        if self.cameras == self.command:
            return self.cameras
        return f"cameras={self.cameras},command={self.command}"

    @property
    def camera_order(self) -> tuple[str, ...]:
        """The six camera channels in the order in which their images stand under the prompt's labels."""
        return CAMERAS if self.cameras == "corrected" else CAMERAS_UPSTREAM

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


CORRECTED = Convention()
