"""Senna's class of transformers' own model tests; `test_transformers_suite.py` runs it in a process of its own.

Alone: `python -m pytest -o addopts= tests/conformance/senna_cases.py`; setup.cfg's options refuse the mixin's marks.
"""

from __future__ import annotations

import unittest

import pytest
import torch
from torch import Tensor
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, MODEL_MAPPING_NAMES
from transformers.testing_utils import torch_device

from senna_prune.model import SennaConfig, SennaForConditionalGeneration, SennaModel
from tests.conformance.mixin import SourceUnavailableError, model_tester_mixin

try:
    ModelTesterMixin = model_tester_mixin()
except SourceUnavailableError as error:
    pytest.skip(str(error), allow_module_level=True)

# The mixin reads off the library's own tables which class gets labels, and which is the base model.
MODEL_MAPPING_NAMES[SennaConfig.model_type] = SennaModel.__name__
MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES[SennaConfig.model_type] = SennaForConditionalGeneration.__name__

TEXT_ONLY = {
    "test_inputs_embeds": "looks the ids up in the bare embedding, where the placeholder has no row",
    "test_inputs_embeds_matches_input_ids": "as test_inputs_embeds",
    "test_resize_tokens_embeddings": "clamps the ids to a smaller vocabulary, which makes words of the placeholders",
    "test_resize_embeddings_untied": "as test_resize_tokens_embeddings",
}
"""Tests that get prompts without views, each with the reason."""


class SennaModelTester:
    """Configuration and inputs in the form that the mixin asks for."""

    # The comparison of attention implementations fills smaller batches up with random words, and so without views.
    batch_size = 7
    is_training = True
    num_views = 3
    num_view_tokens = 2
    seq_length = 15
    num_hidden_layers = 2
    num_attention_heads = 4
    hidden_size = 32
    vocab_size = 99

    def __init__(self, with_views: bool) -> None:
        self.with_views = with_views
        shape = {
            "hidden_size": self.hidden_size,
            "intermediate_size": 37,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
        }
        self.vision_config = shape | {"image_size": 28, "patch_size": 14}
        self.text_config = shape | {"vocab_size": self.vocab_size, "max_position_embeddings": 512, "pad_token_id": 1}

    def prepare_config_and_inputs_for_common(self) -> tuple[SennaConfig, dict[str, Tensor]]:
        config = SennaConfig(
            vision_config=dict(self.vision_config),
            text_config=dict(self.text_config),
            num_views=self.num_views,
            num_view_tokens=self.num_view_tokens,
            image_token_id=10 * self.vocab_size,  # the tests add words
        )
        input_ids = torch.randint(2, self.vocab_size, (self.batch_size, self.seq_length))
        inputs = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}
        if self.with_views:
            # Not at the ends, where the mixin masks two tokens.
            input_ids[:, 3 : 3 + self.num_views * self.num_view_tokens] = config.image_token_id
            inputs["pixel_values"] = torch.rand(self.batch_size, self.num_views, 3, 28, 28)
        return config, {name: values.to(torch_device) for name, values in inputs.items()}


class SennaModelTest(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (SennaModel, SennaForConditionalGeneration)
    additional_model_inputs = ("pixel_values",)
    # The layers of the tower behind the selected one do not run, nor does its last norm.
    test_all_params_have_gradient = False
    _is_composite = True

    def setUp(self) -> None:
        self.model_tester = SennaModelTester(with_views=self._testMethodName not in TEXT_ONLY)

    @unittest.skip("the source archive does not hold tests/generation; see tests/model/test_modeling.py for generate")
    def test_generation_tester_mixin_inheritance(self) -> None: ...
