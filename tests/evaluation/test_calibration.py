"""Calibration: a host's quantiles, measured without labels, mapped onto the published range, part of the run key."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from senna_prune.config import EvaluationConfig, load_config
from senna_prune.errors import ConfigError, PruningError, RunError
from senna_prune.evaluation.evaluate import evaluate
from senna_prune.evaluation.run.calibration import Profile, read_profile, require_own_profiles
from senna_prune.evaluation.run.run_folder import RunFolder
from senna_prune.evaluation.run.run_key import run_key
from senna_prune.evaluation.run.senna_system import SennaSystem
from senna_prune.evaluation.run.sweep import expand
from senna_prune.pruning import make_method
from senna_prune.pruning.methods.autoprune import on_published_range
from tests.evaluation.checkpoint import write_checkpoint, write_planning_set
from tools import calibrate


@pytest.mark.parametrize(
    ("value", "expected"),
    # Three quantiles at shares 0, 1/2 and 1: twice the share below the value.
    [(10.0, 0.0), (9.0, 0.0), (15.0, 0.5), (20.0, 1.0), (50.0, 1.5), (80.0, 2.0), (99.0, 2.0)],
)
def test_mapping_by_hand(value: float, expected: float) -> None:
    assert on_published_range(torch.tensor(value), (10.0, 20.0, 80.0)).item() == pytest.approx(expected)


def test_equal_quantiles_map_somewhere() -> None:
    assert on_published_range(torch.tensor(3.0), (3.0, 3.0, 3.0)).item() in (0.0, 1.0, 2.0)
    with pytest.raises(PruningError, match="quantiles"):
        make_method("autoprune", quantiles=[2.0, 1.0])


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides that name a checkpoint and a planning set whose answers are none."""
    work = tmp_path_factory.mktemp("senna")
    write_checkpoint(work / "model", num_layers=8)
    path = write_planning_set(work / "data", count=5)
    lines = [json.loads(line) | {"answer": "not known"} for line in path.read_text("utf-8").splitlines()]
    (path.parent / "unlabelled.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    shared = [f"data.image_root={path.parent}", f"model.path={work / 'model'}", "readout.max_new_tokens=2"]
    made = [*shared, f"data.planning_set={path.parent}/unlabelled.jsonl", "pruning.retentions=[0.25,0.4]"]
    assert calibrate.main(["--samples", "4", "--out", str(work / "profile.json"), *made]) == 0
    return [*shared, f"data.planning_set={path}", f"pruning.options.autoprune.calibration={work / 'profile.json'}"]


def profile_of(given: list[str]) -> Path:
    return Path(given[-1].partition("=")[2])


def test_a_calibrated_run_spreads_over_the_published_range(given: list[str], tmp_path: Path) -> None:
    profile = read_profile(str(profile_of(given)))
    assert (profile.samples, list(profile.quantiles), len(profile.quantiles["0.25"])) == (4, ["0.25", "0.4"], 21)
    measured: dict[str, dict[str, float | None]] = {}
    for name, overrides in (("plain", given[:-1]), ("calibrated", given)):
        config = load_config(EvaluationConfig, overrides=[*overrides, f"output={tmp_path / name}"])
        evaluate(config, SennaSystem(config))
        lines = [record for record, _ in RunFolder(tmp_path / name).read_lines().values()]
        own = [record for record in lines if record.condition == "autoprune@0.25"]
        measured[name] = {record.sample: record.trace.complexity for record in own if record.trace}
    assert len(measured["plain"]) == 5
    for key, value in measured["plain"].items():
        mapped = on_published_range(torch.tensor(value), profile.quantiles["0.25"]).item()
        assert measured["calibrated"][key] == pytest.approx(mapped, abs=2e-2)
    assert max(filter(None, measured["calibrated"].values())) == pytest.approx(2, abs=1e-2)
    results = RunFolder(tmp_path / "calibrated").read_json("results.json")
    found = next(row["adaptation"] for row in results["groups"][0]["rows"] if row["row"] == "autoprune@0.25")
    assert found["measure"] == "calibrated mutual information"


def test_the_profile_is_in_the_run_key_and_its_place_is_not(given: list[str], tmp_path: Path) -> None:
    config = load_config(EvaluationConfig, overrides=given)
    checkpoint = SennaSystem(config).identity().digest
    key = run_key(config, checkpoint, expand(config.pruning))
    copy = tmp_path / "moved.json"
    copy.write_bytes(profile_of(given).read_bytes())
    moved = load_config(EvaluationConfig, overrides=[*given, f"pruning.options.autoprune.calibration={copy}"])
    assert run_key(moved, checkpoint, expand(moved.pruning)) == key
    spoil(lambda record: record["quantiles"]["0.25"].__setitem__(0, 0))(copy)
    changed = run_key(moved, checkpoint, expand(moved.pruning))
    assert {name for name in key["conditions"] if changed["conditions"][name] != key["conditions"][name]} == {
        "autoprune@0.25"
    }
    plain = load_config(EvaluationConfig, overrides=given[:-1])
    assert run_key(plain, checkpoint, expand(plain.pruning)) != key
    with pytest.raises(ConfigError, match="the calibration was made for another checkpoint"):
        require_own_profiles(config.pruning, "another")


def spoil(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def spoiled(path: Path) -> None:
        record = json.loads(path.read_text(encoding="utf-8"))
        change(record)
        path.write_text(json.dumps(record), encoding="utf-8")

    return spoiled


@pytest.mark.parametrize(
    ("damage", "overrides", "message"),
    [
        (Path.unlink, [], "no such file|cannot be read"),
        (lambda path: path.write_text("[]"), [], "not a JSON object"),
        (spoil(lambda record: record.update(schema=9)), [], "schema: Invalid value 9"),
        (spoil(lambda record: record.pop("samples")), [], "field samples is missing"),
        (spoil(lambda record: record["quantiles"].update({"0.25": ["a"]})), [], "Expected `float`, got `str`"),
        (spoil(lambda record: record["quantiles"].update({"0.25": [3, 2]})), [], "quantiles"),
        (lambda path: None, ["pruning.retentions=[0.3]"], r"made for retention 0\.25, 0\.4, not for 0\.3"),
        (lambda path: None, ["pruning.options.autoprune.variant=paper"], "made with variant released, not paper"),
    ],
    ids=range(8),
)
def test_unusable_profiles(
    given: list[str], tmp_path: Path, damage: Callable[[Path], None], overrides: list[str], message: str
) -> None:
    copy = tmp_path / "profile.json"
    copy.write_bytes(profile_of(given).read_bytes())
    damage(copy)
    options = [*given, f"pruning.options.autoprune.calibration={copy}", *overrides]
    with pytest.raises((RunError, PruningError), match=message):
        expand(load_config(EvaluationConfig, overrides=options).pruning)


@pytest.mark.parametrize("label", ["fastv", "static"])
def test_what_measures_nothing_cannot_be_calibrated(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], label: str
) -> None:
    options = ["pruning.options.static={method: autoprune, indicator: static, assumed: 1}"]
    arguments = ["--label", label, "--out", str(tmp_path / "p.json"), *given[:-1], *options]
    assert calibrate.main(arguments) == 2
    assert f"label: '{label}' measures no complexity that could be calibrated" in capsys.readouterr().err
    pruning = load_config(EvaluationConfig, overrides=["pruning.options.fastv.calibration=p", "pruning.methods=fastv"])
    with pytest.raises(ConfigError, match="fastv cannot be calibrated by 'p'"):
        expand(pruning.pruning)


def test_controls_of_a_calibrated_row(given: list[str]) -> None:
    path = profile_of(given)
    more = f"pruning.options.shuffled={{method: autoprune, indicator: shuffled, calibration: {path}}}"
    config = load_config(EvaluationConfig, overrides=[*given, more, "pruning.methods=[autoprune,shuffled]"])
    shuffled = next(c for c in expand(config.pruning) if c.label == "shuffled")
    assert shuffled.options["quantiles"] == read_profile(str(path)).quantiles["0.25"]
    bare = [*given, "pruning.options.shuffled={method: autoprune, indicator: shuffled}"]
    with pytest.raises(ConfigError, match="takes its complexity from a row that is not in the run"):
        expand(load_config(EvaluationConfig, overrides=[*bare, "pruning.methods=[autoprune,shuffled]"]).pruning)


def test_a_profile_is_read_as_written(tmp_path: Path) -> None:
    profile = Profile("digest", {"indicator": "cosine", "view_weights": [1, 2]}, 3, {"0.25": (0.0, 0.5)})
    profile.write(tmp_path / "profile.json")
    assert read_profile(str(tmp_path / "profile.json")) == profile
