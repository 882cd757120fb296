"""What a spec can ask to be measured of a state besides what always is."""

from functools import partial

import jax
import jax.numpy as jnp

from simrl import columns, listing
from simrl.engine import answers
from simrl.engine.answers import Truth
from simrl.measures import duels, regret
from simrl.measures.listed import MAX_JOINT
from simrl.measures.messages import World
from simrl.types import (
    Array,
    Environment,
    Heard,
    Info,
    Learner,
    Policy,
    State,
    Task,
    TeacherForced,
    Trial,
)

ASKED = {
    "bias": "squared bias of the update's gradient estimate, phase by phase",
    "known_channel": "expected and realised information where labels are noisy and their law known",
    "redraws": "gradient moments by redrawing the estimator at log points, of each leaf too",
    "cosine": "cosine of the update to the score of the right answer, and how often it is zero",
    "two_batch": "noise scale from gradients at two batch sizes, at log points",
    "regret": "expected regret of a sample, the best answer's pay above the policy's: every update",
    "information_ratio": "squared regret and information of a sample by the learner's posterior",
    "duel": "how often the first of two guesses wins, what a verdict and all of them tell",
}  # measures that a spec can ask for besides those that are always there

OF_GRADIENTS = {"bias", "redraws", "cosine", "two_batch"}
DUEL, DUELS = ("duel_expected", "duel_realised"), ("duels", "duel_wins")
JOINTLY = "realised_update"  # of all duels of an update; what is expected of them is not given
RATIO = ("expected_regret", "squared_expected_regret", "information_gain")


def quantities(trial: Trial) -> list[str]:
    """The names of what `of_state` measures, in order."""
    names = []
    if "bias" in trial.measures and trial.learner.squared_bias is not None:
        names += ["squared_bias"]
    if "regret" in trial.measures:
        names += ["regret"]
    if "information_ratio" in trial.measures and trial.learner.prospect is not None:
        names += RATIO
    if "duel" in trial.measures and _compared(trial.environment) <= duels.MAX_COMPARED:
        names += DUEL
    return names


def told(trial: Trial) -> tuple[str, ...]:
    """The names of what is summed at every update, in order."""
    summed = ("regret",) if sums_regret(trial) else ()
    return (*summed, *DUELS, JOINTLY) if "duel" in trial.measures else summed


def sums_regret(trial: Trial) -> bool:
    """Whether regret is summed update by update.

    The choices of a bandit's learner may repeat with a period, that of measuring once in a few
    updates among them. A jump has one state, which is measured.
    """
    return "regret" in trial.measures and trial.path != "jump"


def problems(
    environment: Environment, policy: Policy, learner: Learner, measures: tuple[str, ...]
) -> list[str]:
    """What is asked for and not defined here, one line each."""
    found = []
    gradients = ", ".join(sorted(OF_GRADIENTS.intersection(measures)))
    if gradients and not learner.has_gradient:
        found.append(f"measures {gradients} need a learner that follows a gradient")
    if "cosine" in measures and environment.right is not None:
        found.append("measures cosine needs one right answer, whose score it compares with")
    if "known_channel" in measures and environment.noisy:
        forced = isinstance(policy, TeacherForced)
        if policy.listed is not None or learner.listed or forced:
            found.append("measures known_channel needs beliefs whose positions are independent")
        if learner.kind == "supervised" and (learner.ledger or {}).get("reference"):
            found.append("measures known_channel is about labels; a teacher tells their whole law")
    whole = environment.channel == "exact" or environment.shape.length == 1
    paid = environment.reward_law is not None or (environment.channel is not None and whole)
    if "regret" in measures and not paid:
        found.append("measure regret needs arms, or a reward for whole answers that are right")
    if "information_ratio" in measures and learner.prospect is None:
        found.append("measure information_ratio needs thompson on a bandit of kind bernoulli")
    return found + (_duel_problems(environment, learner) if "duel" in measures else [])


def _duel_problems(environment: Environment, learner: Learner) -> list[str]:
    """Why the bits of a duel cannot be told, in one line at most."""
    if not learner.compares:
        return ["measure duel needs self_play, or a learner that compares two guesses"]
    if environment.channel is None or environment.noisy or environment.verifier is not None:
        return ["measure duel needs rewards that always tell how much of an answer is right"]
    num = listing.num_answers(environment.shape)
    if num <= MAX_JOINT:
        return []
    return [
        f"measure duel lists every answer: vocab_size^length must be at most {MAX_JOINT}, not {num}"
    ]


def _compared(environment: Environment) -> int:
    """Steps to what one duel tells, at every prompt."""
    num_prompts, length, vocab_size = environment.shape
    world = World(length, vocab_size, environment.channel or "")
    return num_prompts * duels.num_compared(world)


def of_state(
    trial: Trial, state: State, task: Task, belief: tuple[Array, Array], known: Truth
) -> dict[str, Array]:
    """Measures [M] of a state; `belief` its log-probabilities [M, L, V] and log-odds [M], nats."""
    names, shape = quantities(trial), belief[1].shape
    values = {}
    if "squared_bias" in names and trial.learner.squared_bias is not None:
        values["squared_bias"] = jnp.broadcast_to(trial.learner.squared_bias(state, task), shape)
    if "regret" in names:
        values["regret"] = regret_of(trial.environment, task, belief, known.laws)
    if "information_gain" in names and trial.learner.prospect is not None:
        ahead = trial.learner.prospect(state)
        found = ahead.regret, ahead.regret**2, ahead.information
        values |= {k: jnp.broadcast_to(v, shape) for k, v in zip(RATIO, found, strict=True)}
    if "duel_expected" in names:
        values |= duel_of(trial, belief[0], known)
    return values


def duel_of(trial: Trial, log_probs: Array, known: Truth) -> dict[str, Array]:
    """Expected and realised bits [M] of one duel at each prompt."""
    world = answers.world_of(trial)
    measure = jax.vmap(lambda law, y: duels.listed_information(law, y, world))
    told = measure(*_listed(trial, log_probs, known))
    assert told.realised is not None
    return dict(zip(DUEL, (told.expected, told.realised), strict=True))


def _listed(trial: Trial, log_probs: Array, known: Truth) -> tuple[Array, Array]:
    """Log-probabilities [M, N] of whole answers, nats, and the numbers [M] of the right ones."""
    right = known.answers[:, 0]
    if not answers.are_listed(trial):
        right = listing.code(known.answers, trial.environment.shape.vocab_size)
        log_probs = answers.beliefs(trial, log_probs)
    return answers.merged(log_probs, known)[:, 0], right


def of_update(
    trial: Trial, log_probs: Array, known: Truth, info: Info, mine: Array
) -> dict[str, Array]:
    """What is told of an update at each prompt [M]; `mine` [M, G]: which groups are at it.

    `log_probs` [M, L, V], nats: the belief before it.
    """
    if "duel" not in trial.measures:
        return {}
    # A learner of one's own may not tell who won.
    wins = jnp.nan if info.wins is None else info.wins
    counts = info.success.shape[1] / 2, wins
    values = {
        name: jnp.sum(jnp.where(mine, count, 0.0), axis=1)
        for name, count in zip(DUELS, counts, strict=True)
    }
    return values | {JOINTLY: _told_jointly(trial, log_probs, known, info, mine)}


def _told_jointly(trial: Trial, log_probs: Array, known: Truth, info: Info, mine: Array) -> Array:
    """Bits [M] that all verdicts of an update at each prompt tell of its right answer."""
    if info.won is None:
        return jnp.full(len(mine), jnp.nan)
    world, made = answers.world_of(trial), info.answers
    if known.right is not None:
        codes = answers.guessed(trial, known, info.prompts, made)[..., 0]
        made = listing.decode(codes, world.length, world.vocab_size)
    pairs, won = (made[:, ::2], made[:, 1::2]), info.won[..., None]
    guesses = jnp.where(won, *pairs), jnp.where(won, *pairs[::-1])
    of_duel = partial(duels.log_likelihood, world=world)
    likely = jnp.sum(jax.vmap(jax.vmap(of_duel))(*guesses), axis=1)  # [G, N]
    together = jnp.sum(jnp.where(mine[..., None], likely, 0), axis=1)  # [M, N]
    return jax.vmap(duels.realised_jointly)(*_listed(trial, log_probs, known), together)


def of_lanes(trial: Trial, heard: Heard) -> dict[str, Array]:
    """The counts of each draw [K, N] of an update of many seeds at once."""
    if "duel" not in trial.measures:
        return {}
    num_duels = trial.learner.batch_size / (2 * len(heard.prompts))
    wins = jnp.full_like(heard.success, jnp.nan)
    if heard.won is not None:
        wins = columns.total(heard.won.astype(wins.dtype))
    return dict(zip(DUELS, (jnp.full_like(heard.success, num_duels), wins), strict=True))


def regret_of(
    environment: Environment, task: Task, belief: tuple[Array, Array], laws: Array | None
) -> Array:
    """Expected regret [M] of a sample at each prompt, in units of the reward."""
    log_probs, odds = belief
    at = jax.vmap(partial(regret_at, environment, task))
    return at(jnp.arange(len(odds)), jnp.exp(log_probs), odds, laws)


def regret_at(
    environment: Environment,
    task: Task,
    prompt: Array,
    probs: Array,
    odds: Array,
    law: Array | None,
) -> Array:
    """Computes the expected regret [] of a sample at one prompt.

    `probs`, `law` [L, V]: of the policy and of labels, the latter read where they are noisy;
    `odds` []: log-odds of the right answer, nats.
    """
    if environment.reward_law is not None:
        return regret.regret_of_arms(probs[0], environment.reward_law(task, prompt)[0])
    if environment.noisy:
        assert law is not None
        return regret.regret_of_matching(probs, law)
    wrong = jax.nn.sigmoid(-odds)  # 1 - p would have lost its digits near 0
    if environment.verifier is None:
        return wrong
    return wrong * (1 - sum(environment.verifier))


def regret_of_update(
    trial: Trial, task: Task, belief: tuple[Array, Array], known: Truth, info: Info
) -> dict[str, Array]:
    """Regret [M] of all samples of an update by the belief before it, if it is summed."""
    if not sums_regret(trial):
        return {}
    each = regret_of(trial.environment, task, belief, known.laws)
    mine = info.prompts == jnp.arange(len(each))[:, None]  # [M, G]
    samples = info.success.shape[1] * jnp.sum(mine, axis=1)
    return {"regret": jnp.where(samples > 0, samples * each, 0)}
