"""`tools/eval_planning.py` and `tools/report.py` as a user meets them: what they print, and what they refuse."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from senna_prune.cli import INTERRUPTED, guarded
from tests.conftest import ROOT, shared_path
from tests.evaluation.checkpoint import write_checkpoint, write_planning_set
from tools import eval_planning, report


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pristine")
    write_checkpoint(folder / "model")
    write_planning_set(folder / "data", count=3)
    return folder


@pytest.fixture
def work(pristine: Path, tmp_path: Path) -> Path:
    """A checkpoint and a planning set to spoil."""
    shutil.copytree(pristine, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture(scope="module")
def finished(pristine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("finished")
    assert eval_planning.main([*arguments(pristine), f"output={folder}/run"]) == 0
    return folder / "run"


def arguments(work: Path, *more: str) -> list[str]:
    data = work / "data"
    paths = [f"data.planning_set={data}/set.jsonl", f"data.image_root={data}", f"model.path={work}/model"]
    return [*paths, "readout.max_new_tokens=2", "scoring.resamples=20", f"output={work}/run", *more]


def edit_lines(path: Path, change: Callable[[list[dict]], list[dict]]) -> None:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in change(lines)), encoding="utf-8")


def test_evaluate_then_report(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert eval_planning.main(arguments(work, "--methods", "autoprune,blind", "--limit", "2")) == 0
    out = capsys.readouterr().out
    for word in (
        "majority",
        "none",
        "autoprune 25 %",
        "blind",
        "tokens in",
        "tokens after",
        "TFLOP",
        "ms",
        "2 samples",
    ):
        assert word in out
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
    assert (
        eval_planning.main(arguments(work, "--explain", "--methods", "none,autoprune", "pruning.retentions=[0.25,0.5]"))
        == 0
    )
    out = capsys.readouterr().out
    for word in ("48 visual tokens (6 views x 8)", "autoprune@0.25", "autoprune@0.5", "KV MiB", "48 x4", "repacked"):
        assert word in out
    assert "random@0.25: control added for the methods with its positions" in out
    # By hand: 2.8016^2 * (0.2 - 0.05^2) / 0.05^2; and three samples are fewer than the six that the exact test needs.
    assert "To detect a difference of 5 points (80 % power, 5 % level, paired; this set: 3 samples of 3 scenes)" in out
    assert "needs 621 independent samples where only one method is right on 20 % of them" in out
    assert "this set detects no difference there" in out
    assert not (work / "run").exists()


def test_dry_run_runs_nothing(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert eval_planning.main(arguments(work, "--dry-run", "--methods", "none,autoprune")) == 0
    out = capsys.readouterr().out
    assert "3 samples of 3 scenes (corrected) x 3 conditions = 9 decisions" in out
    assert "to do: 9 decisions (0 done before) in 1 process" in out
    assert not (work / "run").exists()


def test_settings_are_shown(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert eval_planning.main(arguments(work, "--show-config", "batch_size=3")) == 0
    assert "batch_size: 3\n" in capsys.readouterr().out
    assert not (work / "run").exists()


def test_camera_orders_are_conditions_of_their_own(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert eval_planning.main(arguments(work, "data.camera_orders=[corrected,upstream]")) == 0
    out = capsys.readouterr().out
    assert "convention corrected," in out
    assert "convention cameras=upstream,command=corrected," in out


SETTINGS = [
    (["nonsense"], "command line: 'nonsense' is not key=value"),
    (["pruning.retention=0.3"], "unknown key 'pruning.retention'. Did you mean 'pruning.retentions'?"),
    (["--config", "absent.yaml"], "absent.yaml: no such configuration file"),
    (["--limit", "ten"], "limit: Value 'ten' of type 'str' could not be converted to Integer"),
    (["--limit", "0"], "limit: 0 is less than 1"),
    (["--methods", "autoprun"], "unknown pruning method 'autoprun'. Did you mean 'autoprune'?"),
    (["--methods", "random,random"], "pruning: 'random@0.25#0' is listed twice"),
    (["pruning.retentions=0"], "pruning.retentions: 0.0 is no share of tokens"),
    (["pruning.retentions=25"], "pruning.retentions: 25.0 is no share of tokens"),
    (["pruning.options.autoprune.colour=red"], "unknown option 'colour'"),
    (["pruning.options.autoprune.variant=beta"], "'beta' is not one of released, paper"),
    (["readout.mode=guess"], "readout.mode: unknown value 'guess'"),
    (["scoring.on_error=hope"], "scoring.on_error: unknown value 'hope'"),
    (["scoring.protocol=mine"], "scoring.protocol: unknown value 'mine'"),
    (["model.dtype=int7"], "model.dtype: unknown value 'int7'"),
    (["model.path=absent"], "absent"),
    (["model.device=quantum"], "quantum"),
    (["model.attn_implementation=psychic"], "psychic"),
    (["data.planning_set=absent.jsonl"], "absent.jsonl: no such planning set"),
    (["data.image_root=absent"], "absent/0/CAM_FRONT.png: no such image (18 of 18 images are missing)"),
    (["output=/proc/nowhere"], "/proc/nowhere: cannot be written"),
]


@pytest.mark.parametrize(("more", "message"), SETTINGS)
def test_bad_settings(work: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str) -> None:
    assert_refused(capsys, eval_planning.main(arguments(work, *more)), message)


DATA: list[tuple[str, Callable[[Path], object], str]] = [
    ("no lines", lambda d: (d / "set.jsonl").write_text(""), "the planning set is empty"),
    ("not JSON", lambda d: (d / "set.jsonl").write_text("{"), "set.jsonl:1: not JSON"),
    (
        "other kind",
        lambda d: edit_lines(d / "set.jsonl", lambda ls: [{**x, "kind": "vru"} for x in ls]),
        "no question of kind plan",
    ),
    ("twice", lambda d: edit_lines(d / "set.jsonl", lambda ls: [*ls, ls[0]]), "is in it twice"),
    (
        "no plan",
        lambda d: edit_lines(d / "set.jsonl", lambda ls: [{**x, "answer": "maybe"} for x in ls]),
        "the answer 'maybe' is no plan",
    ),
    ("one image", lambda d: (d / "1" / "CAM_BACK.png").unlink(), "no such image (1 of 18 images are missing)"),
    ("junk image", lambda d: (d / "1" / "CAM_BACK.png").write_bytes(b"junk"), "1/CAM_BACK.png"),
    ("cut image", lambda d: cut(d / "1" / "CAM_BACK.png"), "1/CAM_BACK.png"),
    ("a model that is none", lambda d: (d.parent / "model" / "config.json").write_text("{}"), "config.json"),
    ("cut weights", lambda d: cut(d.parent / "model" / "model.safetensors"), "model.safetensors"),
    ("foreign folder", lambda d: foreign(d.parent / "run"), "the folder is not empty and holds no run"),
]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def foreign(folder: Path) -> None:
    folder.mkdir()
    (folder / "notes.txt").write_text("mine", encoding="utf-8")


@pytest.mark.parametrize(("spoil", "message"), [row[1:] for row in DATA], ids=[row[0] for row in DATA])
def test_bad_data(
    work: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], object], message: str
) -> None:
    spoil(work / "data")
    assert_refused(capsys, eval_planning.main(arguments(work)), message)


def test_changed_settings_are_refused(pristine: Path, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = eval_planning.main(arguments(pristine, f"output={finished}", "--limit", "1"))
    assert_refused(capsys, code, "limit was 200, is 1")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: (run / "run.json").unlink(), "no run here (run.json is absent)"),
        (lambda run: (run / "run.json").write_text("{"), "run.json: not JSON"),
        (lambda run: (run / "run.json").write_text("[]"), "run.json: not a JSON object"),
        (lambda run: (run / "decisions.jsonl").write_text('{"a":\n{}\n'), "decisions.jsonl:1: "),
        (lambda run: (run / "decisions.jsonl").write_text("{}\n"), "decisions.jsonl:1: field sample is missing"),
        (lambda run: (run / "decisions.jsonl").write_text(""), "nothing is decided yet"),
        (lambda run: (run / "plots").write_text("in the way"), "cannot be written"),
    ],
)
def test_bad_run(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], object], message: str
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    spoil(run)
    assert_refused(capsys, report.main([str(run)]), message)


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


def test_real_frames_without_pictures(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The real tables name pictures that nobody may pass on: one line says which is missing and how many."""
    source = shared_path("nuscenes_mini")
    pictures = sorted(path.relative_to(source).as_posix() for path in source.glob("samples/CAM_*/*.jpg"))
    assert len(pictures) == 6
    given = {name.split("/")[1]: name for name in pictures}
    edit_lines(work / "data" / "set.jsonl", lambda ls: [{**ls[0], "images": given}, ls[1]])
    code = eval_planning.main(arguments(work, f"data.image_root={source}"))
    assert_refused(capsys, code, f"{source}/1/CAM_FRONT.png: no such image (6 of 12 images are missing)")
    capsys.readouterr()
    assert eval_planning.main(arguments(work, f"data.image_root={source}", "--limit", "1")) == 0
    assert "1 sample of 1 scene" in capsys.readouterr().out


def assert_refused(capsys: pytest.CaptureFixture[str], code: int, message: str) -> None:
    """Exit status 2 and one line on standard error that says what is wrong."""
    error = capsys.readouterr().err
    assert code == 2, error
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in error
