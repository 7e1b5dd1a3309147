"""Reads the images of samples once each, ahead of the model, and refuses one that changed since a decision saw it."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from senna_prune.errors import RunError, SampleError
from senna_prune.evaluation.run.records import Seen
from senna_prune.evaluation.run.run_folder import CHANGED
from senna_prune.files import confined
from senna_prune.image_files import read_image
from senna_prune.task.sample import PlanningSample

T = TypeVar("T")
R = TypeVar("R")


class ImageReader:
    """Knows every image that a decision saw.

    Args:
        root: folder that the paths of the samples are relative to.
        seen: images by path, from earlier tries of the run.
    """

    def __init__(self, root: Path, seen: Mapping[str, Seen]) -> None:
        self.root = root
        self.seen = dict(seen)

    def read(self, sample: PlanningSample) -> tuple[list[bytes], dict[str, Seen]]:
        """The bytes of a sample's image files in the order of the prompt's labels, and what was seen by path.

        Raises:
            ImageError: a file is absent or cannot be read.
            RunError: a decision saw other bytes.
        """
        contents, seen = [], {}
        for name in sample.view_paths():
            content, seen[name] = self._read(name)
            contents.append(content)
            self._compare(sample, name, seen[name])
        return contents, seen

    def keep(self, seen: Mapping[str, Seen]) -> None:
        """Remember the images of a sample that is decided: from now on they may not change."""
        self.seen.update(seen)

    def require_unchanged(self, samples: Sequence[PlanningSample]) -> bool:
        """Compare every image that a decision saw: a run is continued on the same images only.

        A file whose size and time are those that a decision saw is not read again. An image that is gone is left out:
        whether that matters depends on what is left to do.

        Returns:
            Whether a file was read: its size and time are in `seen` now.

        Raises:
            RunError: naming the first image that changed, and a sample it belongs to.
        """
        owners = {name: sample for sample in samples for name in sample.view_paths() if name in self.seen}
        there = [
            name
            for name in owners
            if (file := confined(self.root, name, SampleError)).is_file()
            and _size_and_time(file) != self.seen[name][1:]
        ]
        with ThreadPoolExecutor() as pool:
            for name, (_, seen) in zip(there, pool.map(self._read, there), strict=True):
                self._compare(owners[name], name, seen)
                self.seen[name] = seen
        return bool(there)

    def _read(self, name: str) -> tuple[bytes, Seen]:
        path = confined(self.root, name, SampleError)
        before = _size_and_time(path)
        content = read_image(path)
        return content, (hashlib.sha256(content).hexdigest()[:16], *before)

    def _compare(self, sample: PlanningSample, name: str, seen: Seen) -> None:
        if self.seen.get(name, seen)[0] != seen[0]:
            problem = "the image has changed since this run decided on it"
            raise RunError(problem, where=f"sample {sample.key}, {self.root / name}", hint=CHANGED)


def _size_and_time(path: Path) -> tuple[int, int]:
    """Bytes and nanoseconds of a file; of none, what no file has."""
    try:
        found = path.stat()
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


def picture_paths(sample: PlanningSample, root: Path) -> list[Path]:
    """The image files of a sample in the order of the prompt's labels.

    Raises:
        SampleError: a path of the planning set leads out of the root.
    """
    return [confined(root, path, SampleError) for path in sample.view_paths()]


@contextmanager
def prefetched(load: Callable[[T], R], groups: Sequence[Sequence[T]]) -> Iterator[Iterator[list[Future[R]]]]:
    """Load items group by group in one background thread, never more than one group ahead.

    Args:
        load: loads one item; called in the order of the items. What it raises, the item's future raises.
        groups: in the order in which they will be asked for.

    Yields:
        An iterator over the groups, each as the futures of its items. Leaving the context, however that happens, waits
        for the item that is being loaded and drops the rest.
    """
    import torch  # scoring and reports know the runner without it

    # With torch's default number of threads, this thread would take cores from the model. The limit set here holds for
    # this thread only, but it also becomes the default of threads that start later: it is reset at the end.
    team = torch.get_num_threads()
    pool = ThreadPoolExecutor(1, "prefetch", initializer=torch.set_num_threads, initargs=(1,))

    def handed_out() -> Iterator[list[Future[R]]]:
        queue: deque[list[Future[R]]] = deque()
        for number, group in enumerate(groups):
            queue.append([pool.submit(load, item) for item in group])
            if number:
                yield queue.popleft()
        if queue:
            yield queue.popleft()

    try:
        yield handed_out()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(team)
