"""Stored blocks as an `xarray.Dataset`: per-seed values with units, long names and exactness."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from simrl.measures import phases
from simrl.measures.flops import LINES, FlopCount
from simrl.sweeps import joining, resampled, store
from simrl.sweeps.errors import SpecError
from simrl.sweeps.grid import Cell
from simrl.sweeps.joining import Part, Rows
from simrl.sweeps.store import Block

DIMS = {
    "look": ("seed", "log_point"),
    "phase": ("seed", "phase"),
    "hit": ("seed", "threshold"),
    "total": ("seed",),
    "update": ("seed",),
    "stopped": ("seed",),
}
LEAF_DIMS = ("seed", "log_point", "leaf")  # leaves of the parameters, as jax.tree.leaves has them
BELIEF_DIMS = ("seed", "log_point", "prompt", "position", "symbol")

MEANINGS = {  # name -> (units, long name)
    "step": ("updates", "updates done"),
    "time": ("updates", "updates done, interpolated in log-odds"),
    "pass_rate": ("1", "probability that the whole answer is right"),
    "success": ("1", "answers that were right"),
    "log_odds": ("nat", "log-odds of the pass rate"),
    "log2_answer": ("bit", "log2 of the probability of the right answer"),
    "nominal": ("bit", "nominal information (the essay's curve) per trajectory"),
    "expected": ("bit", "expected information (truth drawn from the policy) per trajectory"),
    "realised": ("bit", "realised information about the right answer per trajectory"),
    "expected_update": ("bit", "expected joint information of an update's group"),
    "realised_update": ("bit", "realised joint information of an update's group"),
    "absorbed": ("bit", "information absorbed about the right answer"),
    "absorbed_label": ("bit", "information absorbed about labels drawn from their law"),
    "gap": ("bit", "excess loss KL(labels || policy)"),
    "trace_covariance": ("1", "trace of the covariance of the update's gradient estimate"),
    "squared_norm": ("1", "squared norm of the mean of the update's gradient estimate"),
    "squared_bias": ("1", "squared distance of the mean estimate from the reward's gradient"),
    "regret": ("1", "expected regret of a sample, in units of the reward"),
    "expected_regret": ("1", "regret the learner's posterior expects of its next sample"),
    "squared_expected_regret": ("1", "its square: the numerator of the information ratio"),
    "information_gain": ("bit", "information about the best arm expected of the next sample"),
    "duel_expected": ("bit", "expected information of a duel (truth drawn from the policy)"),
    "duel_realised": ("bit", "realised information of a duel about the right answer"),
    "updates": ("updates", "updates, shared by the prompts by their trajectories"),
    "duels": ("duels", "duels of two guesses"),
    "duel_wins": ("duels", "duels that the first of the two guesses won"),
    "cosine": ("1", "cosine of the update's estimate to the score of the right answer, if not 0"),
    "zero_share": ("1", "share of updates whose estimate is exactly zero"),
    "samples": ("samples", "labelled tokens (supervised) or trajectories (policy gradient)"),
    "tokens": ("tokens", "tokens labelled or decoded"),
    "trajectories": ("trajectories", "whole answers labelled or tried"),
    "dead": ("trajectories", "trajectories of groups that left no gradient"),
    "flops": ("FLOP", "FLOPs by the 2N/4N convention"),
    "flops_counted": ("FLOP", "FLOPs of the learner counted from its program"),
    **{
        f"flops_{line}": ("FLOP", f"the line {line!r} of the bill by the 2N/4N convention")
        for line in LINES
    },
    **{
        f"{part}_{kind}": (
            "words" if kind == "random_words" else "FLOP",
            f"{kind.replace('_', ' ')} of the {part} in one update, counted from its program",
        )
        for part in ("learner", "world")
        for kind in FlopCount._fields
    },
    "observed_pass_rate": (
        "1",
        "probability that a guess is called right: by a fresh label, or a noisy verifier",
    ),
    "stopped": ("1", "the seed reached the stopping pass rate"),
    "belief": ("nat", "log-probabilities of the policy"),
}
DRAWN = {  # prefix -> how
    "redrawn_": "by redrawing it",
    "two_batch_": "from two batch sizes",
    "leaf_": "of one leaf of the parameters, by redrawing it",
}
TOLD = {"absorbed", "absorbed_label", "success", "expected_update", "realised_update"}
TOLD |= {"duels", "duel_wins", "updates"}
COORDINATES = {  # name -> (units, long name); the others are axes of the sweep
    "seed": ("1", "number of the seed"),
    "log_point": ("1", "number of the log point, from 0"),
    "phase": ("1", "number of the phase, from 0"),
    "threshold": ("1", "pass rate to be reached"),
    "leaf": ("1", "number of the leaf of the parameters, in the order of jax.tree.leaves"),
}


def dataset(
    name: str, found: list[tuple[Cell, list[Block]]], seeds: np.ndarray, *, product: bool
) -> xr.Dataset:
    """One Dataset of the chosen seeds of a sweep: dims are its axes (or `cell`), seed, and more.

    `product`: the cells are every combination of the values of the axes, the last varying fastest.

    Variables have the attributes units, long_name and exact, coordinates the first two.
    Phase variables `phase_*` are sums over the phase; divide sums by sums. A variable that a cell
    does not have is NaN there (0 for counts). The blocks are emptied, so that nothing is held
    twice.
    """
    cells = [cell for cell, _ in found]
    parts = [_part(cell, blocks, seeds) for cell, blocks in found]
    attributes = _attributes(parts)
    variables, coords = joining.joined(parts)
    axes = list(cells[0].coordinates)
    labels = {axis: [cell.coordinates[axis] for cell in cells] for axis in axes}
    if product and axes:
        distinct = {axis: list(dict.fromkeys(along)) for axis, along in labels.items()}
        variables, coords = joining.unfold(variables, distinct), coords | distinct
    else:
        coords |= {axis: ("cell", along) for axis, along in labels.items()}
    made = {name: (*rows, attributes[name]) for name, rows in variables.items()}
    joined = xr.Dataset(made, coords=coords, attrs={"simrl_sweep": name})
    for coordinate, array in joined.coords.items():
        axis = ("1", f"{coordinate}, an axis of the sweep")
        array.attrs["units"], array.attrs["long_name"] = COORDINATES.get(str(coordinate), axis)
    return joined


def open_dataset(path: Path, seeds: int | None = None) -> xr.Dataset:
    """What is stored at `path`: the cells with the most seeds, or those with 0 ... seeds - 1."""
    manifest = store.read_manifest(path)["sweep"]
    stored = []
    for entry in manifest["cells"]:
        ends = store.blocks_in(path, entry["hash"])
        have = np.concatenate([np.arange(a, b + 1) for a, b in ends] or [np.empty(0, np.int64)])
        stored.append((entry, ends, np.unique(have)))  # two runs at once may both have made some
    most = max((have.size for _, _, have in stored), default=0)
    wanted = next((have for _, _, have in stored if have.size == most), np.empty(0))
    wanted = wanted if seeds is None else np.arange(seeds)
    chosen = [(e, ends) for e, ends, have in stored if np.isin(wanted, have).all()]
    if wanted.size == 0 or not chosen:
        lacking = "finished blocks" if seeds is None else f"cell with {seeds} seeds"
        raise SpecError(f"{path} has no {lacking}")
    found = [
        (
            Cell(entry["coordinates"], _Stored(entry["spec"])),
            [store.load_block(path, entry["hash"], *pair) for pair in ends],
        )
        for entry, ends in chosen
    ]
    product = manifest["mode"] == "product" and len(found) == len(manifest["cells"])
    return dataset(manifest["name"], found, wanted, product=product)


class _Stored:
    """A stored spec: its description, read by attribute as the live one is."""

    def __init__(self, description: dict[str, Any]):
        self._description = description

    def __getattr__(self, name: str) -> Any:
        try:
            value = self._description[name]
        except KeyError:
            raise AttributeError(name) from None
        return _Stored(value) if isinstance(value, dict) else value


def _part(cell: Cell, blocks: list[Block], seeds: np.ndarray) -> Part:
    have = np.concatenate([block["seed"] for block in blocks])
    if not np.isin(seeds, have).all():  # searchsorted would put another seed's values there
        absent = np.setdiff1d(seeds, have)
        raise SpecError(
            f"{absent.size} of {seeds.size} seeds have no values, the first {absent[0]}"
        )
    order = np.argsort(have)
    rows = order[np.searchsorted(have, seeds, sorter=order)]
    as_they_are = np.array_equal(have, seeds)
    variables: dict[str, Rows] = {}
    for block in blocks:
        block |= resampled.phase_sums(block, cell.spec.phases)
    for key in blocks[0]:
        if key == "seed":
            continue
        group, _, name = key.partition(".")
        pieces = [block[key] for block in blocks]
        pieces = pieces if as_they_are else [np.concatenate(pieces)[rows]]
        dims = BELIEF_DIMS if name == "belief" else DIMS[group]
        dims = LEAF_DIMS if name.startswith("leaf_") else dims
        title = name if group == "look" else key.replace(".", "_")
        variables[title] = Rows(dims, pieces, _meaning(group, name or group, blocks[0]))
    for block in blocks:
        block.clear()
    spec = cell.spec
    ends = phases.edges(spec.phases.low, spec.phases.high, spec.phases.num)
    units = "nat" if spec.phases.coordinate == "log_odds" else "log2(bit)"
    about = {"units": units, "exact": 1}
    name = f"{spec.phases.coordinate} before the update"
    for title, end, which in (("low", ends[:-1], "least"), ("high", ends[1:], "largest")):
        meaning = {**about, "long_name": f"{which} {name}"}
        variables[f"phase_{title}"] = Rows(("phase",), [end], meaning)
    sizes = {d: n for v in variables.values() for d, n in zip(v.dims, v.shape, strict=True)}
    counted: dict[str, Any] = {
        d: np.arange(sizes[d]) for d in ("log_point", "phase", "leaf") if d in sizes
    }
    return Part(variables, {"seed": seeds, "threshold": list(spec.thresholds), **counted})


def _meaning(group: str, name: str, block: Block) -> dict[str, Any]:
    """Attributes of a variable; what was drawn, and so has an error beside it, is not exact."""
    estimated = name.endswith("_error") or name == "time" or f"look.{name}_error" in block
    bare = name.removesuffix("_error")
    prefix = next((start for start in DRAWN if bare.startswith(start)), "")
    units, long_name = MEANINGS.get(bare.removeprefix(prefix), ("1", bare))
    if prefix:
        long_name = f"{long_name}, {DRAWN[prefix]}"
    if name != bare:
        long_name = f"standard error over draws of: {long_name}"
    if group == "phase":
        counted = block[f"phase.{name}"].dtype.kind == "u" or name in TOLD
        how = "over log points" if estimated else "with weights"
        weighted = "" if counted else f", summed {how}"
        long_name = f"{long_name}{weighted}, over the phase"
    about = {"units": units, "long_name": long_name, "exact": int(not estimated)}
    if group == "hit":  # a number that no mean should be taken of
        missing = {"step": -1, "time": np.inf}.get(name, 0)
        about["not_reached"] = missing
        about["long_name"] = f"{long_name}, to a pass rate; {missing} where it was not reached"
    return about


def _attributes(parts: list[Part]) -> dict[str, dict[str, Any]]:
    """Of each variable: exact if it is in every cell; cells that differ in units name them all."""
    merged = {}
    for name in dict.fromkeys(name for part in parts for name in part.variables):
        own = [part.variables[name].attrs for part in parts if name in part.variables]
        exact = min(attrs["exact"] for attrs in own)
        rest = {k: v for k, v in own[0].items() if k not in ("units", "long_name", "exact")}
        named = {k: " or ".join(dict.fromkeys(a[k] for a in own)) for k in ("units", "long_name")}
        merged[name] = {**named, **rest, "exact": exact}
    return merged
