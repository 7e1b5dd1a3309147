"""What the data says of differences: in words, pair by pair, and by the distribution over the plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from senna_prune.evaluation.report.plan_tables import Group, method_of
from senna_prune.evaluation.report.table import Table, hundredths, number, signed
from senna_prune.evaluation.score.statistics import ALPHA, POWER

COMPARED = ("method", "against", "difference [95 %]", "could detect", "supported")
BEST = "The best against every other, AutoPrune against the baselines of Table 3"
NOTE = (
    "Differences in points (percent of the samples). p: scene-level sign-flip permutation test (mid-p) on differences "
    "averaged over seeds; Holm p: within one retention and purpose; supported: Holm p below "
    f"{100 * ALPHA:g} %. Could detect: the smallest true difference that this comparison finds in {100 * POWER:.0f} % "
    "of all runs, on its own; a smaller one that is not supported may still be there."
)
PICKED = "Each method at its own kept positions. The best row was picked from the same data, so its lead is flattering."
DAMAGE_NOTE = (
    "KL: divergence of the unpruned distribution over the 20 plans from the row's, nats, mean and 95th percentile; it "
    "needs no true plan. NLL: negative log-likelihood of the true plan, nats. Brier: squared distance from the true "
    "plan, 0 to 2. ECE: expected calibration error, by tenths of the most probable plan's probability. Error cost: "
    "mean cost of a plan, by `scoring.costs`. Brackets: 95 %, bootstrap over scenes."
)
TOLD_NOTE = (
    "The largest retention at which a method differs from the unpruned model by this measure (sign-flip test by "
    f"scenes, Holm-adjusted p below {100 * ALPHA:g} % within a retention and measure); - where it does at none. KL and "
    "agreement of the unpruned model with itself are perfect, so any regular change shows."
)
MEASURES = {
    **{"score": "accuracy", "agrees": "agreement", "kl": "KL", "nll": "NLL", "brier": "Brier"},
    "error_cost": "error cost",
}


def compared(title: str, entries: Sequence[Mapping[str, Any]], *notes: str, folded: bool = False) -> Table:
    """Pairs of `compare_rows`, in their order."""
    rows = [
        {
            "method": pair["row"],
            "against": pair["to"],
            "purpose": pair["kind"],
            "difference [95 %]": signed(pair["difference"], pair["difference_interval"]),
            "could detect": hundredths(pair["detectable"]),
            "only this right": f"{pair['only_this']:.4g}",
            "only the other right": f"{pair['only_other']:.4g}",
            "p": f"{pair['p']:.3g}",
            "Holm p": f"{pair['p_holm']:.3g}",
            "supported": "yes" if pair["supported"] else "no",
        }
        for pair in entries
    ]
    return Table.of(title, rows, NOTE, *notes, folded=folded, words={"against", "purpose"})


def every_comparison(group: Group) -> Table:
    """Every difference with its interval and what it could have detected."""
    return compared("Every comparison", [c for row in group["rows"] for c in row["comparisons"]], folded=True)


def in_words(group: Group) -> list[str]:
    """A sentence per retention: which row is best, whom it beats for certain, and whom it cannot be told from."""
    found = []
    rows = {row["row"]: row for row in group["rows"]}
    pairs = [pair for pair in group["pairs"] if pair["kind"] == "best"]
    for retention in dict.fromkeys(pair["retention"] for pair in pairs):
        given = [pair for pair in pairs if pair["retention"] == retention]
        best = rows[given[0]["row"]]
        level = [best["label"], *(rows[p["to"]]["label"] for p in given if p["difference"] == 0)]
        beaten = [pair for pair in given if pair["supported"]]
        others = [rows[pair["to"]]["label"] for pair in given if not pair["supported"]]
        lead = f"At {100 * retention:g} % of the tokens {' and '.join(level)} {'is' if len(level) == 1 else 'are'} best"
        lead += f" ({hundredths(best['score'])} %)"
        if not beaten:
            found.append(f"{lead}, but nothing can be told apart here.")
            continue
        near = min(beaten, key=lambda pair: pair["difference"])
        gap = signed(near["difference"], near["difference_interval"])
        lead += f" and better than {len(beaten)} of {len(given)} others, at least by {gap} points over "
        lead += f"{rows[near['to']]['label']} (adjusted p {near['p_holm']:.2g})"
        found.append(f"{lead}; it cannot be told from {', '.join(others)}." if others else f"{lead}.")
    return found


def damage(group: Group) -> Table:
    """What pruning does to plans and to the distribution over them; without true plans by what needs none."""
    rows = []
    for row in group["rows"]:
        scores = row["distribution"] or {}
        cells = {
            "method": method_of(row),
            "agreement %": hundredths(row["agreement"]),
            "KL [95 %]": number(scores.get("kl"), scores.get("kl_interval")),
            "KL p95": number(scores.get("kl_p95")),
        }
        if group["labelled"]:
            cells["NLL [95 %]"] = number(scores.get("nll"), scores.get("nll_interval"))
            cells |= {"Brier": number(scores.get("brier")), "ECE": number(scores.get("ece"))}
            cells["error cost [95 %]"] = number(row["error_cost"], row["error_cost_interval"])
        rows.append(cells)
    return Table.of("Damage before accuracy moves", rows, DAMAGE_NOTE)


def first_told(group: Group) -> Table:
    """At which retention each measure first tells a method from the unpruned model."""
    rows = [
        {"method": label} | {MEASURES[name]: "-" if at is None else f"{100 * at:g} %" for name, at in measures.items()}
        for label, measures in group["told_from_unpruned"].items()
    ]
    return Table.of("At which retention a measure first tells a method from unpruned", rows, TOLD_NOTE)
