"""Mutated files, specs and command lines: each is valid or one line of at most 300 characters.

    python -m tests.sweeps.fuzz 5000

prints how many of each kind were accepted, refused, and failed; exit status 1 if any failed.
"""

import argparse
import collections
import copy
import datetime
import decimal
import itertools
import json
import random
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import simrl
from simrl.errors import LONGEST, SpecError
from tests.cli import command_lines

LIMIT = 10  # seconds for one input
BASE = {
    "name": "demo",
    "mode": "product",
    "max_steps": 20,
    "log_points": 4,
    "thresholds": [0.5, 0.9],
    "stop_pass_rate": 1.0,
    "keep_beliefs": False,
    "measures": ["regret"],
    "engine": "plain",
    "base_seed": 1,
    "phases": {"low": -3.0, "high": 4.0, "num": 3},
    "environment": {"name": "bandit", "kind": "gaussian", "num_arms": 3, "mean": 0.5},
    "policy": {"name": "tabular", "start": "random", "spread": 0.5},
    "learner": {
        "name": "policy_gradient",
        "group_size": 4,
        "advantage": {"name": "constant", "baseline": 0.5},
        "optimizer": {"name": "adam", "learning_rate": 0.1, "b1": 0.8},
        "surrogate": {"name": "ppo", "clip": 0.2, "num_epochs": 2},
    },
    "vary": {
        "learner.group_size": [4, 8],
        "environment": {"a": {"name": "bandit", "num_arms": 3}, "b": {"name": "bandit"}},
    },
}
OTHERS: tuple[dict[str, Any], ...] = (
    {
        "environment": {"name": "sequence", "vocab_size": 3, "length": 1, "num_prompts": 2},
        "learner": {"name": "supervised", "batch_size": 2, "smoothing": 0.1},
        "vary": {"learner.optimizer.learning_rate": [0.5, 1.0], "max_steps": [3, 4]},
        "mode": "zip",
    },
    {
        "environment": {"name": "sequence", "vocab_size": 3, "length": 2, "revealed": [1]},
        "learner": {
            "name": "policy_gradient",
            "advantage": "grpo",
            "optimizer": {
                "name": "sgd",
                "learning_rate": 0.1,
                "schedule": "cosine_decay_schedule",
                "decay_steps": 10,
                "clip": "clip_by_global_norm",
                "max_norm": 1.0,
            },
        },
        "vary": [[{"pace": "slow"}, {"max_steps": 9}], [{"pace": "fast"}, {"max_steps": 3}]],
        "mode": "list",
    },
    {
        "environment": {
            "name": "bandit",
            "kind": "given",
            "num_arms": 2,
            "rewards": [0.1, 0.9],
            "noise": 0.5,
        },
        "learner": {"name": "thompson"},
        "vary": {"environment.noise": [0.5, 1.0]},
    },
    {
        "environment": {"name": "sequence", "vocab_size": 3, "length": 2},
        "policy": "autoregressive",
        "learner": {"name": "actor_critic", "stop_below": 0.1, "group_size": 4},
    },
)
WORDS = ("", "x", "os:abort", "simrl", "é", "\0", "a\nb", "a" * 5000, "ppo", ":", "a/b")
NUMBERS = (0, -1, 1, 2, 2**20, 10**9, 2**31, 2**63, 10**400, 0.5, -0.0, 1e308, 1e39, 1e-320)


def of_toml() -> tuple[Any, ...]:
    """Values that TOML has, made anew: a later mutation would change one that stands twice."""
    return (
        *(*WORDS, *NUMBERS, float("nan"), float("inf"), True, False, [], {}, [[]], [{}], [1, {}]),
        *({"a": 1}, {"name": []}, [1, 2, 3], [0.5, "x"], ["x"], {"name": "adam"}, {"name": {}}),
        *({"a": {"a": {}}}, [[1, {}]], {"name": "bandit"}, {"": 1}, datetime.date(2026, 1, 2)),
        *(datetime.time(1), datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)),
    )


class Endless:
    """Equal to everything, and every text of it is long."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "line\n" * 10_000


def of_python() -> tuple[Any, ...]:
    """Values that only Python has, made anew: iterators are used up."""
    return (
        *(None, "\ud800", b"x", 1j, decimal.Decimal("nan"), set(), {1: 2}, {(1,): []}, object()),
        *(np.float32(1), np.int64(3), np.arange(3), np.zeros((2, 2)), np.array("x"), np.bool_(1)),
        *(itertools.count(), range(3), iter([1]), lambda: 1, int, dict, Endless(), Ellipsis),
        *(simrl.Spec, simrl.Bandit(), simrl.Optimizer("sgd", 1.0), simrl.Phases(), simrl.keys),
        *([1] * 100_000, "x" * 10**5, nested(3000), {"a": nested(3000)}, -(10**400), 10**5000),
        *(np.datetime64(1, "s"), itertools.repeat(1), range(10**9)),
    )


def of_both() -> tuple[Any, ...]:
    """Values of TOML and of Python."""
    return (*of_toml(), *of_python())


def nested(depth: int) -> list[Any]:
    """A list in a list, so often."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def places(tree: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path of every value in a tree of dicts and lists, but the top."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in pairs:
        yield (*path, key)
        if isinstance(value, dict | list) and len(path) < 9:
            yield from places(value, (*path, key))


def mutated(rng: random.Random, values: Callable[[], tuple[Any, ...]]) -> dict[str, Any]:
    """A base with one to three of its values or keys replaced, removed or moved."""
    tree = copy.deepcopy(rng.choice((BASE, *OTHERS)))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        path = rng.choice(list(places(tree)))
        parent: Any = tree
        for key in path[:-1]:
            parent = parent[key]
        kind = rng.random()
        if kind < 0.7 or isinstance(parent, list):
            parent[path[-1]] = rng.choice(values())
        elif kind < 0.8:
            del parent[path[-1]]
        elif kind < 0.9:
            word = rng.choice((*WORDS, *map(str, path), "seeds", "a.b.c", "..", "learner.x"))
            parent[word] = parent.pop(path[-1])
        else:
            parent[rng.choice((*WORDS, "clip", "numbers", "fixed"))] = rng.choice(values())
    return tree


def toml(value: Any) -> str:
    """A value as TOML text."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, dict):
        inside = ", ".join(f"{json.dumps(key)} = {toml(x)}" for key, x in value.items())
        return f"{{{inside}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    return value.isoformat() if hasattr(value, "isoformat") else repr(value)


def toml_of(tree: dict[str, Any]) -> str:
    """A TOML file with the values of a tree."""
    return "\n".join(f"{json.dumps(key)} = {toml(value)}" for key, value in tree.items())


def toml_text(rng: random.Random) -> bytes:
    """A mutated TOML file: by its values, or by its characters."""
    tree = mutated(rng, of_toml)
    text = toml_of(tree)
    kind, at = rng.random(), rng.randrange(len(text))
    if kind < 0.15:
        width, word = rng.choice((0, 1, 5)), rng.choice(('"', "[", "}", "\n", "=", "9", "'''", "#"))
        text = text[:at] + word * rng.choice((1, 1, 3)) + text[at + width :]
    elif kind < 0.16:
        text += f"\nx = {'[' * 3000}{']' * 3000}"
    elif kind < 0.17:
        text = text[:at] + "{a = " * 3000 + text[at:]
    elif kind < 0.18:
        text += f"\n[{'a.' * 3000}a]"
    encoded = text.encode()
    return encoded[:at] + bytes([rng.randrange(256)]) + encoded[at:] if kind > 0.97 else encoded


def check_toml(text: bytes) -> None:
    """Loads a file with a text, and checks its conditions."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sweep.toml"
        file.write_bytes(text)
        simrl.load(file).cells()


RECORDS = {
    "bandit": simrl.Bandit,
    "sequence": simrl.Sequence,
    "tabular": simrl.Tabular,
    "policy_gradient": simrl.PolicyGradient,
    "supervised": simrl.Supervised,
    "thompson": simrl.Thompson,
    "actor_critic": simrl.ActorCritic,
    "constant": simrl.Constant,
    "ppo": simrl.PPO,
    "adam": simrl.Optimizer,
}


def as_records(value: Any, rng: random.Random, depth: int = 0) -> Any:
    """A tree whose dicts with a name became records, most of them."""
    if not isinstance(value, dict) or depth > 9:
        return value
    fields = {key: as_records(item, rng, depth + 1) for key, item in value.items()}
    name = fields.get("name")
    kind = RECORDS.get(name) if isinstance(name, str) else None
    if kind is None or not all(isinstance(key, str) for key in fields) or rng.random() < 0.3:
        return fields
    if kind is simrl.Optimizer:
        return simrl.Optimizer(**fields)
    del fields["name"]
    return kind(**fields)


def check_spec(rng: random.Random) -> None:
    """Makes a sweep of mutated Python values; checks its conditions and what a run would take."""
    tree = mutated(rng, of_both)
    of_sweep = {key: tree.pop(key) for key in ("name", "mode", "vary") if key in tree}
    tree = {key: as_records(value, rng) for key, value in tree.items()}
    sweep = simrl.Sweep(simrl.Spec(**tree), **of_sweep)
    seeds = rng.choice(of_both()) if rng.random() < 0.2 else 3
    simrl.plan(sweep, seeds)


class Failure(NamedTuple):
    """An input that was not refused as it should be."""

    seed: int
    reason: str
    trace: str


def fuzz(
    check: Callable[[random.Random], None], count: int
) -> tuple[dict[str, int], list[Failure]]:
    """Returns how many inputs were accepted and refused, and the failures, of `count` inputs."""
    tally: dict[str, int] = collections.Counter(accepted=0, refused=0)
    failures = []
    signal.signal(signal.SIGALRM, _too_slow)
    for seed in range(count):
        reason, trace = "", ""
        signal.alarm(LIMIT)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                check(random.Random(seed))
            tally["accepted"] += 1
        except SpecError as error:
            line = str(error)
            tally["refused"] += 1
            if len(line) > LONGEST or line != " ".join(line.split(" ")) or not line.isprintable():
                reason = f"a message of {len(line)} characters: {line[:200]!r}"
        except TimeoutError:
            reason, trace = f"more than {LIMIT} s", traceback.format_exc(limit=-6)
        except (Exception, SystemExit) as error:
            reason, trace = f"{type(error).__name__}: {error}"[:200], traceback.format_exc(limit=-6)
        finally:
            signal.alarm(0)
        if reason:
            failures.append(Failure(seed, reason, trace))
    return tally, failures


def _too_slow(number: int, frame: Any) -> None:
    raise TimeoutError


KINDS: dict[str, Callable[[random.Random], None]] = {
    "TOML files": lambda rng: check_toml(toml_text(rng)),
    "Python specs": check_spec,
    "command lines": command_lines.check,
}


def main() -> None:
    """Prints a row for each kind, and the failures of each sort once."""
    parser = argparse.ArgumentParser(description="Mutates what users write.")
    parser.add_argument("count", type=int, help="inputs of each kind")
    failed = False
    for kind, check in KINDS.items():
        tally, failures = fuzz(check, parser.parse_args().count)
        counts = ", ".join(f"{number} {word}" for word, number in tally.items())
        print(f"{kind}: {counts}, {len(failures)} failed", flush=True)
        sorts = collections.Counter(failure.trace or failure.reason for failure in failures)
        for sort, number in sorts.most_common():
            first = next(f for f in failures if (f.trace or f.reason) == sort)
            print(f"  {number} as seed {first.seed}: {first.reason}\n{first.trace}")
        failed |= bool(failures)
    sys.exit(failed)


if __name__ == "__main__":
    main()
