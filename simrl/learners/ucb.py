"""UCB1: Auer, Cesa-Bianchi & Fischer (2002), "Finite-time analysis of the multiarmed bandit".

After one pull of every arm, the arm with the largest mean + noise sqrt(c ln t / n): n pulls of it
out of t. Rewards of 0 or 1 have `noise` 1 and, with the paper's c = 2, its regret bound; rewards of
a gaussian bandit have the noise of the world. (In [0, 1] they are 1/2-sub-Gaussian, so that normal
ones need c = 8 for the same bound.)
"""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from simrl import columns
from simrl.learners import arms
from simrl.records import readable
from simrl.types import Array, Environment, Learner, Policy

SURE = 40.0  # nats by which the choice is above the others: none of them is ever drawn


@readable
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class UCB1:
    """Each update: `group_size` pulls of the arm that is chosen by the pulls before it.

    The choice is certain, and no belief: its pass rate is 1 where the choice is the best arm and 0
    (4e-18) elsewhere, and no bits are told of it. A threshold is hit by the first right choice.

    Attributes:
        exploration: c, the weight of the log in the bound of an arm.
        group_size: B, pulls of an update.
    """

    exploration: float = 2.0
    group_size: int = field(default=1, metadata={"static": True})

    def problems(self) -> list[str]:
        """What is wrong with this specification, one line each."""
        found = [] if self.group_size >= 1 else ["group_size must be at least 1"]
        if self.exploration < 0:
            found.append(f"exploration must not be negative, not {self.exploration}")
        return found

    def obstacle(self, environment: Environment, policy: Policy) -> str | None:
        """Why it cannot be run in this world; None if it can."""
        found = arms.obstacle(environment)
        if found is None and environment.channel is not None:  # where the first arm is right
            found = "takes the first of equal arms: a bandit of kind one_right would tell it which"
        return None if found is None else f"ucb1 {found}"

    def build(self, environment: Environment, policy: Policy) -> Learner:
        """The learner for this world; the policy is not asked."""
        prior = arms.prior_of(environment)
        noise = prior.noise if prior.family == "normal" else 1.0

        def bounds(counts: Array, sums: Array) -> Array:
            """Upper bounds [K], or [K, N]; of an arm that has not been pulled no bound holds."""
            pulls = jnp.maximum(counts, 1)
            time = jnp.log(jnp.maximum(jnp.sum(counts, axis=0), 1))
            bound = sums / pulls + noise * jnp.sqrt(self.exploration * time / pulls)
            return jnp.where(counts == 0, jnp.inf, bound)

        def rule(counts: Array, sums: Array) -> Array:
            choice = jnp.argmax(bounds(counts, sums))  # the first of the largest
            return jnp.where(jnp.arange(len(counts)) == choice, 0.0, -SURE)

        def on_columns(counts: Array, sums: Array) -> Array:
            found = bounds(counts, sums)[None]
            # The same in sums of vectors: an argmax over vectors takes minutes to compile.
            place = jnp.arange(len(counts), dtype=counts.dtype)[:, None]
            tied = found >= columns.largest(found)
            first = -columns.largest(jnp.where(tied, -place, -jnp.inf))
            return jnp.where(place == first, 0.0, -SURE)

        return arms.learner(environment, self.group_size, rule, on_columns, has_belief=False)
