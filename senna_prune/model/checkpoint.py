"""Open a Senna checkpoint, in our format or as released, and identify it by a digest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from torch import Tensor
from transformers import GenerationConfig, LlamaTokenizer

from senna_prune.errors import CheckpointError, InputError
from senna_prune.model.configuration import SennaConfig
from senna_prune.model.modeling import SennaForConditionalGeneration
from senna_prune.model.packed_linear import pack_linears
from senna_prune.model.processing import SennaProcessor
from senna_prune.model.reference_format import MODEL_TYPE, open_reference
from senna_prune.model.tensor_files import blaming, check_shapes, one_line, read_json, read_tensors, weight_files

DIGEST_FILE = "digest.json"
_HASHED = ("*.json", "*.safetensors", "*.bin", "tokenizer.model")
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint: everything but the weights, which `shards` reads from disk file by file."""

    folder: Path
    config: SennaConfig
    processor: SennaProcessor
    shards: Callable[[], Iterator[dict[str, Tensor]]]

    def check(self) -> None:
        """Compare tensor names and shapes with the model, without reading the weights, and the processor with both.

        Raises:
            CheckpointError: missing, extra or wrongly shaped tensors; a tokenizer or processor of another model.
        """
        with blaming(self.folder / "config.json"), torch.device("meta"):
            model = SennaForConditionalGeneration(self.config)
        expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        shapes = {name: tuple(tensor.shape) for shard in self.shards() for name, tensor in shard.items()}
        check_shapes(shapes, expected, self.folder)
        pieces, rows = len(self.processor.tokenizer), self.config.text_config.vocab_size
        if pieces > rows:
            raise CheckpointError(
                f"the tokenizer has {pieces} pieces, the model embeds {rows}",
                where=self.folder,
                hint="use the tokenizer that was saved with the weights",
            )
        fitting = SennaProcessor.for_config(self.config, self.processor.tokenizer)
        for field in ("image_size", "num_views", "num_view_tokens", "image_token_id"):
            found, expected = getattr(self.processor, field), getattr(fitting, field)
            if found != expected:
                raise CheckpointError(
                    f"{field} is {found!r}, the model has {expected}", where=self.folder / "processor_config.json"
                )


def open_checkpoint(source: str | Path, vision_tower: str | Path | None = None) -> Checkpoint:
    """Open a checkpoint in our format or as released; see `load_senna`.

    Raises:
        CheckpointError: the folder or a file in it is unusable, or the hub cannot be reached.
    """
    folder = _local_folder(source)
    model_type = read_json(folder / "config.json").get("model_type")
    if model_type == SennaConfig.model_type:
        if vision_tower is not None:
            raise CheckpointError("an imported checkpoint holds its tower", where=folder, hint="drop --vision-tower")
        read_json(folder / "processor_config.json")
        with blaming(folder / "config.json"):
            config = SennaConfig.from_pretrained(folder)
        processor = _load_tokenizer(SennaProcessor, folder, "tokenizer.json")
        return Checkpoint(folder, config, processor, lambda: map(read_tensors, weight_files(folder)))
    if model_type == MODEL_TYPE:
        reference = open_reference(folder, None if vision_tower is None else _local_folder(vision_tower))
        pieces = "tokenizer.model" if (folder / "tokenizer.model").is_file() else "tokenizer.json"
        tokenizer = _load_tokenizer(LlamaTokenizer, folder, pieces)
        processor = SennaProcessor.for_config(reference.config, tokenizer, reference.image_aspect_ratio)
        return Checkpoint(folder, reference.config, processor, reference.shards)
    raise CheckpointError(
        f"model_type {model_type!r} is not Senna",
        where=folder / "config.json",
        hint=f"load a checkpoint of model_type {SennaConfig.model_type!r} or {MODEL_TYPE!r}",
    )


def load_senna(
    source: str | Path,
    dtype: torch.dtype | str = "auto",
    device: str | dict[str, Any] = "cpu",
    attn_implementation: str = "sdpa",
    vision_tower: str | Path | None = None,
    packed: bool = False,
) -> tuple[SennaForConditionalGeneration, SennaProcessor]:
    """Model and processor of a checkpoint in our format or as released, ready for evaluation.

    Weights are mapped from disk, so memory holds at most the model and, while it is converted, one tensor more.

    Args:
        source: folder, or a hub id such as `org/name` where there is network.
        dtype: `torch.bfloat16`, "float16", ...; "auto" is what the checkpoint says.
        device: "cpu", "cuda:0", ..., or an `accelerate` device map ("auto" or a dictionary).
        attn_implementation: "sdpa", "eager" or "flash_attention_2".
        vision_tower: folder (or hub id) of the CLIP tower of a released checkpoint that does not hold its own.
        packed: lay the weights out for fast products on an x86 CPU; see `packing`. The model cannot be saved then.

    Raises:
        CheckpointError: the folder, a file in it or its tensors are unusable, or the hub cannot be reached.
        InputError: unknown dtype, device or attention implementation, or weights that cannot be packed.
    """
    if isinstance(dtype, str) and dtype != "auto" and not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise InputError(f"unknown dtype {dtype!r}", hint="use 'auto', 'float32', 'float16' or 'bfloat16'")
    checkpoint = open_checkpoint(source, vision_tower)
    checkpoint.check()
    try:
        model = SennaForConditionalGeneration.from_pretrained(
            None,
            config=checkpoint.config,
            state_dict={name: tensor for shard in checkpoint.shards() for name, tensor in shard.items()},
            dtype=dtype,
            device_map=device,
            attn_implementation=attn_implementation,
        )
    except (ImportError, ValueError, RuntimeError, AssertionError) as error:
        raise InputError(f"cannot load with these options ({one_line(error)})", where=source) from error
    model.generation_config = generation_config(checkpoint.config)
    if packed:
        # The adapter's weights are read by vision scores (`engine.vision.adapter_paths`).
        pack_linears(model, model.model.img_adapter)
    return model.eval(), checkpoint.processor


def checkpoint_digest(source: str | Path) -> str:
    """SHA-256 over names and contents of the files that decide what a checkpoint computes, first 16 hex digits.

    A digest that the import recorded is believed while sizes and modification times are those it recorded.

    Raises:
        CheckpointError: no such folder, and no such model on the hub.
    """
    folder = _local_folder(source)
    if (folder / DIGEST_FILE).is_file():
        record = read_json(folder / DIGEST_FILE)
        if record.get("files") == file_stamps(folder):
            return str(record["digest"])
    sha = hashlib.sha256()
    for path in _hashed_files(folder):
        sha.update(path.name.encode() + b"\0")
        with path.open("rb") as stream:
            sha.update(hashlib.file_digest(stream, "sha256").digest())
    return sha.hexdigest()[:16]


def _hashed_files(folder: Path) -> list[Path]:
    return sorted(path for pattern in _HASHED for path in folder.glob(pattern) if path.name != DIGEST_FILE)


def file_stamps(folder: Path) -> dict[str, list[int]]:
    """Size and modification time (ns) of each file that the digest covers, by name."""
    stats = ((path.name, path.stat()) for path in _hashed_files(folder))
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats}


def _local_folder(source: str | Path) -> Path:
    folder = Path(source)
    if folder.is_dir():
        return folder
    if not isinstance(source, str) or not _HUB_ID.fullmatch(source):
        raise CheckpointError("no such checkpoint folder", where=source)
    try:
        return Path(snapshot_download(source, allow_patterns=list(_HASHED)))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"no folder of this name here, and the hub does not give it ({one_line(error)})",
            where=source,
            hint="download the checkpoint where there is network and pass its folder",
        ) from error


def _load_tokenizer(kind: Any, folder: Path, file: str) -> Any:
    """A tokenizer, or a processor with its tokenizer, that stands in `file`."""
    if not (folder / file).is_file():
        raise CheckpointError(f"no {file}", where=folder, hint="copy it from where the checkpoint came from")
    with blaming(folder / file):
        return kind.from_pretrained(folder)


def generation_config(config: SennaConfig) -> GenerationConfig:
    """Greedy decoding, as evaluated; the sampling defaults that Vicuna files carry are not taken over."""
    text = config.text_config
    return GenerationConfig(
        do_sample=False, bos_token_id=text.bos_token_id, eos_token_id=text.eos_token_id, pad_token_id=text.pad_token_id
    )
