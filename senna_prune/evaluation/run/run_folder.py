"""A run's folder: what it holds, how it is claimed, continued and finished.

run.json            key, settings, conditions, model shape, status: partial | complete
planning_set.jsonl  the evaluated samples
journal/            one file per process while the run is partial
decisions.jsonl     one line per (sample, condition), in the order of the plan of work
timing.jsonl        measured times of the same lines, kept apart: they differ from run to run
results.json        scores; timing.json: p50 and p95 by stage
appearance.json     how visual tokens are drawn back onto pictures
"""

from __future__ import annotations

import fcntl
import json
import shutil
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from senna_prune.cost import ModelShape
from senna_prune.errors import RunError
from senna_prune.evaluation.run.records import SCHEMA_VERSION, Condition, Record
from senna_prune.evaluation.run.run_key import require_same_run
from senna_prune.evaluation.run.system import Appearance
from senna_prune.files import Journal, accessing, read_json, read_lines, to_line, write_json, write_whole
from senna_prune.task.sample import PlanningSample, iter_samples

Lines = dict[tuple[str, str], tuple[Record, dict[str, Any]]]
"""Record and timing by (sample key, condition id)."""


@dataclass(frozen=True)
class RunInfo:
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
    status: str
    key: Mapping[str, Any]
    settings: Mapping[str, Any]
    conditions: tuple[Condition, ...]
    shape: ModelShape


CONTINUE = "free space or permissions, then run the same command again: every finished decision is kept"


class RunFolder:
    """Reads and writes the files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[bytes] | None = None

    @property
    def info_path(self) -> Path:
        return self.path / "run.json"

    @property
    def journals(self) -> Path:
        return self.path / "journal"

    def claim(self, info: RunInfo, samples: Iterable[PlanningSample]) -> None:
        """Take the folder for this run, or continue what it holds.

        Raises:
            RunError: it holds another run, something else, or another process is at work in it.
        """
        with accessing(self.path, "written", CONTINUE):
            self.path.mkdir(parents=True, exist_ok=True)
            strangers = [entry.name for entry in self.path.iterdir() if not entry.name.endswith(".part")]
        if self.info_path.exists():
            require_same_run(self.read_info().key, info.key, self.path)
        elif set(strangers) - {"journal"}:
            raise RunError("the folder is not empty and holds no run", where=self.path, hint="choose another output=")
        self._take_lock()
        if not self.info_path.exists():
            self.write_info(info)
        lines = [json.dumps(sample.to_dict()) + "\n" for sample in samples]
        write_whole(self.path / "planning_set.jsonl", "".join(lines), CONTINUE)

    def _take_lock(self) -> None:
        with accessing(self.journals, "written", CONTINUE):
            self.journals.mkdir(exist_ok=True)
            self._lock = (self.journals / "lock").open("wb")
        try:
            # The system drops the lock with the process, however that ends.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError("another process is at work on this run", where=self.path, hint="wait for it") from None

    def write_info(self, info: RunInfo) -> None:
        record = {"schema": SCHEMA_VERSION, **asdict(info)}
        write_json(self.info_path, record, CONTINUE)

    def read_info(self) -> RunInfo:
        """Raises RunError if the folder holds no run."""
        if not self.info_path.is_file():
            raise RunError("no run here (run.json is absent)", where=self.path, hint="name a folder that a run wrote")
        try:
            record = read_json(self.info_path, hint="run it again", error=RunError)
            if record.pop("schema") != SCHEMA_VERSION:
                raise RunError("written by another version", where=self.info_path, hint="run it again")
            record["conditions"] = tuple(Condition.from_dict(entry) for entry in record["conditions"])
            record["shape"] = ModelShape(**record["shape"])
            return RunInfo(**record)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(f"not readable ({error})", where=self.info_path, hint="run it again") from error

    def read_json(self, name: str) -> Any:
        """A JSON file of the run.

        Raises:
            RunError: it is absent or broken.
        """
        return read_json(self.path / name, (dict, list), hint="run the evaluation again", error=RunError)

    def write_appearance(self, appearance: Appearance | None) -> None:
        """Keep what is needed to draw kept tokens: shares as bytes, each row scaled to its largest share."""
        if appearance is None:
            return
        rows = [[round(255 * share / max(row)) for share in row] for row in appearance.paths]
        record = {
            "padded": appearance.padded,
            "tokens": len(rows),
            "patches": len(rows[0]),
            "paths": b64encode(bytes(value for row in rows for value in row)).decode(),
        }
        write_whole(self.path / "appearance.json", to_line(record), CONTINUE)

    def read_samples(self) -> list[PlanningSample]:
        return list(iter_samples(self.path / "planning_set.jsonl"))

    def read_lines(self) -> Lines:
        """Everything decided so far: finished files first, then journals, whose lines are newer.

        A decision stands against an error whatever their order: the error was tried again, perhaps by another process.
        """
        lines: Lines = {}
        finished, timing = self.path / "decisions.jsonl", self.path / "timing.jsonl"
        if finished.exists():
            times = {}
            if timing.exists():
                times = {(t["sample"], t["condition"]): t for _, t in read_lines(timing)}
            for where, entry in read_lines(finished):
                record = Record.from_dict(entry, where)
                lines[record.key] = (record, times.get(record.key, {}))
        for journal in sorted(self.journals.glob("*.jsonl")):
            for where, entry in read_lines(journal):
                record = Record.from_dict(entry.get("record", {}), where)
                if record.error is None or record.key not in lines:
                    lines[record.key] = (record, entry.get("timing", {}))
        return lines

    def open_journal(self, rank: int) -> Journal:
        return Journal(self.journals / f"process-{rank:03d}.jsonl", CONTINUE)

    def finish(self, info: RunInfo, lines: Lines, order: Iterable[tuple[str, str]], results: Any, timing: Any) -> None:
        """Write the final files, each whole or not at all, and only then drop the journals.

        A crash in between leaves a partial run whose journals hold everything.
        """
        keys = list(order)
        records = "".join(to_line(lines[key][0].to_dict()) for key in keys)
        times = "".join(to_line({"sample": key[0], "condition": key[1], **lines[key][1]}) for key in keys)
        write_whole(self.path / "timing.jsonl", times, CONTINUE)
        write_whole(self.path / "decisions.jsonl", records, CONTINUE)
        write_json(self.path / "timing.json", timing, CONTINUE)
        write_json(self.path / "results.json", results, CONTINUE)
        self.write_info(info)
        shutil.rmtree(self.journals)
