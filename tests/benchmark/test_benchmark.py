"""The benchmark on a decoder small enough for a test: it must measure, print and write what it promises."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from rich.table import Column, Table

from senna_prune.benchmark.clock import Operations, Times, interleave, milliseconds, peak_mebibytes
from senna_prune.benchmark.contest import run_contest
from senna_prune.benchmark.floor import Hardware
from senna_prune.benchmark.models import build_model
from senna_prune.benchmark.profile import asked_milliseconds, read_profile
from senna_prune.benchmark.replay import Recorder, Replay
from senna_prune.benchmark.settings import BenchmarkConfig, TimedModelConfig
from senna_prune.benchmark.show import plan_table
from senna_prune.config import EvaluationConfig, load_config
from senna_prune.cost import decoder_flops, readout_flops
from senna_prune.evaluation.run.senna_system import SennaSystem
from senna_prune.model.configuration import model_shape
from senna_prune.planner.planner import Planner, pruner_for
from senna_prune.pruning import Budget, Pruner
from tools.benchmark import main

TINY = {"layers": 4, "hidden": 64, "mlp": 128, "heads": 4, "vocabulary": 300, "view_tokens": 16, "text_tokens": 100}
VISION = {"vision_layers": 3, "vision_hidden": 32, "vision_mlp": 64, "vision_heads": 4, "image_size": 56}


def tiny_host_arguments(vision_layers: int) -> list[str]:
    sizes = TINY | VISION | {"vision_layers": vision_layers}
    return [f"host.{key}={value}" for key, value in sizes.items()]


def test_ratio_is_the_median_of_the_rounds() -> None:
    slow, fast = Times((10.0, 20.0, 90.0)), Times((5.0, 5.0, 30.0))
    assert fast.ratio_to(slow) == 3.0
    assert slow.p50 == 20.0


def test_rounds_interleave() -> None:
    order: list[str] = []
    contestants = {name: (lambda name=name: order.append(name)) for name in "ab"}
    timed = interleave(contestants, torch.device("cpu"), warmup=1, repeats=2, prepare=lambda n: order.append(n.upper()))
    assert order == ["A", "a", "B", "b"] * 3
    assert len(timed["a"].rounds) == 2


def test_floor_is_arithmetic_or_memory() -> None:
    hardware = Hardware(flops=1e9, bytes=1e6)
    assert hardware.floor(flops=2e9, read=1e6) == 2000.0
    assert hardware.floor(flops=1.0, read=5e6) == 5000.0


@pytest.mark.parametrize("new_tokens", [1, 10])
def test_floors_read_the_weights_once_a_pass_and_count_attention_once_a_pair(new_tokens: int) -> None:
    config = BenchmarkConfig(
        host=TimedModelConfig(**(TINY | VISION)), device="cpu", methods=["fastv"], retentions=[0.5]
    )
    config.warmup, config.repeats, config.new_tokens, config.compare = 1, 1, new_tokens, ["sdpa"]
    timed = build_model(config, torch.device("cpu"))
    shape, text = model_shape(timed.config, torch.float32), len(timed.layout.text)
    read = 1e3 * sum(4 * one.numel() for one in timed.model.model.language_model.parameters()) / 1e6
    for row in run_contest(config, timed, None, shape, Hardware(1e30, 1e6), lambda: None):  # bound by memory
        passes = 1 if row.readout == "one_pass" else new_tokens - 1  # the prefill gives the first token
        assert (row.readout_floor, row.floor) == pytest.approx((passes * read, (1 + passes) * read))
    plain, *_ = run_contest(config, timed, None, shape, Hardware(1e6, 1e30), lambda: None)  # bound by arithmetic
    entering = [shape.num_visual] * shape.layers
    flops = decoder_flops(shape, entering, text, causal=True), readout_flops(shape, entering, text, new_tokens - 1)
    assert (plain.floor, plain.readout_floor) == pytest.approx((sum(flops) / 1e3, flops[1] / 1e3))


def test_peak_counts_what_is_alive_at_once_and_not_what_was_there_before() -> None:
    before = torch.zeros(2**18)  # 1 MiB

    def action() -> None:
        for _ in range(5):
            one = before + 1
            two = one.view(-1) * 2
            del one
            two.mul_(2)
            del two

    assert peak_mebibytes(action, torch.device("cpu")) == pytest.approx(2.0, abs=0.01)


def test_operations_are_counted_without_views() -> None:
    one = torch.ones(4, 4)
    with Operations() as dispatched:
        (one.view(-1)[:3].unsqueeze(0) * 2).add_(1)
    assert dispatched.count == 2


def test_replay_repeats_a_prefill_without_asking_the_policy() -> None:
    config = BenchmarkConfig(host=TimedModelConfig(**(TINY | VISION)), device="cpu")
    host = build_model(config, torch.device("cpu"))
    recorder = Recorder(pruner_for(host.model, "autoprune", Budget.retention(0.5)))
    real = host.prefill(recorder)
    assert real is not None
    replayed = host.prefill(Replay.of(recorder, real.samples[0]))
    assert replayed is not None
    assert replayed.samples[0].kept() == real.samples[0].kept()
    assert real.samples[0].entering[-1] < 96


@pytest.mark.slow
@pytest.mark.parametrize("vision_layers", [0, 3])
def test_tool_writes_results_and_a_profile_that_turns_milliseconds_into_retention(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], vision_layers: int
) -> None:
    arguments = [*tiny_host_arguments(vision_layers), "repeats=2", "warmup=1", "retentions=[0.3,0.6]", "new_tokens=2"]
    arguments += [f"output={tmp_path}", "name=t", "batch_sizes=[1,2]"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "autoprune 30%, one-pass" in printed
    record = json.loads((tmp_path / "t.json").read_text())
    assert ("vision" in record["stages"]) == (vision_layers > 0)
    ratios = {row["name"]: row["flops_ratio"] for row in record["rows"]}
    assert ratios["autoprune 30%, one-pass"] > ratios["autoprune 60%, one-pass"] > 1
    profile = read_profile(tmp_path / "t_profile.json", "autoprune")
    assert sorted(profile) == [0.3, 0.6]
    asked = max(profile.values())
    config = load_config(BenchmarkConfig, overrides=[*arguments, f"milliseconds={asked}"])
    ((label, _, budget),) = asked_milliseconds(config)
    assert budget.mean_tokens(100) == pytest.approx(60.0)
    assert "ms" in label


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llava", "llava_next", "qwen2_5_vl"])
def test_other_hosts_are_timed_behind_one_encoded_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    arguments = [*tiny_host_arguments(0), f"host.kind={kind}", "host.view_tokens=96", "batch_sizes=[1,2]"]
    arguments += ["repeats=1", "warmup=1", "retentions=[0.25]", "methods=[visionzip,autoprune]", "new_tokens=2"]
    assert main([*arguments, f"output={tmp_path}"]) == 2
    assert "weights are packed for Senna alone" in capsys.readouterr().err
    arguments.append("packed=false")
    assert main([*arguments, f"output={tmp_path}", "name=t"]) == 0
    record = json.loads((tmp_path / "t.json").read_text())
    rows = {row["name"]: row for row in record["rows"]}
    plain, pruned = rows["transformers generate (sdpa)"], rows["visionzip 25%, one-pass"]
    assert (plain["entering"], pruned["entering"]) == (96, 24)
    assert pruned["peak_mib"] < plain["peak_mib"]
    assert pruned["kv_mib"] < plain["kv_mib"]
    capsys.readouterr()
    assert main([*arguments, "host.checkpoint=x", f"output={tmp_path}"]) == 2
    assert "only a Senna is timed from a checkpoint" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
def test_packed_rows_are_compared_with_both_layouts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*tiny_host_arguments(0), "repeats=1", "warmup=1", "retentions=[0.5]", "new_tokens=2", "packed=true"]
    assert main([*arguments, f"output={tmp_path}", "name=t"]) == 0
    rows = {row["name"]: row for row in json.loads((tmp_path / "t.json").read_text())["rows"]}
    for prefix, packed in (("", False), ("packed: ", True)):
        assert rows[f"{prefix}transformers generate (sdpa)"]["speedup"] == 1.0
        row = rows[f"{prefix}autoprune 50%, one-pass"]
        assert row["packed"] is packed
        assert row["readout_ms"] == pytest.approx(row["plan"]["rounds"][0] - row["prefill"]["rounds"][0])
        assert row["readout_floor"] < row["floor"]
        assert row["operations"] > rows[f"{prefix}none, one-pass"]["operations"] > 0
        assert 0 < row["peak_mib"] < rows["transformers generate (sdpa)"]["peak_mib"]
    printed = capsys.readouterr().out
    assert "packed: autoprune 50%, against generate with plain weights" in printed
    assert "packed: none, against generate with plain weights" in printed
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_compiled_rows_stand_beside_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    arguments = [*tiny_host_arguments(3), "repeats=1", "warmup=1", "retentions=[0.5]", "new_tokens=2"]
    assert main([*arguments, "packed=false", "compiled=true", f"output={tmp_path}", "name=t"]) == 0
    rows = {row["name"]: row for row in json.loads((tmp_path / "t.json").read_text())["rows"]}
    assert rows["compiled: none, one-pass"]["speedup"] == 1.0
    compiled, eager = rows["compiled: autoprune 50%, one-pass"], rows["autoprune 50%, one-pass"]
    assert compiled["entering"] == pytest.approx(eager["entering"], abs=1)
    assert compiled["operations"] is None and compiled["peak_mib"] > 0
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    assert main([*arguments, "compiled=true", "compare=[eager]", f"output={tmp_path}"]) == 2
    assert "list sdpa first" in capsys.readouterr().err.lower()


class Fake:
    """Stands in for torch.cuda on a machine with two devices, device 0 being current: notes who was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.current, self.asked = 0, []
        for name in ("synchronize", "reset_peak_memory_stats", "memory_allocated", "max_memory_allocated"):
            monkeypatch.setattr(torch.cuda, name, partial(self.ask, name))
        monkeypatch.setattr(torch.cuda, "device", self.device)
        monkeypatch.setattr(torch.cuda, "Event", lambda **_: self)

    def ask(self, name: str, device: torch.device | None = None) -> int:
        self.asked.append((name, self.current if device is None else device.index))
        return 0

    @contextmanager
    def device(self, device: torch.device) -> Iterator[None]:
        before, self.current = self.current, device.index
        yield
        self.current = before

    def record(self) -> None:
        self.ask("record")

    def elapsed_time(self, end: object) -> float:
        return 3.0


def test_time_and_memory_are_read_from_the_device_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(monkeypatch)
    assert milliseconds(lambda: None, torch.device("cuda:1")) == 3.0
    peak_mebibytes(lambda: None, torch.device("cuda:1"))
    assert {device for _, device in fake.asked} == {1}
    assert [name for name, _ in fake.asked].count("record") == 2


def test_peak_memory_of_a_run_is_that_of_its_own_device(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(monkeypatch)
    system = SennaSystem(EvaluationConfig())
    model = SimpleNamespace(device=torch.device("cuda:1"))
    system._planner = cast(Planner, SimpleNamespace(model=model, decide_batch=lambda frames, pruner, compiled: []))
    system._decide_together([], cast(Pruner, None), [])
    assert fake.asked == [("reset_peak_memory_stats", 1), ("max_memory_allocated", 1)]


@pytest.mark.slow
def test_close_retentions_are_rows_of_their_own(tmp_path: Path) -> None:
    arguments = [
        *tiny_host_arguments(0),
        "repeats=1",
        "warmup=1",
        "retentions=[0.12,0.125]",
        "new_tokens=2",
        "packed=false",
    ]
    assert main([*arguments, f"output={tmp_path}", "name=t"]) == 0
    rows = json.loads((tmp_path / "t.json").read_text())["rows"]
    named = {row["name"]: row["retention"] for row in rows if row["readout"] == "one_pass"}
    assert named == {"none, one-pass": None, "autoprune 12%, one-pass": 0.12, "autoprune 12.5%, one-pass": 0.125}
    assert sorted(read_profile(tmp_path / "t_profile.json", "autoprune")) == [0.12, 0.125]


def test_only_rows_that_ask_for_vision_evidence_are_charged_for_it() -> None:
    config = BenchmarkConfig(
        host=TimedModelConfig(**(TINY | VISION)), device="cpu", methods=["fastv", "fastervlm"], retentions=[0.5]
    )
    config.warmup = config.repeats = 1
    timed = build_model(config, torch.device("cpu"))
    shape = model_shape(timed.config, torch.float32)
    rows = run_contest(config, timed, None, shape, Hardware(1e9, 1e9), lambda: None)
    stages = {"vision": Times((10.0,)), "vision with scores": Times((1000.0,))}
    table = plan_table(rows, stages)
    cells = {name: list(column.cells) for name, column in zip(("name", "p50", "total"), pick(table), strict=True)}
    extra = {n: float(t) - float(p) for n, p, t in zip(cells["name"], cells["p50"], cells["total"], strict=True)}
    assert {name for name, ms in extra.items() if ms > 500} == {"fastervlm 50%, one-pass", "fastervlm 50%, generate"}


def pick(table: Table) -> list[Column]:
    """Names, medians and totals of a table of plans."""
    return [table.columns[0], table.columns[1], table.columns[6]]
