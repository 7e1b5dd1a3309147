"""Training pictures: rendered, coded as JPEG and letterboxed exactly as evaluation will see them, kept as 8 bit."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from senna_prune.demo.world.rendering import render
from senna_prune.demo.world.rig import HEIGHT, WIDTH
from senna_prune.demo.world.sampling import sample_situation, sample_street
from senna_prune.demo.world.scenes import furnish, scene_rng
from senna_prune.demo.world.street import Side, Street
from senna_prune.demo.world.writing import encode_jpeg
from senna_prune.model.images import MEAN, PAD_COLOUR, STD, to_pixel_values

SHARD = 512
"""Scenes per file of the cache."""


def content_rows(image_size: int) -> slice:
    """Rows of a letterboxed square that hold more than the padding colour."""
    # The bicubic filter reaches a few rows beyond the picture's edge.
    margin = max(0, (image_size - image_size * HEIGHT // WIDTH) // 2 - 4)
    return slice(margin, image_size - margin)


def letterbox(jpeg: bytes, image_size: int) -> np.ndarray:
    """The processor's picture before normalisation, content rows only, shape (rows, image_size, 3), uint8."""
    pixels = to_pixel_values(Image.open(io.BytesIO(jpeg)), image_size, "pad").numpy().transpose(1, 2, 0)
    eight_bit = np.rint((pixels * np.array(STD) + np.array(MEAN)) * 255).astype(np.uint8)
    return eight_bit[content_rows(image_size)]


def pixel_values(pictures: np.ndarray, image_size: int) -> Tensor:
    """Model input of cached pictures (B, 6, rows, image_size, 3): shape (B, 6, 3, image_size, image_size), float32."""
    full = np.empty((*pictures.shape[:2], image_size, image_size, 3), dtype=np.uint8)
    full[:] = PAD_COLOUR
    full[:, :, content_rows(image_size)] = pictures
    scaled = torch.from_numpy(full).permute(0, 1, 4, 2, 3).float() / 255
    return (scaled - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


class TrainingScenes:
    """Streets and their pictures, in a cache folder of shards; missing shards are rendered on first use.

    Args:
        folder: the cache.
        num_scenes, world_seed: which scenes; scene i is the same whatever their number.
        image_size: side of the model's input, pixels.
    """

    def __init__(self, folder: Path, num_scenes: int, world_seed: int, image_size: int) -> None:
        self.folder, self.num_scenes, self.world_seed, self.image_size = folder, num_scenes, world_seed, image_size
        self._pictures: list[np.ndarray] = []
        self.streets: list[Street] = []

    def prepare(self, workers: int, report: Callable[[int, int], None]) -> None:
        """Render what the cache lacks and open it. `report` is told (shards done, shards in all)."""
        self.folder.mkdir(parents=True, exist_ok=True)
        numbers = range(-(-self.num_scenes // SHARD))
        missing = [number for number in numbers if not self._path(number).with_suffix(".npy").is_file()]
        jobs = [(self._path(number), self.world_seed, self._span(number), self.image_size) for number in missing]
        done = len(numbers) - len(missing)
        report(done, len(numbers))
        with ProcessPoolExecutor(max_workers=workers) as pool:
            for _ in pool.map(_render_shard, jobs):
                done += 1
                report(done, len(numbers))
        for number in numbers:
            self._pictures.append(np.load(self._path(number).with_suffix(".npy"), mmap_mode="r"))
            records = json.loads(self._path(number).with_suffix(".json").read_text(encoding="utf-8"))
            self.streets += [street_from_dict(record) for record in records]

    def __len__(self) -> int:
        return self.num_scenes

    def pictures(self, numbers: np.ndarray) -> np.ndarray:
        """Cached pictures of some scenes, shape (B, 6, rows, image_size, 3), uint8."""
        return np.stack([self._pictures[number // SHARD][number % SHARD] for number in numbers.tolist()])

    def _span(self, shard: int) -> tuple[int, int]:
        return shard * SHARD, min((shard + 1) * SHARD, self.num_scenes)

    def _path(self, shard: int) -> Path:
        start, end = self._span(shard)
        return self.folder / f"world{self.world_seed}-{self.image_size}px-{start}-{end}"


def street_from_dict(record: dict[str, Any]) -> Street:
    sides = {name: Side(**record[name]) for name in ("left", "right")}
    return Street(**{**record, **sides})


def training_streets(world_seed: int, span: tuple[int, int]) -> Iterator[tuple[Street, np.random.Generator]]:
    """Streets by number: every other one drawn for its answer, the others for their causes."""
    for number in range(*span):
        rng = scene_rng(world_seed, number)
        yield (sample_situation(rng).street if number % 2 else sample_street(rng)), rng


def _render_shard(job: tuple[Path, int, tuple[int, int], int]) -> None:
    path, world_seed, span, image_size = job
    pictures, records = [], []
    for street, rng in training_streets(world_seed, span):
        layout = furnish(street, rng)
        views = [letterbox(encode_jpeg(picture), image_size) for picture in render(layout.mesh, layout.light)]
        pictures.append(np.stack(views))
        records.append(asdict(street))
    path.with_suffix(".json").write_text(json.dumps(records), encoding="utf-8")
    draft = path.with_suffix(".part.npy")
    np.save(draft, np.stack(pictures))
    draft.replace(path.with_suffix(".npy"))
