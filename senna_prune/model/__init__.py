"""Senna on transformers; importing this package makes the Auto classes know it."""

from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoProcessor

from senna_prune.model.configuration import SennaConfig
from senna_prune.model.modeling import SennaForConditionalGeneration, SennaModel
from senna_prune.model.processing import SennaProcessor
from senna_prune.model.vision import SennaImageFeatures
from senna_prune.task.prompts import planning_prompt, planning_question

__all__ = [
    "SennaConfig",
    "SennaForConditionalGeneration",
    "SennaImageFeatures",
    "SennaModel",
    "SennaProcessor",
    "planning_prompt",
    "planning_question",
]

AutoConfig.register(SennaConfig.model_type, SennaConfig)
AutoModel.register(SennaConfig, SennaModel)
AutoModelForImageTextToText.register(SennaConfig, SennaForConditionalGeneration)
AutoProcessor.register(SennaConfig, SennaProcessor)
