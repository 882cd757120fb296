"""Policy gradient (REINFORCE, Williams 1992): sample, be rewarded, weigh the scores, step."""

from dataclasses import dataclass, field
from typing import Any

import jax

from simrl.learners import curricula, exact, fused, jumping, oracles, rollouts, updates
from simrl.learners.advantages import Affine
from simrl.learners.surrogates import Score
from simrl.learners.updates import Learning, Optimizer
from simrl.records import readable
from simrl.types import (
    Array,
    Environment,
    Info,
    Learner,
    Params,
    Policy,
    Rollout,
    State,
    Task,
)


@readable
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PolicyGradient:
    """Each update: `num_groups` prompts, `group_size` answers to each, one optimiser step.

    Attributes:
        advantage: how the rewards of a group become weights. A name: none (reinforce), batch_mean
            (dr_grpo), leave_one_out (rloo), group_normalised (grpo), group_normalised_sample,
            constant, running_mean, maxrl, maxrl_centred, pass_at_k, pass_at_k_leave_one_out,
            minimum_variance, score_minimum_variance, natural_minimum_variance, expected_reward;
            None for none; or an object: `Affine`, `Constant`, `Grouped`, `Oracle`,
            `simrl.Advantage` or a function (batch_size, length) -> one.
        group_size: B, answers to each prompt.
        num_groups: G, prompts of an update.
        optimizer: an `Optimizer`, or its name; SGD at rate 8, .25 for each of 32 samples.
        surrogate: what is climbed: "score" (the weighted score), "natural", "ppo", "penalised", a
            `PPO` or `Penalised`, or a `simrl.Surrogate` of your own.
        curriculum: which prompts are drawn: "uniform" (as the environment gives them), "band",
            "oracle_band", or a `Band`.
    """

    advantage: Any = field(default_factory=lambda: Affine(1.0, 1.0))
    group_size: int = field(default=32, metadata={"static": True})
    num_groups: int = field(default=1, metadata={"static": True})
    optimizer: Optimizer = field(default_factory=updates.reward_optimizer)
    surrogate: Any = field(default_factory=Score)
    curriculum: Any = field(default_factory=curricula.Uniform)

    def problems(self) -> list[str]:
        """What is wrong with this specification, one line each."""
        found = self.optimizer.problems()
        if self.group_size < 1 or self.num_groups < 1:
            return [*found, "group_size and num_groups must be at least 1"]
        found += self.advantage.problems(self.group_size)
        return found + self.surrogate.problems() + self.curriculum.problems()

    def build(self, environment: Environment, policy: Policy) -> Learner:
        """The learner for this world and policy."""
        optimizer = self.optimizer.build()
        groups, size = batch = self.num_groups, self.group_size
        length = environment.shape.length
        advantage = oracles.serving(self.advantage, self.surrogate).build(size, length)
        belief = updates.belief(policy, length)
        surrogate = self.surrogate.build()
        statistics = exact.statistics(environment, belief) if policy.tabular else None
        lines = rollouts.bill(surrogate, policy.num_active_params)
        curriculum = self.curriculum.build(environment)
        course = curricula.course(curriculum, environment, belief, groups)

        def weighed(keys: Any, state: Learning, task: Task) -> tuple[Rollout, State, Array]:
            told = environment, policy, state.params, task, batch
            drawn = rollouts.draw(keys, *told, course.prompts(keys, state, task))
            drawn = exact.told(advantage, statistics, state, task, drawn)
            return drawn, *rollouts.weigh(advantage, state.advantage, drawn)

        def estimate(keys: Any, state: Learning, task: Task) -> Params:
            drawn, _, weights = weighed(keys, state, task)
            return rollouts.estimate(surrogate, policy, drawn, weights, state)

        def init(keys: Any) -> Learning:
            params = updates.first_params(environment, policy, keys)
            start = params if surrogate.anchored else ()
            opt_state = optimizer.init(params)
            return Learning(params, opt_state, advantage.init(), start, course.init())

        def step(keys: Any, state: Learning, task: Task) -> tuple[Learning, Info]:
            drawn, kept, weights = weighed(keys, state, task)
            # A penalty is a gradient also where the rewards leave none.
            dead = weights if surrogate.penalty is None else None
            info = updates.report(lines, drawn.prompt, drawn.answers, drawn.success, size, dead)
            known = course.update(state, drawn)
            after = rollouts.climb(optimizer, surrogate, policy, drawn, weights, known, kept)
            return after, info

        added = exact.penalty(surrogate, belief)
        known = statistics if surrogate.score else None
        moments, squared_bias = exact.moments(
            environment, advantage, known, batch, added, course.law
        )
        about = environment, policy, advantage, self.optimizer, batch
        return Learner(
            init=init,
            step=step,
            belief=belief,
            estimate=estimate,
            moments=moments,
            kind="policy_gradient",
            batch_size=groups * size,
            squared_bias=squared_bias,
            score=updates.answer_score(policy),
            ledger=lines,
            listed=policy.listed is not None,
            jump=jumping.build(environment, policy, self),
            fused=fused.policy_gradient(*about, surrogate, curriculum),
        )
