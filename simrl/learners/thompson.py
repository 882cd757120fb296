"""Thompson sampling (Thompson 1933; Russo et al. 2018, "A tutorial on Thompson sampling").

An arm is chosen with the probability that it is the best by the posterior of the world's own prior:
Beta posteriors of arms that pay 0 or 1, which begin uniform, normal ones of gaussian arms, whose
noise is known. Arms that are given have the prior that they would be drawn by. The usual way, the
best of one draw from each posterior, has the same law; here its probabilities are integrated
(simrl.measures.best_arm), so that they are the learner's belief as well.
"""

from dataclasses import dataclass, field

import jax

from simrl.learners import arms, chances
from simrl.learners.arms import Pulls
from simrl.measures import best_arm
from simrl.records import readable
from simrl.types import Array, Environment, Learner, Policy


@readable
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Thompson:
    """Each update: `group_size` pulls, all by the posterior before it.

    Attributes:
        group_size: B, pulls of an update.
    """

    group_size: int = field(default=1, metadata={"static": True})

    def problems(self) -> list[str]:
        """What is wrong with this specification, one line each."""
        return [] if self.group_size >= 1 else ["group_size must be at least 1"]

    def obstacle(self, environment: Environment, policy: Policy) -> str | None:
        """Why it cannot be run in this world; None if it can."""
        prior = environment.prior
        if prior is not None and prior.family == "normal" and min(prior.spread, prior.noise) <= 0:
            return "thompson needs a spread and a noise above 0"
        found = arms.obstacle(environment)
        return None if found is None else f"thompson {found}"

    def build(self, environment: Environment, policy: Policy) -> Learner:
        """The learner for this world; the policy is not asked."""
        prior = arms.prior_of(environment)

        beta = prior.family == "beta"

        def posterior(counts: Array, sums: Array) -> tuple[Array, Array]:
            """Its two parameters, [K] each, or [K, N]."""
            if beta:
                return prior.right + sums, prior.wrong + (counts - sums)
            precision = prior.spread**-2 + counts * prior.noise**-2
            mean = (prior.mean * prior.spread**-2 + sums * prior.noise**-2) / precision
            return mean, precision**-0.5

        def means(counts: Array, sums: Array) -> best_arm.Means:
            of_arms = best_arm.beta_means if beta else best_arm.normal_means
            return of_arms(*posterior(counts, sums))

        def rule(counts: Array, sums: Array) -> Array:
            return best_arm.log_chances(means(counts, sums))

        def on_columns(counts: Array, sums: Array) -> Array:
            of_arms = chances.beta if beta else chances.normal
            return of_arms(*posterior(counts, sums))

        def prospect(state: Pulls) -> best_arm.Prospect:
            return best_arm.bernoulli_prospect(means(state.counts, state.sums))

        known = prospect if beta and environment.verifier is None else None
        return arms.learner(environment, self.group_size, rule, on_columns, prospect=known)
