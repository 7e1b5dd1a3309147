"""Training in miniature: what tokens are to show, packing, optimizer, stages and resuming."""

from __future__ import annotations

import io
import json
import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from senna_prune.errors import CheckpointError, FileError
from senna_prune.model.modeling import IGNORED_LABEL, SennaForConditionalGeneration
from senna_prune.model.processing import to_pixel_values
from senna_prune.task.labels import PLANS, plan_text
from senna_prune.task.prompts import planning_prompt, planning_question
from tests.tools.demo.tiny import TINY
from tools.demo.training import packing, validation
from tools.demo.training.attributes import (
    ATTRIBUTES,
    BLOCK,
    MIRRORED_ATTRIBUTES,
    TOKEN_RMS,
    AttributeHeads,
    grid_pooling,
    patch_coverage,
)
from tools.demo.training.checkpoints import save_checkpoint
from tools.demo.training.driver import RECORD, new_driver, run_identity, save_driver, train_driver
from tools.demo.training.judge import _auc, _effective, _probe, judge
from tools.demo.training.loop import batch_numbers
from tools.demo.training.optimizer import MasterOptimizer
from tools.demo.training.packing import Packer, ViewHead, collate, packed_hidden
from tools.demo.training.pictures import TrainingScene, TrainingScenes, training_scenes
from tools.demo.training.question_pool import PERCEPTION, Mix, Question, object_questions, sample_questions
from tools.demo.training.validation import HeldOut, random_share, right_answers
from tools.demo.world.rig import HEIGHT, WIDTH

MODEL, PROCESSOR = new_driver(TINY, torch.float32)
SCENE: TrainingScene = next(training_scenes(5, (0, 1)))


def packed(*counts: int, stretch: float = 1.0) -> tuple[Packer, list[Question], packing.Pack]:
    """Questions about `SCENE`, so many of each kind."""
    packer = Packer(PROCESSOR)
    questions = sample_questions(np.random.default_rng(0), SCENE.street, SCENE.things, Mix(*counts))
    return packer, questions, packer.pack(questions, stretch)


def test_tokenizer_has_llama_s_manners() -> None:
    tokenizer = PROCESSOR.tokenizer
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
    packer, questions, pack = packed(1, 2, 2, 1, 1, stretch=stretch)
    batch = collate([pack, packer.pack(questions[:1], stretch)], 0, torch.float32)
    features = MODEL.get_image_features(torch.randn(2, 6, 3, 28, 28)).tokens
    hidden, early = packed_hidden(MODEL, packer, features, batch)
    assert early.shape == features.flatten(1, 2).shape
    visual = packer.prefix == PROCESSOR.image_token_id
    assert float(batch.positions[0, 0]) == pytest.approx(float((~visual).sum() + stretch * visual.sum()))
    for number, question in enumerate(questions, start=1):
        answer = PROCESSOR.tokenizer(question.answer, add_special_tokens=False).input_ids
        single = torch.cat([PROCESSOR.encode_prompt(planning_prompt(question.text)), torch.tensor(answer)])[None]
        here = batch.blocks[0] == number
        positions = torch.cat([pack.prefix_positions, batch.positions[0][here]])[None]
        # an explicit mask: transformers reads gaps between positions as the border of another sequence
        size = single.shape[1]
        mask = torch.full((size, size), torch.finfo(torch.float32).min).triu(1)[None, None]
        alone = MODEL.model.language_model(
            inputs_embeds=MODEL.model.embed(single, features[:1]), attention_mask=mask, position_ids=positions
        ).last_hidden_state[0]
        torch.testing.assert_close(hidden[0][here], alone[-int(here.sum()) :], atol=1e-5, rtol=0)
        labels = batch.labels[0][here]
        assert labels[labels != IGNORED_LABEL].tolist() == [*answer, PROCESSOR.tokenizer.eos_token_id]


@torch.no_grad()
def test_tokens_that_are_not_kept_change_nothing() -> None:
    packer, _, pack = packed(1, 1, 0, 0, 0)
    batch, kept = collate([pack], 0, torch.float32), random_share(packer, 0.25, 0)
    assert packer.prefix is not None
    visual = packer.prefix == PROCESSOR.image_token_id
    assert int(visual[kept].sum()) == int(visual.sum()) // 4
    assert len(kept) == int(visual[kept].sum() + (~visual).sum())
    features = MODEL.get_image_features(torch.randn(1, 6, 3, 28, 28)).tokens
    dropped = torch.ones(12, dtype=torch.bool)
    dropped[torch.isin(visual.nonzero().flatten(), kept)] = False
    for place, same in ((dropped, True), (~dropped, False)):
        other = features.flatten(1, 2).clone()
        other[:, place] += 1
        runs = [packed_hidden(MODEL, packer, one.view_as(features), batch, kept=kept)[0] for one in (features, other)]
        assert torch.equal(*runs) == same


def test_right_answers_are_those_that_greedy_decoding_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question counts as right only when every token of its answer is."""
    packer, questions, pack = packed(1, 1, 1, 0, 0)
    model = deepcopy(MODEL)
    head = model.lm_head.weight.data.zero_()
    hidden = torch.zeros(1, len(collate([pack], 0, torch.float32).ids[0]), TINY.width)
    answers = ((pack.blocks == 2) & (pack.labels != IGNORED_LABEL)).nonzero().flatten().tolist()
    for place, position in enumerate(answers):
        head[int(pack.labels[position]), place] = hidden[0, position, place] = 1.0
    monkeypatch.setattr(validation, "packed_hidden", lambda *_, **__: (hidden, hidden))
    features = torch.zeros(6, 2, TINY.width)
    assert right_answers(model, packer, features, questions) == [False, True, False]
    hidden[0, answers[-1]] = 0.0
    assert not right_answers(model, packer, features, questions)[1]


def test_only_tokens_that_do_not_know_their_camera_learn_it() -> None:
    head, sure = ViewHead(2, 4), torch.tensor([[[9.0, 0, 0, 0], [0, 0, 0, 9.0]]])
    with torch.no_grad():
        head.of_token.weight.copy_(torch.tensor([[9.0, 0, 0, 0], [0, 0, 0, 9.0]]))
    loss, right = head.loss(sure)
    assert (float(loss.detach()), right) == (0.0, 1.0)
    loss, right = head.loss(sure.flip(1))
    assert float(loss.detach()) > 1
    assert right == 0.0


def test_training_pictures_are_the_processor_s_and_know_what_they_show() -> None:
    pixels, coverage = SCENE.pixel_values(112), SCENE.coverage()
    expected = to_pixel_values(Image.open(io.BytesIO(SCENE.jpegs[3])), 112, "pad")
    torch.testing.assert_close(pixels[3], expected, atol=0, rtol=0)
    torch.testing.assert_close(SCENE.mirror().pixel_values(112)[4], expected.flip(-1), atol=0, rtol=0)
    left, right = (ATTRIBUTES.index(f"bystander {side}") for side in ("left", "right"))
    assert MIRRORED_ATTRIBUTES[left] == right
    torch.testing.assert_close(SCENE.mirror().coverage()[2, right], coverage[1, left].flip(-1), atol=0, rtol=0)
    assert SCENE.mirror().mirror() == SCENE
    seen = {
        name
        for scene in training_scenes(5, (0, 60))
        for name, shares in zip(ATTRIBUTES, scene.coverage().transpose(0, 1), strict=True)
        if shares.any()
    }
    assert seen == set(ATTRIBUTES)


def test_a_token_sees_its_own_part_of_the_picture() -> None:
    config = replace(TINY, image_size=224, num_view_tokens=128).model_config(1000)
    pooling = grid_pooling(config)
    torch.testing.assert_close(pooling.sum(dim=1), torch.ones(128))
    coverage = torch.zeros(1, 1, HEIGHT // BLOCK, WIDTH // BLOCK)
    coverage[..., :4, :4] = 1.0  # four patches in the top left corner
    shares = (patch_coverage(coverage, 16) @ pooling.T).view(8, 16)
    assert float(shares[0, 0]) > 0.5
    assert float(shares[4:].max()) < 1e-3
    assert float(shares[:, 5:].max()) < 1e-3


def test_the_adapter_hands_its_pooled_patches_on() -> None:
    features = torch.randn(1, 4, TINY.width)
    expected = TOKEN_RMS * grid_pooling(MODEL.config) @ features
    torch.testing.assert_close(MODEL.model.img_adapter(features), expected, atol=0.05, rtol=0)


def test_attribute_loss_falls_where_tokens_name_what_they_show() -> None:
    heads, pixels, coverage = AttributeHeads(24, 16), torch.randn(6, 3, 28, 28), SCENE.coverage()
    coverage[:, 0] = 1.0
    loss, figures = heads.loss(MODEL.model, pixels, coverage)
    assert figures["named"] == figures["false"] == 0
    with torch.no_grad():
        heads.of_token.bias.fill_(5.0)
    false_alarms, figures = heads.loss(MODEL.model, pixels, coverage)
    assert figures["named"] == 1
    assert bool(false_alarms > loss)


def optimizer(
    weights: list[torch.nn.Parameter], matrices: list[torch.nn.Parameter], steps: int = 1000
) -> MasterOptimizer:
    settings = {"warm_up": 0.0, "cool_down": 0.5, "clip": 1e9, "beta": 0.98, "weight_decay": 0.0}
    return MasterOptimizer(weights, matrices, peak=1e-2, total_steps=steps, **settings)


def test_optimizer_keeps_steps_that_bfloat16_would_lose() -> None:
    weight, matrix = torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16)), torch.nn.Parameter(torch.zeros(2, 2))
    trained = optimizer([weight, matrix], [matrix])
    trained.peak = 1e-4
    for _ in range(60):
        trained.step([[torch.ones_like(weight), None], [torch.ones_like(weight), torch.ones(2, 2)]])
    # 1 - 1e-4 rounds to 1 in bfloat16: without the float32 copy the weight would never move.
    assert float(weight.detach()[0]) < 0.998


def test_muon_moves_every_direction_of_a_matrix_alike_and_goes_on_where_it_was() -> None:
    torch.manual_seed(0)
    matrix, vector = torch.nn.Parameter(torch.zeros(6, 4)), torch.nn.Parameter(torch.zeros(4))
    trained = optimizer([matrix, vector], [matrix])
    trained.step([[torch.linalg.qr(torch.randn(6, 4)).Q * torch.tensor([1.0, 0.5, 0.1, 0.05]), torch.ones(4)]])
    directions = torch.linalg.svdvals(matrix.detach())
    assert float(directions.max() / directions.min()) < 2  # the gradient's differ by a factor of 20
    torch.testing.assert_close(vector.detach(), torch.full((4,), -1e-2))  # AdamW's first step
    state = trained.tensors()
    again = optimizer([matrix, vector], [matrix])
    again.load_tensors(state)
    for name, tensor in again.tensors().items():
        torch.testing.assert_close(state.pop(name), tensor, atol=0, rtol=0, msg=name)
    assert not state
    longer = optimizer([matrix, vector], [matrix], steps=2000)
    longer.load_tensors(again.tensors())  # both rates are still at their peak
    again.steps = 501
    with pytest.raises(ValueError, match="cannot become one of 2000"):
        longer.load_tensors(again.tensors())


def test_questions_are_answerable_and_differ() -> None:
    rng = np.random.default_rng(2)
    questions = sample_questions(rng, SCENE.street, SCENE.things, Mix(2, 3, len(PERCEPTION), 1, 9))
    assert len({question.text for question in questions[5 : 5 + len(PERCEPTION)]}) == len(PERCEPTION)
    assert planning_question(0, "go straight")[:40] == questions[0].text[:40]
    assert questions[0].answer in {plan_text(*plan) for plan in PLANS}
    road_users, motions = object_questions(SCENE.things)
    asked = {question.text for question in questions[5 + len(PERCEPTION) :]}
    assert asked == {question.text for question in [*road_users, *motions]}
    assert {kind for _, _, asked in HeldOut(6).scenes for kind, _ in asked} == {"plan", "vru", "motion"}


def told(answer: str, *, mirrored: bool = False) -> list[str]:
    """What an answer tells of each object, in whatever order: objects are named from left to right."""
    swap = {"left": "right", "right": "left", "LEFT": "RIGHT", "RIGHT": "LEFT"}
    text = re.sub("left|right|LEFT|RIGHT", lambda word: swap[word[0]], answer) if mirrored else answer
    return sorted(re.sub("Object .: |Yes, I see |[.]", "", part) for part in re.split(", and |\n", text))


def test_mirrored_scene_has_mirrored_questions() -> None:
    """What is 4 m to the left of a view's object is 4 m to its right, and a left turn is a right one."""
    sided = 0
    for scene in training_scenes(5, (0, 40)):
        for here, there in zip(object_questions(scene.things), object_questions(scene.mirror().things), strict=True):
            assert sorted(told(one.answer, mirrored=True) for one in here) == sorted(told(one.answer) for one in there)
            sided += sum("LEFT" in one.answer or "to the left" in one.answer for one in here)
    assert sided > 5


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
    assert [(line["stage"], line["step"], "held_out_random_quarter" in line) for line in lines] == [
        ("tower", 2, False),
        ("answers", 2, True),
    ]
    resumed, processor = train_driver(TINY, tmp_path / "cut", workers=1)
    for (name, one), (_, other) in zip(straight.named_parameters(), resumed.named_parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=0, rtol=0, msg=name)
    fresh, _ = new_driver(TINY)
    moved = {name for name, one in fresh.named_parameters() if not torch.equal(one, resumed.get_parameter(name))}
    assert not any("img_adapter" in name for name in moved)
    assert {name.split(".")[1] for name in moved} >= {"vision_tower", "multi_modal_projector", "language_model"}

    from transformers import AutoModelForImageTextToText, AutoProcessor

    save_driver(resumed, processor, tmp_path / "model", run_identity(TINY, "all"))
    record = json.loads((tmp_path / "model" / RECORD).read_text())
    assert (record["num_scenes"], record["answer_steps"], record["torch"]) == (6, 3, torch.__version__)
    opened = AutoModelForImageTextToText.from_pretrained(tmp_path / "model")
    assert isinstance(opened, SennaForConditionalGeneration)
    assert type(AutoProcessor.from_pretrained(tmp_path / "model")) is type(processor)
    torch.testing.assert_close(opened.lm_head.weight, resumed.lm_head.weight, atol=0, rtol=0)


def test_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    """Before, `--set num_scenes=...` after a finished run trained nothing and saved the old driver."""
    train_driver(replace(TINY, answer_steps=0), tmp_path, workers=1)
    for changed, problem in (
        ({"num_scenes": 4}, "num_scenes was 6, is 4"),
        ({"tower_lr": 1e-3}, "tower_lr was 0.002, is 0.001"),
        ({"tower_steps": 4}, "cannot become one of 4"),
    ):
        with pytest.raises(CheckpointError, match=problem):
            train_driver(replace(TINY, answer_steps=0, **changed), tmp_path, workers=1)
    train_driver(replace(TINY, answer_steps=1, layers=1), tmp_path, workers=1)  # the tower is of use to any decoder
    save_checkpoint(tmp_path / "tower.safetensors", {"steps": torch.tensor(1)}, run_identity(TINY, "tower"))
    with pytest.raises(CheckpointError, match="tensors are missing"):
        train_driver(replace(TINY, answer_steps=1, layers=1), tmp_path, workers=1)


def test_cache_serves_again_and_refuses_what_it_did_not_write(tmp_path: Path) -> None:
    scenes, again = TrainingScenes(tmp_path, 2, 5), TrainingScenes(tmp_path, 2, 5)
    for one in (scenes, again):
        one.prepare(1, lambda done, total: None)
    assert list(again) == list(scenes) == list(training_scenes(5, (0, 2)))
    (shard,) = tmp_path.glob("*.json")
    for content in ("[3]", '[{"street": {}}]', "[]", "{"):
        shard.write_text(content)
        with pytest.raises(FileError):
            TrainingScenes(tmp_path, 2, 5).prepare(1, lambda done, total: None)


def test_a_driver_is_judged_by_what_it_sees_and_by_what_random_costs() -> None:
    lines = list(judge(MODEL, PROCESSOR, num_scenes=2, num_probed=2))
    assert lines[0] == "plan: 0.0% of 2 exact"
    assert "plan, random 12.5%: 0.0% of 2 exact" in lines
    torch.manual_seed(0)
    there = torch.rand(400) < 0.3
    features = torch.randn(400, 8)
    assert _probe(features, there, 200) < 0.7
    assert _probe(features + 6 * there[:, None], there, 200) > 0.95
    here = torch.tensor([False, True, True, False])
    assert _auc(torch.tensor([0.1, 0.4, 0.3, 0.2]), here) == 1.0
    assert _auc(torch.tensor([0.1, 0.4, 0.1, 0.2]), here) == pytest.approx(0.625)
    assert _effective(torch.tensor([0.5, 0.0, 0.5, 0.0])) == pytest.approx(2.0)
