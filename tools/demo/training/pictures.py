"""Training scenes: rendered, coded as JPEG exactly as evaluation will read them, and kept in a cache of shards."""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from senna_prune.errors import FileError
from senna_prune.files import read_bytes, read_json, write_whole
from senna_prune.model.processing import to_pixel_values
from tools.demo.training.attributes import ATTRIBUTES, BLOCK, MIRRORED_ATTRIBUTES
from tools.demo.world.annotation import mirror_things
from tools.demo.world.furniture import Thing
from tools.demo.world.layout import Layout
from tools.demo.world.motion import Motion
from tools.demo.world.rendering import render
from tools.demo.world.rig import HEIGHT, RIG, WIDTH
from tools.demo.world.sampling import sample_situation, sample_street
from tools.demo.world.scenes import furnish, scene_rng
from tools.demo.world.street import Side, Street, mirror_street
from tools.demo.world.writing import encode_jpeg

SHARD = 512
"""Scenes per file of the cache."""
_MIRRORED_VIEWS = [0, 2, 1, 4, 3, 5]
"""FRONT, FRONT RIGHT, FRONT LEFT, BACK RIGHT, BACK LEFT, BACK."""
_SHOWN_SHAPE = (len(RIG), len(ATTRIBUTES), HEIGHT // BLOCK, WIDTH // BLOCK)
_FOREIGN = "remove it, or choose another --work"


@dataclass(frozen=True)
class TrainingScene:
    """What training needs of a scene.

    Attributes:
        things: what an annotator would box.
        jpegs: the six coded images in the order of the cameras.
        shown: compressed bytes of what they show: pixels of each block by view and attribute, see `coverage`.
        mirrored: images are to be seen in a mirror; street and things already are.
    """

    street: Street
    things: tuple[Thing, ...]
    jpegs: tuple[bytes, ...]
    shown: bytes
    mirrored: bool = False

    @classmethod
    def of(cls, street: Street, layout: Layout) -> TrainingScene:
        pictures, groups = render(layout.mesh, layout.light)
        shown = zlib.compress(_count_pixels(layout, groups).tobytes())
        return cls(street, layout.things, tuple(map(encode_jpeg, pictures)), shown)

    def mirror(self) -> TrainingScene:
        """Another, equally good scene."""
        street, things = mirror_street(self.street), mirror_things(self.things)
        return TrainingScene(street, things, self.jpegs, self.shown, not self.mirrored)

    def pixel_values(self, image_size: int) -> Tensor:
        """What the processor makes of the images, shape (6, 3, image_size, image_size), float32."""
        pictures = [to_pixel_values(Image.open(io.BytesIO(jpeg)), image_size, "pad") for jpeg in self.jpegs]
        pixels = torch.stack(pictures)
        return pixels[_MIRRORED_VIEWS].flip(-1) if self.mirrored else pixels

    def coverage(self) -> Tensor:
        """Share of every block that shows each attribute, shape (6, attributes, HEIGHT / BLOCK, WIDTH / BLOCK)."""
        counts = np.frombuffer(zlib.decompress(self.shown), dtype=np.uint8).reshape(_SHOWN_SHAPE)
        shares = torch.from_numpy(counts.astype(np.float32)) / BLOCK**2
        return shares[_MIRRORED_VIEWS][:, MIRRORED_ATTRIBUTES].flip(-1) if self.mirrored else shares


def _count_pixels(layout: Layout, groups: np.ndarray) -> np.ndarray:
    """Pixels of each block that show each attribute, shape `_SHOWN_SHAPE`, uint8.

    Args:
        groups: group that every pixel shows, shape (6, HEIGHT, WIDTH).
    """
    counts = np.zeros(_SHOWN_SHAPE, dtype=np.uint8)
    for group, shows in enumerate(layout.mesh.shows):
        if shows:
            blocks = (groups == group).reshape(len(RIG), HEIGHT // BLOCK, BLOCK, WIDTH // BLOCK, BLOCK)
            counts[:, [ATTRIBUTES.index(name) for name in shows]] += blocks.sum((2, 4), dtype=np.uint8)[:, None]
    return counts


class TrainingScenes(Sequence[TrainingScene]):
    """Scenes in a cache folder of shards; missing shards are rendered by `prepare`.

    Args:
        folder: the cache.
        num_scenes, world_seed: which scenes; scene i is the same whatever their number.
    """

    def __init__(self, folder: Path, num_scenes: int, world_seed: int) -> None:
        self.folder, self.num_scenes, self.world_seed = folder, num_scenes, world_seed
        self.fingerprint = world_fingerprint(world_seed)
        self._scenes: list[TrainingScene] = []

    def prepare(self, workers: int, report: Callable[[int, int], None]) -> None:
        """Render what the cache lacks and read it. `report` is told (shards done, shards in all).

        Raises:
            FileError: the cache cannot be read or written, or a shard is none that this code wrote.
        """
        shards = [self._path(number) for number in range(-(-self.num_scenes // SHARD))]
        # the .json is written last: where it stands the shard is whole
        missing = [number for number, path in enumerate(shards) if not path.with_suffix(".json").exists()]
        done = len(shards) - len(missing)
        report(done, len(shards))
        with ProcessPoolExecutor(max_workers=workers) as pool:
            jobs = [(shards[number], self.world_seed, self._span(number)) for number in missing]
            for _ in pool.map(_render_shard, jobs):
                done += 1
                report(done, len(shards))
        self._scenes = [scene for path in shards for scene in _read_shard(path)]

    def __len__(self) -> int:
        return self.num_scenes

    def __getitem__(self, number: Any) -> Any:
        return self._scenes[number]

    def _span(self, shard: int) -> tuple[int, int]:
        return shard * SHARD, min((shard + 1) * SHARD, self.num_scenes)

    def _path(self, shard: int) -> Path:
        start, end = self._span(shard)
        return self.folder / f"world{self.world_seed}-{self.fingerprint}-{start}-{end}"


def training_streets(world_seed: int, span: tuple[int, int]) -> Iterator[tuple[Street, np.random.Generator]]:
    """Streets by number: every other one drawn for its answer, the others for their causes."""
    for number in range(*span):
        rng = scene_rng(world_seed, number)
        yield (sample_situation(rng).street if number % 2 else sample_street(rng)), rng


def training_scenes(world_seed: int, span: tuple[int, int]) -> Iterator[TrainingScene]:
    """Training scenes by number, rendered."""
    for street, rng in training_streets(world_seed, span):
        yield TrainingScene.of(street, furnish(street, rng))


def world_fingerprint(world_seed: int) -> str:
    """Eight hex digits that change whenever the code draws other scenes: part of every shard's name."""
    sha = hashlib.sha256()
    for scene in training_scenes(world_seed, (0, 4)):
        sha.update(_record(scene).encode() + b"".join(scene.jpegs) + scene.coverage().numpy().tobytes())
    return sha.hexdigest()[:8]


def _record(scene: TrainingScene) -> str:
    sizes = [len(part) for part in (*scene.jpegs, scene.shown)]
    return json.dumps({"street": asdict(scene.street), "things": list(map(asdict, scene.things)), "sizes": sizes})


def _render_shard(job: tuple[Path, int, tuple[int, int]]) -> None:
    path, world_seed, span = job
    scenes = list(training_scenes(world_seed, span))
    write_whole(path.with_suffix(".bin"), b"".join(part for scene in scenes for part in (*scene.jpegs, scene.shown)))
    write_whole(path.with_suffix(".json"), "[\n" + ",\n".join(map(_record, scenes)) + "\n]\n")


def _read_shard(path: Path) -> Iterator[TrainingScene]:
    records = read_json(path.with_suffix(".json"), kind=list, hint=_FOREIGN)
    content = read_bytes(path.with_suffix(".bin"), hint=_FOREIGN)
    start = 0
    try:
        for record in records:
            parts = []
            for size in record["sizes"]:
                parts.append(content[start : start + size])
                start += size
            *jpegs, shown = parts
            street, things = street_from_dict(record["street"]), tuple(map(_thing, record["things"]))
            yield TrainingScene(street, things, tuple(jpegs), shown)
    except (KeyError, TypeError, ValueError) as error:
        raise FileError("not a shard of training scenes", where=path.with_suffix(".json"), hint=_FOREIGN) from error
    if start != len(content):
        raise FileError("does not hold the images of its .json", where=path.with_suffix(".bin"), hint=_FOREIGN)


def street_from_dict(record: dict[str, Any]) -> Street:
    """The street that `dataclasses.asdict` took apart."""
    return Street(**{**record, "left": Side(**record["left"]), "right": Side(**record["right"])})


def _thing(record: dict[str, Any]) -> Thing:
    return Thing(record["category"], tuple(record["centre"]), tuple(record["size"]), Motion(**record["motion"]))
