"""The documents' code runs, or is checked, as printed; the README is as short as it promises."""

import importlib.util
import itertools
import re
import shlex
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot
import numpy as np
import pytest

import simrl
from experiments import __main__ as experiments_main
from simrl.cli import parser
from simrl.engine import observe, train
from simrl.sweeps import pools
from simrl.sweeps import spec as specs

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "experiments/README.md", "experiments/SPEED.md", "simrl/README.md")
THEORY = (ROOT / "simrl/measures/THEORY.md").read_text("utf-8")
TEXTS = {name: (ROOT / name).read_text("utf-8") for name in DOCUMENTS}
README = TEXTS["README.md"]


def blocks(language, *names):
    """The code blocks of a language, in order, by document and number."""
    found = {}
    for name in names or DOCUMENTS:
        texts = re.findall(rf"```{language}\n(.*?)```", TEXTS[name], flags=re.DOTALL)
        found |= {f"{name}-{number}": text for number, text in enumerate(texts)}
    return found


def block_with(text):
    (found,) = (block for block in blocks("python").values() if text in block)
    return found


def lines(block):
    return sum(bool(line.strip()) for line in block.splitlines())


SWEEP, OWN, NETWORK = map(block_with, ("plots.paper", "def hot_cold", "def network"))
LIBRARIES = block_with("import equinox")
RUN = (SWEEP, OWN)  # for their results
# Loops that run longer than they compile.
optimised = pytest.mark.usefixtures("optimised")


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 200
    assert lines(SWEEP) <= 12
    assert lines(OWN) <= 25


@optimised
def test_sweep_plots_every_rate(tmp_path, monkeypatch):
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    space: dict = {}
    exec(SWEEP, space)
    matplotlib.pyplot.close("all")
    assert space["data"].sizes["learning_rate"] == 5
    assert space["data"].sizes["seed"] == 256
    assert (tmp_path / "rates.pdf").stat().st_size > 0
    # The claim of the figure: every rate learns from the uniform start, 8^-3.
    final = space["data"]["pass_rate"].isel(log_point=-1).mean("seed")
    assert float(space["data"]["pass_rate"].isel(log_point=0).max()) == pytest.approx(8.0**-3)
    assert (final > 0.5).all()


@optimised
def test_own_environment_and_advantage_learn():
    space: dict = {}
    exec(OWN, space)
    data = space["data"]
    assert data.sizes["seed"] == 256
    assert data["trace_covariance"].attrs["exact"] == 0
    rate = data["pass_rate"].isel(cell=0)
    assert float(rate.isel(log_point=-1).mean()) > 10 * float(rate.isel(log_point=0).mean())


def traced(sweep, seeds=None, **options):
    """Check a sweep as `simrl.run` does, and trace its first condition: nothing is compiled."""
    sweep = sweep if isinstance(sweep, simrl.Sweep) else simrl.Sweep(sweep)
    spec = sweep.cells()[0].spec
    parts, rules = specs.traced(specs.parts(spec)), pools.rules_of(spec)
    streams = simrl.keys.streams(jax.random.key(0), 0)

    def once(parts):
        trial = specs.build(parts)
        begun = train.start(trial, rules, streams)
        state, info = trial.learner.step(streams, begun.state, begun.task)
        known = observe.truth(trial, begun.task)
        seen = observe.of_state(trial, state, begun.task, known, jax.random.key(1))
        told = observe.of_update(trial, observe.beliefs(trial, state), known, info)
        return begun.state, state, seen, told

    before, after, seen, _ = jax.eval_shape(once, parts)
    assert jax.tree.structure(before) == jax.tree.structure(after)
    assert seen["pass_rate"].shape == (1,)


@pytest.fixture
def checked_only(monkeypatch):
    """`simrl.run` traces; what it was asked to run is remembered."""
    asked = []

    def run(sweep, seeds=None, **options):
        asked.append((sweep, seeds, options))
        traced(sweep)

    monkeypatch.setattr(simrl, "run", run)
    return asked


REST = {name: text for name, text in blocks("python").items() if text not in (*RUN, LIBRARIES)}


@pytest.mark.parametrize("name", REST)
def test_other_python_is_accepted(name, checked_only):
    exec(REST[name], {})
    assert len(checked_only) == 1


def network_space(checked_only):
    space: dict = {}
    exec(NETWORK, space)
    return space


@pytest.mark.filterwarnings("ignore")  # the libraries' own, at import
def test_networks_of_flax_and_equinox_are_policies(checked_only):
    pytest.importorskip("flax")
    pytest.importorskip("equinox")
    space = network_space(checked_only)
    exec(LIBRARIES, space)
    shape = simrl.Shape(1, 3, 4)
    for name in ("linear", "flax_policy", "equinox_policy"):
        policy = space[name](shape)
        params = policy.init(jax.random.key(1))
        leaves = jax.tree.leaves(params)
        hidden = 4 * 3 if name == "linear" else (3 + 1) * 16 + (16 + 1) * 4
        assert policy.num_active_params == sum(x.size for x in leaves) == hidden
        prompt, answer = jnp.int32(0), jnp.array([3, 0, 1])
        log_probs = np.asarray(policy.log_probs(params, prompt, answer))
        np.testing.assert_allclose(np.exp(log_probs).sum(-1), 1, rtol=1e-5)
        assert np.ptp(log_probs) > 0.01  # not the uniform policy
        log_prob = policy.log_prob(params, prompt, answer)
        np.testing.assert_allclose(log_prob, log_probs[np.arange(3), answer], rtol=1e-6)
        # A word w picks the symbol whose stretch of the cumulative distribution w / 2^32 is in.
        words = jnp.array([0, 2**31, 2**32 - 1], jnp.uint32)
        below = np.cumsum(np.exp(log_probs), axis=-1)
        drawn = [
            np.searchsorted(row, at) for row, at in zip(below, (0, 0.5, 1 - 1e-6), strict=True)
        ]
        assert policy.sample(words, params, prompt).tolist() == drawn
        if name != "linear":  # which was traced with its own block
            traced(simrl.Spec(simrl.Sequence(4, 3, "fraction"), space["learner"], space[name]))


@pytest.mark.parametrize("name", blocks("toml"))
def test_toml_is_a_sweep(name, tmp_path):
    path = tmp_path / "sweep.toml"
    path.write_text(blocks("toml")[name])
    assert len(simrl.load(path).cells()) > 1


def test_the_toml_is_the_sweep_that_is_shown(tmp_path):
    path = tmp_path / "rates.toml"
    path.write_text(blocks("toml", "README.md")["README.md-0"])
    space: dict = {}
    exec(SWEEP.split("data =")[0], space)
    shown, loaded = space["sweep"].describe()["cells"], simrl.load(path).describe()["cells"]
    assert [cell["hash"] for cell in shown] == [cell["hash"] for cell in loaded]


COMMANDS = [line for text in blocks("bash").values() for line in text.splitlines() if line]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_name_modules_that_exist(command):
    words = shlex.split(command)
    modules = [name for flag, name in itertools.pairwise(words) if flag == "-m"]
    launchers = ("sbatch", "gcloud")
    assert modules or "pytest" in words or "simrl" in words[0] or words[0] in launchers
    for name in modules:
        assert importlib.util.find_spec(name) is not None, name


def test_simrl_commands_are_understood():
    shown = [text for command in COMMANDS for text in re.findall(r"simrl [a-z][^\"&]*", command)]
    shown += re.findall(r"`(simrl (?:init|run|figure) [^`]*)`", README)
    commands = [shlex.split(part)[1:] for text in shown for part in text.split("&&")]
    assert {name for name, *_ in commands} >= {"init", "run", "status", "figure"}
    for name, *words in commands:
        parser.parser(name).parse_args(words)


@pytest.mark.parametrize("name", [*DOCUMENTS, "simrl/measures/THEORY.md"])
def test_links_lead_somewhere(name):
    document = ROOT / name
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text("utf-8")):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), flags=re.MULTILINE)
            named = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings]
            assert anchor in named, link


def test_the_functions_behind_the_numbers_exist():
    table = THEORY.split("## 8. Table of quantities")[1].split("\n\n")[2]
    rows = [[cell.strip() for cell in line.split(" | ")] for line in table.splitlines()[2:]]
    assert len(rows) > 20
    named = [name for row in rows for name in re.findall(r"`([a-z_.]+)`", row[-1])]
    assert len(named) > 25
    room = None
    for name in named:
        if name.startswith("simrl."):
            assert hasattr(simrl, name.removeprefix("simrl."))
            continue
        module, _, function = name.rpartition(".")
        room = getattr(simrl.measures, module) if module else room
        assert callable(getattr(room, function)), name


def test_sections_that_code_cites_exist():
    sections = {text[0]: text for text in re.split(r"^## ", THEORY, flags=re.MULTILINE)[1:]}
    cited = r'THEORY\.md, sections? (\d)(?: and (\d))?(?:(?:, |; )"([^"]+)")?'
    sources = [path.read_text("utf-8") for path in (ROOT / "simrl").rglob("*.py")]
    found = [place for text in sources for place in re.findall(cited, " ".join(text.split()))]
    assert len(found) > 30
    for number, other, title in found:
        assert {number, other or number} <= set(sections), (number, other)
        assert title in sections[number], (number, title)


def test_the_registered_names_are_listed():
    listed = TEXTS["simrl/README.md"].split("## What is included")[1].split("## Extending")[0]
    families = (specs.ENVIRONMENTS, specs.POLICIES, specs.LEARNERS, specs.ADVANTAGES)
    families += (specs.CURRICULA, specs.SURROGATES, observe.ASKED)
    for name in (name for family in families for name in family):
        assert f"`{name}`" in listed, name


def test_every_experiment_is_described():
    table = TEXTS["experiments/README.md"].split("| `python -m experiments.`")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE) == [*experiments_main.NAMES]
