"""Answers to chat messages on tiny hosts; lmms-eval is not needed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from senna_prune import Budget, pruner_for
from senna_prune.errors import InputError
from senna_prune.harness.answering import Conversation, answers, length, pictures_of
from tests.harness.tiny_task import TEMPLATE
from tests.tiny_hosts import HOSTS, MROPE, picture, tiny_host

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


MARK = st.sampled_from(["<image>", "<video>", "a", " ", "<", "image>", "\n", "where"])


@settings(max_examples=30, deadline=None)
@given(texts=st.lists(st.lists(MARK, max_size=6).map("".join), min_size=1, max_size=3), images=st.integers(0, 2))
@pytest.mark.parametrize("kind", HOSTS)
def test_any_text_is_answered_or_its_document_is_named(kind: str, texts: list[str], images: int) -> None:
    model, processor = HOST[kind]
    talks = [conversation(text, *[(60, 60)] * images) for text in texts]
    names = [f"document {number}" for number in range(len(talks))]
    literal = [name for name, text in zip(names, texts, strict=True) if "<image>" in text or "<video>" in text]
    pruner, given = pruner_for(model, "fastervlm", Budget.retention(0.5)), (pictures_of(talks), {"max_new_tokens": 1})
    if kind not in MROPE:  # the others know no videos: their mark is a word
        literal = [name for name, text in zip(names, texts, strict=True) if "<image>" in text]
    if not literal:
        assert len(answers(model, processor, pruner, talks, *given, max_new_tokens=1)) == len(talks)
        return
    with pytest.raises(InputError, match=rf"^{literal[0]}: its prompt holds \d marks <") as caught:
        answers(model, processor, pruner, talks, *given, max_new_tokens=1, names=names)
    assert "\n" not in str(caught.value)


HOST = {kind: host(kind) for kind in HOSTS}
BROKEN: dict[str, tuple[str, dict[str, Any], str]] = {
    "no image": ("image", {"image": None}, "conversation 1: the processor cannot read it"),
    "an image that is no image": ("image", {"image": object()}, "conversation 1: the processor cannot read it"),
}
OPTIONS: dict[str, Any] = {
    "temperature": -1.0,
    "num_beams": 0,
    "max_new_tokens": "many",
    "until": 3,
    "num_return_sequences": 2,
    "return_dict_in_generate": True,
}


@every_host
@pytest.mark.parametrize("case", BROKEN)
def test_what_a_processor_cannot_read_names_the_document(kind: str, case: str) -> None:
    model, processor = HOST[kind]
    part, content, complaint = BROKEN[case]
    talks = [TALKS[0], [{"role": "user", "content": [{"type": part, **content}]}]]
    with pytest.raises(InputError, match=complaint) as caught:
        answers(model, processor, pruner_for(model, "none"), talks, pictures_of(talks), {}, max_new_tokens=2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("option", OPTIONS)
def test_options_that_generate_refuses_are_named(option: str) -> None:
    model, processor = HOST["llava"]
    asked = {"do_sample": option == "temperature", option: OPTIONS[option]}
    given = pruner_for(model, "none"), TALKS[:1], pictures_of(TALKS[:1])
    if option == "return_dict_in_generate":
        assert len(answers(model, processor, *given, asked, max_new_tokens=2)) == 1
        return
    with pytest.raises(InputError, match="generation_kwargs"):
        answers(model, processor, *given, asked, max_new_tokens=2)


def test_content_may_be_text_alone_and_templates_may_refuse() -> None:
    model, processor = host("llava")
    processor.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    talk = [[{"role": "user", "content": "Which way now?"}]]
    found = answers(model, processor, pruner_for(model, "none"), talk, pictures_of(talk), {}, max_new_tokens=2)
    assert found[0].visual == 0
    processor.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(InputError, match=r"conversation 0: the chat template .*roles must"):
        answers(model, processor, pruner_for(model, "none"), talk, [], {}, max_new_tokens=2)
