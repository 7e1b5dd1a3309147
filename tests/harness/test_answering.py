"""Answers to chat messages on tiny hosts; lmms-eval is not needed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from senna_prune import Budget, pruner_for
from senna_prune.errors import InputError
from senna_prune.harness.answering import Conversation, answers, length, pictures_of
from tests.harness.tiny_task import TEMPLATE
from tests.tiny_hosts import HOSTS, picture, tiny_host

SIZES = ((90, 160), (112, 112))
ASKED = {"max_new_tokens": 5, "temperature": 0}

every_host = pytest.mark.parametrize("kind", HOSTS)


def host(kind: str) -> tuple[Any, Any]:
    model, processor = tiny_host(kind)
    processor.chat_template = TEMPLATE
    return model, processor


def conversation(text: str, *sizes: tuple[int, int]) -> Conversation:
    parts = [{"type": "image", "image": picture(*size, seed=i)} for i, size in enumerate(sizes)]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


TALKS = [conversation("Which way now?", SIZES[0]), conversation("How fast should the car go?", *SIZES[1:])]


@every_host
def test_unpruned_answers_are_the_models_own(kind: str) -> None:
    model, processor = host(kind)
    found = answers(model, processor, pruner_for(model, "none"), TALKS, pictures_of(TALKS), ASKED, max_new_tokens=1024)
    prompts = [f"USER: <image>\n{talk[0]['content'][1]['text']} ASSISTANT:" for talk in TALKS]
    inputs = processor(images=pictures_of(TALKS), text=prompts, padding=True, return_tensors="pt")
    with torch.no_grad():
        ids = model.generate(**inputs, max_new_tokens=5, do_sample=False)
    own = processor.tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert [one.text for one in found] == own
    shown = (inputs["input_ids"] == model.config.image_token_id).sum(dim=1).tolist()
    assert [one.visual for one in found] == [one.kept for one in found] == shown


@every_host
@pytest.mark.parametrize("beams", [1, 2])
def test_a_quarter_of_the_tokens(kind: str, beams: int) -> None:
    model, processor = host(kind)
    pruner = pruner_for(model, "random", Budget.retention(0.25))
    talks = [*TALKS, conversation("Nothing is shown. Which way now?")]
    asked = ASKED | {"num_beams": beams}
    found = answers(model, processor, pruner, talks, pictures_of(talks), asked, max_new_tokens=1024)
    assert [one.visual > 0 for one in found] == [True, True, False]
    for one in found[:2]:
        assert one.kept == pytest.approx(one.visual / 4, abs=0.5)
    assert found[2].kept == 0 and all(one.generated for one in found)


def test_llava_next_packed_as_the_released_autoprune_does() -> None:
    model, processor = host("llava_next")
    pruner = pruner_for(model, "fastervlm", Budget.retention(0.5))
    found = answers(model, processor, pruner, TALKS, pictures_of(TALKS), ASKED, max_new_tokens=1024, spatial=True)
    assert all(one.visual % 16 == 0 for one in found), "every tile in full"
    assert [one.kept for one in found] == [one.visual / 2 for one in found]


def test_the_limit_of_the_model_holds_where_the_task_has_none() -> None:
    model, processor = host("llava")
    found = answers(model, processor, pruner_for(model, "none"), TALKS, pictures_of(TALKS), {}, max_new_tokens=2)
    assert all(1 <= one.generated <= 2 for one in found)


def test_an_answer_ends_where_the_task_says() -> None:
    model, processor = host("llava")
    pruner, shown = pruner_for(model, "none"), pictures_of(TALKS)
    whole = answers(model, processor, pruner, TALKS, shown, ASKED, max_new_tokens=1024)
    stop = whole[0].text[1:3]
    ended = answers(model, processor, pruner, TALKS, shown, ASKED | {"until": [stop]}, max_new_tokens=1024)
    assert stop and ended[0].text == whole[0].text.split(stop)[0]


def test_length_counts_the_end_but_no_padding() -> None:
    assert length([7, 2, 0, 0], end=2) == 2
    assert length([7, 8], end=2) == 2


def test_a_video_is_refused() -> None:
    talk = [{"role": "user", "content": [{"type": "video", "video": "a.mp4"}]}]
    with pytest.raises(InputError, match="video cannot be pruned"):
        pictures_of([talk])
