"""The script that times the released AutoPrune code, on a stand-in for a checkout of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "examples" / "time_released_autoprune.py"
BUILDER = """
class Model:
    def generate(self, ids, **options):
        return ids, 64.0, None

def load_pretrained_model(path, base, name, **options):
    return "tokenizer", Model(), None, 2048
"""
LOADER = """
import sys
from llava.model.builder import load_pretrained_model
tokenizer, model, _, _ = load_pretrained_model("p", None, "n", visual_token_num=576)
for number in range(int(sys.argv[2])):
    assert model.generate(number, images=None)[1] == 64.0
"""


def run(checkout: Path, questions: int) -> subprocess.CompletedProcess[str]:
    for name, text in (("model/builder.py", BUILDER), ("eval/model_vqa_loader.py", LOADER)):
        (checkout / "llava" / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / "llava" / name).write_text(text)
    command = [sys.executable, str(SCRIPT), str(checkout), "--questions", str(questions)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_answers_are_timed_behind_the_warm_up(tmp_path: Path) -> None:
    done = run(tmp_path, 8)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^5 answers: p50 [\d.]+ ms, p95 [\d.]+ ms, best [\d.]+ ms$", done.stdout, re.MULTILINE)


def test_too_few_questions_are_said(tmp_path: Path) -> None:
    done = run(tmp_path, 3)
    assert done.returncode == 1
    assert "too few" in done.stderr
