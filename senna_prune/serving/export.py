"""The decoder of a Senna checkpoint as a plain Llama folder, which any serving engine opens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor
from transformers import LlamaConfig

from senna_prune.files import read_json, write_json
from senna_prune.model.checkpoint import generation_config, open_checkpoint
from senna_prune.model.importing import new_folder, write_shards

_DECODER, _HEAD = "model.language_model.", "lm_head."


def export_decoder(source: str | Path, destination: str | Path, vision_tower: str | Path | None = None) -> None:
    """Write decoder, tokenizer and generation settings of a checkpoint; vision tower and adapter stay behind.

    Weights keep their types and their files: memory holds one file at a time. The engine gets prompts as embeddings, so
    the placeholder of images, which has no row in the embedding, is not needed.

    Args:
        source: checkpoint folder, in our format or as released.
        destination: folder to write; must not exist.
        vision_tower: only to open a released checkpoint that holds no tower.

    Raises:
        CheckpointError: as `open_checkpoint`; or the destination exists or cannot be written.
    """
    with new_folder(destination) as draft:
        checkpoint = open_checkpoint(source, vision_tower)
        checkpoint.check()

        def shards() -> Iterator[dict[str, Tensor]]:
            for shard in checkpoint.shards():
                yield {
                    name.replace(_DECODER, "model.", 1): tensor
                    for name, tensor in shard.items()
                    if name.startswith((_DECODER, _HEAD))
                }

        write_shards(shards(), draft)
        config = checkpoint.config
        values = config.text_config.to_dict() | {"architectures": ["LlamaForCausalLM"], "dtype": config.dtype}
        LlamaConfig(**values).save_pretrained(draft)
        generation_config(config).save_pretrained(draft)
        checkpoint.processor.tokenizer.save_pretrained(draft)
        # Older transformers, which engines still use, do not know the class name that this one writes.
        settings = read_json(draft / "tokenizer_config.json")
        if settings.get("tokenizer_class") == "TokenizersBackend":
            settings["tokenizer_class"] = "PreTrainedTokenizerFast"
        settings.pop("processor_class", None)
        write_json(draft / "tokenizer_config.json", settings)
