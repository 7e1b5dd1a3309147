"""Numbers and selections of the released codes: AutoPrune, DART, CDPruner, DivPrune, Prune2Drive and ToMe."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from senna_prune.pruning import Budget, make_pruner
from senna_prune.pruning.base import Observation
from senna_prune.pruning.clusters import cluster_and_merge
from senna_prune.pruning.curve_shapes import Slope, curve, dynamic_slope
from senna_prune.pruning.methods.autoprune import CAP, PLATEAU, mutual_information, released_keep_percent, simulate
from senna_prune.pruning.methods.cdpruner import greedy_map, mean_cosine, scaled
from senna_prune.pruning.methods.dart import key_norm, strongest, take_turns
from senna_prune.pruning.methods.tome import destinations, lost, match, mean_of_merged, merge_rounds
from senna_prune.pruning.ordering import cosines, farthest_points
from tests.conftest import golden_cases

pytestmark = pytest.mark.golden


def cases(pattern: str) -> Any:
    return pytest.mark.parametrize("case", golden_cases(pattern), ids=lambda path: path.stem)


def read(case: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Stored arrays, indices as int64, and the settings."""
    stored = np.load(case)
    arrays = {name: torch.from_numpy(stored[name]) for name in stored.files if name != "settings"}
    arrays = {name: array.long() if array.dtype == torch.int32 else array for name, array in arrays.items()}
    return arrays, json.loads(str(stored["settings"]))


def same_choice(ours: Tensor, theirs: Tensor, group: Tensor | None) -> None:
    """Equal tokens in equal order; where vectors are duplicated, equally many of each."""
    if group is None:
        assert ours.tolist() == theirs.tolist()
    else:
        assert len(set(ours.tolist())) == len(ours)
        assert sorted(group[ours].tolist()) == sorted(group[theirs].tolist())


def seen(hidden: Tensor, views: Tensor, layer: int = 0) -> Observation:
    """What a method sees of these visual tokens alone."""
    places = torch.arange(len(hidden))
    return Observation(layer, 32, places, views, int(views.max()) + 1, places, hidden)


@cases("autoprune/*schedule*_index.json")
def test_schedule_counts_on_every_row(case: Path) -> None:
    index = json.loads(case.read_text())
    stored = np.load(case.with_name(case.name.replace("_index.json", ".npz")))
    assert index["rows"]
    for number, values in enumerate(index["rows"]):
        row = dict(zip(index["columns"], values, strict=True))
        layers, target, total = row["L"], row["target"], row["ori_token_num"]
        shape = [PLATEAU * curve("logistic", layer, row["k"], row["x0_eff"]) for layer in range(1, layers)]
        first = min(int(CAP * target), total)
        percent = released_keep_percent(shape, first, target, total)
        np.testing.assert_allclose(percent, stored["keep_percent"][number][: layers - 1], rtol=1e-12)
        plan = simulate(first, [math.ceil((first - 1) * value) for value in percent], total)
        assert plan.tokens[1:] == tuple(stored["counts"][number][:layers]), row
        assert plan.merged[1:] == tuple(stored["clusters"][number][:layers]), row
        assert plan.after == pytest.approx(row["actual_mean"])


@cases("autoprune/dynamic_k*.json")
def test_slope(case: Path) -> None:
    for row in json.loads(case.read_text()):
        ours = {mode: dynamic_slope(row["mi"], 0.4, 0.2, mode) for mode in get_args(Slope)}
        ours["linear_k1_g05"] = dynamic_slope(row["mi"], 1.0, 0.5)
        assert ours == pytest.approx({key: row[key] for key in ours}, abs=1e-12)


@cases("autoprune/mutual_information*.npz")
def test_mutual_information(case: Path) -> None:
    stored = np.load(case)
    for i in (int(name.removeprefix("attn_")) for name in stored.files if name.startswith("attn_")):
        ours = mutual_information(torch.from_numpy(stored[f"attn_{i}"]))
        np.testing.assert_allclose(ours.numpy(), stored[f"mi_per_head_{i}"], atol=1e-5)
        assert float(ours.sum()) == pytest.approx(float(stored[f"mi_sum_{i}"]), rel=1e-6, abs=1e-7)


@cases("autoprune/cluster_and_merge*.npz")
def test_clustering(case: Path) -> None:
    stored = np.load(case)
    for i in (int(name.removeprefix("x_")) for name in stored.files if name.startswith("x_")):
        tokens, clusters = torch.from_numpy(stored[f"x_{i}"])[0], int(stored[f"k_{i}"])
        for noise, name in ((None, "ramp"), (torch.zeros(len(tokens)), "zero")):
            means, centres = cluster_and_merge(tokens, clusters, noise)
            np.testing.assert_allclose(means.numpy(), stored[f"y_{name}_{i}"][0], atol=1e-5)
            assert len(set(centres.tolist())) == clusters


@cases("divprune/*.npz")
def test_divprune(case: Path) -> None:
    stored, settings = read(case)
    features, theirs, group = stored["in_features"], stored["out_order"], stored.get("in_group")
    # Asked for more tokens than there are different vectors, the released code repeats tokens; ours takes others.
    total, different = len(features), int(stored["out_unique"])
    same_choice(farthest_points(features, different), theirs[:different], group)
    apart = (1 - cosines(features)).fill_diagonal_(torch.inf).amin(1)
    np.testing.assert_allclose(apart, stored["out_first_scores"], atol=1e-5)

    budget = Budget.retention(settings["subset_ratio"])
    for options in ({}, {"view_weights": (1.0,)}, {"min_tokens_per_view": 3}):
        policy = make_pruner("divprune", budget, num_layers=32, num_heads=4, num_visual=total, **options)
        count = policy.plan(total, 32).tokens[0]
        assert count == len(theirs)
        kept = policy.select(seen(features, torch.zeros(total, dtype=torch.long)), count, 0).keep
        if different == len(theirs):
            same_choice(kept, stored["out_keep_list"], group)
        else:
            assert group is not None and set(group[theirs].tolist()) <= set(group[kept].tolist())


@cases("prune2drive/*.npz")
def test_prune2drive(case: Path) -> None:
    stored, _ = read(case)
    hidden, counts = stored["in_hidden"], stored["out_counts"].tolist()
    (num_views, size), flat = hidden.shape[:2], hidden.flatten(0, 1)
    group = stored.get("in_group")
    views = torch.arange(num_views).repeat_interleave(size)
    assert counts == [int(size * ratio) for ratio in stored["in_ratios"].tolist()]
    order = farthest_points(flat, len(flat), views)
    for view, theirs in enumerate(stored["out_order"].split(counts)):
        ours = order[views[order] == view][: counts[view]] - view * size
        same_choice(ours, theirs, None if group is None else group[view])

    host = {"num_layers": 32, "num_heads": 4, "num_visual": len(flat)}
    policy = make_pruner("prune2drive", Budget.retention(0.5), **host, view_weights=stored["in_ratios"].tolist())
    kept = policy.select(seen(flat, views, layer=1), sum(counts), 0).keep
    assert views[kept].bincount(minlength=num_views).tolist() == counts
    if group is None:
        assert kept.tolist() == stored["out_kept"].tolist()


@cases("cdpruner/*.npz")
def test_cdpruner(case: Path) -> None:
    stored, settings = read(case)
    features, embeds, texts = stored["in_features"], stored["in_image_embeds"], stored["in_text_embeds"]
    group = stored.get("in_group")
    relevance = scaled(-torch.stack([mean_cosine(image, texts) for image in embeds]))
    np.testing.assert_allclose(relevance, stored["out_relevance"], atol=1e-5)
    for image, own in enumerate(relevance):
        kernel = own[:, None] * cosines(features[image]) * own
        np.testing.assert_allclose(kernel.diagonal(), stored["out_kernel_diag"][image], atol=1e-5)
        np.testing.assert_allclose(kernel[0], stored["out_kernel_row0"][image], atol=1e-5)
        ours = greedy_map(kernel, settings["visual_token_num"])
        own_group = None if group is None else group.expand(len(features), -1)[image]
        same_choice(ours, stored["out_order"][image], own_group)
        same_choice(ours.sort().values, stored["out_kept"][image], own_group)


@cases("dart/*.npz")
def test_dart(case: Path) -> None:
    stored, settings = read(case)
    start, count = settings["image_token_start_index"], settings["image_token_length"]
    image = torch.arange(start, start + count)
    text = torch.arange(start + count, settings["seq_length"])
    norm = key_norm(stored["in_keys"])
    np.testing.assert_allclose(norm, stored["out_key_l1"], rtol=1e-5)
    pivots = image[strongest(norm[image], settings["pivot_image_token"])]
    assert pivots.tolist() == stored["out_pivot_image"].tolist()
    assert text[strongest(norm[text], settings["pivot_text_token"])].tolist() == stored["out_pivot_text"].tolist()

    states = torch.nn.functional.normalize(stored["in_hidden"], dim=-1)
    # Their order follows from how CPython lays out a set of integers.
    turns = stored["out_pivot_order"]
    similarity = (states[turns] @ states[image].T).index_fill_(1, pivots - start, torch.inf)
    taken = take_turns(similarity, [settings["token_topk"]] * len(turns))
    kept = torch.cat([pivots, *(own + start for own in taken)]).sort().values
    group = stored.get("in_group")
    if group is None:
        assert [sorted((own + start).tolist()) for own in taken] == stored["out_picks"].sort(1).values.tolist()
        assert kept.tolist() == stored["out_kept"].sort().values.tolist()
        others = torch.cat([torch.arange(start), text])
        assert torch.cat([others, kept]).sort().values.tolist() == stored["out_position_ids"].tolist()
    else:
        same_choice(kept - start, stored["out_kept"] - start, group)


@cases("tome/*.npz")
def test_tome(case: Path) -> None:
    stored, settings = read(case)
    if settings["class_token"]:
        pytest.skip("the visual tokens behind an adapter have no class token to protect")
    batch, size = stored["in_metric"].shape[:2]
    views = torch.arange(batch).repeat_interleave(size)
    time, into, left = merge_rounds(stored["in_metric"].flatten(0, 1), views, batch, settings["r"])
    final = stored["out_x"].shape[1]
    rows = left[: batch * final]
    assert views[rows].tolist() == torch.arange(batch).repeat_interleave(final).tolist()
    assert bool(time[rows].isinf().all())

    target = destinations(into, rows)
    slot = torch.empty_like(target).index_copy_(0, rows, torch.arange(len(rows)) % final)[target]
    assert slot.view(batch, size).tolist() == stored["out_slot_of_token"].tolist()
    sizes = (target == rows[:, None]).sum(1).view(batch, final)
    np.testing.assert_array_equal(sizes, stored["out_size"])
    mean = mean_of_merged(stored["in_x"].flatten(0, 1), target, rows).view(batch, final, -1)
    np.testing.assert_allclose(mean, stored["out_x"], atol=1e-5)


@cases("tome/*.npz")
def test_every_round_of_tome(case: Path) -> None:
    stored, settings = read(case)
    guarded = int(settings["class_token"])  # the first token of an even place, which is never merged away
    for image, metric in enumerate(stored["in_metric"]):
        for number, limit in enumerate(settings["r"]):
            place = torch.arange(len(metric))
            free, view = place[guarded:], torch.zeros(len(metric) - guarded, dtype=torch.long)
            score, partner = match(metric[free], view, free, 1)
            gone = lost(score, view, 1, limit)
            order = score.argsort(descending=True, stable=True)
            best = order[gone[order]]
            source, destination = free[best], free[partner[best]]
            assert (source // 2).tolist() == stored[f"out_src_{number}"][image].tolist()
            assert (destination // 2).tolist() == stored[f"out_dst_{number}"][image].tolist()
            rest = free[order[~gone[order]]]
            rest = rest[rest % 2 == 0]
            if guarded:  # then the released code sorts them by place
                rest = torch.cat([place[:1], rest.sort().values])
            assert (rest // 2).tolist() == stored[f"out_unmerged_{number}"][image].tolist()
            members = metric.clone().index_add_(0, destination, metric[source])
            sizes = torch.ones(len(metric)).index_add_(0, destination, torch.ones(len(source)))
            metric = (members / sizes[:, None])[torch.cat([rest, place[1::2]])]


@cases("tome/*.npz")
def test_rounds_of_half_stop_anywhere_in_the_released_rounds(case: Path) -> None:
    """The order in which the method merges contains every shorter run: rounds of half, the last one cut off."""
    stored, settings = read(case)
    if settings["class_token"]:
        pytest.skip("the visual tokens behind an adapter have no class token to protect")
    size = stored["in_metric"].shape[1]
    for metric in stored["in_metric"]:
        view = torch.zeros(size, dtype=torch.long)
        time, into, _ = merge_rounds(metric, view, 1)
        for left in (3 * size // 4, size // 3, 7):
            sizes, limits = size, []
            while sizes > left:
                limits.append(min(sizes // 2, sizes - left))
                sizes -= limits[-1]
            _, given, rows = merge_rounds(metric, view, 1, limits)
            keep = rows[:left].sort().values
            assert time.argsort(descending=True, stable=True)[:left].sort().values.tolist() == keep.tolist()
            assert destinations(into, keep).tolist() == destinations(given, keep).tolist()
