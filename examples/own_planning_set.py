"""A planning set from one's own recordings: a CSV of keyframes and a folder of images, one sub-folder a camera.

python examples/own_planning_set.py keyframes.csv set.jsonl
python tools/convert_nuscenes.py --check set.jsonl --dataroot pictures

The CSV has one row every 0.5 s, in time order: token,scene,timestamp,speed,x,y,yaw. `timestamp` is in microseconds,
`speed` in m/s, `x,y` the position of the car in metres in any fixed frame, `yaw` its heading in radians, anticlockwise
from x. The image of a camera is `CAMERA/TOKEN.jpg`, e.g. `CAM_FRONT/a1.jpg`.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np

from senna_prune.nuscenes.behaviour import FUTURE_STEPS, HORIZON_STEPS, command_of, path_labels, speed_labels
from senna_prune.task.labels import CAMERAS, plan_text
from senna_prune.task.prompts import planning_question
from senna_prune.task.sample import PlanningSample, write_samples


def samples(rows: list[dict[str, str]]) -> Iterator[PlanningSample]:
    """One sample for every keyframe of a scene that has its next 3 s."""
    places = np.array([[float(row["x"]), float(row["y"])] for row in rows])
    for number, row in enumerate(rows[:-FUTURE_STEPS]):
        sine, cosine = np.sin(float(row["yaw"])), np.cos(float(row["yaw"]))
        ahead_left = (places[number : number + HORIZON_STEPS + 1] - places[number]) @ [[cosine, -sine], [sine, cosine]]
        command = command_of(*ahead_left[-1]).value
        future = np.stack([-ahead_left[:, 1], ahead_left[:, 0]], axis=1)[1 : FUTURE_STEPS + 1]  # x right, y forward
        points = future[None].astype(np.float32)
        yield PlanningSample(
            token=row["token"],
            scene=row["scene"],
            timestamp=int(row["timestamp"]),
            kind="plan",
            images={camera: f"{camera}/{row['token']}.jpg" for camera in CAMERAS},
            question=planning_question(float(row["speed"]), command),
            answer=plan_text(speed_labels(points)[0], path_labels(points)[0]),
            speed=float(int(float(row["speed"]))),
            command=command,
            trajectory=tuple((float(x), float(y)) for x, y in future),
        )


if __name__ == "__main__":
    with Path(sys.argv[1]).open(newline="") as table:
        scenes = [list(rows) for _, rows in groupby(csv.DictReader(table), key=lambda row: row["scene"])]
    found = [sample for rows in scenes for sample in samples(rows)]
    if not found:
        sys.exit(f"error: {sys.argv[1]}: no scene has the {FUTURE_STEPS + 1} rows that one answer needs")
    write_samples(sys.argv[2], found)
