"""Scores from lines alone, on runs small enough to work out by hand."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace as replace_config

import pandas as pd
import pytest
from msgspec.structs import replace

from senna_prune.config import EvaluationConfig, ScoringConfig, load_config
from senna_prune.cost import decision_flops, kv_bytes
from senna_prune.errors import ConfigError, RunError
from senna_prune.evaluation.report.comparison_tables import damage, every_comparison, in_words
from senna_prune.evaluation.report.plan_tables import every_row
from senna_prune.evaluation.run.records import Condition, Record, Trace
from senna_prune.evaluation.score.comparisons import against
from senna_prune.evaluation.score.damage import calibration_error
from senna_prune.evaluation.score.decisions import questions_of
from senna_prune.evaluation.score.metrics import majority_answers
from senna_prune.evaluation.score.statistics import sign_power
from senna_prune.task.plan_costs import COSTS
from tests.evaluation.dummy import SHAPE, scores_of

NONE = Condition("none", "none")
AUTO = Condition("autoprune", "autoprune", 0.25, resolved={"positions": "repacked"})
RANDOM = [Condition("random", "random", 0.25, seed, resolved={"positions": "repacked"}) for seed in (0, 1)]
CONDITIONS = [NONE, AUTO, *RANDOM]
RIGHT, WRONG = "KEEP, STRAIGHT", "STOP, STRAIGHT"
SCORING = ScoringConfig(resamples=200)


def trace(*entering: int) -> Trace:
    return Trace(entering, (*entering[1:], entering[-1]), 11, tuple((n, 0, 0, 0, 0, 0) for n in entering), 0.5)


def records(answers: dict[str, str], truth: str = RIGHT) -> list[Record]:
    """`answers` by condition id: one mark per sample, 1 right and 0 wrong; every sample is a scene of its own."""
    traces = {"none": trace(24, 24, 24, 24)}
    return [
        Record(
            sample=f"s{number}",
            condition=condition,
            scene=f"scene-{number}",
            convention="corrected",
            truth=truth,
            answer=truth if mark == "1" else WRONG,
            trace=traces.get(condition, trace(24, 6, 6, 4)),
            readout_positions=3,
        )
        for condition, marks in answers.items()
        for number, mark in enumerate(marks)
    ]


LINES = records(
    {
        "none": "1111111100",
        "autoprune@0.25": "1111110010",
        "random@0.25#0": "1100000000",
        "random@0.25#1": "1111000000",
    }
)


def group(lines: list[Record], scoring: ScoringConfig = SCORING) -> dict:
    return scores_of(lines, CONDITIONS, scoring)["groups"][0]


def rows(lines: list[Record], scoring: ScoringConfig = SCORING) -> dict[str, dict]:
    return {row["row"]: row for row in group(lines, scoring)["rows"]}


def test_rows_by_hand() -> None:
    table = rows(LINES)
    assert list(table) == ["majority", "none", "autoprune@0.25", "random@0.25"]
    assert table["none"]["accuracy"] == 0.8
    assert table["none"]["ratio"] == 1.0
    assert table["none"]["comparisons"] == []
    auto = table["autoprune@0.25"]
    assert auto["accuracy"] == pytest.approx(0.7)
    assert auto["ratio"] == pytest.approx(0.7 / 0.8)
    # Same answer as unpruned on samples 0-5 and 9.
    assert auto["agreement"] == pytest.approx(0.7)
    assert auto["accuracy_interval"][0] < 0.7 < auto["accuracy_interval"][1]
    # The wrong answer has the right path.
    assert auto["speed_interval"] == auto["accuracy_interval"]
    low, high = auto["path_interval"]
    assert 0.5 < low < high == 1.0


def test_seeds_are_averaged_not_pooled() -> None:
    random = rows(LINES)["random@0.25"]
    assert random["accuracy"] == pytest.approx(0.3)
    assert random["accuracy_by_seed"] == [0.2, 0.4]
    assert random["seeds"] == [0, 1]
    # Wilson on 3 of 10, not on 6 of 20.
    assert random["accuracy_wilson"][1] == pytest.approx(0.6032, abs=1e-3)


def test_comparisons_by_hand() -> None:
    table = rows(LINES)
    to_none, to_random = table["autoprune@0.25"]["comparisons"]
    # Discordant with none: one (sample 8) against two (6, 7): six of eight patterns tie, of the two others both go on.
    assert (to_none["to"], to_none["only_this"], to_none["only_other"]) == ("none", 1, 2)
    assert to_none["p"] == (2 + 6 / 2) / 8
    assert not to_none["supported"]
    # Against random, averaged over its seeds: half a sample on 2 and 3, a whole one on 4, 5 and 8; one pattern of 2^5.
    assert (to_random["to"], to_random["only_this"], to_random["only_other"]) == ("random@0.25", 4, 0)
    assert to_random["p"] == 1 / 2**5
    # Holm within the retention: three comparisons, of which random against none has five to nothing too.
    assert to_random["p_holm"] == pytest.approx(2 / 2**5)


def test_clear_difference_is_marked_and_a_small_one_is_not() -> None:
    lines = records(
        {
            "none": "1" * 40,
            "autoprune@0.25": "1" * 39 + "0",
            "random@0.25#0": "1" * 10 + "0" * 30,
            "random@0.25#1": "1" * 10 + "0" * 30,
        }
    )
    table = {row["method"]: row for row in every_row(group(lines), {"rows": {}}).rows}
    assert (table["autoprune 25 %"]["marks"], table["autoprune 25 %"]["supported"]) == ("r+", "better than random")
    assert (table["random 25 %"]["marks"], table["random 25 %"]["supported"]) == ("n-", "worse than unpruned")
    assert (table["none"]["marks"], table["none"]["supported"]) == ("", "")


def test_a_method_is_compared_with_random_at_its_own_positions_alone() -> None:
    """Against `random` at other positions the method looks far better; at its own it is as good."""
    original = {"positions": "original"}
    conditions = [
        *CONDITIONS,
        Condition("mine", "uniform", 0.25, options=original, resolved=original),
        Condition("random-original", "random", 0.25, 0, original, original),
    ]
    answers = {
        **{"none": "1" * 60, "autoprune@0.25": "1" * 60, "random@0.25#0": "0" * 60, "random@0.25#1": "0" * 60},
        **{"mine@0.25": "1" * 40 + "0" * 20, "random-original@0.25#0": "0" + "1" * 40 + "0" * 19},
    }
    scored = scores_of(records(answers), conditions, SCORING)["groups"][0]
    compared = {row["row"]: [c["to"] for c in row["comparisons"]] for row in scored["rows"]}
    assert compared["mine@0.25"] == ["none", "random-original@0.25"]
    assert compared["autoprune@0.25"] == ["none", "random@0.25"]
    assert compared["random-original@0.25"] == ["none"]
    table = {row["method"]: row for row in every_row(scored, {"rows": {}}).rows}
    assert (table["mine 25 %"]["positions"], table["mine 25 %"]["marks"]) == ("original", "n-")
    assert (table["autoprune 25 %"]["positions"], table["autoprune 25 %"]["marks"]) == ("repacked", "r+")
    # Without its control, or where an older run does not say the positions, there is nothing to compare with.
    alone = scores_of(records({k: v for k, v in answers.items() if "-" not in k}), conditions[:-1], SCORING)
    compared = {row["row"]: [c["to"] for c in row["comparisons"]] for row in alone["groups"][0]["rows"]}
    assert compared["mine@0.25"] == ["none"]
    old = [replace(condition, resolved={}) for condition in conditions]
    scored = scores_of(records(answers), old, SCORING)["groups"][0]
    assert all(c["to"] == "none" for row in scored["rows"] for c in row["comparisons"])


def test_every_comparison_says_what_it_could_have_detected() -> None:
    (to_none, _) = rows(LINES)["autoprune@0.25"]["comparisons"]
    # Ten samples, each a scene, with one 1 and two -1: noise of 2.1 scenes.
    assert sign_power(10, 0.21, to_none["detectable"]) == pytest.approx(0.8, abs=0.001)
    (row, *_) = [r for r in every_comparison(group(LINES)).rows if r["method"] == "autoprune@0.25"]
    assert (row["against"], row["could detect"], row["supported"]) == (
        "none",
        f"{100 * to_none['detectable']:.1f}",
        "no",
    )
    assert row["difference [95 %]"].startswith("-10.0 [")


def test_one_scene_supports_nothing() -> None:
    lines = [replace(record, scene="the only one") for record in LINES]
    table = rows(lines)
    assert table["none"]["accuracy_interval"] is None
    assert not any(c["supported"] for row in table.values() for c in row["comparisons"])


def test_majority_row_answers_the_most_frequent_plan() -> None:
    lines = [*LINES, *records({c.id: "1" for c in CONDITIONS}, truth="STOP, LEFT_TURN")]
    lines = [replace(r, sample=f"{r.sample}/{r.truth}") for r in lines]
    majority = rows(lines)["majority"]
    assert majority["accuracy"] == pytest.approx(10 / 11)
    assert majority["cost"] is None
    assert majority["agreement"] is None
    assert majority["comparisons"][0]["to"] == "none"


def test_cost_agrees_with_the_trace() -> None:
    cost = rows(LINES)["autoprune@0.25"]["cost"]
    assert cost["tokens_entering"] == (24 + 6 + 6 + 4) / 4
    assert cost["tokens_after"] == (6 + 6 + 4 + 4) / 4
    expected = decision_flops(SHAPE, (24, 6, 6, 4), text=11, positions=3)
    assert cost["flops"]["decoder"] == pytest.approx(expected.decoder)
    assert cost["flops"]["total"] == pytest.approx(expected.total)
    assert cost["kv_bytes"] == kv_bytes(SHAPE, (24, 6, 6, 4), 11)


def test_reference_protocol_changes_what_counts() -> None:
    lines = [replace(r, answer="KEEP, LEFT_TURN, STRAIGHT") if r.condition == "none" else r for r in LINES]
    assert rows(lines)["none"]["accuracy"] == 0.0
    assert rows(lines)["none"]["unparsed"] == 1.0
    assert rows(lines, ScoringConfig(resamples=50, protocol="reference"))["none"]["accuracy"] == 1.0


@pytest.mark.parametrize(("policy", "samples", "accuracy"), [("count_wrong", 10, 0.7), ("skip_reported", 9, 7 / 9)])
def test_policies_for_unusable_pictures(policy: str, samples: int, accuracy: float) -> None:
    failed = {"type": "ImageError", "message": "s0.jpg: no such image"}
    lines = [replace(r, answer=None, trace=None, error=failed) if r.sample == "s0" else r for r in LINES]
    result = group(lines, ScoringConfig(resamples=50, on_error=policy))
    assert (result["samples"], result["failed"], result["first_failure"]) == (samples, 1, failed)
    row = next(row for row in result["rows"] if row["row"] == "none")
    assert row["accuracy"] == pytest.approx(accuracy)


def test_a_failed_sample_is_wrong_in_every_row() -> None:
    """Also in the majority row, and in rows that decided the sample before its image failed."""
    common, *_ = majority_answers("plan", [r.truth for r in LINES]) or []
    victim = next(r.sample for r in LINES if r.truth == common)
    failed = {"type": "ImageError", "message": "no such image"}
    broken = (victim, "none")
    lines = [replace(r, answer=None, error=failed) if (r.sample, r.condition) == broken else r for r in LINES]
    before = {row["row"]: row["accuracy"] for row in group(LINES, ScoringConfig(resamples=50))["rows"]}
    result = group(lines, ScoringConfig(resamples=50, on_error="count_wrong"))
    after = {row["row"]: row["accuracy"] for row in result["rows"]}
    assert after["majority"] == pytest.approx(before["majority"] - 0.1)
    for name, conditions in {c.row: [d for d in CONDITIONS if d.row == c.row] for c in CONDITIONS}.items():
        ids = {c.id for c in conditions}
        right = [r.answer == r.truth for r in LINES if r.sample == victim and r.condition in ids]
        assert after[name] == pytest.approx(before[name] - 0.1 * sum(right) / len(right)), name


def test_partial_run_scores_whole_samples_only() -> None:
    result = scores_of(LINES[:-4], CONDITIONS, SCORING, complete=False)
    assert result["status"] == "partial"
    assert result["groups"][0]["samples"] == 6
    with pytest.raises(RunError, match="no sample is decided under every condition"):
        scores_of(LINES[:10], CONDITIONS, SCORING)


def test_conventions_are_never_mixed() -> None:
    other = [replace(r, convention="upstream", sample=f"{r.sample}u") for r in LINES]
    groups = scores_of([*LINES, *other], CONDITIONS, SCORING)["groups"]
    assert [(g["convention"], g["samples"]) for g in groups] == [("corrected", 10), ("upstream", 10)]


def test_no_right_answer_leaves_no_ratio() -> None:
    lines = [replace(r, answer=WRONG) if r.condition == "none" else r for r in LINES]
    assert rows(lines)["autoprune@0.25"]["ratio"] is None
    assert every_row(group(lines), {"rows": {}}).rows[2]["ratio % [95 %]"] == "-"


def test_best_and_baselines_are_compared_at_their_retention() -> None:
    """Of 24 scenes AutoPrune has all, PyramidDrop the first half, at 20 % both one: nothing can be told there."""
    conditions = [
        NONE,
        *(Condition(name, name, share) for share in (0.2, 0.25) for name in ("autoprune", "pyramiddrop")),
    ]
    answers = {"none": "1" * 24, "autoprune@0.25": "1" * 24, "pyramiddrop@0.25": "1" * 12 + "0" * 12}
    answers |= dict.fromkeys(("autoprune@0.2", "pyramiddrop@0.2"), "1" + "0" * 23)
    scored = scores_of(records(answers), conditions, SCORING)["groups"][0]
    found = {(pair["kind"], pair["retention"]): pair for pair in scored["pairs"]}
    assert list(found) == [("best", 0.2), ("table 3", 0.2), ("best", 0.25), ("table 3", 0.25)]
    clear = found["table 3", 0.25]
    assert (clear["row"], clear["to"], clear["difference"]) == ("autoprune@0.25", "pyramiddrop@0.25", 0.5)
    # Twelve scenes on one side: half of 2 of 2^12 patterns; Holm is within the retention, whose only pair it is.
    assert clear["p"] == clear["p_holm"] == 1 / 2**12
    assert clear["supported"] and not found["best", 0.2]["supported"]
    vague, sure = in_words(scored)
    assert (
        vague == "At 20 % of the tokens autoprune and pyramiddrop are best (4.2 %), but nothing can be told apart here."
    )
    assert sure.startswith(
        "At 25 % of the tokens autoprune is best (100.0 %) and better than 1 of 1 others, at least by +50.0 ["
    )


def test_damage_by_hand() -> None:
    """Two samples; unpruned 0.9 for the truth, pruned 0.5, the rest shared by the other 19 plans."""

    def spread(right: float) -> tuple[float, ...]:
        return (right, *[(1 - right) / 19] * 19)

    lines = [replace(r, distribution=spread(0.9 if r.condition == "none" else 0.5)) for r in LINES]
    table = rows(lines)
    assert table["majority"]["distribution"] is None
    auto, none = (table[name]["distribution"] for name in ("autoprune@0.25", "none"))
    assert (none["kl"], none["nll"]) == pytest.approx((0, -math.log(0.9)))
    assert auto["kl"] == auto["kl_p95"] == pytest.approx(0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5))
    assert (auto["nll"], auto["brier"]) == pytest.approx((math.log(2), 0.25 + 19 * (0.5 / 19) ** 2))
    assert auto["nll_interval"] == pytest.approx([math.log(2)] * 2)
    (_, cells, *_) = damage(group(lines)).rows
    assert (cells["method"], cells["KL [95 %]"], cells["NLL [95 %]"]) == ("none", "0 [0, 0]", "0.105 [0.105, 0.105]")
    assert rows(LINES)["none"]["distribution"] is None and damage(group(LINES)).rows[1]["KL [95 %]"] == "-"


def test_any_two_rows_and_runs_are_compared() -> None:
    (mine,) = questions_of(LINES, CONDITIONS, SHAPE, SCORING)
    better = [replace(r, answer=RIGHT) if r.condition == "autoprune@0.25" else r for r in LINES]
    (other,) = questions_of(better, CONDITIONS, SHAPE, SCORING)
    to_none = {pair["row"]: pair["difference"] for pair in against(mine, "none", None)}
    assert to_none == pytest.approx({"majority": 0.2, "autoprune@0.25": -0.1, "random@0.25": -0.5})
    of_runs = {pair["row"]: pair["difference"] for pair in against(mine, None, other)}
    assert of_runs == pytest.approx({"majority": 0, "none": 0, "autoprune@0.25": -0.3, "random@0.25": 0})
    with pytest.raises(RunError, match="no row 'x' to compare with"):
        against(mine, "x", None)
    (fewer,) = questions_of([r for r in LINES if r.sample != "s0"], CONDITIONS, SHAPE, SCORING)
    with pytest.raises(RunError, match="different samples"):
        against(mine, None, fewer)


def test_calibration_error_by_hand() -> None:
    """Twelve decisions: four at 0.95 of which three are right, six at 0.55 of which three are, two right at 1.0."""
    confidence = pd.Series([0.95] * 4 + [0.55] * 6 + [1.0] * 2)
    sure = pd.Series([1, 1, 1, 0] + [1, 0] * 3 + [1, 1])
    # 0.95 and 1.0 are one bin: mean 29 / 30, right 5 of 6.
    assert calibration_error(confidence, sure) == pytest.approx((6 * (29 / 30 - 5 / 6) + 6 * 0.05) / 12)


def test_error_costs_by_hand() -> None:
    """Twelve samples: six right, then driving on where stopping is right, and so on."""
    wrong = {
        ("STOP, STRAIGHT", "ACCELERATE, STRAIGHT"): 10,
        ("STOP, STRAIGHT", "KEEP, STRAIGHT"): 8,
        ("ACCELERATE, STRAIGHT", "STOP, STRAIGHT"): 3,
        ("KEEP, LEFT_TURN", "KEEP, RIGHT_CHANGE"): 6,
        ("KEEP, LEFT_TURN", "DECELERATE, STRAIGHT"): 1 + 3,
        ("KEEP, LEFT_TURN", "mumble"): 10,
    }
    pairs = [*wrong, *[(RIGHT, RIGHT)] * 6]
    lines = [
        replace(r, truth=truth, answer=answer if r.condition == "autoprune@0.25" else truth)
        for condition in CONDITIONS
        for r, (truth, answer) in zip(records({condition.id: "1" * 12}), pairs, strict=True)
    ]
    assert rows(lines)["autoprune@0.25"]["error_cost"] == pytest.approx(sum(wrong.values()) / 12)
    assert rows(lines)["none"]["error_cost"] == 0
    dearer = replace_config(SCORING, costs={"STOP>ACCELERATE": 100.0})
    assert rows(lines, dearer)["autoprune@0.25"]["error_cost"] == pytest.approx((sum(wrong.values()) + 90) / 12)
    assert max(COSTS.values()) == COSTS["STOP>ACCELERATE"]


def test_costs_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"scoring\.costs: unknown value 'STOP>ACELERATE'\. Did you mean"):
        load_config(EvaluationConfig, overrides=["scoring.costs={STOP>ACELERATE: 3}"])
    with pytest.raises(ConfigError, match=r"-3\.0 is no cost"):
        load_config(EvaluationConfig, overrides=["scoring.costs={path: -3}"])


def test_plans_without_truths_are_scored_by_agreement() -> None:
    """AutoPrune says what the unpruned model says on seven of ten, see `test_rows_by_hand`."""
    lines = [replace(r, truth="", distribution=(0.05,) * 20) for r in LINES]
    found = group(lines)
    table = {row["row"]: row for row in found["rows"]}
    assert not found["labelled"] and "majority" not in table
    auto = table["autoprune@0.25"]
    assert (auto["accuracy"], auto["ratio"], auto["error_cost"]) == (None, None, None)
    assert auto["score"] == auto["agreement"] == pytest.approx(0.7)
    assert (auto["distribution"]["kl"], auto["distribution"]["nll"], auto["distribution"]["ece"]) == (0, None, None)
    assert every_row(found, {"rows": {}}).columns[:4] == ("method", "positions", "agreement % [95 %]", "supported")
    assert "NLL [95 %]" not in damage(found).columns
    half = [replace(r, truth="") if r.sample == "s0" else r for r in LINES]
    with pytest.raises(RunError, match="the truth '' is no plan"):
        group(half)


def test_the_retention_at_which_a_measure_first_tells() -> None:
    """Of 24 scenes AutoPrune loses none at 40 %, twelve at 20 %; its distribution differs at both."""
    conditions = [NONE, *(Condition("autoprune", "autoprune", share) for share in (0.2, 0.4))]
    answers = {"none": "1" * 24, "autoprune@0.4": "1" * 24, "autoprune@0.2": "1" * 12 + "0" * 12}
    certain, vague = (0.9, *[0.1 / 19] * 19), (0.5, *[0.5 / 19] * 19)
    lines = [replace(r, distribution=certain if r.condition == "none" else vague) for r in records(answers)]
    told = scores_of(lines, conditions, SCORING)["groups"][0]["told_from_unpruned"]["autoprune"]
    assert told == {"score": 0.2, "agrees": 0.2, "kl": 0.4, "nll": 0.4, "brier": 0.4, "error_cost": 0.2}


SENNA = replace(SHAPE, layers=32, views=6, view_tokens=128)


def test_scoring_and_reporting_need_no_torch() -> None:
    modules = ", ".join(
        f"senna_prune.evaluation.{name}" for name in ("score.metrics", "score.results", "report.show", "report.write")
    )
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
