"""Actor-critic: policy gradient whose weights come from a learned value function over positions.

Sutton & Barto 2018, section 13.5, with the generalised advantage estimates of Schulman et al. 2016.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp

from simrl import choices, columns
from simrl import keys as random
from simrl.columns import Fence, Law
from simrl.learners import critic, draws, epochs, fused, rollouts, updates, valuing, weighing
from simrl.learners.critic import Critic, Judged
from simrl.learners.draws import Batch
from simrl.learners.surrogates import Score
from simrl.learners.updates import Learning, Optimizer
from simrl.measures import phases
from simrl.records import readable
from simrl.types import (
    Array,
    Environment,
    Fused,
    Heard,
    Info,
    Learner,
    Params,
    Policy,
    Rollout,
    Surrogate,
    Task,
)


@readable
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ActorCritic:
    """Each update: `num_groups` prompts, `group_size` answers to each, a step of both optimisers.

    `features` of the value function, a table: "prompt", one value for each prompt (a learned
    baseline); "position", one for each prompt and position; "prefix", one for each prefix of an
    answer, (V^L - 1)/(V - 1) a prompt. `trace_decay` is lambda: at 1 the gradient is unbiased
    whatever the values; below 1 where an outcome is paid it is so for the right ones alone.

    An outcome is paid at the last position, `token` pays each position its own, and the credit of
    `reward_to_go` is the sum of the same payments: here the two are one.

    The critic learns from the batch that it has given weights to, afterwards: it descends half the
    squared error to the lambda-return, averaged over the visits to each value, so that with sgd at
    a learning rate of 1 a value becomes the mean return of its batch.

    `stop_below` (value stopping; "prefix" alone): a guess is stopped at the first prefix of a lower
    value that at least `stop_after` guesses have gone through. Only the tokens decoded are charged.
    It is credited that value: it is cut off, not failed (Pardo et al. 2018). The bias is that of
    the critic's errors at such prefixes, which a share `stop_exploration` of the guesses, never
    stopped, mends in time; at 0 nothing is decoded behind them any more, and they stay.

    Attributes:
        group_size: B, answers to each prompt.
        num_groups: G, prompts of an update.
        features: what the value function tells apart: "prompt", "position" or "prefix".
        trace_decay: lambda of the lambda-return, in [0, 1].
        optimizer: that of the policy, an `Optimizer` or its name.
        critic_optimizer: that of the values.
        surrogate: as of `PolicyGradient`.
        stop_below: value below which an answer is stopped. None: none is.
        stop_after: answers that must have gone through a prefix before it stops others.
        stop_exploration: share of the answers that are never stopped.
    """

    group_size: int = field(default=32, metadata={"static": True})
    num_groups: int = field(default=1, metadata={"static": True})
    features: Literal["prompt", "position", "prefix"] = field(
        default="prefix", metadata={"static": True}
    )
    trace_decay: float = 1.0
    optimizer: Optimizer = field(default_factory=updates.reward_optimizer)
    critic_optimizer: Optimizer = field(
        default_factory=lambda: Optimizer("sgd", {"learning_rate": 0.1})
    )
    surrogate: Any = field(default_factory=Score)
    stop_below: float | None = None
    stop_after: float = 64.0
    stop_exploration: float = 0.05

    def problems(self) -> list[str]:
        """What is wrong with this specification, one line each."""
        found = self.optimizer.problems()
        found += [f"critic_optimizer: {line}" for line in self.critic_optimizer.problems()]
        if self.group_size < 1 or self.num_groups < 1:
            found.append("group_size and num_groups must be at least 1")
        if self.features not in critic.FEATURES:
            known = ", ".join(critic.FEATURES)
            found.append(f"features must be one of {known}, not {self.features!r}")
        if not 0 <= self.trace_decay <= 1:
            found.append(f"trace_decay must be between 0 and 1, not {self.trace_decay}")
        return found + self._stop_problems() + self.surrogate.problems()

    def _stop_problems(self) -> list[str]:
        below = self.stop_below
        if below is None:
            return []
        if self.features != "prefix":
            return [f"stop_below needs the features prefix, not {self.features}"]
        if self.stop_after < 1:
            return [f"stop_after must be at least 1 guess, not {self.stop_after}"]
        if not 0 <= self.stop_exploration < 1:
            return [f"stop_exploration must be a share below 1, not {self.stop_exploration}"]
        return []

    def obstacle(self, environment: Environment, policy: Policy) -> str | None:
        """Why this cannot learn in a world; None if it can."""
        size = environment.shape.num_prompts * critic.num_values(self.features, environment)
        if size > critic.MAX_VALUES:
            most = f"at most {critic.MAX_VALUES}"
            return f"features {self.features} has {size} values in this world, {most} can be had"
        return None

    def build(self, environment: Environment, policy: Policy) -> Learner:
        """The learner for this world and policy."""
        optimizer, of_values = self.optimizer.build(), self.critic_optimizer.build()
        groups, size = self.num_groups, self.group_size
        surrogate, stops = self.surrogate.build(), self.stop_below is not None
        lines = rollouts.bill(surrogate, policy.num_active_params, critic_params=1)
        belief = updates.belief(policy, environment.shape.length)

        def init(keys: Any) -> Learning:
            params = updates.first_params(environment, policy, keys)
            num_values = critic.num_values(self.features, environment)
            values = jnp.zeros((environment.shape.num_prompts, num_values))
            visits = jnp.zeros_like(values) if stops else ()
            known = Critic(values, visits, of_values.init(values))
            start = params if surrogate.anchored else ()
            return Learning(params, optimizer.init(params), known, start)

        def judged(keys: Any, state: Learning, task: Task) -> Judged:
            drawn = rollouts.draw(keys, environment, policy, state.params, task, (groups, size))
            # A learner by guessing reads no labels: their stream is free.
            share = self.stop_exploration
            free = critic.explorers(keys.label, (groups, size), share) if stops else None
            return self._judge(environment, state.advantage, drawn, free)

        def estimate(keys: Any, state: Learning, task: Task) -> Params:
            found = judged(keys, state, task)
            return rollouts.estimate(surrogate, policy, found.drawn, found.weights, state)

        def step(keys: Any, state: Learning, task: Task) -> tuple[Learning, Info]:
            found = judged(keys, state, task)
            kept = critic.learned(of_values, state.advantage, found)
            weighed = found.drawn, found.weights
            after = rollouts.climb(optimizer, surrogate, policy, *weighed, state, kept)
            # A penalty is a gradient also where the rewards leave none.
            dead = found.weights if surrogate.penalty is None else None
            return after, _report(lines, found, dead, stops)

        exact = policy.tabular and surrogate.score and surrogate.penalty is None and not stops
        exact = exact and critic.has_moments(environment, self.features)
        numbers = self.features, self.trace_decay, (groups, size)
        return Learner(
            init=init,
            step=step,
            belief=belief,
            estimate=estimate,
            moments=critic.moments(environment, belief, *numbers) if exact else None,
            kind="policy_gradient",
            batch_size=groups * size,
            squared_bias=(lambda state, task: jnp.zeros(())) if exact else None,
            score=updates.answer_score(policy),
            ledger=lines,
            listed=policy.listed is not None,
            partial="stopped" if stops else None,
            fused=_fused(environment, policy, self, surrogate, lines),
        )

    def _judge(
        self, environment: Environment, known: Critic, drawn: Rollout, free: Array | None
    ) -> Judged:
        """The critic's weights of groups, with the values as they were before.

        free [G, B] bool: which guesses are never stopped; None: all of them.
        """
        where = critic.places(self.features, drawn.answers, environment.shape.vocab_size)
        rows = drawn.prompt[:, None, None]
        values = known.values[rows, where]
        live = jnp.ones(where.shape, bool)
        success = drawn.success
        if self.stop_below is not None and free is not None:
            visits = known.visits[rows, where]
            live = critic.decoded(values, visits, self.stop_below, self.stop_after)
            live |= free[..., None]
            success = jnp.where(live[..., -1], success, 0)
        rewards = critic.paid(drawn.credit, environment.channel)
        weights = critic.advantages(rewards, values, live, self.trace_decay)
        return Judged(drawn._replace(success=success), where, live, weights)


def _report(lines: dict[str, int], found: Judged, weights: Array | None, stops: bool) -> Info:
    """Info of one update, charged for what was decoded; `weights` [G, B, L] tell what is dead."""
    drawn, size = found.drawn, found.drawn.answers.shape[1]
    info = updates.report(lines, drawn.prompt, drawn.answers, drawn.success, size, weights)
    if not stops:
        return info
    tokens = jnp.sum(found.live, axis=(1, 2)).astype(jnp.uint32)
    each: Array = jnp.asarray(phases.words_of(sum(lines.values())))
    flops = phases.multiply_words(jnp.broadcast_to(each, (len(tokens), 2)), tokens)
    return info._replace(num_tokens=tokens, flops=flops)


def _fused(
    environment: Environment,
    policy: Policy,
    spec: ActorCritic,
    surrogate: Surrogate,
    lines: dict[str, int],
) -> Fused | None:
    """The update of many seeds at once; None where there is no fused path."""
    if fused.obstacle(environment, policy, by_prefix=True) or not epochs.are_known(surrogate):
        return None
    batch = spec.num_groups, spec.group_size
    lot = Batch(environment.shape.num_prompts, *batch)

    def step(
        keys: Any, state: Learning, law: Law, task: Task, fence: Fence, told: fused.Told
    ) -> tuple[Learning, Heard]:
        asked = draws.ask(environment, lot, keys.prompt, law, task, fence)
        answers, verdict = draws.guesses(environment, lot, keys, asked, fence)
        drawn = valuing.Drawn(lot, asked, answers, verdict.credit)
        stops = None if spec.stop_below is None else _stops(spec, lot, keys.label, fence)
        known, features = state.advantage, spec.features
        found = valuing.value(environment, features, spec.trace_decay, known, drawn, stops, fence)
        kept = valuing.learned(features, spec.critic_optimizer, known, drawn, found, fence)
        heard = _heard(surrogate, drawn, verdict.success, found, fence)
        made = fused.learnt(kept, surrogate, lot, heard, found.weights, fence)
        return fused.climb(spec.optimizer, surrogate, state, lot, asked, made, fence), heard

    return Fused(
        fused.logits,
        step,
        lambda: fused.charge(lines, environment, batch, spec.group_size),
        # Of a position that was not decoded.
        relief=None if spec.stop_below is None else {"tokens": 1, "flops": sum(lines.values())},
    )


def _stops(spec: ActorCritic, lot: Batch, stream: Any, fence: Fence) -> valuing.Stops:
    """Which guesses are stopped, of many seeds."""
    assert spec.stop_below is not None
    words = choices.words(stream, lot.groups * lot.size, 1, fence)[0]
    free = random.uniform(words) < spec.stop_exploration
    free = free.reshape(lot.draws, lot.answers, -1)
    return valuing.Stops(spec.stop_below, spec.stop_after, free)


def _heard(
    surrogate: Surrogate,
    drawn: valuing.Drawn,
    success: Array,
    found: valuing.Valued,
    fence: Fence,
) -> Heard:
    """What an update tells others; success [K, C, N] is that of whole answers."""
    lot, asked, spared = drawn.lot, drawn.asked, None
    if found.live is not None:
        success = jnp.where(found.live[:, -1], success, 0)
        spared = columns.total(jnp.sum(~found.live, axis=1, dtype=jnp.uint32))
    dead = weighing.dead_of(lot, found.weights.reshape(drawn.credit.shape))
    if surrogate.penalty is not None:  # it leaves no group without a gradient
        dead = jnp.zeros_like(dead)
    right = columns.total(fence(success))
    return Heard(asked.prompts, asked.law, drawn.answers, right, dead, spared=spared)
