"""Writes a task of five drawn images for lmms-eval, and a tiny random model of each kind: `tiny_task.py FOLDER`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.tiny_hosts import HOSTS, IMAGE, MROPE, VIDEO, picture, tiny_host

TASK = "senna_five"
TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() }}: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %} {% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
SIZES = ((90, 160), (160, 84), (112, 112), (56, 120), (100, 60))
FUNCTIONS = """
from PIL import Image

def pictures(doc):
    return [Image.open(doc["picture"]).convert("RGB")]
"""


def write_task(folder: Path) -> None:
    """The task `TASK` in a file of its own, for `--include_path`."""
    folder.mkdir()
    lines = []
    for number, size in enumerate(SIZES):
        path = folder / f"{number}.png"
        picture(*size, seed=number).save(path)
        line = {"picture": str(path), "question": f"Which way now? {'Look again. ' * number}", "answer": "KEEP"}
        lines.append(json.dumps(line))
    (folder / "five.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "five.py").write_text(FUNCTIONS, encoding="utf-8")
    task: dict[str, Any] = {
        "task": TASK,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "five.jsonl")}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "question",
        "doc_to_target": "answer",
        "generation_kwargs": {"max_new_tokens": 6, "temperature": 0, "until": ["\n\n"]},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    text = yaml.safe_dump(task) + "doc_to_visual: !function five.pictures\n"
    (folder / f"{TASK}.yaml").write_text(text, encoding="utf-8")


def write_model(kind: str, folder: Path) -> None:
    """A tiny model with its processor, as a checkpoint. Those of the Qwens need torchvision."""
    model, processor = tiny_host(kind)
    model.save_pretrained(folder)
    if kind in MROPE:
        from transformers import Qwen2_5_VLProcessor, Qwen2VLVideoProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

        whole: Any = {"qwen2_5_vl": (Qwen2_5_VLProcessor, Qwen2VLVideoProcessor)}
        make, video = whole.get(kind, (Qwen3VLProcessor, Qwen3VLVideoProcessor))
        processor = make(processor.image_processor, processor.tokenizer, video())
    processor.chat_template = TEMPLATE
    processor.save_pretrained(folder)
    if kind in MROPE:
        # They ask the tokenizer for names of marks, which one of Llama's class does not save by itself.
        file = folder / "tokenizer_config.json"
        settings = json.loads(file.read_text(encoding="utf-8"))
        settings["extra_special_tokens"] = {"image_token": IMAGE, "video_token": VIDEO}
        file.write_text(json.dumps(settings), encoding="utf-8")


if __name__ == "__main__":
    root = Path(sys.argv[1])
    write_task(root / "task")
    for kind in HOSTS:
        write_model(kind, root / kind)
