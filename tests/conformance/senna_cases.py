"""What transformers' model tests ask about Senna: a tiny configuration, inputs, and where Senna differs from their usual model."""

from __future__ import annotations

import unittest
from typing import Any

import pytest
import torch
from torch import Tensor

from senna_prune.model import SennaConfig, SennaForConditionalGeneration, SennaModel
from tests.conformance.mixin import SourceUnavailableError, model_tester_mixin

try:
    ModelTesterMixin = model_tester_mixin()
except SourceUnavailableError as error:
    pytest.skip(str(error), allow_module_level=True)


class SennaModelTester:
    """Configuration and inputs in the form that the mixin asks for: two frames of three views, two tokens each."""

    batch_size = 2
    is_training = True
    num_views = 3
    num_view_tokens = 2
    text_length = 9
    num_hidden_layers = 2
    num_attention_heads = 4
    hidden_size = 32
    vocab_size = 99

    def __init__(self, parent: unittest.TestCase) -> None:
        self.parent = parent
        self.seq_length = self.num_views * self.num_view_tokens + self.text_length
        self.vision_config = {
            "hidden_size": 32,
            "intermediate_size": 37,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 28,
            "patch_size": 14,
        }
        self.text_config = {
            "hidden_size": self.hidden_size,
            "intermediate_size": 37,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": 4,
            "vocab_size": self.vocab_size,
            "max_position_embeddings": 512,
            "pad_token_id": 1,
        }

    def get_config(self) -> SennaConfig:
        return SennaConfig(
            vision_config=dict(self.vision_config),
            text_config=dict(self.text_config),
            num_views=self.num_views,
            num_view_tokens=self.num_view_tokens,
        )

    def prepare_config_and_inputs_for_common(self) -> tuple[SennaConfig, dict[str, Tensor]]:
        config = self.get_config()
        size = config.vision_config.image_size
        input_ids = torch.randint(2, self.vocab_size, (self.batch_size, self.seq_length))
        input_ids[:, 1 : 1 + self.num_views * self.num_view_tokens] = config.image_token_id
        return config, {
            "input_ids": input_ids,
            "attention_mask": torch.ones_like(input_ids),
            "pixel_values": torch.rand(self.batch_size, self.num_views, 3, size, size),
        }


class SennaModelTest(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (SennaModel, SennaForConditionalGeneration)
    _is_composite = True

    def setUp(self) -> None:
        self.model_tester: Any = SennaModelTester(self)
