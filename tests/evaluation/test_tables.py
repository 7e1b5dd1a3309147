"""Tables made of scores: beside the paper, the pivot, the Pareto front, CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io

import pytest
from msgspec.structs import replace

from senna_prune.cost import ModelShape
from senna_prune.evaluation.report.paper import TABLE3, beside_the_paper
from senna_prune.evaluation.report.plan_tables import every_row, numbers, pivot
from senna_prune.evaluation.report.table import latex, to_csv, to_latex, to_markdown, with_interval
from senna_prune.evaluation.score.latency import pareto_front, summarise_run
from senna_prune.evaluation.score.nuscenes_val import SCENES
from tests.evaluation.dummy import scores_of
from tests.evaluation.test_scoring import CONDITIONS, LINES, NONE, SCORING, SENNA, group


def test_published_ratios_stand_beside_ours() -> None:
    laid = beside_the_paper(group(LINES) | {"nuscenes_val": True}, SENNA).rows
    assert [row["method"] for row in laid] == ["autoprune"]
    assert laid[0]["ratio % published"] == "111.23"
    assert laid[0]["ratio % here [95 %]"].startswith("87.5 [")
    # 3 of 10 samples change between right and wrong here: about 2.80 * sqrt(0.3 / n) of n samples, 178 of them right.
    assert laid[0]["published could detect"] == "14.8 / 19.2 / 26.6"
    # Ratios of counts so small that each lies beside a multiple of 1/178; the largest is 198.
    ratios = [ratio for of_method in TABLE3.values() for ratio in of_method.values()]
    assert all(abs(ratio * 178 - round(ratio * 178)) < 0.05 for ratio in ratios)
    assert round(max(ratios) * 178) == 198


@pytest.mark.parametrize("shape", [replace(SENNA, layers=8), replace(SENNA, view_tokens=24), replace(SENNA, views=1)])
def test_no_published_ratio_stands_beside_another_model(shape: ModelShape) -> None:
    assert beside_the_paper(group(LINES) | {"nuscenes_val": True}, shape).rows == []


def test_no_published_ratio_stands_beside_other_scenes() -> None:
    """scene-0003 and scene-0103 belong to nuScenes val, scene-0061 to its training half, scene-0 to nothing."""

    def of_scenes(*names: str) -> bool:
        lines = [replace(r, scene=names[int(r.sample[1:]) % len(names)]) for r in LINES]
        return bool(beside_the_paper(group(lines), SENNA).rows)

    assert of_scenes("scene-0003", "scene-0103")
    assert not of_scenes("scene-0003", "scene-0061")
    assert not beside_the_paper(group(LINES), SENNA).rows
    assert len(SCENES) == 150


def test_pivot_by_hand() -> None:
    table = pivot(group(LINES))
    found = {row["row"]: with_interval(row["accuracy"], row["accuracy_interval"]) for row in group(LINES)["rows"]}
    assert table.columns == ("method", "no retention", "25 %")
    assert [row["method"] for row in table.rows] == ["majority", "none", "autoprune\nrepacked", "random\nrepacked"]
    assert table.rows[1] == {"method": "none", "no retention": "80.0\n100.0"}
    assert table.rows[2] == {"method": "autoprune\nrepacked", "25 %": "70.0\n87.5"}
    assert table.best == {(2, "25 %")}
    assert "| autoprune<br>repacked |  | 70.0<br>87.5 |" in to_markdown(table)
    assert "autoprune (repacked) &  & \\textbf{70.0} (87.5) \\\\" in to_latex(table, "a_b")
    bounded = pivot(group(LINES), "", intervals=True)
    assert f"& \\textbf{{{found['autoprune@0.25']}}} (87.5)" in to_latex(bounded, "")
    assert "\\caption{a\\_b}" in to_latex(table, "a_b")


def test_latex_prints_what_it_would_obey() -> None:
    assert latex(r"\input{x} 5% a_b^c~#&$") == (
        r"\textbackslash{}input\{x\} 5\% a\_b\textasciicircum{}c\textasciitilde{}\#\&\$"
    )


def test_pareto_front_by_hand() -> None:
    points = {"slow": (9.0, 0.9), "worse": (5.0, 0.4), "fast": (4.0, 0.5), "twin": (4.0, 0.5), "late": (9.5, 0.9)}
    assert pareto_front(points) == ["fast", "twin", "slow"]
    assert pareto_front(points | {"best": (1.0, 1.0)}) == ["best"]
    assert pareto_front({}) == []


def test_csv_and_markdown_hold_every_row() -> None:
    spent = {"milliseconds": {"vision": 2.0, "prefill": 8.0}, "peak_bytes": 7}
    timing = summarise_run({r.key: (r, spent) for r in LINES if r.sample == "s0"}, CONDITIONS)
    results = scores_of(LINES, CONDITIONS, SCORING, complete=False)
    read = list(csv.DictReader(io.StringIO(to_csv(numbers(results, timing)))))
    assert [row["label"] for row in read] == ["majority", "none", "autoprune", "random"]
    assert read[2]["accuracy"] == "0.7"
    assert read[2]["ms_p50_total"] == "10.0"
    assert read[0]["ms_p50_total"] == ""
    assert (read[2]["status"], read[2]["protocol"], read[2]["failed"]) == ("partial", "parsed", "0")
    low, difference, high = (float(read[2][f"difference{end}_vs_none"]) for end in ("_low", "", "_high"))
    assert low < difference < high
    text = to_markdown(every_row(group(LINES), timing))
    assert text.count("\n| ") == 1 + 4
    assert "| autoprune 25 % | repacked | 70.0 [" in text


def test_timing_percentiles_by_hand() -> None:
    lines = {
        (f"s{number}", "none"): (LINES[0], {"milliseconds": {"prefill": float(number)}, "peak_bytes": None})
        for number in range(101)
    }
    summary = summarise_run(lines, [NONE])["rows"]["none"]
    assert (summary["p50"]["prefill"], summary["p95"]["total"], summary["count"]) == (50.0, 95.0, 101)
    assert summary["peak_bytes"] is None
