"""Stored blocks as an `xarray.Dataset`: per-seed values with units, long names and exactness."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from simrl.measures import phases
from simrl.measures.flops import LINES, FlopCount
from simrl.sweeps import joining, pools, resampled, store
from simrl.sweeps.errors import NothingToRun, SpecError
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
    "diverged": ("seed",),
    "reached": ("seed", "threshold"),
}
COUNTED = ("matrix products", "elementwise", "transcendental", "reductions", "random words")
RENAMED = {"look.step": "steps_done"}  # of a seed; `step` is what all seeds of a cell share
MOST_SHOWN = 5  # different numbers of seeds in a warning
LEAF_DIMS = ("seed", "log_point", "leaf")  # leaves of the parameters, as jax.tree.leaves has them
BELIEF_DIMS = ("seed", "log_point", "prompt", "position", "symbol")

LINE_NAMES = {  # of the FLOPs by the 2N/4N convention
    "decode": "decoding",
    "training": "training on answers that were decoded",
    "dead": "answers in groups whose advantages are all zero",
    "prefill": "reading prompts before decoding",
    "old_log_probs": "computing the log-probabilities of rollouts again",
    "discarded": "answers in groups that were discarded",
    "critic": "the critic",
    "reference": "the reference policy",
}
MEANINGS = {  # name -> (units, long name)
    "step": ("updates", "updates done"),
    "time": ("updates", "updates done, interpolated in log-odds"),
    "pass_rate": ("1", "probability that a whole answer is correct"),
    "success": ("trajectories", "correct answers"),
    "log_odds": ("nat", "log-odds of the pass rate"),
    "log2_answer": ("bit", "log2 of the probability of the correct answer"),
    "nominal": ("bit", "nominal information (the essay's curve) of a trajectory"),
    "expected": ("bit", "mutual information of a trajectory's feedback and the correct answer"),
    "realised": ("bit", "information gained about the correct answer from a trajectory"),
    "expected_update": ("bit", "mutual information of an update's feedback and the correct answer"),
    "realised_update": ("bit", "information gained about the correct answer from an update"),
    "absorbed": ("bit", "absorbed information: gain in log2-probability of the correct answer"),
    "absorbed_label": ("bit", "absorbed information: gain in expected log2-probability of a label"),
    "gap": ("bit", "excess loss KL(labels || policy)"),
    "trace_covariance": ("1", "trace of the covariance of the update's gradient estimate"),
    "squared_norm": ("1", "squared norm of the mean of the update's gradient estimate"),
    "squared_bias": ("1", "squared norm of the bias of the update's gradient estimate"),
    "regret": ("1", "expected regret of a sample, in units of the reward"),
    "expected_regret": ("1", "regret of the next sample expected under the learner's posterior"),
    "squared_expected_regret": ("1", "square of the regret expected under the learner's posterior"),
    "information_gain": ("bit", "information about the best arm expected of the next sample"),
    "duel_expected": (
        "bit",
        "mutual information of a comparison of two answers and the correct one",
    ),
    "duel_realised": (
        "bit",
        "information gained about the correct answer from a comparison of two",
    ),
    "updates": ("updates", "updates, divided among their prompts in proportion to trajectories"),
    "duels": ("duels", "comparisons of two answers"),
    "duel_wins": ("duels", "comparisons that the first of the two answers won"),
    "cosine": (
        "1",
        "cosine of the gradient estimate, if not 0, and the score of the correct answer",
    ),
    "zero_share": ("1", "share of updates whose gradient estimate is exactly zero"),
    "samples": ("samples", "labelled tokens (supervised) or trajectories (policy gradient)"),
    "tokens": ("tokens", "tokens labelled or decoded"),
    "trajectories": ("trajectories", "answers labelled or sampled"),
    "dead": ("trajectories", "answers in groups whose advantages are all zero"),
    "flops": ("FLOP", "FLOPs by the 2N/4N convention"),
    "flops_full": ("FLOP", "FLOPs by the 2N/4N convention if every rollout is trained on"),
    "flops_live": ("FLOP", "the same if zero-advantage groups are decoded and not trained on"),
    "flops_counted": ("FLOP", "FLOPs of the learner, counted from its program"),
    **{
        f"flops_{line}": ("FLOP", f"FLOPs of {LINE_NAMES[line]}, by the 2N/4N convention")
        for line in LINES
    },
    **{
        f"{part}_{kind}": (
            "words" if kind == "random_words" else "FLOP",
            f"{counts} of the {name} in one update, counted from its program",
        )
        for part, name in (("learner", "learner"), ("world", "environment"))
        for kind, counts in zip(FlopCount._fields, COUNTED, strict=True)
    },
    "observed_pass_rate": (
        "1",
        "probability that an answer is reported correct: by a fresh label, or a noisy verifier",
    ),
    "stopped": ("1", "whether the seed reached the stopping pass rate"),
    "reached": ("1", "whether the seed reached the pass rate"),
    "diverged": ("1", "whether a number in the seed's state or measures became NaN or infinite"),
    "diverged_step": (
        "updates",
        "updates done when that was first so, for one prompt's policy, or else the next log point",
    ),
    "belief": ("nat", "log-probabilities of the policy"),
}
DRAWN = {  # prefix -> how
    "redrawn_": "estimated by resampling it",
    "two_batch_": "estimated from two batch sizes",
    "leaf_": "of one leaf of the parameters, estimated by resampling it",
}
PER_TRAJECTORY = {"nominal", "expected", "realised"}  # times trajectories their sums are bits
TOLD = {"absorbed", "absorbed_label", "success", "expected_update", "realised_update"}
TOLD |= {"duels", "duel_wins", "updates"}
COORDINATES = {  # name -> (units, long name); the others are axes of the sweep
    "seed": ("1", "number of the seed"),
    "log_point": ("1", "number of the log point, from 0"),
    "step": ("updates", "updates at the log point; a seed that stopped before made fewer"),
    "present": ("1", "whether the seed has been run"),
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
    Phase variables `phase_*` are sums over the phase; divide sums by sums. What a cell does not
    have is NaN: a variable, a log point, a seed that has not been run, the time to a pass rate that
    was not reached. Counts of which some are NaN are float64, rounded beyond 2^53. The coordinate
    `present` says which seeds have been run, where some have not: one line warns of them. The
    blocks are emptied, so that nothing is held twice. Raises NothingToRun where no cell has a seed.
    """
    have = [np.unique(seeds_of(blocks)) for _, blocks in found]
    present = np.intersect1d(seeds, np.concatenate(have))
    if present.size == 0:
        raise NothingToRun()
    lacking = missing_line([np.intersect1d(seeds, own).size for own in have], seeds.size)
    if lacking:
        warnings.warn(f"{name}: {lacking}", stacklevel=5)
    return _assembled(name, found, present, product)


def _assembled(
    name: str, found: list[tuple[Cell, list[Block]]], seeds: np.ndarray, product: bool
) -> xr.Dataset:
    """The Dataset of seeds of which some cells may lack some; see `dataset`."""
    parts = [part(cell, blocks, seeds) for cell, blocks in found]
    return whole(name, [cell for cell, _ in found], parts, product, seeds)


def whole(
    name: str, cells: list[Cell], parts: list[Part], product: bool, seeds: np.ndarray | None = None
) -> xr.Dataset:
    """The Dataset of cells of which each is a part; empties the parts.

    `seeds`: of which some cells may lack some; None where they are not kept.
    """
    attributes = _attributes(parts)
    have = [] if seeds is None else [np.isin(seeds, own.coords["seed"]) for own in parts]
    variables, coords = joining.joined(parts)
    if have and not np.all(have):
        variables["present"] = (("cell", "seed"), np.array(have))
    axes = list(cells[0].coordinates)
    labels = {axis: [cell.coordinates[axis] for cell in cells] for axis in axes}
    if product and axes:
        distinct = {axis: list(dict.fromkeys(along)) for axis, along in labels.items()}
        variables, coords = joining.unfold(variables, distinct), coords | distinct
    else:
        coords |= {axis: ("cell", along) for axis, along in labels.items()}
    coords |= {"step": _shared_steps(*variables.pop("step"))}
    coords |= {"present": variables.pop("present")} if "present" in variables else {}
    made = {name: (*rows, attributes[name]) for name, rows in variables.items()}
    joined = xr.Dataset(made, coords=coords, attrs={"simrl_sweep": name})
    for coordinate, array in joined.coords.items():
        axis = ("1", f"{coordinate}, an axis of the sweep")
        array.attrs["units"], array.attrs["long_name"] = COORDINATES.get(str(coordinate), axis)
    # Chosen by the number of updates too: data.sel(step=100).
    return joined.set_xindex("step") if joined["step"].dims == ("log_point",) else joined


def _shared_steps(dims: tuple[str, ...], steps: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """The updates [..., T] at the log points of every cell; [T] if all cells have the same."""
    rows = steps.reshape(-1, steps.shape[-1])
    return (dims[-1:], rows[0]) if (rows == rows[0]).all() else (dims, steps)


def open_dataset(path: Path, seeds: int | None = None) -> xr.Dataset:
    """All cells stored at `path`, with the seeds that any of them has, or 0 ... seeds - 1 of those.

    Warns, in one line, where some cells lack seeds that others have, or that were asked for.
    """
    manifest = store.read_manifest(path)["sweep"]
    most = np.inf if seeds is None else seeds
    stored = []
    for entry in manifest["cells"]:
        ends = [pair for pair in store.blocks_in(path, entry["hash"]) if pair[0] < most]
        have = np.concatenate([np.arange(a, b + 1) for a, b in ends] or [np.empty(0, np.int64)])
        have = np.unique(have[have < most])  # two runs at once may both have made some
        stored.append((entry, ends, have))
    present = np.unique(np.concatenate([have for _, _, have in stored] or [np.empty(0, np.int64)]))
    if present.size == 0:
        lacking = "finished blocks" if seeds is None else f"seeds below {seeds}"
        raise SpecError(f"{path} has no {lacking}")
    lacking = missing_line([have.size for _, _, have in stored], seeds or present.size)
    if lacking:
        warnings.warn(f"{path}: {lacking}", stacklevel=4)
    found = [
        (
            stored_cell(entry),
            [store.load_block(path, entry["hash"], *pair) for pair in ends],
        )
        for entry, ends, _ in stored
    ]
    return _assembled(manifest["name"], found, present, manifest["mode"] == "product")


def missing_line(numbers: list[int], whole: int) -> str:
    """Returns how many conditions have fewer seeds than the whole, in words; "" if none has."""
    fewer = [number for number in numbers if number < whole]
    if not fewer:
        return ""
    distinct = sorted(set(fewer), reverse=True)
    shown = ", ".join(f"{number:,}" for number in distinct[:MOST_SHOWN])
    shown += ", …" if len(distinct) > MOST_SHOWN else ""
    complete = f"{len(numbers) - len(fewer)} of {len(numbers)} conditions complete"
    have = "has" if len(fewer) == 1 else "have"
    return f"{complete}; {len(fewer)} {have} fewer seeds ({shown})"


def stored_cell(entry: dict[str, Any]) -> Cell:
    """Returns a condition as a manifest describes it."""
    return Cell(entry["coordinates"], _Stored(entry["spec"]))


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


def seeds_of(blocks: list[Block]) -> np.ndarray:
    """The seeds of some blocks, one after the other."""
    return np.concatenate([np.empty(0, np.int64), *(block["seed"] for block in blocks)])


def part(cell: Cell, blocks: list[Block], seeds: np.ndarray) -> Part:
    """Those of the seeds that the blocks of a cell have; empties the blocks."""
    have = seeds_of(blocks)
    own = seeds[np.isin(seeds, have)]
    order = np.argsort(have)
    rows = order[np.searchsorted(have, own, sorter=order)]
    as_they_are = np.array_equal(have, own)
    variables: dict[str, Rows] = {}
    for block in blocks:
        block |= resampled.phase_sums(block, cell.spec.phases) | _derived(block)
    for key in blocks[0] if blocks else ():
        if key == "seed":
            continue
        group, _, name = key.partition(".")
        pieces = [block[key] for block in blocks]
        pieces = pieces if as_they_are else [np.concatenate(pieces)[rows]]
        dims = BELIEF_DIMS if name == "belief" else DIMS[group]
        dims = LEAF_DIMS if name.startswith("leaf_") else dims
        title = RENAMED.get(key, name if group == "look" else key.replace(".", "_"))
        variables[title] = Rows(dims, pieces, _meaning(group, name or group, blocks[0]))
    for block in blocks:
        block.clear()
    variables |= _of_spec(cell.spec)
    sizes = {d: n for v in variables.values() for d, n in zip(v.dims, v.shape, strict=True)}
    counted: dict[str, Any] = {
        d: np.arange(sizes[d]) for d in ("log_point", "phase", "leaf") if d in sizes
    }
    return Part(variables, {"seed": own, "threshold": list(cell.spec.thresholds), **counted})


def _derived(block: Block) -> Block:
    """What follows from a block: who reached a pass rate and who diverged, NaN for never.

    Blocks hold exact integers, with -1 or 0 for what was not reached. A seed that has diverged
    reaches nothing from then on.
    """
    derived: Block = {}
    if "diverged.step" in block:
        bad = block["diverged.step"]
        derived["diverged"] = diverged = np.asarray(bad >= 0)
        derived["diverged.step"] = bad = np.where(diverged, bad, np.nan)
    elif "look.log_odds" in block:  # of an earlier version
        derived["diverged"] = np.asarray(np.isnan(block["look.log_odds"]).any(axis=1))
    if "hit.step" in block:
        derived["reached"] = reached = np.asarray(block["hit.step"] >= 0)
        if "diverged.step" in block:
            reached &= ~(block["hit.step"] >= bad[:, None])
        times = [name for name in block if name.startswith("hit.")]
        derived |= {name: np.where(reached, block[name], np.nan) for name in times}
    return derived


def _of_spec(spec: Any) -> dict[str, Rows]:
    """What a spec says of its phases and log points."""
    step = np.array(pools.log_points(spec))
    variables = {"step": Rows(("log_point",), [step], {"units": "", "long_name": "", "exact": 1})}
    ends = phases.edges(spec.phases.low, spec.phases.high, spec.phases.num)
    units = "nat" if spec.phases.coordinate == "log_odds" else "log2(bit)"
    about = {"units": units, "exact": 1}
    name = f"{spec.phases.coordinate} before the update"
    for title, end, which in (("low", ends[:-1], "least"), ("high", ends[1:], "largest")):
        meaning = {**about, "long_name": f"{which} {name}"}
        variables[f"phase_{title}"] = Rows(("phase",), [end], meaning)
    return variables


def _meaning(group: str, name: str, block: Block) -> dict[str, Any]:
    """Attributes of a variable; what was drawn, and so has an error beside it, is not exact."""
    estimated = name.endswith("_error") or name == "time" or f"look.{name}_error" in block
    bare = name.removesuffix("_error")
    prefix = next((start for start in DRAWN if bare.startswith(start)), "")
    if group == "diverged" and name == "step":
        bare = "diverged_step"
    units, long_name = MEANINGS.get(bare.removeprefix(prefix), ("1", bare))
    if prefix:
        long_name = f"{long_name}, {DRAWN[prefix]}"
    if name != bare:
        long_name = f"standard error of the {long_name}"
    if group == "phase" and (block[f"phase.{name}"].dtype.kind == "u" or name in TOLD):
        long_name = f"{long_name}, summed over the phase"
    elif group == "phase" and estimated:
        long_name = f"{long_name}, summed over the log points in the phase"
    elif group == "phase":
        long_name = f"{long_name}, times its trajectories, summed over the phase"
        if name not in PER_TRAJECTORY:
            units = "trajectories" if units == "1" else f"{units} * trajectories"
    about = {"units": units, "long_name": long_name, "exact": int(not estimated)}
    if group == "hit":
        about["long_name"] = f"{long_name}, to a pass rate; NaN where it was not reached"
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
