"""What each method of a run drops, from the survival in its lines: lift by class, layer and distance, lost objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from senna_prune.errors import RunError
from senna_prune.evaluation.audit.intervals import ratio_of_sums
from senna_prune.evaluation.audit.survival import Survival
from senna_prune.task.objects import SeenObject
from senna_prune.task.sample import PlanningSample

Line = tuple[str, str, Survival]
"""Row of the table, sample key and survival of one decision."""
NEAR = 30.0
"""Metres within which an object that no token sees any more counts as lost."""
DISTANCES = (0.0, 10.0, 20.0, 30.0, 50.0)
"""Lower ends of the bins, metres; the last has no upper end."""
WATCHED = ("pedestrians", "cyclists", "lead vehicles")
"""Whose loss is counted."""
WORST = 6
"""Frames with the most losses that are named per row."""
_VEHICLES = frozenset({"car", "truck", "bus", "trailer", "construction_vehicle", "van"})


def kind_of(name: str) -> str:
    """`pedestrians`, `cyclists`, `vehicles` or `others`, by the class that a planning set gives an object."""
    word = name.lower()
    if "pedestrian" in word or word.startswith(("human", "person")):
        return "pedestrians"
    if ("cycl" in word or word in ("motorbike", "rider")) and "rack" not in word:
        return "cyclists"
    return "vehicles" if word in _VEHICLES or word.startswith("vehicle") else "others"


def leading(objects: Sequence[SeenObject]) -> int | None:
    """Number of the nearest vehicle in the car's way; None where there is none, or it is not known."""
    ahead = [
        (seen.distance, number)
        for number, seen in enumerate(objects)
        if seen.on_path and seen.distance is not None and kind_of(seen.name) == "vehicles"
    ]
    return min(ahead)[1] if ahead else None


def _table(samples: Iterable[PlanningSample]) -> pd.DataFrame:
    """Every object of every sample: sample, scene, name, kind, bin of its distance, whether near, whether leading."""
    rows = []
    for sample in samples:
        first = leading(sample.objects or ())
        for number, seen in enumerate(sample.objects or ()):
            place = None if seen.distance is None else int(np.searchsorted(DISTANCES, seen.distance, side="right")) - 1
            near = seen.distance is not None and seen.distance <= NEAR
            rows.append((sample.key, sample.scene, seen.name, kind_of(seen.name), place, near, number == first))
    return pd.DataFrame(rows, columns=["sample", "scene", "name", "kind", "bin", "near", "lead"])


def distance_names() -> list[str]:
    """`0 to 10 m` and so on, in the order of `DISTANCES`."""
    ends = [f"to {end:g} m" for end in DISTANCES[1:]]
    return [f"{low:g} {end}" for low, end in zip(DISTANCES, ends, strict=False)] + [f"from {DISTANCES[-1]:g} m"]


def dropped_objects(
    lines: Iterable[Line], samples: Sequence[PlanningSample], resamples: int, seed: int = 0
) -> dict[str, Any] | None:
    """What each row drops, as plain JSON values; None where no line tells the survival of an object.

    Survival and lift are means over the objects that some token sees; a sample asked several questions counts as often.
    Lift is the ratio of both means, survival over share of all tokens that enter: a mean of ratios would be ruled by
    layers that one token enters.

    Args:
        lines: of the conditions with a budget; those of several seeds have the same row.
        samples: of the run.
        resamples, seed: of the bootstrap over scenes.

    Returns:
        `layers`, `half` (the one at half the depth), numbers of `samples`, `scenes` and `objects`, and per row
        `overview` (lift at half depth by kind), `layer` (by class and layer), `distance` (by class and bin, at half
        depth), `lost` by watched kind, and `worst` frames. Every entry has value, `interval` and number of objects.

    Raises:
        RunError: a line is about other objects or layers than the planning set and the other lines.
    """
    table = _table(samples)
    numbers = {str(key): group.to_numpy() for key, group in table.index.to_series().groupby(table["sample"])}
    rows: dict[str, tuple[list[Any], list[Any], list[Any]]] = {}
    layers: tuple[int, ...] | None = None
    for row, key, found in lines:
        layers = found.layers if layers is None else layers
        own = numbers.get(key, np.zeros(0, dtype=int))
        if len(own) != len(found.objects) or found.layers != layers:
            problem = f"a line tells {len(found.objects)} objects at layers {list(found.layers)}, {len(own)} are there"
            raise RunError(problem, where=f"sample {key}, {row}", hint="delete that line and evaluate again")
        if len(own):
            parts = rows.setdefault(row, ([], [], []))
            parts[0].append(own)
            parts[1].append(np.array(found.objects, dtype=float))
            parts[2].append(np.broadcast_to(np.array(found.tokens, dtype=float), (len(own), 1 + len(layers))))
    if layers is None or not rows:
        return None
    scene_numbers = pd.Series(pd.Categorical(table["scene"]).codes, index=table.index)
    counted = [
        _Row(table, scene_numbers, (np.concatenate(own), np.concatenate(left), np.concatenate(all_)), resamples, seed)
        for own, left, all_ in rows.values()
    ]
    half = min(1, len(layers) - 1)  # `audited_layers` begins with a quarter and a half
    seen = counted[0].objects
    return {
        "layers": list(layers),
        "half": layers[half],
        "samples": int(seen["sample"].nunique()),
        "scenes": int(seen["scene"].nunique()),
        "objects": len(set(seen.index)),
        "rows": [{"row": row, **one.scores(half)} for row, one in zip(rows, counted, strict=True)],
    }


class _Row:
    """The objects of one row's decisions that some token sees, and the shares of tokens left."""

    def __init__(
        self, table: pd.DataFrame, scenes: pd.Series, counts: tuple[Any, Any, Any], resamples: int, seed: int
    ) -> None:
        numbers, own, all_ = counts
        seen = own[:, 0] > 0
        self.objects = table.loc[numbers[seen]]
        self.scenes = scenes.loc[numbers[seen]].to_numpy()
        self.left = own[seen, 1:]
        self.survival, self.share = self.left / own[seen, :1], all_[seen, 1:] / all_[seen, :1]
        self.resamples, self.seed = resamples, seed

    def scores(self, half: int) -> dict[str, Any]:
        kinds, lead = self.objects["kind"].to_numpy(), self.objects["lead"].to_numpy(dtype=bool)
        masks = {kind: kinds == kind for kind in ("pedestrians", "cyclists", "vehicles", "others")}
        masks = {"all objects": np.ones(len(kinds), dtype=bool), **masks, "lead vehicles": lead}
        names, bins = self.objects["name"].to_numpy(), self.objects["bin"].to_numpy(dtype=float)
        by_class = {str(name): names == name for name in self.objects["name"].value_counts().index}
        near, gone = self.objects["near"].to_numpy(dtype=bool), self.left[:, half] == 0
        lost = {kind: masks[kind] & near for kind in WATCHED}
        watched = np.any(list(lost.values()), axis=0)
        return {
            "overview": {name: self._lift(mask, half) for name, mask in masks.items() if mask.any()},
            "layer": {
                name: [self._lift(mask, layer) for layer in range(self.left.shape[1])]
                for name, mask in by_class.items()
            },
            "distance": {
                name: {
                    said: self._lift(mask & (bins == place), half)
                    for place, said in enumerate(distance_names())
                    if (mask & (bins == place)).any()
                }
                for name, mask in by_class.items()
            },
            "lost": {kind: self._share(gone, mask) for kind, mask in lost.items() if mask.any()},
            "worst": self._worst(gone & watched, watched),
        }

    def _lift(self, mask: Any, layer: int) -> dict[str, Any]:
        above, below = self.survival[mask, layer], self.share[mask, layer]
        value, bounds = ratio_of_sums(above, below, self.scenes[mask], self.resamples, self.seed)
        known = None if np.isnan(value) else value
        return {"value": known, "interval": bounds, "survival": float(above.mean()), "objects": self._count(mask)}

    def _share(self, gone: Any, mask: Any) -> dict[str, Any]:
        value, bounds = ratio_of_sums(gone[mask], np.ones(mask.sum()), self.scenes[mask], self.resamples, self.seed)
        return {"value": value, "interval": bounds, "objects": self._count(mask)}

    def _count(self, mask: Any) -> int:
        """Objects, however many seeds saw them."""
        return int(self.objects.index[mask].nunique())

    def _worst(self, gone: Any, watched: Any) -> list[Mapping[str, Any]]:
        """Frames by watched objects lost, then by those that it has; over seeds together."""
        counts = pd.DataFrame({"lost": gone, "of": watched}).groupby(self.objects["sample"].to_numpy()).sum()
        counts = counts[counts["lost"] > 0].sort_values(["lost", "of"], ascending=[False, True], kind="stable")
        return [
            {"sample": str(key), "lost": int(row["lost"]), "of": int(row["of"])}
            for key, row in counts.head(WORST).iterrows()
        ]
