"""PPO's clipped surrogate over several epochs of the same guesses (Schulman et al. 2017, eq. 7).

Its ratio is that of each position, or that of the whole answer: the sequence-level ratio of GSPO
(Zheng et al. 2025, "Group Sequence Policy Optimization", arXiv:2507.18071), but without its root of
the length; positions are weighed as in its variant GSPO-token.
"""

from dataclasses import dataclass, field
from typing import Literal

import jax
import jax.numpy as jnp

from simrl.learners.penalised import Penalties, with_penalties
from simrl.learners.surrogates import Score
from simrl.records import readable
from simrl.types import Array, Params, Policy, Rollout, Surrogate

RATIOS = ("position", "answer")
MOST = 80.0  # nats of a ratio: of larger ones, which negative weights keep, sums would be infinite


@readable
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PPO:
    """min(r A, clip(r, 1 - clip, 1 + clip) A), r = pi(y_t | y_<t) / pi_old(y_t | y_<t).

    Ratios are per position, as usual for language models; with `ratio` "answer" all positions of an
    answer have that of the whole, pi(y) / pi_old(y), which is its importance weight, and are
    clipped by it: a term that is kept is followed along r A grad log pi(y_t | y_<t), together
    r A grad log pi(y) where all have the A of the answer. Terms are summed over positions and
    averaged over answers, A are the advantage's weights.

    Each of `num_epochs` passes over all the guesses makes one optimiser step. In the first r = 1
    and nothing is clipped: its direction is the weighted score, whose moments are those of the
    gradient estimate. `entropy` and `kl_to_start`: see `Penalised`.

    Attributes:
        clip: epsilon, how far a ratio may leave 1 before its term is cut off.
        num_epochs: passes over the answers of an update, one optimiser step each.
        entropy: coefficient of the entropy bonus, rewards per nat. None: there is none.
        kl_to_start: coefficient of KL(policy || start policy), rewards per nat. None: none.
        ratio: "position", or "answer" for the ratio of whole answers.
    """

    clip: float = 0.2
    num_epochs: int = field(default=4, metadata={"static": True})
    entropy: float | None = None
    kl_to_start: float | None = None
    ratio: Literal["position", "answer"] = field(default="position", metadata={"static": True})

    def problems(self) -> list[str]:
        """What is wrong with this specification, one line each."""
        found = Penalties(self.entropy, self.kl_to_start).problems()
        if self.clip < 0:
            found.append(f"clip must not be negative, not {self.clip}")
        if self.num_epochs < 1:
            found.append(f"num_epochs must be at least 1, not {self.num_epochs}")
        if self.ratio not in RATIOS:
            found.append(f"ratio must be one of {', '.join(RATIOS)}, not {self.ratio!r}")
        return found

    def build(self) -> Surrogate:
        """The surrogate."""

        def direction(
            policy: Policy, params: Params, drawn: Rollout, weights: Array, start: Params
        ) -> Params:
            def objective(params: Params) -> Array:
                over_answers = jax.vmap(policy.log_prob, (None, None, 0))
                log_prob = jax.vmap(over_answers, (None, 0, 0))(params, drawn.prompt, drawn.answers)
                log_ratio = jax.lax.stop_gradient(log_prob - drawn.log_prob)
                if self.ratio == "answer":
                    log_ratio = jnp.sum(log_ratio, axis=-1, keepdims=True)
                # A grad r is A r grad log pi: no gradient is taken through a ratio, which may be
                # infinite where the weight is 0.
                shares = reweigh(log_ratio, weights) / (weights.shape[0] * weights.shape[1])
                return jnp.sum(shares * log_prob)

            return jax.grad(objective)(params)

        def reweigh(log_ratio: Array, weights: Array) -> Array:
            ratio = jnp.exp(jnp.minimum(log_ratio, MOST))
            kept = self._kept(ratio, weights)
            # What nobody guessed may have any ratio, also one that is no number.
            return jnp.where(kept == 0, 0, kept * ratio)

        clipped = Surrogate(
            direction,
            num_epochs=self.num_epochs,
            score=True,
            on_columns=Score().build().on_columns,
            whole=self.ratio == "answer",
            reweigh=reweigh,
        )
        return with_penalties(clipped, Penalties(self.entropy, self.kl_to_start))

    def _kept(self, ratio: Array, weights: Array) -> Array:
        """The weights, 0 where the clipped term is the smaller one: it is a constant there."""
        above, below = ratio > 1 + self.clip, ratio < 1 - self.clip
        return jnp.where(jnp.where(weights > 0, above, below), 0, weights)
