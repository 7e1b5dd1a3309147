"""What the data says of differences: in words, pair by pair, and by the distribution over the plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from senna_prune.evaluation.report.plan_tables import Group, method_of
from senna_prune.evaluation.report.table import Table, hundredths, signed
from senna_prune.evaluation.score.statistics import ALPHA, POWER

COMPARED = ("method", "against", "difference [95 %]", "could detect", "supported")
COMPARISON_NOTE = (
    "Differences in points (percent of the samples). Could detect: the smallest true difference that this comparison "
    f"finds in {100 * POWER:.0f} % of all runs, on its own, paired and clustered by scene; a smaller one that is not "
    "supported may still be there."
)
BEST = "The best against every other, AutoPrune against the baselines of Table 3"
PAIR_NOTE = (
    "Differences in points, each method at its own kept positions. p: scene-level sign-flip permutation test (mid-p) "
    "on differences averaged over seeds; Holm p: within one retention and purpose; supported: Holm p below "
    f"{100 * ALPHA:g} %. The best row was picked from the same data, so its lead is flattering."
)
DAMAGE_NOTE = (
    "KL: divergence of the unpruned distribution over the 20 plans from the row's, nats, mean and 95th percentile; it "
    "needs no true plan. NLL: negative log-likelihood of the true plan, nats. Brier: squared distance from the true "
    "plan, 0 to 2. Brackets: 95 %, bootstrap over scenes."
)


def every_comparison(group: Group) -> Table:
    """Every difference with its interval and what it could have detected."""
    rows = [
        {
            "method": row["row"],
            "against": comparison["to"],
            "difference [95 %]": signed(comparison["difference"], comparison["difference_interval"]),
            "could detect": hundredths(comparison["detectable"]),
            "only this right": str(comparison["only_this"]),
            "only the other right": str(comparison["only_other"]),
            "exact p": f"{comparison['p']:.3g}",
            "Holm p": f"{comparison['p_holm']:.3g}",
            "supported": "yes" if comparison["supported"] else "no",
        }
        for row in group["rows"]
        for comparison in row["comparisons"]
    ]
    return Table.of("Every comparison", rows, COMPARISON_NOTE, folded=True, words={"against"})


def pairs(title: str, compared: Sequence[Mapping[str, Any]], *notes: str) -> Table:
    """Pairs of `compare_rows`, in their order."""
    rows = [
        {
            "method": pair["row"],
            "against": pair["to"],
            "purpose": pair["purpose"],
            "difference [95 %]": signed(pair["difference"], pair["difference_interval"]),
            "could detect": hundredths(pair["detectable"]),
            "p": f"{pair['p']:.3g}",
            "Holm p": f"{pair['p_holm']:.3g}",
            "supported": "yes" if pair["supported"] else "no",
        }
        for pair in compared
    ]
    return Table.of(title, rows, *(notes or (PAIR_NOTE,)), words={"against", "purpose"})


def in_words(group: Group) -> list[str]:
    """A sentence per retention: which row is best, whom it beats for certain, and whom it cannot be told from."""
    found = []
    rows = {row["row"]: row for row in group["rows"]}
    best_pairs = [pair for pair in group["pairs"] if pair["purpose"] == "best"]
    for retention in dict.fromkeys(pair["retention"] for pair in best_pairs):
        given = [pair for pair in best_pairs if pair["retention"] == retention]
        best = rows[given[0]["row"]]
        beaten = [pair for pair in given if pair["supported"]]
        open_ = [rows[pair["to"]]["label"] for pair in given if not pair["supported"]]
        lead = f"At {100 * retention:g} % of the tokens {best['label']} is best ({hundredths(best['accuracy'])} %)"
        if beaten:
            nearest = min(beaten, key=lambda pair: pair["difference"])
            gap = signed(nearest["difference"], nearest["difference_interval"])
            lead += f" and better than {len(beaten)} of {len(given)} others, at least by {gap} points"
            lead += f" ({rows[nearest['to']]['label']})"
        rest = f"; it cannot be told from {', '.join(open_)}" if beaten and open_ else ""
        found.append(f"{lead}{rest}." if beaten else f"{lead}, but nothing can be told apart here.")
    return found


def damage(group: Group) -> Table:
    """What pruning does to the distribution over the plans, of rows whose readout gives one."""

    def number(scores: Mapping[str, Any], name: str) -> str:
        value, bounds = scores[name], scores.get(f"{name}_interval")
        text = "-" if value is None else f"{value:.3g}"
        return f"{text} [{bounds[0]:.3g}, {bounds[1]:.3g}]" if bounds else text

    rows = [
        {
            "method": method_of(row),
            "KL [95 %]": number(row["distribution"], "kl"),
            "KL p95": number(row["distribution"], "kl_p95"),
            "agreement %": hundredths(row["agreement"]),
            "NLL [95 %]": number(row["distribution"], "nll"),
            "Brier": number(row["distribution"], "brier"),
        }
        for row in group["rows"]
        if row["distribution"]
    ]
    return Table.of("Damage before accuracy moves", rows, DAMAGE_NOTE)
