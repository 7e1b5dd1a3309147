"""Loading ahead: in order, one group ahead at most, errors where they belong, and an end that comes at once."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from senna_prune.evaluation.run.reading import prefetched

GROUPS = [[0, 1, 2], [3], [], [4, 5]]


def test_groups_come_whole_and_in_order() -> None:
    loaded: list[int] = []

    def load(item: int) -> int:
        loaded.append(item)
        return 10 * item

    with prefetched(load, GROUPS) as coming:
        assert [[future.result() for future in group] for group in coming] == [[0, 10, 20], [30], [], [40, 50]]
    assert loaded == [0, 1, 2, 3, 4, 5]
    with prefetched(load, []) as coming:
        assert list(coming) == []


def test_the_next_group_loads_meanwhile_and_no_more() -> None:
    loaded: list[int] = []
    ahead = threading.Event()

    def load(item: int) -> int:
        assert threading.current_thread() is not threading.main_thread()
        loaded.append(item)
        if item == 3:
            ahead.set()
        return item

    with prefetched(load, [[1], [2, 3], [4]]) as coming:
        assert next(coming)[0].result() == 1
        assert ahead.wait(5), "the second group must load while the first is worked on"
        time.sleep(0.02)
        assert loaded == [1, 2, 3]


def test_errors_surface_at_their_item() -> None:
    def load(item: int) -> int:
        if item in (1, 4):
            raise ValueError(str(item))
        return item

    with prefetched(load, GROUPS) as coming:
        first = next(coming)
        assert [first[0].result(), first[2].result()] == [0, 2]
        with pytest.raises(ValueError, match="1"):
            first[1].result()
        assert next(coming)[0].result() == 3


def test_leaving_early_drops_what_is_left() -> None:
    started, loaded = threading.Event(), []

    def load(item: int) -> None:
        started.set()
        time.sleep(0.05)
        loaded.append(item)

    def leave_early() -> None:
        with prefetched(load, [range(100), range(100)]) as coming:
            next(coming)
            assert started.wait(5)
            raise KeyboardInterrupt

    began = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        leave_early()
    assert time.perf_counter() - began < 2
    assert len(loaded) <= 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_the_models_threads_are_left_alone() -> None:
    before = torch.get_num_threads()
    with prefetched(lambda _: torch.get_num_threads(), [[0]]) as coming:
        assert next(coming)[0].result() == 1
        assert torch.get_num_threads() == before
    seen: list[int] = []
    later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert seen == [before]
