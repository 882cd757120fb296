"""What a spec can ask to be measured of a state besides what always is."""

import jax
import jax.numpy as jnp

from simrl.measures import regret
from simrl.types import Array, Environment, Learner, Policy, State, Task, Trial

ASKED = {
    "bias": "squared bias of the update's gradient estimate, phase by phase",
    "known_channel": "expected and realised information where labels are noisy and their law known",
    "redraws": "gradient moments by redrawing the estimator at log points, of each leaf too",
    "cosine": "cosine of the update to the score of the right answer, and how often it is zero",
    "two_batch": "noise scale from gradients at two batch sizes, at log points",
    "regret": "expected regret of a sample: what the best answer is paid above the policy's",
    "information_ratio": "squared regret and information of a sample by the learner's posterior",
}  # measures that a spec can ask for besides those that are always there

OF_GRADIENTS = {"bias", "redraws", "cosine", "two_batch"}
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
    return names


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
        if policy.listed is not None:
            found.append("measures known_channel needs a policy whose positions are independent")
        if learner.kind == "supervised" and (learner.ledger or {}).get("reference"):
            found.append("measures known_channel is about labels; a teacher tells their whole law")
    whole = environment.channel == "exact" or environment.shape.length == 1
    paid = environment.reward_law is not None or (environment.channel is not None and whole)
    if "regret" in measures and not paid:
        found.append("measure regret needs arms, or a reward for whole answers that are right")
    if "information_ratio" in measures and learner.prospect is None:
        found.append("measure information_ratio needs thompson on a bandit of kind bernoulli")
    return found


def of_state(
    trial: Trial, state: State, task: Task, belief: tuple[Array, Array], laws: Array
) -> dict[str, Array]:
    """Measures [M] of a state; `belief` its log-probabilities [M, L, V] and log-odds [M], nats.

    `laws` [M, L, V] of the labels.
    """
    names, shape = quantities(trial), belief[1].shape
    values = {}
    if "squared_bias" in names and trial.learner.squared_bias is not None:
        values["squared_bias"] = jnp.broadcast_to(trial.learner.squared_bias(state, task), shape)
    if "regret" in names:
        values["regret"] = regret_of(trial.environment, task, belief, laws)
    if "information_gain" in names and trial.learner.prospect is not None:
        ahead = trial.learner.prospect(state)
        found = ahead.regret, ahead.regret**2, ahead.information
        values |= {k: jnp.broadcast_to(v, shape) for k, v in zip(RATIO, found, strict=True)}
    return values


def regret_of(
    environment: Environment, task: Task, belief: tuple[Array, Array], laws: Array
) -> Array:
    """Expected regret [M] of a sample at each prompt, in units of the reward."""
    log_probs, odds = belief
    probs = jnp.exp(log_probs)
    if environment.reward_law is not None:
        prompts = jnp.arange(len(odds))
        means, _ = jax.vmap(environment.reward_law, (None, 0))(task, prompts)
        return jax.vmap(regret.regret_of_arms)(probs[:, 0], means)
    if environment.noisy:
        return jax.vmap(regret.regret_of_matching)(probs, laws)
    wrong = jax.nn.sigmoid(-odds)  # 1 - p would have lost its digits near 0
    if environment.verifier is None:
        return wrong
    return wrong * (1 - sum(environment.verifier))
