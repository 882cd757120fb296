"""Does the result store lose or damage anything when runs are killed?

Claim: whatever happens to processes that run a sweep into a folder, no block that was stored is
lost or changed, nothing damaged is read as good, and the results in the end are, bit for bit, those
of one run that nothing happened to. Processes of `simrl run` are ended at random moments, by
SIGKILL, alone and two to a folder, and by SIGTERM; a disk is full; single bits of blocks and
manifests are flipped; two jobs, and three shares, run into one folder.
"""

import argparse
import hashlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import xarray as xr

import simrl
from experiments import command
from experiments.verdicts import verdict
from simrl.cli import tables

KILLS, TERMS, FLIPS = 200, 20, 50
QUICK = 8, 2, 10  # of each
SEEDS = 2048  # of a condition: 8 blocks; those of four conditions are stored together
SWEEP = """
name = "reliability"
max_steps = 60
log_points = 3
[environment]
name = "bandit"
kind = "one_right"
num_arms = 8
[learner]
name = "policy_gradient"
group_size = 4
[vary]
learner.optimizer.learning_rate = [0.5, 1, 2, 4, 8, 16]
"""
BLOCKS = 6 * SEEDS // 256
PATIENCE = 10.0  # seconds that a process may take to end after SIGTERM
SMALL = 2**20  # bytes of a disk, or of a file, that is full before a run is done


class Bench:
    """A folder to work in, the command that runs the sweep, and what it makes undisturbed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.file = folder / "sweep.toml"
        shutil.rmtree(folder / "runs", ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        self.file.write_text(SWEEP, encoding="utf-8")
        self.finish(self.out("compiling"))  # programs are in the cache from now on
        began = time.perf_counter()
        self.finish(self.out("undisturbed"))
        self.seconds = time.perf_counter() - began
        self.wanted = simrl.open(self.out("undisturbed"))

    def out(self, name: str) -> Path:
        """Returns a result folder."""
        return self.folder / "runs" / name

    def start(self, out: Path, *options: str, **how: Any) -> subprocess.Popen[str]:
        """Starts a process that runs the sweep into a folder."""
        asked = [sys.executable, "-m", "simrl", "run", str(self.file), "--seeds", str(SEEDS)]
        pipes: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([*asked, "--out", str(out), *options], **pipes, **how)

    def finish(self, out: Path, *options: str) -> None:
        """Runs what is missing of the sweep; raises OSError where that goes wrong."""
        process = self.start(out, *options)
        _, errors = process.communicate()
        if process.returncode != 0:
            raise OSError(f"simrl run ended with status {process.returncode}: {errors[-300:]}")

    def is_right(self, out: Path) -> bool:
        """Whether a folder has the results of the undisturbed run, bit for bit."""
        return same(simrl.open(out), self.wanted)


def same(one: xr.Dataset, other: xr.Dataset) -> bool:
    """Returns whether two Datasets have the same variables and coordinates, bit for bit."""
    if set(one.variables) != set(other.variables):
        return False
    pairs = ((one[name], other[name]) for name in one.variables)
    return all(x.dims == y.dims and x.values.tobytes() == y.values.tobytes() for x, y in pairs)


def blocks_of(out: Path) -> dict[Path, str]:
    """Returns the stored blocks of a folder with their checksums, without partial files."""
    files = [file for file in out.rglob("*.npz") if not file.name.startswith(".")]
    return {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def num_blocks(out: Path) -> int:
    """Returns how many blocks a folder has."""
    return sum(not file.name.startswith(".") for file in out.rglob("*.npz"))


def partial_in(out: Path) -> set[Path]:
    """Returns the files of a folder that a process was writing when it ended, or writes now."""
    return set(out.rglob(".partial-*"))


def wait(bench: Bench, out: Path, process: subprocess.Popen[str], jobs: int) -> None:
    """Waits for a random moment in the life of a process, every other time for a random block.

    Blocks are written in an eighth of its life: of moments in time alone, few would fall there.
    """
    if bench.random.random() < 0.5:
        time.sleep(bench.random.uniform(0.02, 1.2 * jobs) * bench.seconds)
        return
    stored = num_blocks(out)
    most = stored + bench.random.randint(1, BLOCKS - stored)
    while process.poll() is None and num_blocks(out) < most:
        time.sleep(0.001)
    time.sleep(bench.random.uniform(0, 0.02))  # a block takes 0.012 s


class Survived(NamedTuple):
    """What happened to a folder whose processes were killed."""

    lost: int  # blocks
    changed: int
    wrong: int  # folders
    moments: Counter[str]  # part of a run -> kills


def killed(bench: Bench, kills: int, jobs: int) -> Survived:
    """Kills one of some jobs at random moments; runs again, into new folders when one is full."""
    lost, changed, wrong = 0, 0, 0
    moments: Counter[str] = Counter()
    out, before = bench.out(f"killed-{jobs}-0"), dict[Path, str]()
    while moments.total() < kills:
        partial = partial_in(out)
        running = [bench.start(out) for _ in range(jobs)]
        wait(bench, out, running[0], jobs)
        ended = running[0].poll() is not None
        running[0].kill()
        for process in running:
            process.communicate()
        after = blocks_of(out)
        lost += len(set(before) - set(after))
        changed += sum(after.get(file, text) != text for file, text in before.items())
        if not ended:
            moments[part_of(partial_in(out) - partial, len(after), len(before))] += 1
        before = after
        if len(after) == BLOCKS:
            wrong += not bench.is_right(out)
            shutil.rmtree(out)
            out, before = bench.out(f"killed-{jobs}-{moments.total()}"), {}
    bench.finish(out)
    return Survived(lost, changed, wrong + (not bench.is_right(out)), moments)


def part_of(partial: set[Path], after: int, before: int) -> str:
    """Returns the part of its run in which a process was killed, from what it left behind."""
    if partial:
        return "in a write"
    if after == before:
        return "before the first block"
    return "after the last block" if after == BLOCKS else "between blocks"


def survival(bench: Bench, kills: int, jobs: int) -> dict[str, Any]:
    """Returns the row of killed runs."""
    found = killed(bench, kills, jobs)
    parts = ", ".join(f"{number} {part}" for part, number in sorted(found.moments.items()))
    text = f"{found.lost} lost, {found.changed} changed, {found.wrong} folders wrong ({parts})"
    what = f"{kills} kills" if jobs == 1 else f"{kills} kills of one of {jobs} jobs in a folder"
    return row(what, "0 lost, 0 changed, 0 wrong", text, not any(found[:3]))


def terminated(bench: Bench, times: int) -> dict[str, Any]:
    """Returns the row of SIGTERM: status 143 in time, and one line that says how to go on."""
    out, polite, deaf, slowest, sent = bench.out("terminated"), 0, 0, 0.0, 0
    while sent < times:
        process = bench.start(out)
        time.sleep(bench.random.uniform(0.02, 1.0) * bench.seconds)
        if process.poll() is not None:
            process.communicate()
            shutil.rmtree(out)
            continue
        sent += 1
        began = time.perf_counter()
        process.terminate()
        _, errors = process.communicate()
        took = time.perf_counter() - began
        slowest = max(slowest, took)
        if process.returncode == -signal.SIGTERM and not errors:
            deaf += 1  # Python or the command was still starting: nothing was begun
            continue
        line = (errors.strip().splitlines() or [""])[-1]
        said = line.startswith("interrupted; ") and "to resume: " in line and len(line) <= 300
        polite += process.returncode == 143 and said and "Traceback" not in errors
    bench.finish(out)
    right = bench.is_right(out)
    text = f"{polite} of {sent - deaf} with 143 and how to resume, slowest {slowest:.1f} s"
    text += f"; {deaf} before the command began; results {'right' if right else 'wrong'}"
    holds = polite == sent - deaf and polite > 0 and slowest < PATIENCE and right
    return row(f"{times} SIGTERM", f"143, a line, {PATIENCE:.0f} s", text, holds)


def full_disk(bench: Bench) -> dict[str, Any]:
    """Returns the row of a full disk: a small tmpfs, or where none can be mounted a size limit."""
    out = bench.out("full")
    out.mkdir(parents=True)
    asked = ["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", str(out)]
    mounted = subprocess.run(asked, capture_output=True).returncode == 0
    limit = None if mounted else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))
    try:
        process = bench.start(out / "results", preexec_fn=limit)
        _, errors = process.communicate()
        stored = len(blocks_of(out))
        other = bench.out("full-copied")
        shutil.copytree(out / "results", other)
    finally:
        if mounted:
            subprocess.run(["umount", str(out)], check=True)
    bench.finish(other)
    lines = errors.strip().splitlines()
    clear = process.returncode == 2 and "Traceback" not in errors and len(lines[-1]) <= 300
    how = "a tmpfs of 1 MiB" if mounted else "files of at most 64 KiB"
    text = f"status {process.returncode}, {stored} blocks stored; results after: "
    right = bench.is_right(other)
    text += "right" if right else "wrong"
    return row(f"full disk ({how})", "status 2, one line", text, clear and right)


def flipped(bench: Bench, times: int) -> dict[str, Any]:
    """Returns the row of flipped bits: the folder is refused, or read as it was."""
    out = bench.out("flipped")
    shutil.copytree(bench.out("undisturbed"), out)
    files = sorted(file for file in out.rglob("*") if file.is_file())
    refused = unharmed = raw = 0
    for _ in range(times):
        file = bench.random.choice(files)
        good = file.read_bytes()
        bad = bytearray(good)
        bad[bench.random.randrange(len(bad))] ^= 1 << bench.random.randrange(8)
        file.write_bytes(bad)
        try:
            unharmed += bench.is_right(out)
        except simrl.SpecError:
            refused += 1
        except Exception:  # whatever else it is, it is no clear line
            raw += 1
        file.write_bytes(good)
    wrong = times - refused - unharmed - raw
    text = f"{refused} refused, {unharmed} read right, {wrong} read wrong, {raw} other errors"
    return row(f"{times} bit flips", "0 read wrong, 0 other errors", text, wrong == raw == 0)


def together(bench: Bench, name: str, options: list[tuple[str, ...]]) -> dict[str, Any]:
    """Returns the row of several processes that run into one folder at once."""
    out = bench.out("together")
    shutil.rmtree(out, ignore_errors=True)
    running = [bench.start(out, *own) for own in options]
    for process in running:
        process.communicate()
    failed = sum(process.returncode != 0 for process in running)
    num, right = len(blocks_of(out)), bench.is_right(out)
    text = f"{num} blocks, {failed} failed; results {'right' if right else 'wrong'}"
    claim = f"{BLOCKS} blocks, 0 failed, right"
    return row(name, claim, text, num == BLOCKS and right and not failed)


def row(what: str, claim: str, measured: str, holds: bool) -> dict[str, Any]:
    """Returns a row of the table."""
    return {"what": what, "predicted": claim, "measured": measured, "verdict": verdict(holds)}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = command.parser("reliability", __doc__ or "")
    folder = "results/reliability"
    parser.add_argument("--out", type=Path, help=f"default {folder}, quick {folder}-quick")
    parser.add_argument("--quick", action="store_true", help="few, to see that it works")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments and bits")
    chosen = parser.parse_args()
    chosen.out = chosen.out or Path(f"{folder}-quick" if chosen.quick else folder)
    command.refuse_unwritable(chosen.out)
    return chosen


def main() -> None:
    """Run the experiment; exit status 1 if anything was lost, damaged or unclear."""
    chosen, console = arguments(), command.console()
    kills, terms, flips = QUICK if chosen.quick else (KILLS, TERMS, FLIPS)
    warnings.simplefilter("ignore", UserWarning)  # of seeds that are missing
    bench = Bench(chosen.out, chosen.seed)
    console.print(f"a run of {BLOCKS} blocks takes {bench.seconds:.1f} s", highlight=False)
    shares: list[tuple[str, ...]] = [("--shard", f"{i}/3") for i in (1, 2, 3)]
    tests: list[Callable[[], dict[str, Any]]] = [
        lambda: survival(bench, kills - kills // 4, 1),
        lambda: survival(bench, kills // 4, 2),
        lambda: terminated(bench, terms),
        lambda: full_disk(bench),
        lambda: flipped(bench, flips),
        lambda: together(bench, "two jobs in one folder", [(), ()]),
        lambda: together(bench, "shares 1/3, 2/3 and 3/3 at once", shares),
    ]
    rows = []
    for test in tests:
        rows.append(test())
        console.print(f"{rows[-1]['what']}: {rows[-1]['measured']}", highlight=False)
    table = pd.DataFrame(rows)
    simrl.export(table, chosen.out / "table.csv")
    tables.show(table, "what happened to runs, and to what they had stored", console)
    shutil.rmtree(chosen.out / "runs")
    console.print(f"table (csv): {chosen.out}", highlight=False, soft_wrap=True)
    if (table["verdict"] == "FAILS").any():
        raise SystemExit(1)


if __name__ == "__main__":
    command.guarded(main)
