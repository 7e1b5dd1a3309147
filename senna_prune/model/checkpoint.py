"""Open a Senna checkpoint, in our format or as released, and identify it by a digest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from torch import Tensor
from transformers import AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase

from senna_prune.errors import CheckpointError, InputError, as_error, one_line
from senna_prune.files import accessing, open_regular, read_json
from senna_prune.model.configuration import SennaConfig
from senna_prune.model.modeling import SennaForConditionalGeneration
from senna_prune.model.packed_linear import pack_linears
from senna_prune.model.processing import SennaProcessor
from senna_prune.model.tensor_files import as_checkpoint_error, check_tensors, read_object, read_tensors, weight_files

RELEASED_TYPE = "llava_llama"
DIGEST_FILE = "digest.json"
_HASHED = ("*.json", "*.safetensors", "*.bin", "tokenizer.model")
_PROCESSOR_FIELDS = ("image_aspect_ratio", "image_size", "num_views", "num_view_tokens", "image_token_id")
_ADAPTERS = re.compile(r"adapter_config\.json|adapter_model.*\.(safetensors|bin)|non_lora_trainables\.bin")
"""Files of weights that peft and LLaVA lay beside those of the model."""
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint: everything but the weights.

    Attributes:
        shards: tensors under our names, file by file, read from disk when used. Drop one before taking the next.
    """

    folder: Path
    config: SennaConfig
    processor: SennaProcessor
    shards: Callable[[], Iterator[dict[str, Tensor]]]

    def check(self) -> None:
        """Compare the tensors' names, shapes and types with the model, without reading the weights, and the processor
        with both.

        Raises:
            CheckpointError: tensors are missing, superfluous, of the wrong shape or of a type that no weights have; the
                tokenizer or processor belongs to another model.
        """
        with as_checkpoint_error(self.folder / "config.json"), torch.device("meta"):
            model = SennaForConditionalGeneration(self.config)
        expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        stored = {name: (tuple(t.shape), t.dtype) for shard in self.shards() for name, t in shard.items()}
        check_tensors(stored, expected, self.folder)
        pieces, rows = len(self.processor.tokenizer), self.config.text_config.vocab_size
        if pieces > rows:
            problem, hint = f"the tokenizer has {pieces} pieces, the model embeds {rows}", "use the one saved with it"
            raise CheckpointError(problem, where=self.folder, hint=hint)
        fitting = SennaProcessor.for_config(self.config, self.processor.tokenizer)
        for field in _PROCESSOR_FIELDS[1:]:
            found, wanted = getattr(self.processor, field), getattr(fitting, field)
            if found != wanted:
                problem = f"{field} is {found!r}, the model has {wanted}"
                raise CheckpointError(problem, where=self.folder / "processor_config.json")


def open_checkpoint(source: str | Path, vision_tower: str | Path | None = None) -> Checkpoint:
    """Open a checkpoint in our format or as released; see `load_senna`.

    Raises:
        CheckpointError: the folder or a file in it is unusable, or the hub cannot be reached.
    """
    folder = _local_folder(source)
    model_type = read_object(folder / "config.json").get("model_type")
    if model_type == RELEASED_TYPE:
        from senna_prune.model.importing import open_released  # here: the conversion is built on this file

        return open_released(folder, None if vision_tower is None else _local_folder(vision_tower))
    if model_type != SennaConfig.model_type:
        hint = f"load a checkpoint of model_type {SennaConfig.model_type!r} or {RELEASED_TYPE!r}"
        raise CheckpointError(f"model_type {model_type!r} is not Senna", where=folder / "config.json", hint=hint)
    if vision_tower is not None:
        raise CheckpointError("an imported checkpoint holds its tower", where=folder, hint="drop --vision-tower")
    with as_checkpoint_error(folder / "config.json"):
        config = SennaConfig.from_pretrained(folder)
    fields = read_object(folder / "processor_config.json")
    tokenizer = load_tokenizer(AutoTokenizer, folder, "tokenizer.json")
    processor = SennaProcessor(tokenizer, **{name: fields[name] for name in _PROCESSOR_FIELDS if name in fields})
    return Checkpoint(folder, config, processor, lambda: map(read_tensors, weight_files(folder)))


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
        packed: lay the weights out for fast products on an x86 CPU; see `packed_linear`. Such a model cannot be saved.

    Raises:
        CheckpointError: the folder, a file in it or its tensors are unusable, or the hub cannot be reached.
        InputError: unknown dtype, device or attention implementation, or weights that cannot be packed.
    """
    known = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if dtype != "auto" and not (isinstance(known, torch.dtype) and known.is_floating_point):
        raise InputError(f"unknown dtype {dtype!r}", hint="use 'auto', 'float32', 'float16' or 'bfloat16'")
    if "meta" in (device.values() if isinstance(device, dict) else [device]):
        raise InputError("the meta device computes nothing", where="device", hint="use cpu or cuda")
    checkpoint = open_checkpoint(source, vision_tower)
    checkpoint.check()
    with as_error(InputError, "cannot load with these options", source):
        model = SennaForConditionalGeneration.from_pretrained(
            None,
            config=checkpoint.config,
            state_dict={name: tensor for shard in checkpoint.shards() for name, tensor in shard.items()},
            dtype=dtype,
            device_map=device,
            attn_implementation=attn_implementation,
        )
    model.generation_config = generation_config(checkpoint.config)
    if packed:
        # Vision scores read the adapter's plain weights, to the bit (`hosts.senna.linear_map`).
        pack_linears(model, model.model.img_adapter)
    return model.eval(), checkpoint.processor


def generation_config(config: SennaConfig) -> GenerationConfig:
    """Greedy decoding, as evaluated; the sampling defaults that Vicuna files carry are not taken over."""
    marks = {name: getattr(config.text_config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return GenerationConfig(do_sample=False, **marks)


def checkpoint_digest(source: str | Path) -> str:
    """SHA-256 over names and contents of the files that decide what a checkpoint computes, first 16 hex digits.

    They include those of the separate tower that a released checkpoint names, where it is here. A digest that the
    import recorded is believed while sizes, modification times and change times are those it recorded. The change time
    is set by the system alone: a file that was written to is read again even if its modification time was set back, and
    so is a copied checkpoint (7B: some ten seconds).

    Raises:
        CheckpointError: no such folder, and no such model on the hub; a file in it cannot be read.
    """
    folder = _local_folder(source)
    with accessing(folder, "read", error=CheckpointError):
        record = read_object(folder / DIGEST_FILE) if (folder / DIGEST_FILE).is_file() else {}
        if record.get("files") == file_stamps(folder) and isinstance(record.get("digest"), str):
            return str(record["digest"])
        sha = hashlib.sha256()
        _add_files(sha, folder)
        raw = read_object(folder / "config.json") if (folder / "config.json").is_file() else {}
        tower = named_tower(raw, folder) if raw.get("model_type") == RELEASED_TYPE else None
        if tower is not None:
            sha.update(b"mm_vision_tower\0")
            _add_files(sha, tower)
    return sha.hexdigest()[:16]


def _add_files(sha: hashlib._Hash, folder: Path) -> None:
    for path in _hashed_files(folder):
        sha.update(path.name.encode() + b"\0")
        with open_regular(path, error=CheckpointError) as stream:
            sha.update(hashlib.file_digest(stream, "sha256").digest())


def _hashed_files(folder: Path) -> list[Path]:
    return sorted(path for pattern in _HASHED for path in folder.glob(pattern) if path.name != DIGEST_FILE)


def file_stamps(folder: Path) -> dict[str, list[int]]:
    """Size, modification time and change time (ns) of each file that the digest covers, by name."""
    stats = ((path.name, path.stat()) for path in _hashed_files(folder))
    return {name: [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns] for name, stat in stats}


def named_tower(raw: Mapping[str, Any], folder: Path) -> Path | None:
    """The folder that `mm_vision_tower` of a released configuration names, beside the weights or as it stands, if it is
    here."""
    name = raw.get("mm_vision_tower")
    if not isinstance(name, str):
        return None
    with accessing(name, "read", error=CheckpointError):
        return next((path for path in (folder / name, Path(name)) if (path / "config.json").is_file()), None)


def _local_folder(source: str | Path) -> Path:
    folder = Path(source)
    with accessing(source, "read", "name a checkpoint folder", CheckpointError):
        if not folder.is_dir():
            folder = _from_hub(source)
        _check_files(folder)
    return folder


def _from_hub(source: str | Path) -> Path:
    if not isinstance(source, str) or not _HUB_ID.fullmatch(source):
        raise CheckpointError("no such checkpoint folder", where=source)
    try:
        return Path(snapshot_download(source, allow_patterns=list(_HASHED)))
    except (OSError, ValueError) as error:
        problem = f"no folder of this name here, and the hub does not give it ({one_line(error)})"
        hint = "download the checkpoint where there is network and pass its folder"
        raise CheckpointError(problem, where=source, hint=hint) from error


def _check_files(folder: Path) -> None:
    """Refuse a folder with a file that transformers, which opens what it finds there, would fail over or wait for, and
    one with weights that nothing here would add to the model's.

    Raises:
        CheckpointError: a file is a pipe, a dangling link or unreadable, its JSON is broken, or it is an adapter's.
    """
    for path in sorted([*folder.iterdir(), *folder.glob("additional_chat_templates/*")]):
        if _ADAPTERS.fullmatch(path.name):
            hint = "merge it into the weights (peft: merge_and_unload), or remove it"
            raise CheckpointError("an adapter beside the weights is not applied", where=path, hint=hint)
        if path.suffix == ".json":
            read_json(path, (dict, list), error=CheckpointError)
        elif not path.is_dir():
            open_regular(path, error=CheckpointError).close()


def load_tokenizer(kind: Any, folder: Path, file: str) -> PreTrainedTokenizerBase:
    """A tokenizer that stands in `file`; code that comes with it is not run.

    Raises:
        CheckpointError: it is absent, broken, or lacks what a prompt needs.
    """
    if not (folder / file).is_file():
        raise CheckpointError(f"no {file}", where=folder, hint="copy it from where the checkpoint came from")
    with as_checkpoint_error(folder / file):
        tokenizer: PreTrainedTokenizerBase = kind.from_pretrained(folder, trust_remote_code=False)
    settings = folder / "tokenizer_config.json"
    if tokenizer.bos_token_id is None or (tokenizer.pad_token_id is None and tokenizer.unk_token_id is None):
        problem = "the tokenizer lacks a BOS token, or both a padding and an unknown token"
        hint = "copy the tokenizer's files from where the checkpoint came from"
        raise CheckpointError(problem, where=settings, hint=hint)
    limit = tokenizer.model_max_length
    if not isinstance(limit, int | float) or not limit >= 1:
        raise CheckpointError(f"model_max_length is {limit!r}", where=settings)
    return tokenizer
