"""Diagnostics and controls of adaptation, worked out by hand on a made-up run of 12 samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import msgspec
import pytest

from senna_prune.config import PruningConfig, ScoringConfig
from senna_prune.errors import ConfigError, PruningError
from senna_prune.evaluation.report import plan_tables
from senna_prune.evaluation.report.plan_tables import every_row, warnings
from senna_prune.evaluation.report.run_plots import complexity_plots, measured, objects_near
from senna_prune.evaluation.report.table import to_markdown
from senna_prune.evaluation.report.write import write_report
from senna_prune.evaluation.run.controls import measured_row, taken_complexities, takes_measured
from senna_prune.evaluation.run.records import Condition, Record, Trace
from senna_prune.evaluation.run.run_folder import RunFolder
from senna_prune.evaluation.run.sweep import expand
from senna_prune.evaluation.score.adaptation import adaptation, spread
from senna_prune.pruning import Budget, make_pruner
from senna_prune.task.sample import PlanningSample
from tests.evaluation.dummy import QUESTION, cut_off, scores_of
from tests.evaluation.dummy_runs import run
from tests.evaluation.kill_and_resume import result_files

OPTIONS = {
    "shuffled": {"method": "autoprune", "indicator": "shuffled"},
    "static": {"method": "autoprune", "indicator": "static"},
}
CONTROLLED = PruningConfig(methods=["autoprune", "shuffled", "static", "random"], options=OPTIONS)
MEASURED = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.2)
"""Mutual information of the twelve; 2.0 and 2.2 leave no slope."""
RIGHT, WRONG = "KEEP, STRAIGHT", "STOP, STRAIGHT"


def trace(complexity: float | None, *entering: int) -> Trace:
    return Trace(entering, (*entering[1:], entering[-1]), 11, tuple((n, 0, 0, 0, 0, 0) for n in entering), complexity)


def lines(complexities: tuple[float, ...] = MEASURED) -> list[Record]:
    """Four scenes of three samples. Unpruned all are right, AutoPrune is on nine, shuffled on six, static on eight."""
    answers = {
        **{"none": "1" * 12, "autoprune@0.25": "111111111000", "random@0.25#0": "100" * 4},
        **{"shuffled@0.25": "111111000000", "static@0.25": "111011011001"},
    }
    records = []
    for condition, marks in answers.items():
        for number, mark in enumerate(marks):
            entering = (24, 6 + number % 2, 6, 4 - number % 2) if "autoprune" in condition else (24, 6, 6, 4)
            complexity = complexities[number] if condition == "autoprune@0.25" else None
            records.append(
                Record(
                    sample=f"t{number}/plan/0/corrected",
                    condition=condition,
                    scene=f"scene-{number // 3}",
                    convention="corrected",
                    truth=RIGHT,
                    answer=RIGHT if mark == "1" else WRONG,
                    trace=trace(complexity, *entering),
                )
            )
    return records


def group(records: list[Record]) -> dict:
    return scores_of(records, expand(CONTROLLED), ScoringConfig(resamples=200))["groups"][0]


def row(scored: dict, name: str) -> dict:
    return next(row for row in scored["rows"] if row["row"] == name)


def test_diagnostics_by_hand() -> None:
    found = row(group(lines()), "autoprune@0.25")["adaptation"]
    assert found["measure"] == "mutual information"
    # Quartiles of twelve values 0.2 apart, linear: at 2.75, 5.5 and 8.25 of the eleven steps.
    assert found["complexity"] == pytest.approx([0.0, 0.55, 1.1, 1.65, 2.2])
    # k = 0.4 - 0.2 I, not below 0: at 2.0 and 2.2 there is none left.
    assert found["slope"] == pytest.approx([0.0, 0.4])
    assert found["clamped"] == pytest.approx(2 / 12)
    assert found["warning"] is None
    # Six schedules of each kind: 36 of 66 pairs differ, by 0, 1, 0 and 1 token in the four layers.
    assert found["spread"] == pytest.approx(36 / 66 * 0.5)


def test_spread_is_the_mean_over_pairs() -> None:
    schedules = [(24, 9, 3), (24, 2, 2), (24, 7, 7), (24, 7, 1)]
    pairs = list(combinations(schedules, 2))
    expected = sum(abs(a - b) for one, other in pairs for a, b in zip(one, other, strict=True)) / (3 * len(pairs))
    assert spread(schedules) == pytest.approx(expected)
    assert spread(schedules[:1]) == 0


def test_gain_of_adapting_by_hand() -> None:
    comparisons = {c["kind"]: c for c in row(group(lines()), "autoprune@0.25")["comparisons"]}
    assert list(comparisons) == ["none", "random", "shuffled", "static"]
    shuffled, static = comparisons["shuffled"], comparisons["static"]
    assert shuffled["to"] == "shuffled@0.25"
    assert shuffled["difference"] == pytest.approx(9 / 12 - 6 / 12)
    # One scene of four differs, by three samples: half of two patterns.
    assert (shuffled["only_this"], shuffled["only_other"], shuffled["p"]) == (3, 0, 0.5)
    # Scene sums of the difference less 1/4: -3/4, -3/4, 9/4, -3/4; error sqrt(4/3 * (3 * 9/16 + 81/16)) / 12 = 1/4.
    assert shuffled["difference_interval"] == pytest.approx([0.25 - 3.182446 / 4, 0.25 + 3.182446 / 4])
    assert shuffled["detectable"] is None, "four scenes tell nothing"
    assert static["difference"] == pytest.approx(9 / 12 - 8 / 12)
    assert (static["only_this"], static["only_other"]) == (2, 1)
    # Controls are compared with `none` and `random` as every method is, but not with each other.
    assert [c["kind"] for c in row(group(lines()), "shuffled@0.25")["comparisons"]] == ["none", "random"]
    (cells,) = plan_tables.adaptation(group(lines())).rows
    assert cells["measure"] == "mutual information"
    assert cells["complexity"] == "0 / 0.55, 1.1, 1.65 / 2.2"
    assert (cells["slope"], cells["clamped %"], cells["tokens apart"]) == ("0 to 0.4", "16.7", "0.3")
    assert cells["gain over shuffled [95 %]"].startswith("+25.0 [-54.6, ")
    assert cells["gain over constant [95 %]"].startswith("+8.3 [")


def test_a_clear_gain_is_marked_in_words() -> None:
    def of_scene(record: Record, number: int) -> Record:
        return msgspec.structs.replace(record, sample=f"{number}{record.sample}", scene=f"{number}{record.scene}")

    many = [of_scene(record, number) for number in range(20) for record in lines()]
    cells = {cells["method"]: cells for cells in every_row(group(many), {"rows": {}}).rows}
    assert "better than with shuffled complexity" in cells["autoprune 25 %"]["supported"]
    assert "s+" in cells["autoprune 25 %"]["marks"]


@pytest.mark.parametrize(("clamped", "warns"), [(2, False), (3, True), (12, True)])
def test_clamped_slopes_are_warned_of(clamped: int, warns: bool) -> None:
    """Above 20 %: 3 of 12."""
    scored = group(lines(MEASURED[: 12 - clamped] + (2.5,) * clamped if clamped < 12 else (25.0,) * 12))
    assert row(scored, "autoprune@0.25")["adaptation"]["clamped"] == pytest.approx(clamped / 12)
    assert bool(warnings(scored)) == warns
    assert "Does the retention curve follow the sample?" in to_markdown(plan_tables.adaptation(scored))
    if clamped == 12:
        assert "AutoPrune does not adapt here (autoprune@0.25): 100 % of the samples have" in warnings(scored)[0]
        assert "(median 25) makes the slope 0.4 - 0.2 I negative" in warnings(scored)[0]


@pytest.mark.parametrize(("narrow", "warns"), [((0.056, 0.082), True), ((0.0, 0.25), False)])
def test_slopes_that_hardly_differ_are_warned_of(narrow: tuple[float, float], warns: bool) -> None:
    """As under `variant: paper`, whose mutual information is a mean over heads in nats."""
    (found,) = warnings(group(lines(narrow * 6))) or [""]
    assert ("slope hardly differs between samples, 0.384 to 0.389" in found) == warns


def test_other_slopes_and_other_methods() -> None:
    (auto,) = [c for c in expand(CONTROLLED) if c.label == "autoprune"]
    traces = [trace(value, 24, 6, 6, 4) for value in (0.0, 3.0)]
    logistic = adaptation(msgspec.structs.replace(auto, resolved={**auto.resolved, "slope": "logistic"}), traces)
    assert logistic is not None
    assert logistic["clamped"] == 0
    foreign = adaptation(Condition("mine", "mine", 0.25), traces)
    assert foreign is not None
    assert (foreign["measure"], foreign["slope"], foreign["clamped"]) == ("complexity", None, None)
    assert adaptation(auto, [trace(None, 24, 6, 6, 4)]) is None
    assert adaptation(next(c for c in expand(CONTROLLED) if c.label == "static"), traces) is None


def test_controls_take_from_the_row_that_differs_in_the_indicator_alone() -> None:
    options = {**OPTIONS, "linear": {"method": "autoprune", "curve": "linear"}}
    options["linear-shuffled"] = {**options["linear"], "indicator": "shuffled", "shuffle_seed": 3}
    pruning = replace(
        CONTROLLED,
        methods=["autoprune", "linear", "shuffled", "linear-shuffled"],
        retentions=[0.2, 0.4],
        options=options,
        controls=False,
    )
    conditions = expand(pruning)
    lenders = {c.row: measured_row(c, conditions).row for c in filter(takes_measured, conditions)}  # type: ignore[union-attr]
    assert lenders == {
        **{"shuffled@0.2": "autoprune@0.2", "shuffled@0.4": "autoprune@0.4"},
        **{"linear-shuffled@0.2": "linear@0.2", "linear-shuffled@0.4": "linear@0.4"},
    }
    with pytest.raises(ConfigError, match=r"linear-shuffled@0\.2 takes its complexity from a row that is not in the"):
        expand(replace(pruning, methods=["autoprune", "linear-shuffled"]))
    given = {"static": {"method": "autoprune", "indicator": "static", "assumed": 0.3}}
    assert not any(map(takes_measured, expand(PruningConfig(methods=["static"], options=given))))


def samples_of(count: int, convention: str = "corrected") -> list[PlanningSample]:
    made = [
        PlanningSample(f"t{n}", f"scene-{n // 3}", n, "plan", {}, QUESTION, RIGHT, 5.0, "go straight")
        for n in range(count)
    ]
    return [replace(s, convention=replace(s.convention, cameras=convention)) for s in made]  # type: ignore[arg-type]


def test_what_controls_take_by_hand() -> None:
    conditions = expand(CONTROLLED)
    decided = {record.key: (record, {}) for record in lines()}
    samples = samples_of(12)

    def shuffled_by(conditions: Sequence[Condition], samples: Sequence[PlanningSample]) -> dict[str, float]:
        taken = taken_complexities(conditions, samples, decided)
        return {key: value for (key, row), value in taken.items() if row == "shuffled@0.25"}

    taken = taken_complexities(conditions, samples, decided)
    assert {taken[s.key, "static@0.25"] for s in samples} == {1.1}
    own = dict(zip([s.key for s in samples], MEASURED, strict=True))
    shuffled = {s.key: taken[s.key, "shuffled@0.25"] for s in samples}
    assert sorted(shuffled.values()) == sorted(MEASURED)
    assert all(shuffled[key] != own[key] for key in own)
    assert shuffled == {
        key: taken_complexities(conditions, samples[::-1], decided)[key, "shuffled@0.25"] for key in own
    }
    reseeded = [
        msgspec.structs.replace(c, resolved={**c.resolved, "shuffle_seed": 1}) if c.label == "shuffled" else c
        for c in conditions
    ]
    assert shuffled != shuffled_by(reseeded, samples)
    # A sample without a decision (an unusable image) gives nothing, and takes as the others do.
    del decided[samples[4].key, "autoprune@0.25"]
    taken = taken_complexities(conditions, samples, decided)
    assert taken[samples[4].key, "static@0.25"] == round((sum(MEASURED) - 0.8) / 11, 5)
    assert 0.8 not in {taken[s.key, "shuffled@0.25"] for s in samples}
    # Conventions do not mix.
    assert not taken_complexities(conditions, samples_of(12, "upstream"), decided)


def test_an_evaluation_decides_controls_with_what_others_measured(data: Path, tmp_path: Path) -> None:
    overrides = ["pruning.methods=[autoprune,shuffled,static]"]
    overrides += [f"pruning.options.{name}.{k}={v}" for name, given in OPTIONS.items() for k, v in given.items()]
    system = run(data, tmp_path / "whole", *overrides)
    decided = [condition for _, condition in system.decided]
    # Twelve samples: everything that measures comes before any control.
    assert decided.index("shuffled@0.25") == 12 * 4
    folder = RunFolder(tmp_path / "whole")
    by_key = {key: record.trace.complexity for key, (record, _) in folder.read_lines().items() if record.trace}
    measured = {key: value for (key, condition), value in by_key.items() if condition == "autoprune@0.25"}
    shuffled = {key: value for (key, condition), value in by_key.items() if condition == "shuffled@0.25"}
    assert sorted(shuffled.values()) == sorted(measured.values())  # type: ignore[type-var]
    assert shuffled != measured
    (mean,) = {value for (_, condition), value in by_key.items() if condition == "static@0.25"}
    assert mean == pytest.approx(sum(measured.values()) / 12, abs=1e-6)  # type: ignore[arg-type]
    assert "Does the retention curve follow the sample?" in write_report(tmp_path / "whole").read_text("utf-8")
    assert (tmp_path / "whole" / "plots" / "complexity_corrected.png").is_file()


@pytest.mark.parametrize("moment", [1, 30, 48, 49, 50, 60, 72])
def test_a_run_with_taken_complexities_survives(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """Cut off while it measures, in between, and while controls are decided."""
    overrides = ["pruning.methods=[autoprune,shuffled,static]"]
    overrides += [f"pruning.options.{name}.{k}={v}" for name, given in OPTIONS.items() for k, v in given.items()]
    run(data, tmp_path / "whole", *overrides)
    with cut_off(moment), pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "run", *overrides)
    assert len(run(data, tmp_path / "run", *overrides).decided) == 72 - (moment - 1)
    assert result_files(tmp_path / "run") == result_files(tmp_path / "whole")


def test_objects_near_are_counted_from_motion_questions() -> None:
    (plan,) = samples_of(1)
    motion = replace(plan, kind="motion", answer="Object 1: KEEP, STRAIGHT\nObject 2: STOP, STRAIGHT\n")
    assert objects_near([plan]) == {}
    found = objects_near([plan, motion, replace(motion, index=3)])
    assert found["t0"] == 4


def test_complexity_is_plotted_by_answer_kind_and_objects() -> None:
    plans = samples_of(12)
    motions = [replace(s, kind="motion", answer="Object 1: KEEP, STRAIGHT\n") for s in plans[:6]]
    decided = {record.key: (record, {}) for record in lines()}
    for sample in motions:
        record, _ = decided[sample.key.replace("motion", "plan"), "autoprune@0.25"]
        decided[sample.key, record.condition] = (msgspec.structs.replace(record, sample=sample.key), {})
    records = measured(decided, expand(CONTROLLED), "autoprune@0.25", "corrected")
    assert len(records) == 18
    assert not measured(decided, expand(CONTROLLED), "autoprune@0.25", "upstream")
    figure = complexity_plots(records, {s.key: s for s in [*plans, *motions]}, "parsed", "mutual information")
    by_answer, by_kind, by_objects = figure.axes
    assert [text.get_text() for text in by_answer.get_xticklabels()] == ["wrong (3)", "right (9)"]
    assert [text.get_text() for text in by_kind.get_xticklabels()] == ["plan (12)", "motion (6)"]
    assert by_objects.collections[0].get_offsets()[:, 0].tolist() == [1.0] * 6
    # A run folder may be a stranger's: a line of a sample that its planning set lacks is left out.
    assert len(complexity_plots(records, {s.key: s for s in plans}, "parsed", "mutual information").axes) == 1


def test_a_control_outside_an_evaluation() -> None:
    host = {"num_layers": 8, "num_heads": 4, "num_visual": 64}
    budget = Budget.retention(0.25)
    given = make_pruner("autoprune", budget, **host, indicator="static", assumed=1.5)  # type: ignore[arg-type]
    measured = make_pruner("autoprune", budget, **host)  # type: ignore[arg-type]
    assert given.measured_layer == measured.measured_layer == 1
    assert given.plan(64, 8, 1.5) == measured.plan(64, 8, 1.5)
    with pytest.raises(PruningError, match=r"option assumed: 0\.3 is out of range"):
        make_pruner("autoprune", budget, **host, assumed=0.3)  # type: ignore[arg-type]
