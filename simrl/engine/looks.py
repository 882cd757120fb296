"""What is measured of one seed at a log point."""

import jax
import jax.numpy as jnp

from simrl import keys
from simrl.engine import clock, observe, probes
from simrl.engine.stretches import Course
from simrl.engine.train import Plan, Run
from simrl.types import Array, Trial


def snapshot(course: Course) -> dict[str, Array]:
    """The measures of a seed at a log point, averaged over prompts."""
    odds = course.run.odds
    log2_answer = jax.nn.log_sigmoid(odds) / jnp.log(2.0)
    values = {**course.measured, "log2_answer": log2_answer}
    found = {
        # Errors of independent estimates add in squares.
        name: jnp.linalg.norm(value) / len(value) if name.endswith("_error") else jnp.mean(value)
        for name, value in values.items()
    }
    found["log_odds"] = observe.mean_log_odds(odds)
    return found


def probe(trial: Trial, plan: Plan, seed_streams: keys.Streams, run: Run) -> dict[str, Array]:
    """What a log point estimates by drawing the gradient again."""
    known = observe.truth(trial, run.task)
    key = clock.fold_in(seed_streams.probe, run.step)
    return probes.of_estimate(trial, run.state, run.task, known, key, plan.num_redraws)
