"""The captioner on a tiny random LLaVA."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from senna_prune.errors import CheckpointError, ImageError
from senna_prune.nuscenes.transformers_captioner import TransformersCaptioner
from tests.tiny_hosts import tiny_host

CHAT = "{% for m in messages %}{% for c in m['content'] %}{{ c['text'] if c['type'] == 'text' else '<image> ' }}{% endfor %}{% endfor %} answer"  # noqa: E501


def tiny_llava(folder: Path, chat_template: str | None) -> Path:
    model, processor = tiny_host("llava")
    processor.chat_template = chat_template
    for part in (model, processor):
        part.save_pretrained(folder)
    return folder


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "front.jpg"
    Image.new("RGB", (64, 36), (0, 200, 0)).save(path)
    return path


@pytest.mark.parametrize("chat_template", [None, CHAT])
def test_an_answer_is_a_text_without_the_question(tmp_path: Path, picture: Path, chat_template: str | None) -> None:
    folder = tiny_llava(tmp_path / "llava", chat_template)
    captioner = TransformersCaptioner(str(folder), device="cpu", max_new_tokens=4)
    answer = captioner.caption([picture], "is it green ?")
    assert len(answer.split()) <= 4
    assert "is it green ?" not in answer
    assert captioner.caption([picture], "is it green ?") == answer
    prompt = captioner.prompt(1, "is it green ?")
    assert prompt == ("<image> is it green ? answer" if chat_template else "<image>\nis it green ?")
    assert captioner.name == f"{folder}@4"


def set_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


BROKEN: dict[str, Callable[[Path], object]] = {
    "configuration nested deeply": lambda folder: (folder / "config.json").write_text("[" * 10_000),
    "configuration a list": lambda folder: (folder / "config.json").write_text("[]"),
    "text configuration a text": lambda folder: set_config(folder, text_config="llama"),
    "tokenizer a list": lambda folder: (folder / "tokenizer.json").write_text("[]"),
    "tokenizer configuration a list": lambda folder: (folder / "tokenizer_config.json").write_text("[]"),
    "weights cut short": lambda folder: (folder / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{"),
    "weights of another shape": lambda folder: set_config(folder, vision_config={"hidden_size": 32}),
    "code of its own": lambda folder: set_config(
        folder, model_type="mine", auto_map={"AutoConfig": "mine.Config", "AutoModelForImageTextToText": "mine.Model"}
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_checkpoint_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked whether to run a stranger's code"))
    folder = tiny_llava(tmp_path / "llava", None)
    BROKEN[name](folder)
    with pytest.raises(CheckpointError, match="not an image-text-to-text model"):
        TransformersCaptioner(str(folder), device="cpu")


@pytest.mark.parametrize("content", [None, b"no picture", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"])
def test_a_broken_picture_is_named(tmp_path: Path, content: bytes | None) -> None:
    captioner = TransformersCaptioner(str(tiny_llava(tmp_path / "llava", None)), device="cpu", max_new_tokens=1)
    path = tmp_path / "front.png"
    if content is None:
        os.mkfifo(path)
    else:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=r"front\.png"):
        captioner.caption([path], "is it green ?")


def test_not_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="not an image-text-to-text model"):
        TransformersCaptioner(str(tmp_path))
