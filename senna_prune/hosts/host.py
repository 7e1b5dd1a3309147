"""What the engine asks of a host model, and how its file in this folder is found."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn
from transformers.utils import ModelOutput

from senna_prune import hosts
from senna_prune.errors import InputError, PruningError
from senna_prune.model.token_layout import TokenLayout
from senna_prune.pruning.base import VisionScores

SHARED = ("host", "mismatch", "support", "tower", "unlike")
"""Files of this folder that are no host."""
UNFINISHED = {
    "alpamayo": "its action expert reads the cache of the prompt in all layers alike, under one mask and at positions "
    "counted on the unpruned prompt",
    "internvl": "its tower's class-token attention would have to be pooled 2 x 2, as pixel_shuffle does with patches",
    "llava_onevision": "it resizes the grid of tiles, and vision scores would have to be resized in the same way",
}
"""What keeps these models from being hosts, by the beginning of their `model_type`."""
READ_ALIKE = {"qwen3_vl_moe": "qwen3_vl"}
"""Models that the file of another one reads, by `model_type`."""
VISION_SCORES = "vision_scores"
"""Key under which the result of `get_image_features` carries a `VisionScores`."""


class PatchGrid(NamedTuple):
    """Patches that divide a part of an image evenly, row by row.

    Attributes:
        rows, columns: of patches.
        box: left, top, right and bottom of that part, in pixels of the image.
        row_ends: behind each row follows a token that shows nothing.
    """

    rows: int
    columns: int
    box: tuple[float, float, float, float]
    row_ends: bool = False


class Host(ABC):
    """Reads one model; keeps nothing of its inputs, so that one host serves prompts of any number and length.

    A subclass lives in the file named by its model's `config.model_type`.

    Attributes:
        first_cut: first decoder layer before which tokens may be removed; above 0 where the model adds features of the
            full length to the hidden states after its first layers.
        renumbers: whether kept tokens may get new positions; not where positions follow from the images.
    """

    first_cut: ClassVar[int] = 0
    renumbers: ClassVar[bool] = True

    def __init__(self, model: nn.Module) -> None:
        self.model: Any = model

    @property
    def full_size(self) -> int | None:
        """Visual tokens of a full prompt; None where they depend on the images."""
        return None

    @abstractmethod
    def check_geometry(self, scores: bool) -> None:
        """Refuse a model that has this host's name but is built otherwise; asked when a `prune` context is entered.

        Args:
            scores: the method needs the scores of `encode_with_vision_scores`.

        Raises:
            PruningError: names the part that is different.
        """

    def layouts(self, rows: Sequence[Tensor], images: Any) -> list[TokenLayout]:
        """Where the visual tokens of every image stand in each prompt.

        Args:
            rows: ids of each prompt without padding, shape (length,), on the CPU.
            images: what `get_image_features` returned for the images of all prompts, in order; None without images.

        Raises:
            InputError: ids and images do not match.
        """
        lengths = [] if images is None else [len(tokens) for tokens in images.pooler_output]
        return layouts_of(rows, self.model.config.image_token_id, lengths)

    @abstractmethod
    def encode_with_vision_scores(self, encode: Callable[..., Any], images: dict[str, Any]) -> tuple[Any, VisionScores]:
        """Encode images, and tell what the vision tower saw.

        Args:
            encode: the model's own `get_image_features`.
            images: its arguments by name.

        Returns:
            What `encode` returned, and the scores of all its visual tokens in the order in which they are returned.

        Raises:
            PruningError: the tower has nothing to read scores from.
        """

    def patch_grids(
        self, processor: Any, inputs: Mapping[str, Any], number: int, size: tuple[int, int], count: int
    ) -> list[PatchGrid]:
        """Where the patches of an image stand in it, in the order of its visual tokens; none where that is not known.

        Args:
            processor, inputs: the model's processor, and what it made of one prompt.
            number: of the image in the prompt.
            size: its width and height, pixels.
            count: its visual tokens.
        """
        return []

    @property
    def token_shares(self) -> Tensor | None:
        """Share of each patch in each visual token of an image, (tokens, patches); None where tokens are patches."""
        return None

    @contextmanager
    def patched_image_encoder(self, instead: Callable[[Callable[..., Any], dict[str, Any]], Any]) -> Iterator[None]:
        """Inside, a call of the model's `get_image_features` is `instead(get_image_features, arguments by name)`.

        `generate` encodes images before it calls the model, and hands over features alone: sizes and pixels are gone.
        """
        encoder = self.model.base_model
        encode = encoder.get_image_features
        names = tuple(inspect.signature(encode).parameters)

        @functools.wraps(encode)
        def call(*args: Any, **kwargs: Any) -> Any:
            return instead(encode, dict(zip(names, args, strict=False)) | kwargs)

        with replaced(encoder, "get_image_features", call):
            yield


def attach_vision_scores(host: Host, encode: Callable[..., Any], images: dict[str, Any]) -> Any:
    """The result of `encode`, with scores under the key `VISION_SCORES`: it can be used for any number of prompts and
    methods, as `mm_encoder_outputs={"image": result}`."""
    outputs, scores = host.encode_with_vision_scores(encode, images)
    if isinstance(outputs, ModelOutput):
        outputs[VISION_SCORES] = scores
    return outputs


def host_names() -> tuple[str, ...]:
    """Every `model_type` that has a file here, sorted."""
    return tuple(sorted(info.name for info in pkgutil.iter_modules(hosts.__path__) if info.name not in SHARED))


def host_class(kind: str) -> type[Host]:
    """The one host that the file of `kind`, which is one of `host_names()`, defines."""
    module = importlib.import_module(f"{hosts.__name__}.{kind}")
    classes = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Host)]
    (own,) = (found for found in classes if found.__module__ == module.__name__)
    return own


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Inside, `owner` has `value` in place of what its attribute `name` is, on itself or on its class."""
    before = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is None:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


def unwrapped(model: Any) -> Any:
    """The model that computes, out of what `torch.compile`, peft and data-parallel wrappers put around it."""
    parts = getattr(model, "_modules", {})
    inner = next((parts[name] for name in ("_orig_mod", "module") if name in parts), None)
    if inner is None and hasattr(model, "get_base_model"):
        inner = model.get_base_model()
    return model if inner is None else unwrapped(inner)


def find_host(model: nn.Module, required: bool = True) -> Host | None:
    """What reads `model`; None where no file of this folder knows it.

    Raises:
        PruningError: that is so, although the host is `required` and `model` is a model of transformers.
    """
    model = unwrapped(model)
    kind: Any = getattr(getattr(model, "config", None), "model_type", None)
    kind = READ_ALIKE.get(kind, kind)
    if kind in host_names():
        return host_class(kind)(model)
    if str(kind).startswith("alpamayo"):  # where its tokens stand is not what is missing
        hint = "prune its language model alone, which is a Qwen3-VL"
        raise PruningError(f"{type(model).__name__} is not pruned: {UNFINISHED['alpamayo']}", hint=hint)
    if required and kind is not None:
        raise PruningError(
            f"{type(model).__name__} does not tell where its visual tokens stand: model_type {kind!r} has no file in "
            f"hosts/, which knows {', '.join(host_names())}"
            + "".join(f"; what is missing: {why}" for name, why in UNFINISHED.items() if kind.startswith(name)),
            hint="pass layouts= to prune()",
        )
    return None


def layouts_of(rows: Sequence[Tensor], image_token_id: int, lengths: Sequence[int]) -> list[TokenLayout]:
    """Layouts of prompts whose images, in order, have `lengths` visual tokens each; views are labelled by number.

    Raises:
        InputError: an image has no placeholders, a placeholder has no image, or a run of them is cut.
    """
    left, layouts = list(reversed(lengths)), []
    for row in rows:
        places, views = (row == image_token_id).nonzero().flatten().tolist(), dict[str, range]()
        while places:
            if not left:
                raise InputError(
                    f"{len(places)} image placeholders have no image", hint="pass pixel_values of every image"
                )
            run, places = places[: left[-1]], places[left[-1] :]
            if run[-1] - run[0] != left.pop() - 1:
                raise InputError(f"the placeholders of image {len(views)} do not stand in one run of its length")
            views[str(len(views))] = range(run[0], run[-1] + 1)
        layouts.append(TokenLayout(len(row), views))
    if left:
        raise InputError(f"{len(left)} images have no placeholders", hint="take ids and images from one processor call")
    return layouts


def split_vision_scores(found: VisionScores, layouts: Sequence[TokenLayout]) -> list[VisionScores]:
    """Scores of a whole batch, apart for each prompt. Beam search repeats prompts after their images were encoded.

    Raises:
        InputError: `found` is of another number of tokens.
    """
    counts, total = [layout.num_visual for layout in layouts], found.score.shape[0]
    copies = max(sum(counts) // max(total, 1), 1)
    if sum(counts) != copies * total or sum(counts[::copies]) != total:
        raise InputError(f"{sum(counts)} visual tokens stand in the prompts, but the vision tower told of {total}")
    scores = found.score.split(counts[::copies])
    keys = [None] * len(scores) if found.keys is None else found.keys.split(counts[::copies])
    return one_per_prompt([VisionScores(*own) for own in zip(scores, keys, strict=True)], len(layouts), "vision scores")


def one_per_prompt(items: Sequence[Any], batch: int, name: str) -> list[Any]:
    """Beam search repeats each prompt; what was given per prompt repeats with it.

    Raises:
        InputError: `batch` is no multiple of the number of items.
    """
    if not items or batch % len(items):
        raise InputError(f"{len(items)} {name} were given for a batch of {batch}")
    return [item for item in items for _ in range(batch // len(items))]
