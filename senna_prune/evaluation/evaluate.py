"""One evaluation from settings to results: plan, check, run or continue, merge, score."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
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
from senna_prune.evaluation.report.summary import summary
from senna_prune.evaluation.report.table import printable
from senna_prune.evaluation.report.trackers import require_trackers, track
from senna_prune.evaluation.report.write import write_report
from senna_prune.evaluation.run.calibration import require_own_profiles
from senna_prune.evaluation.run.controls import taken_complexities, takes_measured
from senna_prune.evaluation.run.planning_set import planning_set, require_images
from senna_prune.evaluation.run.processes import Processes
from senna_prune.evaluation.run.progress import Meter
from senna_prune.evaluation.run.reading import ImageReader
from senna_prune.evaluation.run.records import Condition
from senna_prune.evaluation.run.run_folder import Decided, RunFolder, RunInfo
from senna_prune.evaluation.run.run_key import run_key, short_digest
from senna_prune.evaluation.run.runner import Runner
from senna_prune.evaluation.run.sweep import expand
from senna_prune.evaluation.run.system import NO_TOKENS, EvaluatedSystem
from senna_prune.evaluation.run.work import Chunk, announce, left_in, plan_of_work
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
    verbose: bool = False,
    report: bool = False,
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
        verbose: print every table before the summary.
        report: also write the report.
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
    identity = system.identity()
    if explain_only:
        explain(conditions, schedules, identity.shape, console, set(config.pruning.methods))
        explain_power(config.scoring.difference, samples, len(config.pruning.seeds), console)
        return None
    if config.scoring.on_error == "fail":
        require_images(samples, root)
    processes = processes or Processes.current(cpu=config.model.device == "cpu")
    require_own_profiles(config.pruning, identity.digest)
    key = run_key(config, identity.digest, conditions)
    folder = RunFolder(Path(config.output or f"runs/{config.name}-{short_digest(key)}"))
    settings = {name: value for name, value in asdict(config).items() if name != "output"}
    info = RunInfo(config.name, "partial", key, settings, conditions, identity.shape)
    if dry_run:
        folder.require_same(key)
        chunks = _work(config, samples, conditions, info, folder.read(info, samples))
        announce(console, chosen, conditions, chunks, 1, folder.path, each=True)
        return None
    try:
        if processes.main:
            folder.claim(info, samples)
        processes.wait()
        decided = folder.read()
        chunks = _work(config, samples, conditions, info, decided)
        if processes.main:
            images = ImageReader(root, decided.pictures)
            if images.require_unchanged(samples):
                decided.pictures.update(images.seen)
                folder.write_stats(images.seen)
        # Nobody may write before everybody has read: the processes share out the work that they find left.
        processes.wait()
        everything = None if chunks else decided
        if chunks or (identity.shape != NO_TOKENS and folder.lacks_appearance()):
            if processes.main:
                folder.write_info(info)
                announce(console, chosen, conditions, chunks, processes.count, folder.path)
            appearance = system.load()
            if processes.main and appearance is not None:
                folder.write_appearance(appearance)
            # What measures comes first, then the controls that take what was measured, by whichever process.
            for late in (False, True):
                if some := [condition for condition in conditions if takes_measured(condition) == late]:
                    decided = folder.read() if late else decided
                    chunks = _work(config, samples, some, info, decided)
                    processes.wait()
                    images = ImageReader(root, decided.pictures)
                    _run(config, system, folder, key["conditions"], processes.share(chunks), images, processes, console)
        processes.wait()
        if processes.main:
            finish(folder, info, samples, config.scoring, everything)
            track(config.log_with, folder)
            files = {"Kept tokens": write_kept_tokens(folder, root), "Files": folder.path}
            if report:
                files["Report"] = write_report(folder.path, image_root=root)
            one_group = len(folder.read_json("results.json")["groups"]) == 1
            if verbose or not one_group:
                show_results(folder, console)
            if one_group:
                for line in summary(folder, {name: path for name, path in files.items() if path}):
                    console.print(printable(line), highlight=False, markup=False, soft_wrap=True)
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
    made_by: Mapping[str, str],
    share: Sequence[Chunk],
    images: ImageReader,
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
        runner = Runner(system, journal, images, made_by, fail_on_error=fail, advance=meter.advance)
        spent = runner.run(share)
    if processes.main:
        console.print(str(spent), highlight=False, markup=False)
    processes.wait()


def finish(
    folder: RunFolder,
    info: RunInfo,
    samples: Sequence[PlanningSample],
    scoring: ScoringConfig,
    decided: Decided | None = None,
) -> None:
    """Merge all journals into the final files, score them and mark the run complete; `decided`: where it is read.

    Raises:
        RunError: a decision is missing.
    """
    decided = decided or folder.read()
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
