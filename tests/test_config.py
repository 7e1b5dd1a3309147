"""Settings: merging order, and one clear line for everything that can be wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from senna_prune.config import EvaluationConfig, as_yaml, load_config
from senna_prune.errors import ConfigError
from tests.conftest import ROOT


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_need_no_file() -> None:
    config = load_config(EvaluationConfig)
    assert config.pruning.methods == ["none", "autoprune"]
    assert config.pruning.retentions == [0.25]


def test_files_merge_left_to_right_then_overrides(tmp_path: Path) -> None:
    first = write(tmp_path / "a.yaml", "name: first\nlimit: 5\ndata: {image_root: here}\n")
    second = write(tmp_path / "b.yaml", "name: second\npruning:\n  options: {autoprune: {variant: paper}}\n")
    config = load_config(EvaluationConfig, [first, second], ["limit=7", "pruning.options.autoprune.k0=0.5"])
    assert (config.name, config.limit, config.data.image_root) == ("second", 7, "here")
    assert config.pruning.options == {"autoprune": {"variant": "paper", "k0": 0.5}}


def test_single_value_stands_for_a_list_of_one(tmp_path: Path) -> None:
    file = write(tmp_path / "a.yaml", "data: {planning_set: set.jsonl}\n")
    config = load_config(EvaluationConfig, [file], ["pruning.retentions=0.4", "pruning.methods=random"])
    assert config.data.planning_set == ["set.jsonl"]
    assert config.pruning.retentions == [0.4]
    assert config.pruning.methods == ["random"]


def test_list_override_replaces_the_list() -> None:
    config = load_config(EvaluationConfig, overrides=["pruning.retentions=[0.2,0.3]"])
    assert config.pruning.retentions == [0.2, 0.3]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("limt=10", "unknown key 'limt'. Did you mean 'limit'?"),
        ("image_root=x", "unknown key 'image_root'. Did you mean 'data.image_root'?"),
        ("pruning.retention=0.2", "Did you mean 'pruning.retentions'?"),
        ("modle.path=x", "Did you mean 'model'?"),
        ("readout.mode=onepass", "readout.mode: unknown value 'onepass'. Did you mean 'one_pass'?"),
        ("scoring.on_error=ignore", "Choose from fail, count_wrong, skip_reported"),
        ("model.dtype=float23", "Did you mean 'float32'?"),
        ("limit=ten", "limit: Value 'ten' of type 'str' could not be converted to Integer"),
        ("limit=0", "limit: 0 is less than 1"),
        ("data=3", "'data' is a group of keys, not a value"),
        ("pruning.retentions=1.5", "pruning.retentions: 1.5 is no share of tokens"),
        ("pruning.accounting=after", "pruning.accounting: unknown value 'after'"),
        ("pruning.methods=[]", "pruning.methods: the list is empty"),
        ("data.camera_orders=front", "data.camera_orders: unknown value 'front'"),
        ("kept_samples=-1", "kept_samples: -1 is less than 0"),
        ("nonsense", "'nonsense' is not key=value"),
        ("pruning.retentions=[0.2", "pruning.retentions=[0.2:"),
    ],
)
def test_bad_override_is_one_clear_line(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(EvaluationConfig, overrides=[override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("- a\n- b\n", "no mapping"), ("a: [", "not readable as YAML"), ("nam: x\n", "unknown key 'nam'"), ("3", "YAML")],
)
def test_bad_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = write(tmp_path / "bad.yaml", text)
    with pytest.raises(ConfigError) as caught:
        load_config(EvaluationConfig, [file])
    assert str(caught.value).startswith(str(file))
    assert message in str(caught.value)


def test_absent_file() -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: no such configuration file"):
        load_config(EvaluationConfig, ["absent.yaml"])


@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_load(file: Path, tmp_path: Path) -> None:
    config = load_config(EvaluationConfig, [file])
    (tmp_path / "shown.yaml").write_text(as_yaml(config), encoding="utf-8")
    assert load_config(EvaluationConfig, [tmp_path / "shown.yaml"]) == config
