"""Numbers recorded from the reference implementation. Cases are found by their file names and keys, never listed."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from senna_prune.image_files import open_image
from senna_prune.model import SennaForConditionalGeneration, SennaProcessor, planning_prompt, planning_question
from senna_prune.model.checkpoint import load_senna
from senna_prune.model.processing import to_pixel_values
from tests.conftest import golden_cases
from tests.model.reference import copy_folder

pytestmark = pytest.mark.golden

ATOL = 1e-4
CLEAR_MARGIN = 0.005
"""Where the recorded argmax margin is smaller, logits are compared instead of ids."""
REFERENCE_PLACEHOLDER = -200

RECORDINGS = [p for p in golden_cases("senna*/**/*.npz") if any(k.startswith("input_ids_") for k in np.load(p))]
QUESTIONS = [
    (path, key.removeprefix("input_ids_"))
    for path in RECORDINGS
    for key in np.load(path).files
    if key.startswith("input_ids_")
]
WEIGHTS = golden_cases("senna*/model*.safetensors")
TOKENISED = golden_cases("senna*/**/prompts_tokenised*.json")
RAW = golden_cases("senna*/**/prompts_raw*.json")
IMAGES = [
    (path, key)
    for path in golden_cases("senna*/images*/*.npz")
    for key in np.load(path).files
    if key.endswith(("_pad", "_square", "_plain"))
]


def name_of(case: Any) -> str:
    parts = case if isinstance(case, tuple) else (case,)
    return "-".join(f"{part.parent.name}_{part.stem}" if isinstance(part, Path) else str(part) for part in parts)


@lru_cache(maxsize=4)
def senna(weights: Path) -> tuple[SennaForConditionalGeneration, SennaProcessor]:
    """The golden model, opened as a user opens a released checkpoint."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = copy_folder(weights.parent, Path(scratch) / "released")
        for path in folder.glob("model*.safetensors"):
            path.rename(folder / "model.safetensors") if path.name == weights.name else path.unlink()
        for path in (folder / "tokenizer").iterdir():
            path.rename(folder / path.name)
        return load_senna(folder)


def weights_of(path: Path) -> Path:
    """The weights beside a recording, else any."""
    return next((weights for weights in WEIGHTS if weights.parent in path.parents), WEIGHTS[0])


def recorded(path: Path) -> tuple[SennaForConditionalGeneration, Any, Tensor]:
    """Model, recording and visual tokens (1, views, T, D): of the recorded images, of those recorded beside it, or, in
    the small set, the recorded tokens themselves."""
    recording = np.load(path)
    model = senna(weights_of(path))[0]
    beside = (np.load(other) for other in [path, *golden_cases("senna*/*.npz")])
    shown = next((other for other in beside if "pixel_values_int8" in other), None)
    if shown is None:
        return model, recording, torch.from_numpy(recording["img_adapter_out"])[None]
    pixels = torch.from_numpy(shown["pixel_values_int8"]).float() * float(shown["pixel_scale"])
    return model, recording, model.get_image_features(pixels).tokens


def expand(ids: Tensor, mask: Tensor, config: Any) -> tuple[Tensor, Tensor]:
    """One row with the reference's placeholder to ours, and which of its positions are real."""
    row: list[int] = []
    real: list[int] = []
    for token, shown in zip(ids.tolist(), mask.tolist(), strict=True):
        count = config.num_view_tokens if token == REFERENCE_PLACEHOLDER else 1
        row += [config.image_token_id if token == REFERENCE_PLACEHOLDER else token] * count
        real += [shown] * count
    return torch.tensor(row), torch.tensor(real)


def question_inputs(recording: Any, number: str, tokens: Tensor, config: Any) -> dict[str, Tensor]:
    ids = torch.from_numpy(recording[f"input_ids_{number}"])
    mask_key = f"attention_mask_{number}"
    mask = torch.from_numpy(recording[mask_key]).long() if mask_key in recording else torch.ones_like(ids)
    rows = [expand(*pair, config) for pair in zip(ids, mask, strict=True)]
    attention_mask = torch.stack([real for _, real in rows])
    return {
        "input_ids": torch.stack([row for row, _ in rows]),
        "attention_mask": attention_mask,
        "position_ids": (attention_mask.cumsum(dim=1) - 1).clamp(min=0),
        "image_features": tokens.expand(len(rows), -1, -1, -1),
    }


def assert_close(found: Tensor, expected: Any) -> None:
    torch.testing.assert_close(found, torch.from_numpy(expected), atol=ATOL, rtol=0)


@pytest.mark.parametrize("weights", WEIGHTS, ids=name_of)
def test_every_weight_file_opens_to_the_same_model(weights: Path) -> None:
    expected = senna(WEIGHTS[0])[0].state_dict()
    found = senna(weights)[0].state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize("path", RECORDINGS, ids=name_of)
@torch.no_grad()
def test_visual_features(path: Path) -> None:
    model, recording, tokens = recorded(path)
    if "clip_features" not in recording:
        pytest.skip("this recording holds no visual features")
    features = torch.from_numpy(recording["clip_features"])
    if "pixel_values_int8" in recording:
        pixels = torch.from_numpy(recording["pixel_values_int8"]).float() * float(recording["pixel_scale"])
        features = model.model.run_tower(pixels.flatten(0, 1))[1][:, 1:]
        assert_close(features, recording["clip_features"])
        assert_close(tokens.flatten(0, 1), recording["img_adapter_out"])
    projected = model.model.multi_modal_projector(features)
    for key in recording.files:
        if match := re.fullmatch(r"mm_projector_out_views_([\d_]+)", key):
            assert_close(projected[[int(view) for view in match[1].split("_")]], recording[key])
    assert_close(model.model.img_adapter(projected), recording["img_adapter_out"][: len(features)])


@pytest.mark.parametrize("case", QUESTIONS, ids=name_of)
@torch.no_grad()
def test_embeddings_hidden_states_and_logits(case: tuple[Path, str]) -> None:
    path, number = case
    model, recording, tokens = recorded(path)
    inputs = question_inputs(recording, number, tokens, model.config)
    real = inputs["attention_mask"].bool()
    if f"inputs_embeds_{number}" in recording:
        embeds = model.model.embed(inputs["input_ids"], inputs["image_features"])
        assert_close(embeds[real], recording[f"inputs_embeds_{number}"][real.numpy()])
    output = model(**inputs, output_hidden_states=True)
    for key in recording.files:
        if match := re.fullmatch(rf"hidden_(\d+)_{number}", key):
            assert_close(output.hidden_states[int(match[1])][real], recording[key][real.numpy()])
    expected = recording[f"logits_{number}"]
    last = expected.shape[1]
    shown = real[:, -last:]
    assert_close(output.logits[:, -last:][shown], expected[shown.numpy()])


@pytest.mark.parametrize("case", QUESTIONS, ids=name_of)
def test_greedy_ids(case: tuple[Path, str]) -> None:
    path, number = case
    model, recording, tokens = recorded(path)
    if f"generated_{number}" not in recording:
        pytest.skip("nothing was generated in this recording")
    gaps = f"gen_top2_gap_{number}"
    if gaps in recording and recording[gaps].min() < CLEAR_MARGIN:
        pytest.skip("the recorded choice was too close; logits are compared")
    inputs = question_inputs(recording, number, tokens, model.config)
    del inputs["position_ids"]
    if not inputs["attention_mask"][:, -1].all():
        pytest.skip("generation needs left padding")
    expected = recording[f"generated_{number}"][:, 1:]
    generator: Any = model
    found = generator.generate(**inputs, max_new_tokens=expected.shape[1], do_sample=False, eos_token_id=None)
    assert found[:, inputs["input_ids"].shape[1] :].tolist() == expected.tolist()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("path", RECORDINGS, ids=name_of)
@torch.no_grad()
def test_padded_batch_agrees_with_the_recorded_singles(path: Path, side: str) -> None:
    model, recording, tokens = recorded(path)
    processor = senna(weights_of(path))[1]
    numbers = [number for own, number in QUESTIONS if own == path and recording[f"input_ids_{number}"].shape[0] == 1]
    if not numbers:
        pytest.skip("this recording holds no single samples")
    singles = [question_inputs(recording, number, tokens, model.config) for number in numbers]
    ids, mask = processor.pad([single["input_ids"][0] for single in singles], side)  # type: ignore[arg-type]
    features = tokens.expand(len(singles), -1, -1, -1)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, image_features=features).logits
    for row, number in enumerate(numbers):
        expected = recording[f"logits_{number}"][0]
        assert_close(logits[row, mask[row].bool()][-len(expected) :], expected)


@pytest.mark.parametrize("path", TOKENISED, ids=name_of)
def test_prompt_ids(path: Path) -> None:
    model, processor = senna(weights_of(path))
    for entry in json.loads(path.read_text(encoding="utf-8")):
        if "speed" in entry:
            question = planning_question(entry["speed"], entry["navi_cmd"])
            assert entry["prompt"] in {planning_prompt(question, system) for system in ("llava_v1", "v1")}
        assert entry["prompt"].split("<image>") == entry["chunks"]
        found = processor.encode_prompt(entry["prompt"])
        expected = torch.tensor(entry["input_ids"])
        assert found.tolist() == expand(expected, torch.ones_like(expected), model.config)[0].tolist()


@pytest.mark.parametrize("path", RAW, ids=name_of)
def test_prompt_text(path: Path) -> None:
    systems = {"prompt_llava_v1": "llava_v1", "prompt_v1": "v1"}
    entries = [entry for group in json.loads(path.read_text(encoding="utf-8")).values() for entry in group]
    assert entries
    for entry in entries:
        if entry["kind"] == "plan":
            assert planning_question(entry["speed"], entry["navi_cmd"]) == entry["human_value"]
        for key, system in systems.items():
            if key in entry:
                assert planning_prompt(entry["human_value"], system) == entry[key]  # type: ignore[arg-type]


def recipe(size: int, seed: int) -> np.ndarray:
    """The synthetic image of meta.json: blocks of `size` pixels coloured by a hash."""
    grid = np.meshgrid(*(np.arange(n, dtype=np.uint64) for n in (900, 1600, 3)), indexing="ij")
    y, x, c = grid[0] // np.uint64(size), grid[1] // np.uint64(size), grid[2]
    low = np.uint64(2**32 - 1)
    h = (x * np.uint64(73856093)) ^ (y * np.uint64(19349663)) ^ (c * np.uint64(83492791)) ^ np.uint64(seed * 2654435761)
    h &= low
    for _ in range(2):
        h = ((h ^ (h >> np.uint64(16))) * np.uint64(0x45D9F3B)) & low
    h ^= h >> np.uint64(16)
    return (h & np.uint64(255)).astype(np.uint8)


def recorded_image(folder: Path, name: str) -> Image.Image:
    """A recorded image: from its file, else from the recipe of meta.json; checked against its digest."""
    files = sorted(folder.glob(f"{name}*.png"))
    opened = open_image(files[0]) if files else open_image(recipe(1, 1))
    meta = json.loads((folder / "meta.json").read_text())
    digest = meta.get(f"{name}_sha256_rgb_bytes")
    assert digest in (None, hashlib.sha256(np.asarray(opened).tobytes()).hexdigest())
    return opened


@pytest.mark.parametrize("case", IMAGES, ids=name_of)
def test_pixel_values(case: tuple[Path, str]) -> None:
    path, key = case
    name, _, mode = key.rpartition("_")
    found = to_pixel_values(recorded_image(path.parent, name), 336, "pad" if mode == "pad" else "plain")
    expected = np.load(path)[key]
    apart = 336 // expected.shape[-1]  # the small set holds every seventh pixel of every seventh row
    assert np.abs(found.numpy()[:, ::apart, ::apart] - expected).max() <= 1e-6


def test_the_reference_data_is_where_the_tests_look() -> None:
    assert WEIGHTS
    assert QUESTIONS
    assert TOKENISED
    assert RAW
    assert IMAGES
