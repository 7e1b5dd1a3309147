"""What the engine asks of a host model, and how its file in this folder is found."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from senna_prune import hosts
from senna_prune.errors import InputError, PruningError
from senna_prune.model.token_layout import TokenLayout
from senna_prune.pruning.interface import VisionEvidence


class Host(ABC):
    """Reads the inputs of one model; keeps nothing of them, so that one host serves prompts of any number and length.

    A subclass lives in the file named by its model's `config.model_type`.

    Attributes:
        first_cut: first decoder layer before which tokens may be removed; above 0 where the model adds features of the
            full length to the hidden states after its first layers.
    """

    first_cut: ClassVar[int] = 0

    def __init__(self, model: nn.Module) -> None:
        self.model: Any = model

    @abstractmethod
    def layouts(self, rows: Sequence[Tensor], inputs: Mapping[str, Any]) -> list[TokenLayout]:
        """Where the visual tokens of every image stand in each prompt.

        Args:
            rows: ids of each prompt without padding, shape (length,), on the CPU.
            inputs: arguments of the model's `forward` by name: what tells the sizes of images stands there.

        Raises:
            InputError: ids and images do not match.
        """

    @abstractmethod
    def see(self, inputs: Mapping[str, Any]) -> tuple[dict[str, Any], list[VisionEvidence] | None]:
        """What the vision tower saw, one per prompt of the batch; None for inputs without pictures.

        Returns also the inputs to go on with: encoded pictures in place of pixels, so that the tower runs once.
        """


class Given(Host):
    """A host whose caller hands over layouts, evidence or both; the host's own file answers for the rest.

    Args:
        layouts, vision: one per prompt of the batch.
        own: the model's own host, if there is one.
    """

    def __init__(
        self,
        model: nn.Module,
        layouts: Sequence[TokenLayout] | None,
        vision: Sequence[VisionEvidence] | None,
        own: Host | None,
    ) -> None:
        super().__init__(model)
        self.given_layouts, self.given_vision, self.own = layouts, vision, own

    def layouts(self, rows: Sequence[Tensor], inputs: Mapping[str, Any]) -> list[TokenLayout]:
        if self.given_layouts is not None:
            return list(self.given_layouts)
        assert self.own is not None
        return self.own.layouts(rows, inputs)

    def see(self, inputs: Mapping[str, Any]) -> tuple[dict[str, Any], list[VisionEvidence] | None]:
        if self.given_vision is not None or self.own is None:
            return dict(inputs), None if self.given_vision is None else list(self.given_vision)
        return self.own.see(inputs)


def find_host(
    model: nn.Module,
    layouts: Sequence[TokenLayout] | None = None,
    vision: Sequence[VisionEvidence] | None = None,
) -> Host:
    """The one source of layouts and vision evidence for `model`.

    Raises:
        PruningError: no file of this folder knows the model, and no layouts are given.
    """
    kind = getattr(getattr(model, "config", None), "model_type", None)
    known = [info.name for info in pkgutil.iter_modules(hosts.__path__) if info.name != "host"]
    own: Host | None = None
    if kind in known:
        module = importlib.import_module(f"{hosts.__name__}.{kind}")
        classes = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Host)]
        (own,) = (found(model) for found in classes if found.__module__ == module.__name__)
    elif layouts is None:
        raise PruningError(
            f"{type(model).__name__} does not tell where its visual tokens stand: model_type {kind!r} has no file in "
            f"hosts/, which knows {', '.join(known)}",
            hint="pass layouts= to prune()",
        )
    if own is not None and layouts is None and vision is None:
        return own
    return Given(model, layouts, vision, own)


def one_per_prompt(items: Sequence[Any], batch: int, name: str) -> list[Any]:
    """Beam search repeats each prompt; what was given per prompt repeats with it.

    Raises:
        InputError: `batch` is no multiple of the number of items.
    """
    if not items or batch % len(items):
        raise InputError(f"{len(items)} {name} were given for a batch of {batch}")
    return [item for item in items for _ in range(batch // len(items))]
