"""Training in miniature: tokenizer, packing, optimizer, stages and resuming."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from senna_prune.demo.training.attributes import ATTRIBUTES, NOT_ASKED, picture_attributes
from senna_prune.demo.training.driver import new_driver, save_driver, train_driver
from senna_prune.demo.training.loop import batch_numbers
from senna_prune.demo.training.mirror import mirror_pictures, mirror_street
from senna_prune.demo.training.optimizer import MasterAdamW
from senna_prune.demo.training.packing import Packer, collate
from senna_prune.demo.training.pictures import TrainingScenes, content_rows, letterbox, pixel_values
from senna_prune.demo.training.question_pool import PERCEPTION, all_texts, sample_questions
from senna_prune.demo.training.recipe import Recipe
from senna_prune.demo.training.tokenizer import train_tokenizer
from senna_prune.demo.world.sampling import sample_street
from senna_prune.demo.world.street import Side, Street
from senna_prune.errors import ConfigError
from senna_prune.model.images import to_pixel_values
from senna_prune.model.modeling import IGNORED_LABEL
from senna_prune.task.labels import PLANS, plan_text
from senna_prune.task.prompts import planning_prompt, planning_question

TINY = Recipe(
    num_scenes=6,
    attribute_batch=3,
    answer_batch=2,
    attribute_epochs=1.0,
    answer_epochs=1.0,
    short_plans=1,
    perception=2,
    warm_up=2,
    checkpoint_every=1,
    image_size=28,
    num_view_tokens=2,
    vision_width=16,
    vision_layers=2,
    width=24,
    layers=2,
    heads=2,
    mlp=32,
)


def test_tokenizer_has_llama_s_manners() -> None:
    tokenizer = train_tokenizer(planning_prompt(text) for text in all_texts())
    ids = tokenizer("KEEP, LEFT_CHANGE").input_ids
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True) == "KEEP, LEFT_CHANGE"
    odd = "naïve ☃ 東京"
    assert tokenizer.decode(tokenizer(odd).input_ids, skip_special_tokens=True) == odd
    # An answer's pieces are the same behind the prompt as alone: what training teaches is what readouts score.
    for plan in PLANS:
        text = plan_text(*plan)
        alone = tokenizer(text, add_special_tokens=False).input_ids
        assert tokenizer(f"ASSISTANT: {text}").input_ids[-len(alone) :] == alone
        assert len(alone) == 2


def test_packed_questions_equal_single_ones() -> None:
    model, processor = new_driver(TINY, torch.float32)
    packer, rng = Packer(processor), np.random.default_rng(0)
    questions = sample_questions(rng, sample_street(rng), 1, 2, 2)
    pack = packer.pack(questions)
    ids, positions, labels, mask = collate([pack, packer.pack(questions[:1])], 0, torch.float32)
    features = model.get_image_features(torch.randn(2, 6, 3, 28, 28)).tokens
    packed = model.model.language_model(
        inputs_embeds=model.model.embed(ids, features), attention_mask=mask, position_ids=positions, use_cache=False
    ).last_hidden_state
    for number, question in enumerate(questions, start=1):
        answer = processor.tokenizer(question.answer, add_special_tokens=False).input_ids
        single = torch.cat([processor.encode_prompt(planning_prompt(question.text)), torch.tensor(answer)])[None]
        alone = model.model(input_ids=single, image_features=features[:1]).last_hidden_state[0]
        here = pack.blocks == number
        torch.testing.assert_close(packed[0, : len(here)][here], alone[-int(here.sum()) :], atol=1e-5, rtol=0)
        assert labels[0, : len(here)][here][labels[0, : len(here)][here] != IGNORED_LABEL].tolist() == [
            *answer,
            processor.tokenizer.eos_token_id,
        ]


def test_optimizer_keeps_steps_that_bfloat16_would_lose() -> None:
    weight = torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    optimizer = MasterAdamW(
        [([weight], 1e-4)], total_steps=1000, warm_up=1, clip=1.0, betas=(0.9, 0.98), weight_decay=0.0
    )
    for _ in range(60):
        optimizer.step([[torch.ones_like(weight)], [torch.ones_like(weight)]])
    # 1 - 1e-4 rounds to 1 in bfloat16: without the float32 copy the weight would never move.
    assert float(weight.detach()[0]) < 0.998


def test_cached_pictures_are_the_processor_s() -> None:
    import io

    from PIL import Image

    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (90, 160, 3), dtype=np.uint8)).save(buffer, "JPEG")
    expected = to_pixel_values(Image.open(io.BytesIO(buffer.getvalue())), 112, "pad")
    cached = letterbox(buffer.getvalue(), 112)
    assert cached.shape[0] < 80
    restored = pixel_values(np.stack([cached] * 6)[None], 112)
    torch.testing.assert_close(restored[0, 3], expected, atol=1e-5, rtol=0)


def test_mirrored_scene_has_mirrored_attributes() -> None:
    street = Street("city", light="red", left=Side(street=True), right=Side(pedestrian=True, vehicle="behind"))
    here, there = picture_attributes(street), picture_attributes(mirror_street(street))
    np.testing.assert_array_equal(here[[0, 2, 1, 4, 3, 5]], there)
    assert here[1, ATTRIBUTES.index("side street")] == 1
    assert here[4, ATTRIBUTES.index("vehicle beside")] == 1
    assert here[5, ATTRIBUTES.index("side street")] == NOT_ASKED
    pictures = np.arange(6 * 2 * 4 * 3).reshape(6, 2, 4, 3)
    np.testing.assert_array_equal(mirror_pictures(pictures)[1, :, 0], pictures[2, :, -1])


def test_questions_are_answerable_and_differ() -> None:
    rng = np.random.default_rng(2)
    questions = sample_questions(rng, sample_street(rng), 2, 3, len(PERCEPTION))
    assert len(questions) == 5 + len(PERCEPTION)
    assert len({question.text for question in questions[5:]}) == len(PERCEPTION)
    assert planning_question(0, "go straight")[:40] == questions[0].text[:40]
    assert questions[0].answer in {plan_text(*plan) for plan in PLANS}


def test_every_scene_once_per_epoch() -> None:
    seen = np.concatenate([batch_numbers(0, step, 4, 10) for step in range(5)])
    assert sorted(seen[:10].tolist()) == sorted(seen[10:].tolist()) == list(range(10))


def test_killed_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run cut off in the middle of stage 2 and started again ends with the weights of an uninterrupted run."""
    straight, _ = train_driver(TINY, tmp_path / "straight", workers=2)
    original = MasterAdamW.step

    def cut_off(self: MasterAdamW, pieces: list[list[torch.Tensor | None]]) -> float:
        if self.steps == 2 and self.total_steps == 3:
            raise KeyboardInterrupt
        return original(self, pieces)

    with monkeypatch.context() as patched:
        patched.setattr(MasterAdamW, "step", cut_off)
        with pytest.raises(KeyboardInterrupt):
            train_driver(TINY, tmp_path / "cut", workers=1)
    steps = [json.loads(line)["step"] for line in (tmp_path / "cut" / "log.jsonl").read_text().splitlines()]
    assert steps == [2]
    resumed, processor = train_driver(TINY, tmp_path / "cut", workers=1)
    for (name, one), (_, other) in zip(straight.named_parameters(), resumed.named_parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=0, rtol=0, msg=name)

    from transformers import AutoModelForImageTextToText, AutoProcessor

    save_driver(resumed, processor, tmp_path / "model")
    opened = AutoModelForImageTextToText.from_pretrained(tmp_path / "model")
    assert type(AutoProcessor.from_pretrained(tmp_path / "model")) is type(processor)
    torch.testing.assert_close(opened.lm_head.weight, resumed.lm_head.weight, atol=0, rtol=0)


def test_cache_serves_shorter_runs_too(tmp_path: Path) -> None:
    scenes = TrainingScenes(tmp_path, 2, 5, 28)
    scenes.prepare(1, lambda done, total: None)
    again = TrainingScenes(tmp_path, 2, 5, 28)
    again.prepare(1, lambda done, total: None)
    assert again.streets == scenes.streets
    assert scenes.pictures(np.array([1])).shape == (1, 6, 28 - 2 * content_rows(28).start, 28, 3)


def test_recipe_overrides_are_checked() -> None:
    assert Recipe.with_overrides(["num_scenes=12", "clip=0.5"]) == replace(Recipe(), num_scenes=12, clip=0.5)
    with pytest.raises(ConfigError, match="num_scene"):
        Recipe.with_overrides(["num_scene=3"])
    with pytest.raises(ConfigError, match="many"):
        Recipe.with_overrides(["num_scenes=many"])
