"""Answers that the tables do not hold: a captioner gives them from the images, and a file keeps them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from senna_prune.errors import ImageError, SampleError
from senna_prune.files import Journal, accessing, confined, read_bytes, read_lines
from senna_prune.nuscenes.behaviour import VIEWS
from senna_prune.nuscenes.scene_samples import CAPTION_KINDS
from senna_prune.task.prompts import IMAGE_PROMPT
from senna_prune.task.sample import PlanningSample

MAX_CACHE_BYTES = 1 << 30
_BEGIN = b'{"caption":"'
"""How every line of a cache begins."""


class Captioner(Protocol):
    """Anything that answers a question about images."""

    @property
    def name(self) -> str:
        """Model and settings in a few words; part of the cache key and of the samples' source."""
        ...

    def caption(self, images: Sequence[Path], question: str) -> str: ...


class CaptionCache:
    """Captions by captioner, image paths and question in a JSON Lines file that grows by one synced line at a time.

    An interrupted run goes on where it stopped: a line cut short is dropped when the file is opened.

    Raises:
        SampleError: a line is no caption; the file is then left as it is.
        FileError: it cannot be read or written, or is no JSON Lines file.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._captions: dict[str, str] = {}
        # Read first: some other file named by mistake must not be opened for writing.
        with accessing(self.path, "written"):
            exists = self.path.exists() and not self.path.is_dir()
        if exists:
            self._read()
        self._journal = Journal(self.path)

    def _read(self) -> None:
        hint = "name a caption cache, or remove the line"
        for where, record in read_lines(self.path, hint):
            if not isinstance(record.get("key"), str) or not isinstance(record.get("caption"), str):
                raise SampleError("not a caption", where=where, hint=hint)
            self._captions[record["key"]] = record["caption"]
        # `Journal` removes a last line cut short; one that does not begin as a caption is no rest of ours.
        rest = read_bytes(self.path, MAX_CACHE_BYTES).rpartition(b"\n")[2].strip(b"\0")
        if rest[: len(_BEGIN)] != _BEGIN[: len(rest)]:
            raise SampleError("the last line is no caption cut short", where=self.path, hint=hint)

    def __len__(self) -> int:
        return len(self._captions)

    @staticmethod
    def key(captioner: str, images: Sequence[str], question: str) -> str:
        return hashlib.sha256(json.dumps([captioner, list(images), question]).encode()).hexdigest()

    def get(self, key: str) -> str | None:
        return self._captions.get(key)

    def put(self, key: str, caption: str, images: Sequence[str]) -> None:
        self._journal.append({"key": key, "images": list(images), "caption": caption})
        self._captions[key] = caption


def shown_cameras(sample: PlanningSample) -> tuple[str, ...]:
    """Cameras whose images a captioner is shown: as in the reference the front one, or the one to be described."""
    if sample.kind == "description":
        return ("CAM_" + VIEWS[sample.index].upper().replace(" ", "_"),)
    return ("CAM_FRONT",)


def with_captions(
    samples: Iterable[PlanningSample], captioner: Captioner, cache: CaptionCache, image_root: Path
) -> Iterator[PlanningSample]:
    """The samples, with the answers of captioned kinds filled in. Questions go to the captioner without image prompt.

    Raises:
        ImageError: an image file is missing.
    """
    for sample in samples:
        if sample.kind not in CAPTION_KINDS:
            yield sample
            continue
        images = [sample.images[camera] for camera in shown_cameras(sample)]
        question = sample.question.removeprefix(IMAGE_PROMPT)
        key = cache.key(captioner.name, images, question)
        caption = cache.get(key)
        if caption is None:
            paths = [confined(image_root, image, ImageError) for image in images]
            for path in paths:
                with accessing(path, "read", error=ImageError):
                    if not path.is_file():
                        hint = "complete the download, or pass --require-images to leave such keyframes out"
                        raise ImageError("the image to caption is missing", where=path, hint=hint)
            caption = captioner.caption(paths, question).strip()
            cache.put(key, caption, images)
        yield replace(sample, answer=caption, source=f"{sample.source}/{captioner.name}")
