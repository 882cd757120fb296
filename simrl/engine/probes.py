"""What is estimated at a log point by drawing the learner's gradient again at frozen parameters."""

from typing import Any

import jax
import jax.numpy as jnp

from simrl import keys
from simrl.engine import answers, observe
from simrl.measures import gradients
from simrl.types import Array, State, Task, Trial

# What the probe stream of a step is folded with, so that no two estimates share a key.
REDRAWS, COSINE, TWO_BATCH, OF_STATE = range(4)
BIG_BATCH = 8  # gradients averaged into the larger of the two batches of `two_batch`


def wanted(trial: Trial) -> bool:
    """Whether `of_estimate` has anything to say."""
    if not trial.learner.has_gradient:
        return False
    asked = {"redraws", "two_batch"} | ({"cosine"} if trial.learner.score is not None else set())
    return trial.learner.moments is None or bool(asked.intersection(trial.measures))


def of_estimate(
    trial: Trial, state: State, task: Task, known: observe.Truth, key: Array, num_redraws: int
) -> dict[str, Array]:
    """Estimates [] of the update's gradient, each with a standard error; `leaf_*` [leaves].

    Moments are redrawn where no closed form is known, or where asked for (`redraws`).
    """

    def estimate(own: Array) -> Any:
        return trial.learner.estimate(keys.purposes(own), state, task)

    found: dict[str, Array] = {}
    unknown = trial.learner.moments is None
    if unknown or "redraws" in trial.measures:
        moments = gradients.redraw_moments(
            estimate,
            keys.fold_in(key, REDRAWS),
            num_redraws,
            batch_size=trial.learner.batch_size,
        )
        found |= _of_moments(moments, "" if unknown else "redrawn_")
        found |= _of_leaves(moments)
    if "cosine" in trial.measures and trial.learner.score is not None:
        direction = trial.learner.score(state, answers.symbols(trial, known))
        cosine = gradients.cosine_moments(
            estimate, direction, keys.fold_in(key, COSINE), num_redraws
        )
        found |= {
            "cosine": cosine.mean,
            "cosine_error": cosine.standard_error,
            "zero_share": cosine.zero_share,
            "zero_share_error": cosine.zero_standard_error,
        }
    if "two_batch" in trial.measures:
        found |= _of_two_batches(trial, estimate, keys.fold_in(key, TWO_BATCH), num_redraws)
    return found


def _of_moments(moments: gradients.RedrawMoments, prefix: str) -> dict[str, Array]:
    return {
        f"{prefix}trace_covariance": moments.trace_covariance,
        f"{prefix}squared_norm": moments.squared_norm,
        f"{prefix}trace_covariance_error": moments.trace_standard_error,
        f"{prefix}squared_norm_error": moments.norm_standard_error,
    }


def _of_leaves(moments: gradients.RedrawMoments) -> dict[str, Array]:
    """Figures of each leaf of the parameters, in the order of `jax.tree.leaves`."""
    leaves = jax.tree.leaves(moments.leaves, is_leaf=lambda x: isinstance(x, gradients.LeafMoments))
    stacked = jax.tree.map(lambda *values: jnp.stack(values), *leaves)
    return {
        "leaf_trace_covariance": stacked.trace_covariance,
        "leaf_squared_norm": stacked.squared_norm,
        "leaf_trace_covariance_error": stacked.trace_standard_error,
        "leaf_squared_norm_error": stacked.norm_standard_error,
    }


def _of_two_batches(trial: Trial, estimate: Any, key: Array, num_redraws: int) -> dict[str, Array]:
    """One gradient against the average of BIG_BATCH: numerator and denominator apart."""

    def average(own: Array) -> Any:
        many = jax.vmap(estimate)(jax.random.split(own, BIG_BATCH))
        return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), many)

    size = trial.learner.batch_size
    found = gradients.two_batch_moments(estimate, average, key, size, BIG_BATCH * size, num_redraws)
    return {
        "two_batch_trace_covariance": found.trace_covariance / size,
        "two_batch_squared_norm": found.squared_norm,
        "two_batch_trace_covariance_error": found.trace_standard_error / size,
        "two_batch_squared_norm_error": found.norm_standard_error,
    }
