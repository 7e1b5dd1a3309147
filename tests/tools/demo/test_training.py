"""Training in miniature: tokenizer, packing, optimizer, stages and resuming."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from senna_prune.errors import CheckpointError, ConfigError, FileError
from senna_prune.model.images import to_pixel_values
from senna_prune.model.modeling import IGNORED_LABEL
from senna_prune.task.labels import PLANS, plan_text
from senna_prune.task.prompts import planning_prompt, planning_question
from tests.tools.demo.tiny import TINY
from tools.demo.training.attributes import ATTRIBUTES, NOT_ASKED, picture_attributes
from tools.demo.training.checkpoints import load_checkpoint, save_checkpoint
from tools.demo.training.driver import RECORD, new_driver, run_identity, save_driver, train_driver
from tools.demo.training.loop import batch_numbers
from tools.demo.training.optimizer import MasterOptimizer
from tools.demo.training.packing import Pack, Packer, collate, packed_hidden, right_answers
from tools.demo.training.pictures import TrainingScene, TrainingScenes, training_scenes
from tools.demo.training.question_pool import PERCEPTION, Mix, all_texts, object_questions, sample_questions
from tools.demo.training.recipe import Recipe
from tools.demo.training.tokenizer import train_tokenizer
from tools.demo.training.validation import HeldOut
from tools.demo.world.scenes import make_scene, scene_rng
from tools.demo.world.street import Side, Street, mirror_street


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


@pytest.mark.parametrize("stretch", [1.0, 0.3])
def test_packed_questions_equal_single_ones(stretch: float) -> None:
    model, processor = new_driver(TINY, torch.float32)
    packer, rng = Packer(processor), np.random.default_rng(0)
    scene = next(training_scenes(5, (0, 1)))
    questions = sample_questions(rng, scene.street, scene.things, Mix(1, 2, 2, 1, 1))
    packs = [packer.pack(questions, stretch), packer.pack(questions[:1], stretch)]
    batch = collate(packs, 0, torch.float32)
    features = model.get_image_features(torch.randn(2, 6, 3, 28, 28)).tokens
    packed, early = packed_hidden(model, packer, features, batch)
    assert early.shape == features.shape
    for number, question in enumerate(questions, start=1):
        answer = processor.tokenizer(question.answer, add_special_tokens=False).input_ids
        single = torch.cat([processor.encode_prompt(planning_prompt(question.text)), torch.tensor(answer)])[None]
        here = batch.blocks[0] == number
        positions = torch.cat([packs[0].prefix_positions, batch.positions[0][here]])[None]
        # an explicit mask: transformers reads gaps between positions as the border of another sequence
        size = single.shape[1]
        mask = torch.full((size, size), torch.finfo(torch.float32).min).triu(1)[None, None]
        alone = model.model.language_model(
            inputs_embeds=model.model.embed(single, features[:1]), attention_mask=mask, position_ids=positions
        ).last_hidden_state[0]
        torch.testing.assert_close(packed[0][here], alone[-int(here.sum()) :], atol=1e-5, rtol=0)
        labels = batch.labels[0][here]
        assert labels[labels != IGNORED_LABEL].tolist() == [*answer, processor.tokenizer.eos_token_id]


def test_visual_tokens_advance_the_position_by_the_stretch() -> None:
    _, processor = new_driver(TINY, torch.float32)
    packer = Packer(processor)
    scene = make_scene(scene_rng(5, 0))
    asked = sample_questions(np.random.default_rng(0), scene.situation.street, (), Mix(1, 0, 0, 0, 0))
    plain, stretched = packer.pack(asked), packer.pack(asked, 0.25)
    assert packer.prefix is not None
    assert plain.prefix_positions.tolist() == list(range(len(packer.prefix)))
    visual = int((packer.prefix == processor.image_token_id).sum())
    assert plain.positions[0] - stretched.positions[0] == 0.75 * visual
    assert (stretched.positions[1:] - stretched.positions[:-1] == 1).all()


def test_right_answers_are_those_that_greedy_decoding_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question counts as right only when every token of its answer is."""
    from tools.demo.training import packing

    model, processor = new_driver(TINY, torch.float32)
    packer, rng = Packer(processor), np.random.default_rng(0)
    scene = next(training_scenes(5, (0, 1)))
    questions = sample_questions(rng, scene.street, scene.things, Mix(1, 1, 1, 0, 0))
    pack: Pack = packer.pack(questions)
    width = TINY.width
    model.lm_head.weight.data.zero_()
    hidden = torch.zeros(1, len(collate([pack], 0, torch.float32).ids[0]), width)
    wanted = [int(label) for label in pack.labels[pack.blocks == 2] if label != IGNORED_LABEL]
    for place, token in enumerate(wanted):
        model.lm_head.weight.data[token, place] = 1.0
    answers = ((pack.blocks == 2) & (pack.labels != IGNORED_LABEL)).nonzero().flatten().tolist()
    for place, position in enumerate(answers):
        hidden[0, position, place] = 1.0
    monkeypatch.setattr(packing, "packed_hidden", lambda *_: (hidden, hidden))
    pixels = torch.randn(6, 3, 28, 28)
    assert right_answers(model, packer, pixels, questions) == [False, True, False]
    hidden[0, answers[-1]] = 0.0
    assert not right_answers(model, packer, pixels, questions)[1]


def test_training_pictures_are_the_processor_s() -> None:
    import io

    from PIL import Image

    scene = next(training_scenes(5, (0, 1)))
    pixels = scene.pixel_values(112)
    expected = to_pixel_values(Image.open(io.BytesIO(scene.jpegs[3])), 112, "pad")
    torch.testing.assert_close(pixels[3], expected, atol=0, rtol=0)
    mirrored = scene.mirror().pixel_values(112)
    torch.testing.assert_close(mirrored[4], expected.flip(-1), atol=0, rtol=0)
    assert scene.mirror().mirror() == scene


def test_mirrored_scene_has_mirrored_attributes() -> None:
    street = Street("city", light="red", left=Side(street=True), right=Side(pedestrian=True, vehicle="behind"))
    here, there = picture_attributes(street), picture_attributes(mirror_street(street))
    np.testing.assert_array_equal(here[[0, 2, 1, 4, 3, 5]], there)
    assert here[1, ATTRIBUTES.index("side street")] == 1
    assert here[4, ATTRIBUTES.index("vehicle beside")] == 1
    assert here[5, ATTRIBUTES.index("side street")] == NOT_ASKED
    assert mirror_street(Street("city", ahead="following", signal="left")).signal == "right"


def test_questions_are_answerable_and_differ() -> None:
    rng = np.random.default_rng(2)
    scene = next(training_scenes(5, (0, 1)))
    questions = sample_questions(rng, scene.street, scene.things, Mix(2, 3, len(PERCEPTION), 1, 9))
    assert len({question.text for question in questions[5 : 5 + len(PERCEPTION)]}) == len(PERCEPTION)
    assert planning_question(0, "go straight")[:40] == questions[0].text[:40]
    assert questions[0].answer in {plan_text(*plan) for plan in PLANS}
    road_users, motions = object_questions(scene.things)
    assert {question.text for question in questions[5 + len(PERCEPTION) :]} == {
        question.text for question in [*road_users, *motions]
    }


def test_mirrored_scene_has_mirrored_questions() -> None:
    """What is 4 m to the left of a view's object is 4 m to its right, and a left turn is a right one."""
    swap = {"left": "right", "right": "left", "LEFT": "RIGHT", "RIGHT": "LEFT"}
    checked = 0
    for scene in training_scenes(5, (0, 40)):
        for here, there in zip(object_questions(scene.things), object_questions(scene.mirror().things), strict=True):
            wanted = {_swapped(question.answer, swap) for question in here}
            assert wanted == {question.answer for question in there}
            checked += sum("LEFT" in question.answer or "to the left" in question.answer for question in here)
    assert checked > 2


def _swapped(text: str, swap: dict[str, str]) -> str:
    return re.sub("left|right|LEFT|RIGHT", lambda match: swap[match[0]], text)


def test_every_scene_once_per_epoch() -> None:
    seen = np.concatenate([batch_numbers(0, step, 4, 10) for step in range(5)])
    assert sorted(seen[:10].tolist()) == sorted(seen[10:].tolist()) == list(range(10))


def test_killed_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run cut off in the middle of stage 2 and started again ends with the weights of an uninterrupted run."""
    straight, _ = train_driver(TINY, tmp_path / "straight", workers=2)
    original = MasterOptimizer.step

    def cut_off(self: MasterOptimizer, pieces: list[list[torch.Tensor | None]]) -> float:
        if self.steps == 2 and self.total_steps == 3:
            raise KeyboardInterrupt
        return original(self, pieces)

    with monkeypatch.context() as patched:
        patched.setattr(MasterOptimizer, "step", cut_off)
        with pytest.raises(KeyboardInterrupt):
            train_driver(TINY, tmp_path / "cut", workers=1)
    lines = [json.loads(line) for line in (tmp_path / "cut" / "log.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["step"], "held_out_plan" in line) for line in lines] == [
        ("attributes", 2, False),
        ("answers", 2, True),
    ]
    resumed, processor = train_driver(TINY, tmp_path / "cut", workers=1)
    for (name, one), (_, other) in zip(straight.named_parameters(), resumed.named_parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=0, rtol=0, msg=name)

    from transformers import AutoModelForImageTextToText, AutoProcessor

    save_driver(resumed, processor, tmp_path / "model", run_identity(TINY))
    record = json.loads((tmp_path / "model" / RECORD).read_text())
    assert (record["num_scenes"], record["seed"], record["torch"]) == (6, 0, torch.__version__)
    opened = AutoModelForImageTextToText.from_pretrained(tmp_path / "model")
    assert type(AutoProcessor.from_pretrained(tmp_path / "model")) is type(processor)
    torch.testing.assert_close(opened.lm_head.weight, resumed.lm_head.weight, atol=0, rtol=0)


def test_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    """Before, `--set num_scenes=...` after a finished run trained nothing and saved the old driver."""
    train_driver(TINY, tmp_path, workers=1)
    with pytest.raises(CheckpointError, match="num_scenes was 6, is 4"):
        train_driver(replace(TINY, num_scenes=4), tmp_path, workers=1)
    with pytest.raises(CheckpointError, match=r"answer_lr was 0.003, is 0.002"):
        train_driver(replace(TINY, answer_lr=2e-3), tmp_path, workers=1)


def test_a_damaged_or_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "attributes.safetensors"
    save_checkpoint(path, {"steps": torch.tensor(1)}, run_identity(TINY))
    with pytest.raises(CheckpointError, match="tensors are missing"):
        train_driver(TINY, tmp_path, workers=1)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match="not a training checkpoint"):
        load_checkpoint(path, run_identity(TINY))
    save_file({"steps": torch.tensor(1)}, path)
    with pytest.raises(CheckpointError, match="not a training checkpoint"):
        load_checkpoint(path, run_identity(TINY))


def test_cache_serves_again_and_refuses_what_it_did_not_write(tmp_path: Path) -> None:
    scenes = TrainingScenes(tmp_path, 2, 5)
    scenes.prepare(1, lambda done, total: None)
    again = TrainingScenes(tmp_path, 2, 5)
    again.prepare(1, lambda done, total: None)
    assert list(again) == list(scenes) == list(training_scenes(5, (0, 2)))
    assert isinstance(again[0], TrainingScene)
    (shard,) = tmp_path.glob("*.json")
    for content in ("[3]", '[{"street": {}}]', "[]", "{"):
        shard.write_text(content)
        with pytest.raises(FileError):
            TrainingScenes(tmp_path, 2, 5).prepare(1, lambda done, total: None)


def test_validation_asks_all_three_kinds() -> None:
    kinds = {kind for _, questions in HeldOut(6).scenes for kind, _ in questions}
    assert kinds == {"plan", "vru", "motion"}


def test_recipe_overrides_are_checked() -> None:
    assert Recipe.with_overrides(["num_scenes=12", "clip=0.5"]) == replace(Recipe(), num_scenes=12, clip=0.5)
    with pytest.raises(ConfigError, match="Did you mean 'num_scenes'"):
        Recipe.with_overrides(["num_scene=3"])
    with pytest.raises(ConfigError, match="many"):
        Recipe.with_overrides(["num_scenes=many"])
