"""Senna on transformers; importing this package makes the Auto classes know it."""

from transformers import AutoConfig, AutoModelForImageTextToText

from senna_prune.model.configuration import SennaConfig
from senna_prune.model.modeling import SennaForConditionalGeneration, SennaImageFeatures, SennaModel

__all__ = ["SennaConfig", "SennaForConditionalGeneration", "SennaImageFeatures", "SennaModel"]

AutoConfig.register(SennaConfig.model_type, SennaConfig)
AutoModelForImageTextToText.register(SennaConfig, SennaForConditionalGeneration)
