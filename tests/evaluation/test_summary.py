"""The summary at the end of a run: short, true to `results.json`, and without what a run does not have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from senna_prune.evaluation.report import summary as module
from senna_prune.evaluation.report.summary import MOST_LINES, summary
from senna_prune.evaluation.run.run_folder import RunFolder
from tests.docs.figures import rows_of
from tests.evaluation.dummy_runs import run


def lines_of(data: Path, folder: Path, *overrides: str, **changed: Any) -> list[str]:
    if not folder.exists():
        run(data, folder, *overrides)
    if changed:
        results = json.loads((folder / "results.json").read_text())
        results["groups"][0] |= changed
        (folder / "results.json").write_text(json.dumps(results))
    return summary(RunFolder(folder), {"Report": folder / "report.html"})


def test_it_is_short_and_says_what_the_results_say(data: Path, tmp_path: Path) -> None:
    lines = lines_of(data, tmp_path / "run", "pruning.methods=[none,random,autoprune]")
    (group,) = json.loads((tmp_path / "run" / "results.json").read_text())["groups"]
    rows = {row["row"]: row for row in group["rows"]}
    assert len(lines) <= MOST_LINES and max(map(len, lines)) <= 120
    for row in rows.values():
        (line,) = (line for line in lines if line.startswith(f"  {module.WORDS.get(row['row'], row['label'])}"))
        assert f" {100 * row['accuracy']:.1f} %" in line
    own, full = rows["autoprune@0.25"], rows["none"]
    count, (against,) = group["samples"], [one for one in own["comparisons"] if one["to"] == "none"]
    text = "\n".join(lines)
    assert f"autoprune 25 %: {round(own['accuracy'] * count)} of {count} plans right, " in text
    assert (
        f"It made {against['only_other']:g} right plans wrong and {against['only_this']:g} wrong ones right: " in text
    )
    assert (
        f"{100 - 100 * own['cost']['flops']['total'] / full['cost']['flops']['total']:.0f} % of the computation" in text
    )
    assert "Not proved: " in text and "none of nuScenes' validation set" in text
    assert lines[-1] == f"Report: {tmp_path}/run/report.html" and "object" not in text
    assert {row["method"] for row in rows_of(tmp_path / "run")} >= {"none", "autoprune 25 %"}
    assert "nuScenes" not in lines_of(data, tmp_path / "run", nuscenes_val=True)[-2]


def test_many_rows_are_cut_and_a_run_without_a_method_has_no_sentence(data: Path, tmp_path: Path) -> None:
    many = lines_of(data, tmp_path / "many", "pruning.retentions=[0.1,0.2,0.25,0.3,0.4,0.5,0.6,0.7,0.8]")
    assert len(many) == MOST_LINES and any("more: see --verbose" in line for line in many)
    none = lines_of(data, tmp_path / "none", "pruning.methods=[none]")
    assert not any(line.startswith(("It ", "Against")) for line in none) and "  none: all tokens" in "\n".join(none)


@pytest.mark.parametrize("supported", [True, False])
def test_a_difference_is_called_one_only_where_it_is(supported: bool) -> None:
    said = module._verdict({"difference": -0.225, "supported": supported})
    assert said == ("22.5 points worse, beyond chance" if supported else "-22.5 points, which may be chance")


def test_whom_it_dropped_is_said_where_the_samples_tell_their_objects() -> None:
    lost = {"pedestrians": {"value": 0.4, "interval": None, "objects": 10}}
    rows = [{"row": "autoprune@0.25", "lost": lost}, {"row": "random@0.25", "lost": {"pedestrians": {"value": 0.05}}}]
    (line,) = module._dropped("autoprune@0.25", "random@0.25", {"rows": rows})
    assert line == "Half-way through the layers no token sees 40 % of the pedestrians (at random 5 %) within 30 m."
    assert module._dropped("autoprune@0.25", None, {"rows": rows[:1]})[0].endswith(
        "40 % of the pedestrians within 30 m."
    )
    assert module._dropped("autoprune@0.25", "random@0.25", None) == []
