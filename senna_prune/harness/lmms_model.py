"""Models for lmms-eval: each loads a host, and answers a task's messages under a pruning method."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import mean
from typing import Any, ClassVar

from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.models.model_utils.gen_metrics import log_metrics
from lmms_eval.protocol import ChatMessages
from lmms_eval.utils import Collator
from loguru import logger
from tqdm import tqdm
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from senna_prune.devices import find_device
from senna_prune.errors import CheckpointError, InputError, as_error, one_of
from senna_prune.harness.answering import Answer, Conversation, answers, pictures_of
from senna_prune.harness.arguments import batch_size_of, budget_of
from senna_prune.harness.manifests import CLASSES
from senna_prune.hosts.host import READ_ALIKE
from senna_prune.planner.planner import pruner_for
from senna_prune.pruning import make_method


class PrunedModel(lmms):
    """What the models have in common. A subclass is named in `manifests.py`.

    Args:
        pretrained: folder or name of a checkpoint in transformers' format.
        method: a registered pruning method.
        retention, tokens, accounting: the budget, see `budget_of`.
        device: "auto" is the process's CUDA device where there is one, else the CPU.
        dtype: of the weights; "auto" is the checkpoint's.
        attn_implementation: of transformers; None is its choice.
        batch_size: prompts answered at once.
        options: of the method, `positions` among them.

    Raises:
        InputError, PruningError: an argument is wrong; told before weights are loaded.
        CheckpointError: the checkpoint is of another model, or has no chat template.
    """

    is_simple = False
    kind: ClassVar[str]
    max_new_tokens: ClassVar[int] = 1024
    """Where a task has no limit, as in lmms-eval's own wrapper of the model."""
    spatial = False
    opening: ClassVar[Conversation] = []
    """Messages before those of a task."""

    def __init__(
        self,
        pretrained: str,
        method: str = "autoprune",
        retention: float | None = None,
        tokens: float | None = None,
        accounting: str = "entering",
        device: str = "auto",
        dtype: str = "auto",
        attn_implementation: str | None = None,
        batch_size: int | str = 1,
        **options: Any,
    ) -> None:
        super().__init__()
        budget = budget_of(method, retention, tokens, accounting)
        make_method(method, **options)
        self.batch_size = batch_size_of(batch_size)
        self.device = find_device(str(device), "device")
        with as_error(CheckpointError, "cannot be used", pretrained):
            found = AutoConfig.from_pretrained(pretrained).model_type
        if READ_ALIKE.get(found, found) != self.kind:
            hint = f"use --model senna_prune_{found}" if f"senna_prune_{found}" in CLASSES else "choose another"
            raise CheckpointError(f"the checkpoint is a {found}, not a {self.kind}", where=pretrained, hint=hint)
        with as_error(CheckpointError, "cannot be used", pretrained):
            self.processor = AutoProcessor.from_pretrained(pretrained, **self.processor_options())
        if self.processor.chat_template is None:
            raise CheckpointError(
                "the processor has no chat template", where=pretrained, hint="add chat_template.jinja"
            )
        with as_error(CheckpointError, "cannot be used", pretrained):
            model: Any = AutoModelForImageTextToText.from_pretrained(
                pretrained, dtype=dtype, attn_implementation=attn_implementation
            )
            self.model = model.to(self.device)
        self.pruner = pruner_for(self.model, method, budget, **options)
        self.told = f"{method} at {'all tokens' if budget is None else f'{budget.value:g} {budget.kind}'}"
        logger.info(f"senna_prune: {self.told}, positions {self.pruner.positions}, on {self.device}")

    def processor_options(self) -> dict[str, Any]:
        """Further arguments of the processor."""
        return {}

    def pictures(self, conversations: Sequence[Conversation]) -> Sequence[Any]:
        """Images of all conversations, in order, as the processor gets them."""
        return pictures_of(conversations)

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """Answer requests in batches of equal `generation_kwargs`, prompts of similar length together."""
        # Arguments of a request: text, function from a document to messages, generation_kwargs, document, task, split.
        order = Collator(
            [one.args for one in requests], lambda args: -len(args[0]), lambda args: args[2], grouping=True
        )
        found: list[Answer] = []
        begin = time.perf_counter()
        with tqdm(total=len(requests), disable=self.rank != 0, desc="senna_prune") as progress:
            for batch in order.get_batched(n=self.batch_size):
                found += self._answer(batch)
                progress.update(len(batch))
        self._report(found, time.perf_counter() - begin)
        results = [GenerationResult(one.text, TokenCounts(output_tokens=one.generated)) for one in found]
        return order.get_original(results)

    def _answer(self, batch: Sequence[tuple[Any, ...]]) -> list[Answer]:
        conversations = [
            self.opening + ChatMessages(messages=to_messages(self.task_dict[task][split][document])).to_hf_messages()
            for _, to_messages, _, document, task, split in batch
        ]
        return answers(
            self.model,
            self.processor,
            self.pruner,
            conversations,
            self.pictures(conversations),
            batch[0][2],
            max_new_tokens=self.max_new_tokens,
            spatial=self.spatial,
            names=[f"{task}, {split} document {document}" for *_, document, task, split in batch],
        )

    def _report(self, found: Sequence[Answer], seconds: float) -> None:
        """Into the log, and as "throughput" into the file of results."""
        generated = sum(one.generated for one in found)
        seen: dict[str, Any] = {"pruning": self.told}
        if pictured := [one for one in found if one.visual]:
            seen["visual_tokens"] = mean(one.visual for one in pictured)
            seen["visual_tokens_per_layer"] = mean(one.kept for one in pictured)
        log_metrics(seconds, generated, generated / seconds, seen)

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        raise InputError(
            "likelihoods are not computed", where="task", hint="choose tasks of output_type generate_until"
        )

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        raise InputError("rounds are not supported", where="task", hint="choose tasks of output_type generate_until")


class PrunedLlava(PrunedModel):
    """LLaVA-1.5."""

    kind = "llava"


class PrunedLlavaNext(PrunedModel):
    """LLaVA-NeXT.

    Args:
        packing: "spatial_unpad", the model's own, or "spatial", the released AutoPrune's.
    """

    kind = "llava_next"

    def __init__(self, pretrained: str, packing: str = "spatial_unpad", **arguments: Any) -> None:
        choices = ("spatial_unpad", "spatial")
        one_of(packing, choices, "packing", "packing", InputError)
        self.spatial = packing == "spatial"
        super().__init__(pretrained, **arguments)


class PrunedQwen25VL(PrunedModel):
    """Qwen2.5-VL.

    Args:
        min_pixels, max_pixels: an image is scaled to lie between; the defaults are lmms-eval's.
    """

    kind = "qwen2_5_vl"
    max_new_tokens = 128

    def __init__(
        self, pretrained: str, min_pixels: int = 256 * 28 * 28, max_pixels: int = 1605632, **arguments: Any
    ) -> None:
        self.pixels = {"min_pixels": min_pixels, "max_pixels": max_pixels}
        super().__init__(pretrained, **arguments)

    def processor_options(self) -> dict[str, Any]:
        return self.pixels

    def pictures(self, conversations: Sequence[Conversation]) -> Sequence[Any]:
        return sized(conversations, 14) if super().pictures(conversations) else []


class PrunedQwen3VL(PrunedModel):
    """Qwen3-VL, also its mixture of experts. As in lmms-eval, images have the size that `qwen_vl_utils` gives them."""

    kind = "qwen3_vl"
    max_new_tokens = 128
    opening: ClassVar[Conversation] = [
        {"role": "system", "content": [{"type": "text", "text": "You are a helpful assistant."}]}
    ]

    def processor_options(self) -> dict[str, Any]:
        return {"do_resize": False}

    def pictures(self, conversations: Sequence[Conversation]) -> Sequence[Any]:
        return sized(conversations, 16) if super().pictures(conversations) else []


def sized(conversations: Sequence[Conversation], patch: int) -> Sequence[Any]:
    """Images of Qwen's conversations, scaled to whole tokens of 2 x 2 patches of `patch` pixels."""
    from qwen_vl_utils import process_vision_info

    images: Sequence[Any] = process_vision_info(conversations, image_patch_size=patch)[0]
    return images
