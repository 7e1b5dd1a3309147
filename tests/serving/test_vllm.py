"""The demo's plans through a real vLLM on this CPU: only `make test-vllm` runs this, as it installs 3.4 GB."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from senna_prune.serving.export import export_decoder
from tests.conftest import ROOT

PYTHON = os.environ.get("SENNA_PRUNE_VLLM", "")
pytestmark = pytest.mark.skipif(not PYTHON, reason="SENNA_PRUNE_VLLM names no Python with vLLM (make test-vllm)")


def test_vllm_and_the_planner_decide_alike(tmp_path: Path) -> None:
    export_decoder(ROOT / "data" / "demo" / "model", tmp_path / "decoder")
    frames, methods = os.environ.get("SENNA_PRUNE_VLLM_FRAMES", "60"), "none,uniform,divprune,fastervlm"
    command = [PYTHON, str(ROOT / "examples" / "serve_with_vllm.py"), str(tmp_path / "decoder"), "--methods", methods]
    quiet = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    alone = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "--frames", frames, "--out", str(tmp_path / "rows.json")],
        env={**os.environ, **quiet, **alone},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["method"] for row in rows] == methods.split(",")
    for row in rows:
        print(row)
        assert row["equal"] + row["differ though within 1e-3"] == row["frames"] == int(frames)
