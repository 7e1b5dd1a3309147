"""The decisions of a run as one pandas table, checked once: every score, kind and breakdown is a group of its lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property, lru_cache
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from senna_prune.config import ScoringConfig
from senna_prune.cost import ModelShape, decision_flops, kv_bytes
from senna_prune.errors import RunError
from senna_prune.evaluation.run.records import MAJORITY, UNPRUNED, Condition, Record, Trace
from senna_prune.evaluation.score.damage import damage_columns
from senna_prune.evaluation.score.judge import KIND_ORDER, say_the_same, score_of
from senna_prune.evaluation.score.metrics import HALVES, majority_answers, read_plan
from senna_prune.task.answers import fault_of
from senna_prune.task.labels import PLAN, Convention
from senna_prune.task.plan_costs import COSTS as COSTS_OF_PLANS

CONVENTIONS = {Convention(*halves).name for halves in product(("corrected", "upstream"), repeat=2)}  # type: ignore[arg-type]
HINT = "that line is damaged: delete it and run the same evaluation again"
ENTRIES = ("convention", "kind", "sample", "scene", "condition", "truth", "answer", "error", "trace", "distribution")
"""Columns that are a decision's own fields."""
COSTS = (
    *("tokens_entering", "tokens_after", "tokens_middle", "tokens_last", "kv_bytes"),
    *(f"flops_{stage}" for stage in ("vision", "projection", "decoder", "readout", "total")),
    "complexity",
)
"""Columns of what a decision cost; tokens are visual: mean entering and after a layer, middle and last."""


@dataclass(frozen=True)
class Questions:
    """All decisions about one kind of question under one convention.

    Attributes:
        convention, kind: of the questions.
        table: a line per sample, row and seed with the columns `ENTRIES`, `row`, `seed` (its number in the row),
            `score` in [0, 1], `agrees` (says what the unpruned model says; NaN for `majority`), `COSTS`, NaN without a
            trace, and of plans those of `damage_columns`. Where no sample has a true answer, `score` is `agrees`.
        failed: number of samples with an unusable image.
        first_failure: type and message of the first of them.
    """

    convention: str
    kind: str
    table: pd.DataFrame
    failed: int
    first_failure: Any

    @cached_property
    def rows(self) -> list[str]:
        """Names of the table's rows: `majority` first where the kind has it, then those of the conditions."""
        return list(self.table["row"].unique())

    @cached_property
    def labelled(self) -> bool:
        """Whether the samples have true answers."""
        return bool(self.table["truth"].str.strip().any())

    @cached_property
    def scenes(self) -> pd.Series:
        """Scene by sample key, sorted by key."""
        return self.table.groupby("sample")["scene"].first()

    def by_sample(self, column: str = "score") -> pd.DataFrame:
        """A column averaged over the seeds, shape (samples, rows)."""
        means = self.table[column].astype(float).groupby([self.table["sample"], self.table["row"]]).mean().unstack()
        return means[self.rows]


def questions_of(
    records: Iterable[Record], conditions: Sequence[Condition], shape: ModelShape, scoring: ScoringConfig
) -> list[Questions]:
    """The decisions by convention and, in the order of `KIND_ORDER`, by kind.

    Only samples decided under every condition count. Of samples with an unusable image, `count_wrong` scores a wrong
    answer in every row, also in those that decided the sample before its image failed, and `skip_reported` leaves the
    sample out of every row.

    Raises:
        RunError: a decision contradicts the run, or nothing is left to score.
        ConfigError: free text is to be scored and sacrebleu is not installed.
    """
    records = list(records)
    require_consistent(records, conditions, shape)
    table = pd.DataFrame({name: [getattr(one, name) for one in records] for name in ENTRIES}, dtype=object)
    table["positions"] = [one.readout_positions for one in records]
    rows = pd.Series({condition.id: condition.row for condition in conditions})
    table["row"], table["seed"] = table["condition"].map(rows), table["condition"].map(rows.groupby(rows).cumcount())
    table = table[table.groupby("sample")["condition"].transform("nunique") == len(conditions)]
    if table.empty:
        raise RunError("no sample is decided under every condition yet", hint="let the run go on for longer")
    table = table.assign(failed=table["error"].notna().groupby(table["sample"]).transform("any"))
    found = []
    for (convention, kind), part in table.groupby(["convention", "kind"]):
        failed = part[part["failed"]].sort_values("sample", kind="stable")
        kept = part[~part["failed"]] if scoring.on_error == "skip_reported" else part
        if not kept.empty:
            kept = _scored(kept, str(kind), conditions, shape, scoring)
            errors = failed["error"].dropna()
            first = None if errors.empty else errors.iloc[0]
            found.append(Questions(str(convention), str(kind), kept, failed["sample"].nunique(), first))
    if not found:
        raise RunError("every sample has an unusable image", hint="set data.image_root")
    return sorted(found, key=lambda one: (one.convention, KIND_ORDER.index(one.kind)))


def _scored(
    part: pd.DataFrame, kind: str, conditions: Sequence[Condition], shape: ModelShape, scoring: ScoringConfig
) -> pd.DataFrame:
    order = list(dict.fromkeys(condition.row for condition in conditions))
    part = part.sort_values(["row", "seed"], key=lambda c: c.map(order.index) if c.name == "row" else c, kind="stable")
    first = part[part["condition"] == conditions[0].id]
    labelled = bool(part["truth"].str.strip().any())
    if labelled and (guesses := majority_answers(kind, list(first["truth"]))) is not None:
        majority = first.assign(row=MAJORITY, condition=MAJORITY, seed=0, trace=None, answer=guesses, distribution=None)
        part = pd.concat([majority, part], ignore_index=True)
    part = part.assign(
        answer=part["answer"].astype(object).where(~part["failed"] & part["answer"].notna(), None),
        distribution=part["distribution"].astype(object).where(~part["failed"] & part["distribution"].notna(), None),
    )
    unpruned = part[part["condition"] == UNPRUNED].set_index("sample")["answer"]
    same = lru_cache(None)(say_the_same)
    pairs = zip(part["answer"], part["sample"].map(unpruned.to_dict()), strict=True)
    part["agrees"] = [float(same(kind, answer, full)) for answer, full in pairs]
    judge = lru_cache(None)(score_of)
    given = zip(part["truth"], part["answer"], strict=True)
    part["score"] = [judge(kind, t, a, scoring.protocol) for t, a in given] if labelled else part["agrees"]
    part.loc[part["row"] == MAJORITY, "agrees"] = np.nan
    price = lru_cache(None)(_cost)
    costs = [
        (None,) * len(COSTS) if t is None else (*price(shape, t.entering, t.after, t.text, positions), t.complexity)
        for t, positions in zip(part["trace"], part["positions"], strict=True)
    ]
    part = part.join(pd.DataFrame(costs, index=part.index, columns=COSTS, dtype=float))
    if kind != PLAN:
        return part
    read = lru_cache(None)(read_plan)
    for number, half in enumerate(HALVES):
        true, said = ([read(text)[number] for text in part[name]] for name in ("truth", "answer"))
        part[half] = [float(a == b) for a, b in zip(true, said, strict=True)]
    return part.join(damage_columns(part, {**COSTS_OF_PLANS, **scoring.costs}))


def _cost(
    shape: ModelShape, entering: tuple[int, ...], after: tuple[int, ...], text: int, positions: int
) -> tuple[float, ...]:
    """`COSTS` but the complexity."""
    tokens = sum(entering) / len(entering), sum(after) / len(after), entering[len(entering) // 2], entering[-1]
    flops = decision_flops(shape, entering, text, positions)
    return *tokens, kv_bytes(shape, entering, text), *astuple(flops), flops.total


def require_consistent(records: Iterable[Record], conditions: Sequence[Condition], shape: ModelShape) -> None:
    """Check what scores, tables and plots rely on.

    Raises:
        RunError: naming the first decision at fault, or that the run itself is unusable.
    """
    damaged = "run.json is damaged: delete the run and evaluate again"
    if not any(condition.id == UNPRUNED for condition in conditions):
        raise RunError(f"the run has no condition {UNPRUNED!r}, which all others are compared with", hint=damaged)
    if strange := [c.label for c in conditions if not c.label or not c.label.isprintable()]:
        raise RunError(f"the label {strange[0]!r} cannot be shown", hint=damaged)
    if min(shape.views, shape.view_tokens, shape.layers, shape.patches) < 1:
        raise RunError("the run's model has no layers, views, patches or visual tokens", hint=damaged)
    fault, records = lru_cache(None)(fault_of), list(records)
    traces = {id(record.trace): record.trace for record in records if record.trace}
    problems = {key: _problem_of(trace, shape) for key, trace in traces.items()}
    labelled = any(record.truth.strip() for record in records)
    for record in records:
        problem = problems.get(id(record.trace))
        if record.convention not in CONVENTIONS:
            problem = f"{record.convention!r} is no convention"
        elif labelled and (found := fault(record.kind, record.truth)):
            problem = f"the truth {record.truth!r} {found}"
        elif record.error is not None and "message" not in record.error:
            problem = "the error has no message"
        elif record.readout_positions < 0:
            problem = "a negative number of tokens was read out"
        if problem:
            raise RunError(problem, where=f"sample {record.sample}, condition {record.condition}", hint=HINT)


def _problem_of(trace: Trace, shape: ModelShape) -> str | None:
    if {len(trace.entering), len(trace.after), len(trace.per_view)} != {shape.layers}:
        return f"the trace does not have {shape.layers} layers"
    if {len(row) for row in trace.per_view} != {shape.views}:
        return f"the trace does not have {shape.views} views in every layer"
    if trace.depths is not None and len(trace.depths) != shape.num_visual:
        return f"the trace does not have {shape.num_visual} visual tokens"
    counts = (*trace.entering, *trace.after, *map(max, trace.per_view))
    if min(*counts, *map(min, trace.per_view), trace.text) < 0 or max(counts) > shape.num_visual:
        return "the trace counts fewer than no tokens, or more than there are"
    return None
