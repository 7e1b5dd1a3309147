"""What every tool does with a mistake, with Ctrl-C and with text that cannot be printed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from senna_prune.cli import INTERRUPTED, guarded
from senna_prune.errors import FileError
from tests.conftest import ROOT

SLOW_IMPORTS = {
    "benchmark": [],
    "calibrate": ["--out", "profile.json"],
    "eval_planning": [],
    "import_checkpoint": ["source", "destination"],
    "make_demo": ["train"],
    "report": ["run"],
}
"""Tools that load torch or plots, with a command line that they accept."""


@pytest.mark.parametrize("name", ["[/x]", "[bold]", "%s {0}", "a\nb"])
def test_a_message_is_printed_as_it_is(capsys: pytest.CaptureFixture[str], name: str) -> None:
    def fail() -> None:
        raise FileError(f"no {name}", where=name)

    assert guarded(fail) == 2
    shown = " ".join(name.split())
    assert capsys.readouterr().err == f"error: {shown}: no {shown}\n"


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_what_cannot_be_encoded_is_escaped(encoding: str) -> None:
    code = (
        "from senna_prune.cli import guarded; from senna_prune.errors import FileError\n"
        "def action():\n"
        "    print('\\ud800', chr(0xe9))\n"
        "    raise FileError('no', where='\\udcff')\n"
        "raise SystemExit(guarded(action))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, env={"PYTHONIOENCODING": encoding}, cwd=ROOT
    )
    assert done.returncode == 2
    assert done.stdout.startswith(b"\\ud800 ")
    assert done.stderr == b"error: \\udcff: no\n"


@pytest.mark.parametrize("tool", SLOW_IMPORTS)
def test_ctrl_c_while_a_tool_loads_is_one_line(tool: str) -> None:
    process = subprocess.Popen(
        [sys.executable, ROOT / "tools" / f"{tool}.py", *SLOW_IMPORTS[tool]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        # A shell starts background jobs with SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    maps, deadline = Path(f"/proc/{process.pid}/maps"), time.monotonic() + 60
    # numpy or torch is being imported, and nothing of the tool's own work has begun.
    while not any(name in maps.read_text() for name in ("_multiarray_umath", "libtorch")):
        assert process.poll() is None, "the tool ended before it loaded anything"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == INTERRUPTED, error
    assert error.strip().startswith("interrupted; ")
    assert error.strip().count("\n") == 0
