"""`tools/import_checkpoint.py`: mistakes and Ctrl-C end in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evaluation.checkpoint import write_checkpoint
from tools import import_checkpoint


def test_there_and_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint(tmp_path / "model")
    source, copy = str(tmp_path / "model"), str(tmp_path / "copy")
    assert import_checkpoint.main([source, copy]) == 0
    assert capsys.readouterr().out.startswith(f"{copy}: digest ")
    (tmp_path / "file").touch()
    for destination in (copy, str(tmp_path / "file" / "copy")):
        assert import_checkpoint.main([source, destination]) == 2
        message = capsys.readouterr().err
        assert message.startswith("error: ")
        assert message.count("\n") == 1
        assert str(Path(destination).parent) in message


def test_ctrl_c(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("senna_prune.model.importing.import_checkpoint", interrupted)
    assert import_checkpoint.main(["source", "destination"]) == 130
    assert capsys.readouterr().err == "\ninterrupted; nothing was imported; run the same command again\n"
