"""One evaluation from settings to results: plan, check, run or continue, merge, score."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from msgspec.structs import replace
from rich.console import Console

from senna_prune.config import EvaluationConfig, ScoringConfig
from senna_prune.errors import RunError
from senna_prune.evaluation.report.explain import explain, explain_power
from senna_prune.evaluation.report.kept_tokens import write_kept_tokens
from senna_prune.evaluation.report.objects import objects_dropped
from senna_prune.evaluation.report.show import show_results
from senna_prune.evaluation.report.table import printable
from senna_prune.evaluation.report.trackers import require_trackers, track
from senna_prune.evaluation.run.controls import taken_complexities, takes_measured
from senna_prune.evaluation.run.planning_set import planning_set, require_images
from senna_prune.evaluation.run.processes import Processes
from senna_prune.evaluation.run.progress import Meter, announce
from senna_prune.evaluation.run.reading import PictureReader
from senna_prune.evaluation.run.records import Condition
from senna_prune.evaluation.run.run_folder import Decided, RunFolder, RunInfo
from senna_prune.evaluation.run.run_key import run_key, short_digest
from senna_prune.evaluation.run.runner import Chunk, left_in, plan_of_work, run_tasks
from senna_prune.evaluation.run.sweep import expand
from senna_prune.evaluation.run.system import EvaluatedSystem
from senna_prune.evaluation.score.latency import summarise_run
from senna_prune.evaluation.score.results import all_scores
from senna_prune.evaluation.score.text_metrics import require_text_metrics
from senna_prune.task.sample import PlanningSample


def evaluate(
    config: EvaluationConfig,
    system: EvaluatedSystem,
    *,
    explain_only: bool = False,
    dry_run: bool = False,
    console: Console | None = None,
    processes: Processes | None = None,
) -> Path | None:
    """Evaluate, or continue an evaluation; a finished one is only shown.

    Everything that can be wrong with settings, data and checkpoint is found before the model is loaded.

    Args:
        config: the settings.
        system: what is evaluated.
        explain_only: print every condition's schedule and cost instead of running.
        dry_run: print the plan of work instead of running.
        console: for plan, progress and tables; standard output if absent.
        processes: this process among its siblings; found out if absent.

    Returns:
        The run folder, or None where nothing was run.

    Raises:
        SennaPruneError: see the typed errors; nothing decided so far is lost.
    """
    # Files and pipes have no width, and tables need more than the 80 columns that rich assumes then.
    console = console or Console(width=None if sys.stdout.isatty() else 120)
    require_text_metrics(config.data.kinds)
    require_trackers(config.log_with)
    chosen = planning_set(config.data, config.limit)
    samples, root = chosen.samples, Path(config.data.image_root)
    conditions = expand(config.pruning, all(sample.objects is not None for sample in samples))
    schedules = {condition.id: system.resolve(condition, samples[0]) for condition in conditions}
    if explain_only:
        explain(conditions, schedules, system.shape, console, set(config.pruning.methods))
        scenes = len({sample.scene for sample in samples})
        explain_power(config.scoring.difference, len(samples), scenes, console)
        return None
    if config.scoring.on_error == "fail":
        require_images(samples, root)
    processes = processes or Processes.current(cpu=config.model.device == "cpu")
    key = run_key(config, system.digest())
    folder = RunFolder(Path(config.output or f"runs/{config.name}-{short_digest(key)}"))
    settings = {name: value for name, value in asdict(config).items() if name != "output"}
    info = RunInfo(config.name, "partial", key, settings, conditions, system.shape)
    if dry_run:
        folder.require_same(key)
        chunks = _work(config, samples, conditions, info, folder.read())
        announce(console, chosen, conditions, chunks, 1, folder.path)
        return None
    try:
        if processes.main:
            folder.claim(info, samples)
        processes.wait()
        decided = folder.read()
        chunks = _work(config, samples, conditions, info, decided)
        if processes.main:
            PictureReader(root, decided.pictures).require_unchanged(samples)
        # Nobody may write before everybody has read: the processes share out the work that they find left.
        processes.wait()
        if chunks or folder.lacks_appearance():
            if processes.main:
                folder.write_info(info)
                announce(console, chosen, conditions, chunks, processes.count, folder.path)
            system.load()
            if processes.main:
                folder.write_appearance(system.appearance())
            # What measures comes first, then the controls that take what was measured, by whichever process.
            for late in (False, True):
                if some := [condition for condition in conditions if takes_measured(condition) == late]:
                    decided = folder.read() if late else decided
                    chunks = _work(config, samples, some, info, decided)
                    processes.wait()
                    pictures = PictureReader(root, decided.pictures)
                    _run(config, system, folder, processes.share(chunks), pictures, processes, console)
        processes.wait()
        if processes.main:
            finish(folder, info, samples, config.scoring)
            show_results(folder, console)
            track(config.log_with, folder)
            if picture := write_kept_tokens(folder, root):
                console.print(printable(f"Kept tokens: {picture}"), highlight=False, markup=False, soft_wrap=True)
        return folder.path
    finally:
        folder.release()


def _work(
    config: EvaluationConfig,
    samples: Sequence[PlanningSample],
    conditions: Sequence[Condition],
    info: RunInfo,
    decided: Decided,
) -> list[Chunk]:
    taken = taken_complexities(info.conditions, samples, decided.lines)
    return plan_of_work(samples, conditions, decided.lines, config.kept_samples, config.batch_size, taken)


def _run(
    config: EvaluationConfig,
    system: EvaluatedSystem,
    folder: RunFolder,
    share: Sequence[Chunk],
    pictures: PictureReader,
    processes: Processes,
    console: Console,
) -> None:
    """Decide this process's share, and wait until every process has."""
    counts = [left_in(chunk) for chunk in share]
    with (
        folder.open_journal(processes.rank) as journal,
        Meter(sum(counts), next(iter(counts), 0), shown=processes.main) as meter,
    ):
        fail = config.scoring.on_error == "fail"
        spent = run_tasks(share, system, journal, pictures, fail_on_error=fail, advance=meter.advance)
    if processes.main:
        console.print(str(spent), highlight=False, markup=False)
    processes.wait()


def finish(folder: RunFolder, info: RunInfo, samples: Sequence[PlanningSample], scoring: ScoringConfig) -> None:
    """Merge all journals into the final files, score them and mark the run complete.

    Raises:
        RunError: a decision is missing.
    """
    decided = folder.read()
    lines = decided.lines
    order = [(sample.key, condition.id) for sample in samples for condition in info.conditions]
    if missing := [key for key in order if key not in lines]:
        raise RunError(
            f"{len(missing)} decisions are missing, first {missing[0]}",
            where=folder.path,
            hint="run the same command again: another process has ended early",
        )
    records = [lines[key][0] for key in order]
    results = all_scores(records, samples, info, scoring, complete=True)
    if dropped := objects_dropped(records, info.conditions, samples, scoring.resamples, scoring.seed):
        results["objects"] = dropped
    timing = summarise_run({key: lines[key] for key in order}, info.conditions)
    folder.finish(replace(info, status="complete"), decided, order, results, timing)
