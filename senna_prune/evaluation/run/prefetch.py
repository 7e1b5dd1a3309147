"""Makes the next group of items ready in the background while the current one is worked on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


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
