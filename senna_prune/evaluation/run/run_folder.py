"""A run's folder: what it holds, how it is claimed, continued and finished.

run.json            key, settings, conditions, model shape, status: partial | complete
planning_set.jsonl  the evaluated samples
journal/            one file per process while the run is partial
decisions.jsonl     one line per (sample, condition), in the order of the plan of work
timing.jsonl        measured times of the same lines, kept apart: they differ from run to run; and what made each
spare.jsonl         lines that the run holds no more, as its methods or limit changed; they are used again if they fit
pictures.json       digest of every image that a decision saw: a changed one is refused when the run is continued
image_stats.json    the same with each file's size and time, by which an unchanged one is known without reading it
results.json        scores; timing.json: p50 and p95 by stage
appearance.json     how visual tokens are drawn back onto images
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

from msgspec import Struct, to_builtins
from msgspec.structs import force_setattr

from senna_prune.config import EvaluationConfig, checked_config
from senna_prune.cost import ModelShape
from senna_prune.errors import ConfigError, RunError
from senna_prune.evaluation.run.records import (
    LINE_HINT,
    SCHEMA_VERSION,
    Condition,
    Entry,
    Record,
    Seen,
    Timing,
    Trace,
    decoded,
)
from senna_prune.evaluation.run.run_key import require_same_run
from senna_prune.evaluation.run.system import Appearance
from senna_prune.files import Journal, accessing, raw_lines, read_bytes, read_json, to_line, write_json, write_whole
from senna_prune.task.sample import PlanningSample, iter_samples

T = TypeVar("T")
Lines = dict[tuple[str, str], tuple[Record, Timing]]
"""Record and timing by (sample key, condition id)."""


@dataclass(frozen=True)
class Decided:
    """Everything that a run holds so far.

    Attributes:
        lines: what was decided.
        pictures: every image that a decision saw, by its path in the planning set.
        spare: lines that another sweep or limit of this run made, by sample, condition and what made them.
    """

    lines: Lines
    pictures: dict[str, Seen]
    spare: dict[tuple[str, str, str | None], Entry] = field(default_factory=dict)


class RunInfo(Struct, frozen=True, forbid_unknown_fields=True, tag_field="schema", tag=SCHEMA_VERSION):
    """What `run.json` says.

    Attributes:
        name: title.
        status: `partial` until every decision is made.
        key: see `run_key`.
        settings: the resolved configuration.
        conditions: in the order of the tables.
        shape: of the model.
    """

    name: str
    status: Literal["partial", "complete"]
    key: Mapping[str, Any]
    settings: Mapping[str, Any]
    conditions: tuple[Condition, ...]
    shape: ModelShape

    def __post_init__(self) -> None:
        if not self.conditions:
            raise ValueError("conditions: a run has at least one")


CONTINUE = "free space or permissions, then run the same command again: every finished decision is kept"
CHANGED = "restore the image as it was, choose another output=, or delete the folder and evaluate anew"
START_ANEW = "restore run.json from a copy, or delete the folder and evaluate anew"
"""What helps when `run.json` is damaged: nothing else says which settings the decisions belong to."""


class RunFolder:
    """Reads and writes the files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.info_path, self.journals = path / "run.json", path / "journal"
        self._lock: IO[bytes] | None = None

    def claim(self, info: RunInfo, samples: Iterable[PlanningSample]) -> None:
        """Take the folder for this run, or continue what it holds, also with other conditions or another limit.

        Raises:
            RunError: it holds another run, something else, or another process is at work in it.
        """
        with accessing(self.path, "written", CONTINUE):
            self.path.mkdir(parents=True, exist_ok=True)
            strangers = [entry.name for entry in self.path.iterdir() if not entry.name.endswith(".part")]
        here = self.require_same(info.key)
        if here is None and set(strangers) - {"journal"}:
            hint = f"choose another output=, or, if it held a run, {START_ANEW}"
            raise RunError("the folder is not empty and holds no run", where=self.path, hint=hint)
        self._take_lock()
        lines = [json.dumps(sample.to_dict()) + "\n" for sample in samples]
        write_whole(self.path / "planning_set.jsonl", "".join(lines), CONTINUE)
        if here is None or here.key != info.key:
            with accessing(self.path, "written", CONTINUE):
                (self.path / "results.json").unlink(missing_ok=True)
            self.write_info(info)

    def require_same(self, key: Mapping[str, Any]) -> RunInfo | None:
        """The run that is here already, if any; raises RunError if it is another one."""
        if not self._holds("run.json"):
            return None
        require_same_run((here := self.read_info()).key, key, self.path)
        return here

    def _holds(self, name: str) -> bool:
        return os.path.exists(self.path / name)  # noqa: PTH110 - `Path.exists` fails for a name that is too long

    def _take_lock(self) -> None:
        with accessing(self.journals, "written", CONTINUE):
            self.journals.mkdir(exist_ok=True)
            # O_NONBLOCK: a FIFO of that name would wait for a reader.
            descriptor = os.open(self.journals / "lock", os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o666)
            self._lock = os.fdopen(descriptor, "wb")
        try:
            # The operating system releases the lock when the process ends, even after kill -9.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError("another process is at work on this run", where=self.path, hint="wait for it") from None

    def release(self) -> None:
        """Let another process claim the folder; without effect where it is not claimed."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def write_info(self, info: RunInfo) -> None:
        write_json(self.info_path, to_builtins(info), CONTINUE)

    def read_info(self) -> RunInfo:
        """Raises RunError if the folder holds no run."""
        if not self._holds("run.json"):
            raise RunError("no run here (run.json is absent)", where=self.path, hint="name a folder that a run wrote")
        info = decoded(RunInfo, read_bytes(self.info_path, hint=START_ANEW, error=RunError), self.info_path, START_ANEW)
        try:
            checked_config(EvaluationConfig, info.settings)
        except ConfigError as error:
            raise RunError(f"settings: {error}", where=self.info_path, hint=START_ANEW) from error
        return info

    def read_json(self, name: str) -> Any:
        """A JSON file of the run.

        Raises:
            RunError: it is absent or broken.
        """
        return read_json(self.path / name, (dict, list), hint="run the evaluation again", error=RunError)

    def lacks_appearance(self) -> bool:
        """Whether `appearance.json` is to be written: it is absent or damaged."""
        with suppress(RunError):
            return not self.read_json("appearance.json")
        return True

    def write_appearance(self, appearance: Appearance) -> None:
        """Keep what is needed to draw kept tokens; raises RunError as `Appearance.to_dict` does."""
        write_whole(self.path / "appearance.json", to_line(appearance.to_dict()), CONTINUE)

    def read_samples(self) -> list[PlanningSample]:
        return list(iter_samples(self.path / "planning_set.jsonl"))

    def read_lines(self) -> Lines:
        """Everything decided so far, to be shown; raises as `read` does."""
        return self.read(trusting=True).lines

    def read(
        self,
        wanted: RunInfo | None = None,
        samples: Iterable[PlanningSample] | None = None,
        *,
        trusting: bool = False,
    ) -> Decided:
        """Everything decided so far: finished files first, then journals, whose lines are newer.

        A decision replaces an error whatever their order: the sample was tried again, perhaps by another process.

        Args:
            wanted, samples: of the run whose lines are looked for; by default the one that is here.
            trusting: take lines too whose timing, which says what made them, is lost.

        Raises:
            RunError: a line is damaged, its condition is none of the run's, or an image changed while several
                processes decided on it.
            FileError: a line is no JSON, or a file cannot be read.
        """
        decided = Decided({}, self._read_pictures())
        if not self._holds("run.json"):
            return decided
        wanted = wanted or self.read_info()
        made_by: dict[str, str] | None = wanted.key.get("conditions")  # runs of older versions do not tell
        known = {condition.id for condition in wanted.conditions}
        keys = {sample.key for sample in (self.read_samples() if samples is None else samples)}
        for where, entry in self._read_entries():
            record, maker = entry.record, entry.timing.get("made_by")
            if (record.answer is None) == (record.error is None):
                raise RunError("a decision has either an answer or an error", where=where, hint=LINE_HINT)
            if maker is None and record.condition not in known:
                raise RunError(f"the run has no condition {record.condition!r}", where=where, hint=LINE_HINT)
            fits = made_by is None or (maker is None and trusting) or maker == made_by.get(record.condition)
            if record.sample not in keys or not fits:
                if record.error is None and maker is not None:
                    decided.spare[*record.key, maker] = entry
            elif record.error is None or record.key not in decided.lines:
                decided.lines[record.key] = (record, entry.timing)
            for path, seen in entry.pictures.items():
                if decided.pictures.setdefault(path, seen)[0] != seen[0]:
                    raise RunError("the image changed while the run was under way", where=path, hint=CHANGED)
        return decided

    def _read_pictures(self) -> dict[str, Seen]:
        hint = "delete that file; images changed before are then not noticed"

        def read(name: str, kind: type[dict[str, T]]) -> dict[str, T]:
            path = self.path / name
            found = read_bytes(path, hint=hint, error=RunError) if self._holds(name) else b"{}"
            return decoded(kind, found, path, hint)

        found = {name: (digest, -1, -1) for name, digest in read("pictures.json", dict[str, str]).items()}
        stats = read("image_stats.json", dict[str, Seen])
        return found | {name: seen for name, seen in stats.items() if found.get(name, seen)[0] == seen[0]}

    def write_stats(self, seen: Mapping[str, Seen]) -> None:
        write_whole(self.path / "image_stats.json", to_line(seen), CONTINUE)

    def _read_entries(self) -> Iterator[tuple[str, Entry]]:
        """Place and content of every line: spare ones, finished ones, and those of journals."""
        times: dict[tuple[str | None, str | None], Timing] = {}
        traces: dict[Trace | None, Trace | None] = {}
        if self._holds("timing.jsonl"):
            for where, line in raw_lines(self.path / "timing.jsonl"):
                timing = decoded(Timing, line, where, LINE_HINT)
                times[timing.pop("sample", None), timing.pop("condition", None)] = timing
        for path in (self.path / "spare.jsonl", self.path / "decisions.jsonl", *sorted(self.journals.glob("*.jsonl"))):
            for where, line in raw_lines(path) if os.path.exists(path) else ():  # noqa: PTH110 - see `_holds`
                if path.name == "decisions.jsonl":
                    record = decoded(Record, line, where, LINE_HINT)
                    # Most of a line is its trace, and a static method's is the same for every sample.
                    force_setattr(record, "trace", traces.setdefault(record.trace, record.trace))
                    yield where, Entry(record, times.get(record.key, {}))
                else:
                    yield where, decoded(Entry, line, where, LINE_HINT)

    def open_journal(self, rank: int) -> Journal:
        return Journal(self.journals / f"process-{rank:03d}.jsonl", CONTINUE)

    def finish(
        self, info: RunInfo, decided: Decided, order: Iterable[tuple[str, str]], results: Any, timing: Any
    ) -> None:
        """Write the final files, each whole or not at all, and only then drop the journals.

        A crash in between leaves a partial run whose journals hold everything: lines that came from finished files are
        put into a journal first, and those files go before new ones are written, as two of them are read together.
        """
        keys, lines = list(order), decided.lines
        records = "".join(to_line(lines[key][0].to_dict()) for key in keys)
        times = "".join(to_line({"sample": key[0], "condition": key[1], **lines[key][1]}) for key in keys)
        if self._holds("decisions.jsonl") or self._holds("spare.jsonl"):
            self.journals.mkdir(exist_ok=True)
            kept = (to_line({"record": lines[key][0].to_dict(), "timing": lines[key][1]}) for key in keys)
            spare = map(_spare_line, decided.spare.values())
            write_whole(self.journals / "finished.jsonl", (*kept, *spare), CONTINUE)
            for name in ("spare.jsonl", "timing.jsonl", "decisions.jsonl"):
                (self.path / name).unlink(missing_ok=True)
        if decided.spare:
            write_whole(self.path / "spare.jsonl", map(_spare_line, decided.spare.values()), CONTINUE)
        write_whole(self.path / "timing.jsonl", times, CONTINUE)
        write_whole(self.path / "decisions.jsonl", records, CONTINUE)
        write_json(self.path / "pictures.json", {name: seen[0] for name, seen in decided.pictures.items()}, CONTINUE)
        self.write_stats(decided.pictures)
        write_json(self.path / "timing.json", timing, CONTINUE)
        write_json(self.path / "results.json", results, CONTINUE)
        if not decided.spare:
            (self.path / "spare.jsonl").unlink(missing_ok=True)
        self.write_info(info)
        shutil.rmtree(self.journals)


def _spare_line(entry: Entry) -> str:
    return to_line({"record": entry.record.to_dict(), "timing": entry.timing})
