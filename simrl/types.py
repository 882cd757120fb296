"""The nouns of simrl: named tuples of pure functions, and the records they pass on.

Those of an environment are in simrl.tasks, and are found here too.

Every function here is written for ONE seed and ONE sample; batches and seeds come from
`jax.vmap` outside. Letters used for shapes: B answers to one prompt, L positions of an answer,
V symbols (arms) at each position, M prompts, G prompts drawn in one update.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from simrl.tasks import Array as Array
from simrl.tasks import Environment as Environment
from simrl.tasks import Outcome as Outcome
from simrl.tasks import Prior as Prior
from simrl.tasks import Shape as Shape
from simrl.tasks import Task as Task
from simrl.tasks import Verifier as Verifier

Params = Any
State = Any


class Policy(NamedTuple):
    """A distribution over answers, on a plain pytree of arrays. The first five fields suffice.

    Attributes:
        init: key -> params.
        sample: (words [L], params, prompt) -> answer [L] int32, from L random 32-bit words, not a
            key: `simrl.keys.choose(words[t], simrl.keys.cumulative(probs))` picks a symbol.
        log_prob: (params, prompt, answer [L]) -> [L] nats, of each symbol given those before it.
        log_probs: (params, prompt, answer [L]) -> [L, V] nats, normalised, of every symbol given
            those of the answer before it. If it reads no answer, positions are independent.
        num_active_params: N of the 2N/4N FLOP convention, the parameters one token passes through.
        tabular: params are the logits [M, L, V], for which moments have a closed form.
        pretrain: (params, right answers [M, L]) -> the params to start with. None: those of `init`.
        inverts: `sample` is `simrl.keys.choose` from the softmax of a table, a word a position.
        by_prefix: params are the logits [M, R, V], with the rows of `simrl.prefixes`.
        listed: (params, prompt) -> log-probabilities [N] of all V^L answers by their numbers
            (`simrl.listing`). None: positions are independent, or else the answers are enumerated
            where V^L is at most 4,096 (`simrl.policies.dependence`).
    """

    init: Callable[[Array], Params]
    sample: Callable[[Array, Params, Array], Array]
    log_prob: Callable[[Params, Array, Array], Array]
    log_probs: Callable[[Params, Array, Array], Array]
    num_active_params: int
    tabular: bool = False
    pretrain: Callable[[Params, Array], Params] | None = None
    inverts: bool = False
    by_prefix: bool = False
    listed: Callable[[Params, Array], Array] | None = None


class TeacherForced(Policy):
    """A policy whose positions depend on each other, over more answers than can be enumerated.

    Of its distribution only the probability of a given answer is known: `log_probs` at position t
    is the law of symbol t after the symbols of that answer before it.
    """


class Rollout(NamedTuple):
    """A group of B answers to one prompt, and their rewards.

    Attributes:
        prompt: [] int32.
        answers: [B, L] int32.
        credit: [B, L] float, the reward of each position.
        success: [B] float, 1 where the whole answer is right.
        log_prob: [B, L] nats, under the policy that sampled.
        statistics: exact ScoreStatistics of the prompt, for oracle advantages alone.
    """

    prompt: Array
    answers: Array
    credit: Array
    success: Array
    log_prob: Array
    statistics: Any = None


class Advantage(NamedTuple):
    """The weights of the score terms of a group, from its rewards. The first two fields suffice.

    Attributes:
        init: () -> state, a pytree of arrays; () where nothing is remembered.
        weights: (state, rollout of one group) -> (state, weights [B, L] or [B, 1]).
        moments: (state, ScoreStatistics, B) -> exact Moments of the estimate of a whole batch.
            None: they are estimated from redraws.
        binary_moments: `moments` hold for rewards of 0 or 1 alone.
        oracle: `weights` reads the statistics of a rollout.
        baseline: ScoreStatistics -> [U], of an oracle: `weights` are credit less this.
        trailing: `weights` also takes a state and credit with lanes (seeds) on the last axis.
        tally: (state, credit [K, L], times [K, L]) -> (state, weights [K, L]), the `weights` of B
            rewards of which `times` are `credit`; lanes may stand behind.
    """

    init: Callable[[], State]
    weights: Callable[[State, Rollout], tuple[State, Array]]
    moments: Callable[[State, Any, int], Any] | None = None
    binary_moments: bool = False
    oracle: bool = False
    baseline: Callable[[Any], Array] | None = None
    trailing: bool = False
    tally: Callable[[State, Array, Array], tuple[State, Array]] | None = None


class Surrogate(NamedTuple):
    """The ascent directions of an update, one for each pass over its weighted answers.

    Attributes:
        direction: (policy, params, rollouts [G, ...], weights [G, B, L], first params) -> ascent
            direction, a pytree like params.
        num_epochs: passes over the same answers, an optimiser step each.
        score: the gradient estimate is the weighted score, whatever is made of it.
        penalty: (log-probabilities [L, V] nats, the first ones or None) -> gradient [L, V] by the
            logits of what is added to the estimate at a prompt whatever is sampled; for tables.
        on_columns: (simrl.columns.Law [L, V, N] of a prompt, weights of its answers summed by
            symbol [L, V, N], and over symbols [L, N], M, simrl.columns.Fence) -> direction
            [L, V, N] without penalties, of N lanes: what the fused engine needs.
        penalty_on_columns: (Law [L, V, N], first logits [L, V, N] or None, Fence) -> `penalty`
            [L, V, N] of N lanes.
        tabular: made for policies that are tables of logits alone.
        anchored: reads the params at the start, whose forward pass is charged.
        whole: reads every position of an answer, as it was sampled, whatever its weights.
        reweigh: (log-ratios, nats, of positions or `whole` answers; weights) -> the weights of
            later passes.
    """

    direction: Callable[[Policy, Params, Rollout, Array, Params], Params]
    num_epochs: int = 1
    score: bool = False
    penalty: Callable[[Array, Array | None], Array] | None = None
    on_columns: Callable[[Any, Array, Array, int, Any], Array] | None = None
    penalty_on_columns: Callable[[Any, Array | None, Any], Array] | None = None
    tabular: bool = False
    anchored: bool = False
    whole: bool = False
    reweigh: Callable[[Array, Array], Array] | None = None


class Curriculum(NamedTuple):
    """A distribution over the prompts of the next update.

    Attributes:
        init: () -> state.
        choose: (state, words [G]) -> prompts [G] int32.
        update: (state, prompts [G], success [G, B]) -> state.
        law: state -> [M], the probabilities by which `choose` draws.
        oracle: `choose` and `law` take the policy's exact pass rates [M] in place of the state.
        trailing: `law` and `update` also take arrays with lanes on the last axis, and `choose` is
            `simrl.keys.choose` from a table of `law`: what the fused engine needs.
    """

    init: Callable[[], State]
    choose: Callable[[State, Array], Array]
    update: Callable[[State, Array, Array], State]
    law: Callable[[State], Array]
    oracle: bool = False
    trailing: bool = False


class Info(NamedTuple):
    """Diagnostics of one update; the next update needs none of them.

    Attributes:
        prompts: [G] int32; -1: this group was not sampled after all.
        answers: [G, B, L] int32, sampled answers, or labels of a supervised learner.
        success: [G, B] float, 1 where an answer is right (labels: 1).
        num_samples: [G] uint32, labelled tokens (supervised) or trajectories (policy gradient).
        num_tokens: [G] uint32, tokens decoded or labelled.
        flops: [G, 2] uint32 words (high, low), each group's cost by the 2N/4N convention.
        dead: [G] uint32, trajectories of groups whose advantages are all 0. None: not told.
        wins: [G] float, comparisons that the first of two answers won. None: none were made.
        won: [G, B / 2] bool, which of them; answer 2i is the first of its pair.
    """

    prompts: Array
    answers: Array
    success: Array
    num_samples: Array
    num_tokens: Array
    flops: Array
    dead: Array | None = None
    wins: Array | None = None
    won: Array | None = None


class Jump(NamedTuple):
    """Updates without signal that were passed over, and the one after them, if there was time."""

    state: State  # after the live update; unchanged if there is none
    num_updates: Array  # [2] uint32 words (high, low): all of them
    num_dead: Array  # [2] uint32 words: those that changed nothing
    live: Info  # of the live update; means nothing if there is none
    dead: Info  # of one of the others, drawn from their law: it stands for all of them


@jax.tree_util.register_static
@dataclass(frozen=True)
class Entries:
    """K entries for V answers, the last for all that the others do not; static, without leaves."""

    num_entries: int
    num_answers: int

    @property
    def counts(self) -> np.ndarray:
        """How many answers each entry stands for, [K] float32."""
        rest = self.num_answers - self.num_entries + 1
        return np.append(np.ones(self.num_entries - 1), rest).astype(np.float32)


class Lumps(NamedTuple):
    """A learner's belief in a one-token world by entries, of which entry 0 is the right answer."""

    entries: Entries
    log_probs: Callable[[State], Array]  # state -> [K] nats, of ONE answer of each entry
    full: Callable[[State], Array]  # state -> [] bool: K entries do not do; the state is not right


class Heard(NamedTuple):
    """What one update of N lanes tells others: the lanes are the last axis.

    K draws of a prompt, C answers to each: G and B, or where there is one prompt 1 and G B.
    """

    prompts: Array  # [K, N] int32; -1: this draw was not made after all
    law: Any  # simrl.columns.Law [K L, V, N] of the prompts drawn, before the update
    answers: Array | None  # [K L, C, N] int32; None where they were only counted, or looked at
    success: Array  # [K, N] float: how many were right
    dead: Array  # [K, N] uint32: trajectories that left no gradient
    counts: Array | None = None  # [K L, V, N] float: how many answers had each symbol
    drawn: Array | None = None  # [K, N] uint32: groups; None: all. Others repeat their answers
    spared: Array | None = None  # [K, N] uint32: of what `Fused.relief` is; None: of nothing
    won: Array | None = None  # [K, C / 2, N] bool: as `Info.won`


class Fused(NamedTuple):
    """An update written for N lanes at once, equal to that of `step` in each of them.

    States and tasks are those of `step` with the lanes last.
    """

    logits: Callable[[State], Array]  # state -> [M L, V, N] or [M R, V, N], prompt by prompt
    step: Callable[[Any, State, Any, Task, Any, Any], tuple[State, Heard]]
    # (simrl.keys.Columns, state, simrl.columns.Law of its logits, task, simrl.columns.Fence, and
    # `told` of N lanes at once: probabilities [L, V, N], tasks and prompts [N] -> [..., N])
    charge: Callable[[], Info]  # the constants of one update; its answers and successes are empty
    told: Callable[[Array, Task, Array], Any] | None = None
    # (probabilities [L, V], task, prompt) -> what an update is told besides rewards, of ONE seed
    relief: dict[str, int] | None = None  # by counter: not charged of each that is `Heard.spared`


class Learner(NamedTuple):
    """An update rule. `keys` is a `simrl.keys.Streams` already folded with the step.

    Attributes:
        init: keys -> state.
        step: (keys, state, task) -> (state, Info), one update.
        belief: (state, prompt) -> log-probabilities [L, V] nats; [1, N] of whole answers if
            `listed`; by a `TeacherForced` policy (state, prompt, answer [L]) -> [L, V], each
            position after those before it.
        estimate: (keys, state, task) -> one sample of the gradient estimate (ascent).
        moments: (state, task) -> exact Moments of `estimate`. None: they come from redraws.
        kind: "supervised" or "policy_gradient": which column of the information table applies.
        batch_size: trajectories (labels) of one update.
        squared_bias: (state, task) -> |E estimate - gradient of the expected reward|^2 []. None:
            not known in closed form.
        score: (state, answers [M, L]) -> gradient of the mean over prompts of their log-likelihood.
        ledger: FLOPs a token by line (`simrl.measures.flops.ledger_lines`).
        jump: (keys, state, task, most [2] uint32 words) -> at most so many updates, distributed as
            those of `step`.
        discards: what `Info.dead` counts is thrown away before training.
        compares: learns which of two answers, 2i and 2i + 1 of a group, is better, not the reward.
        lumps: the belief in classes of equal answers, which the measures then read.
        fused: the same update written for N lanes (seeds) at once.
        draws: asks the environment for labels or rewards; their FLOPs are counted apart.
        has_gradient: False: nothing is redrawn, `estimate` is not called.
        has_belief: False: `belief` is a deterministic choice, and no bits are measured.
        prospect: state -> simrl.measures.best_arm.Prospect of the next sample, by the posterior.
        partial: some answers are "stopped" midway, or "begun" for the learner: what they tell has
            no closed form.
        listed: positions are not independent: the belief is by whole answers.
        proposal: (state, prompt) -> log-probabilities [1, N] of a sampled answer. None: it is
            drawn from the belief.
    """

    init: Callable[[Any], State]
    step: Callable[[Any, State, Task], tuple[State, Info]]
    belief: Callable[..., Array]
    estimate: Callable[[Any, State, Task], Params]
    moments: Callable[[State, Task], Any] | None
    kind: str
    batch_size: int
    squared_bias: Callable[[State, Task], Array] | None = None
    score: Callable[[State, Array], Params] | None = None
    ledger: dict[str, int] | None = None
    jump: Callable[[Any, State, Task, Array], Jump] | None = None
    discards: bool = False
    compares: bool = False
    lumps: Lumps | None = None
    fused: Fused | None = None
    draws: bool = True
    has_gradient: bool = True
    has_belief: bool = True
    prospect: Callable[[State], Any] | None = None
    partial: str | None = None
    listed: bool = False
    proposal: Callable[[State, Array], Array] | None = None


class Trial(NamedTuple):
    """One condition, built: everything the loop needs to train one seed."""

    environment: Environment
    policy: Policy
    learner: Learner
    measures: tuple[str, ...] = ()  # those that are asked for besides: engine.observe.ASKED
    path: str = "plain"  # the loop takes `learner.step`, "fused": `fused`, "jump": `jump`
