"""lmms-eval in an environment of its own: the models are found, and answer a task unpruned and pruned."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import transformers
import yaml

from senna_prune.harness.manifests import CLASSES
from tests.conftest import ROOT
from tests.harness.tiny_task import SIZES, TASK
from tests.tiny_hosts import HOSTS, MROPE

pytestmark = pytest.mark.slow
ASKED_FOR = "SENNA_PRUNE_LMMS_EVAL"
ROOM = 15e9
"""Bytes on the disk: torch comes with CUDA from most indexes."""
OPTIONS = {"qwen2_5_vl": ",min_pixels=784"}
OWN = {"llava": "llava_hf", "llava_next": "llava_hf"} | {kind: kind for kind in MROPE}
"""lmms-eval's own models. Those of the Qwens compute in bfloat16."""


def run(*command: str | Path, folder: Path, seconds: int = 300, **environment: str) -> subprocess.CompletedProcess[str]:
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(folder / "hf"), "OMP_NUM_THREADS": "1"}
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | offline | environment
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=seconds)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """An empty folder; it goes at the end, as it grows to several gigabytes."""
    with tempfile.TemporaryDirectory(prefix="senna_lmms_") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def python(folder: Path) -> Path:
    """Python of an environment with this project, its extra `lmms-eval`, and what lmms-eval's own models import."""
    if not os.environ.get(ASKED_FOR):
        pytest.skip(f"it installs 7 GB: run make test-lmms-eval, or set {ASKED_FOR}=1")
    if shutil.disk_usage(folder).free < ROOM:
        pytest.skip(f"lmms-eval's environment needs {ROOM / 1e9:g} GB in {folder.parent}")
    quick = ["--quiet", "--retries", "0", "--timeout", "15"]
    probe = [sys.executable, "-m", "pip", "download", *quick, "--no-deps", "--dest", str(folder / "probe"), "lmms-eval"]
    done = run(*probe, folder=folder)
    if done.returncode:
        pytest.skip(f"pip cannot download lmms-eval: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    subprocess.run([sys.executable, "-m", "venv", folder / "environment"], check=True)
    found = folder / "environment" / "bin" / "python"
    wanted = ["-e", f"{ROOT}[lmms-eval]", "lmms-eval[video-legacy]", f"transformers=={transformers.__version__}"]
    done = run(found, "-m", "pip", "install", "--quiet", "--no-cache-dir", *wanted, folder=folder, seconds=1800)
    assert done.returncode == 0, done.stderr[-4000:]
    return found


def test_the_model_ids_resolve(python: Path, folder: Path) -> None:
    """A broken entry point is only a warning in lmms-eval."""
    code = f"from lmms_eval.models import get_model; print(*(get_model(n).__name__ for n in {list(CLASSES)}))"
    done = run(python, "-c", code, folder=folder)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.split()[-len(CLASSES) :] == list(CLASSES.values())


@pytest.fixture(scope="module")
def results(python: Path, folder: Path) -> dict[str, tuple[dict[str, Any], list[str]]]:
    """By condition, the file of results and the five answers."""
    done = run(python, "-m", "tests.harness.tiny_task", folder, folder=folder, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr[-4000:]
    entries = []
    for kind in HOSTS:
        options = OPTIONS.get(kind, "")
        quarter = f"method=autoprune,retention=0.25,positions=original{options}"
        none = f"method=none{options}{',dtype=bfloat16' if kind in MROPE else ''}"
        cached = {"batch_size": 2, "use_cache": str(folder / "cache")}
        for name, model, arguments, more in (
            ("own", OWN[kind], f"device_map=cpu{options}", {}),
            ("none", f"senna_prune_{kind}", none, {}),
            ("quarter", f"senna_prune_{kind}", quarter, cached),
            ("again", f"senna_prune_{kind}", quarter, cached),
        ):
            entry = {"model": model, "model_args": f"pretrained={folder / kind},{arguments}", "tasks": TASK, **more}
            entry |= {"include_path": str(folder / "task"), "device": "cpu", "log_samples": True}
            entries.append(entry | {"output_path": str(folder / "runs" / f"{kind} {name}")})
    (folder / "config.yaml").write_text(yaml.safe_dump(entries), encoding="utf-8")
    done = run(python, "-m", "lmms_eval", "--config", "config.yaml", folder=folder, seconds=600)
    found = {}
    for entry in entries:
        place = Path(entry["output_path"])
        files = [*place.rglob("*_results.json"), *place.rglob("*_samples_*.jsonl")]
        assert len(files) == 2, done.stdout[-6000:] + done.stderr[-6000:]
        lines = [json.loads(line) for line in files[1].read_text(encoding="utf-8").splitlines()]
        answers = [line["filtered_resps"] for line in sorted(lines, key=lambda line: line["doc_id"])]
        found[place.name] = json.loads(files[0].read_text(encoding="utf-8")), answers
    return found


@pytest.mark.parametrize("kind", HOSTS)
def test_a_task_runs_end_to_end(kind: str, results: dict[str, tuple[dict[str, Any], list[str]]]) -> None:
    (none, whole), (quarter, pruned), (again, cached) = (results[f"{kind} {n}"] for n in ("none", "quarter", "again"))
    assert whole == results[f"{kind} own"][1], "as lmms-eval's own model answers"
    for report, answers in ((none, whole), (quarter, pruned)):
        assert len(answers) == len(SIZES) and all(answers)
        assert report["results"][TASK]["exact_match,none"] == 0
    seen, kept = (quarter["throughput"][f"avg_{name}"] for name in ("visual_tokens", "visual_tokens_per_layer"))
    assert none["throughput"]["avg_visual_tokens"] == none["throughput"]["avg_visual_tokens_per_layer"] == seen
    assert kept == pytest.approx(seen / 4, abs=1), "whole tokens in each of four layers"
    assert whole != pruned
    assert cached == pruned and "throughput" not in again, "answered from lmms-eval's cache"


REFUSED = """
from lmms_eval.models import get_model
llava = get_model("senna_prune_llava")
for refused in (
    lambda: llava(pretrained="qwen2_5_vl", method="none", device="cpu"),
    lambda: llava(pretrained="absent", method="autopruen", retention=0.25, device="cpu"),
    lambda: llava(pretrained="absent", method="fastv", retention=0.25, max_batch_size=4, device="cpu"),
    lambda: get_model("senna_prune_llava_next")(pretrained="absent", packing="spacial"),
    lambda: llava.loglikelihood(None, []),
    lambda: llava.generate_until_multi_round(None, []),
):
    try:
        refused()
    except Exception as error:
        print("refused:", type(error).__name__, error)
"""


def test_what_is_unsupported_is_told_in_one_line(
    python: Path, folder: Path, results: dict[str, tuple[dict[str, Any], list[str]]]
) -> None:
    done = run(python, "-c", REFUSED, folder=folder)
    lines = [line.removeprefix("refused: ") for line in done.stdout.splitlines() if line.startswith("refused: ")]
    assert lines == [
        "CheckpointError qwen2_5_vl: the checkpoint is a qwen2_5_vl, not a llava. Use --model senna_prune_qwen2_5_vl",
        lines[1],
        lines[2],
        "InputError packing: unknown packing 'spacial'. Did you mean 'spatial'? Known: spatial_unpad, spatial",
        "InputError task: likelihoods are not computed. Choose tasks of output_type generate_until",
        "InputError task: rounds are not supported. Choose tasks of output_type generate_until",
    ]
    assert lines[1].startswith("PruningError") and "did you mean 'autoprune'" in lines[1].lower()
    assert lines[2].startswith("PruningError") and "unknown option 'max_batch_size'" in lines[2]
