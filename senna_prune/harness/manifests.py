"""The models that lmms-eval finds through its entry-point group `lmms_eval.models`."""

from __future__ import annotations

from typing import Any

CLASSES = {
    "senna_prune_llava": "PrunedLlava",
    "senna_prune_llava_next": "PrunedLlavaNext",
    "senna_prune_qwen2_5_vl": "PrunedQwen25VL",
    "senna_prune_qwen3_vl": "PrunedQwen3VL",
}
"""Classes of `lmms_model.py` by model id."""


def manifests() -> list[Any]:
    """One `ModelManifest` for each model id."""
    # Here, not above: lmms_eval.models loads entry points while it is imported, and would find this module half loaded.
    from lmms_eval.models.registry_v2 import ModelManifest

    module = f"{__package__}.lmms_model"
    return [ModelManifest(model_id=name, chat_class_path=f"{module}.{own}") for name, own in CLASSES.items()]
