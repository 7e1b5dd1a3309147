"""`tools/eval_planning.py` and `tools/report.py` as a user meets them: what they print, and what they refuse."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from senna_prune.cli import INTERRUPTED, guarded
from tests.conftest import ROOT, shared_path
from tests.evaluation.checkpoint import arguments, rewrite, write_checkpoint, write_planning_set
from tests.hostile import refused
from tools import eval_planning, report


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A checkpoint and a planning set."""
    write_checkpoint(tmp_path / "model")
    write_planning_set(tmp_path / "data", count=3)
    return tmp_path


def test_evaluate_then_report(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert eval_planning.main(arguments(work, "--methods", "autoprune,blind", "--limit", "2", "--verbose")) == 0
    out = capsys.readouterr().out
    for word in ("majority", "none", "autoprune 25 %", "blind", "tokens in", "tokens after", "TFLOP", "2 samples"):
        assert word in out
    assert out.index("tokens in") < out.index("image tokens"), "the summary stands last"
    assert report.main([str(work / "run"), "--samples", "2", "--protocol", "reference"]) == 0
    assert capsys.readouterr().out.strip() == f"{work}/run/report.html"
    assert "protocol reference" in (work / "run" / "report.html").read_text(encoding="utf-8")
    assert report.main([str(work / "run"), "--cameras"]) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = {line.strip().partition("  ")[0]: re.findall(r"[\d.]+ / [\d.]+", line) for line in lines}
    assert cells["before pruning"] == cells["none"] == ["8.0 / 8.0"] * 6
    assert cells["blind"] == ["0.0 / 0.0"] * 6
    assert 10 < sum(float(cell.split(" / ")[0]) for cell in cells["autoprune@0.25"]) < 14, "a quarter of 48"


def test_explain_runs_nothing(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (work / "data" / "0").iterdir():
        path.unlink()
    given = ["--explain", "--methods", "none,autoprune", "pruning.retentions=[0.25,0.5]"]
    assert eval_planning.main(arguments(work, *given)) == 0
    out = capsys.readouterr().out
    for word in (
        *("48 visual tokens (6 views x 8)", "autoprune@0.25", "autoprune@0.5", "KV MiB", "48 x4", "repacked"),
        "random@0.25: control added for the methods with its positions",
        # Near 2.8016^2 * (0.2 - 0.05^2) / 0.05^2 = 620. Three samples are fewer than the five that the test needs.
        "To detect a difference of 5 points (80 % power, 5 % level, paired, sign-flip test by scenes)",
        "needs 622 independent samples where only one method is right on 20 % of them",
        "plan, convention corrected: 3 questions of 3 scenes detect nothing / nothing / nothing there",
    ):
        assert word in out
    assert not (work / "run").exists()


def test_dry_run_and_settings_run_nothing(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert eval_planning.main(arguments(work, "--dry-run", "--methods", "none,autoprune")) == 0
    out = capsys.readouterr().out
    assert "3 samples of 3 scenes (corrected) x 3 conditions = 9 decisions" in out
    assert "to do: 9 decisions (0 done before) in 1 process" in out
    assert eval_planning.main(arguments(work, "--show-config", "batch_size=3")) == 0
    assert "batch_size: 3\n" in capsys.readouterr().out
    assert not (work / "run").exists()


def test_camera_orders_are_conditions_of_their_own(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert eval_planning.main(arguments(work, "data.camera_orders=[corrected,upstream]")) == 0
    out = capsys.readouterr().out
    assert "convention corrected," in out
    assert "convention cameras=upstream,command=corrected," in out


@pytest.mark.parametrize("given", [["--bogus"], ["--config"]])
def test_usage_errors(capsys: pytest.CaptureFixture[str], given: list[str]) -> None:
    for tool in (eval_planning, report):
        with pytest.raises(SystemExit) as stopped:
            tool.main(given)
        assert stopped.value.code == 2
        assert "usage:" in capsys.readouterr().err


def test_ctrl_c_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    assert guarded(interrupt) == INTERRUPTED
    assert capsys.readouterr().err.strip().startswith("interrupted; every finished decision is kept")


def test_nothing_slow_is_imported_before_ctrl_c_is_caught() -> None:
    code = "import sys, tools.eval_planning; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_real_frames_without_pictures(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real tables name images that nobody may pass on: one line says which is missing and how many."""
    source = shared_path("nuscenes_mini")
    pictures = sorted(path.relative_to(source).as_posix() for path in source.glob("samples/CAM_*/*.jpg"))
    assert len(pictures) == 6
    given = {name.split("/")[1]: name for name in pictures}
    path = work / "data" / "set.jsonl"
    rewrite(path, lambda s: s.update(images=given))
    path.write_text("".join(path.read_text("utf-8").splitlines(keepends=True)[:2]), encoding="utf-8")
    message = f"{source}/1/CAM_FRONT.png: no such image (6 of 12 images are missing)"
    refused(capsys, monkeypatch, eval_planning.main, arguments(work, f"data.image_root={source}"), message)
    assert eval_planning.main(arguments(work, f"data.image_root={source}", "--limit", "1")) == 0
    assert "1 sample of 1 scene" in capsys.readouterr().out
