"""The nouns of simrl: named tuples of pure functions, and the records they pass on.

Every function here is written for ONE seed and ONE sample; batches and seeds come from
`jax.vmap` outside. Letters used for shapes: B answers to one prompt, L positions of an answer,
V symbols (arms) at each position, M prompts, G prompts drawn in one update.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

Array = jax.Array
Params = Any
State = Any
Task = Any


class Shape(NamedTuple):
    """How large a world is. Static: it fixes the shapes of every array."""

    num_prompts: int
    length: int
    vocab_size: int


class Outcome(NamedTuple):
    """What a verifier says of one answer."""

    credit: Array  # [L] float: the reward given to each position (an outcome reward is broadcast)
    success: Array  # [] float, 0 or 1: the whole answer is right


class Verifier(NamedTuple):
    """How often the verifier of a 0/1 reward errs, independently each time; the sum is below 1."""

    false_positive: Array | float  # [] alpha: probability that what is wrong passes
    false_negative: Array | float  # [] beta: probability that what is right does not


class Prior(NamedTuple):
    """What is known of the arms of a bandit beforehand: their means are drawn alike, each alone.

    "normal": means N(mean, spread^2), rewards N(mean of the arm, noise^2). "beta": means
    Beta(right, wrong), rewards 0 or 1.
    """

    family: str
    mean: Array | float = 0.0
    spread: Array | float = 1.0
    noise: Array | float = 1.0
    right: Array | float = 1.0
    wrong: Array | float = 1.0


class Environment(NamedTuple):
    """A world: a task drawn once per seed, then prompts, labels and rewards.

    `words` are 32-bit random words, drawn once for a whole batch (a key per sample is 3 to 5 times
    slower); `simrl.keys.uniform` and `simrl.keys.normal` turn them into numbers.
    """

    init: Callable[[Array], Task]  # key -> task
    prompt: Callable[[Array, Task], Array]  # (word [], task) -> prompt [] int32
    label: Callable[[Array, Task, Array], Array]  # (words [L], task, prompt) -> answer [L] int32
    reward: Callable[[Array, Task, Array, Array], Outcome]  # (words [L], task, prompt, answer [L])
    target: Callable[[Task, Array], Array]  # (task, prompt) -> label law [L, V]
    shape: Shape
    channel: str | None = None  # what the reward tells: a key of measures.information.CHANNELS
    noisy: bool = False  # labels are drawn from `target`, not fixed by it
    reward_law: Callable[[Task, Array], tuple[Array, Array]] | None = None
    # (task, prompt) -> mean [V] and variance [V] of the reward of each arm; one-token worlds only
    label_channel: Callable[[Task, Array], Array] | None = None
    # (task, prompt) -> law [L, V, V] of a label at each position, given each possible truth
    binary: bool = False  # every credited reward is 0 or 1
    matching: bool = False  # every position is paid 1 for the symbol of `label`, else 0; no luck
    verifier: Verifier | None = None  # whose word the 0/1 reward is; None: it never errs
    trailing: bool = False
    # `label` and `reward` work along the first axis alone, so that words, answers [L, B, N] and
    # tasks [..., 1, N] may have more axes behind it: what the fused path asks for
    right: Callable[[Task, Array], Array] | None = None
    # (task, prompt) -> the right answers [A, L] where there are several; `exact` rewards alone
    by_prompt: bool = False
    # every leaf of a task has the prompts on its first axis, and `label` and `reward`, and the laws
    # of both, read the row of theirs alone: what the fused path asks for where there are several
    prior: Prior | None = None  # of the arms, where counting pulls tells all that is told of them
    allowed: Callable[[Task, Array], Array] | None = None
    # (task, prompt) -> [L, V] bool: symbols that the prompt does not rule out; for tables of logits
    prompt_law: Callable[[Task], Array] | None = None  # task -> [M], of the prompts; None: uniform


class Policy(NamedTuple):
    """A distribution over answers, on a plain pytree of parameters."""

    init: Callable[[Array], Params]  # key -> params
    sample: Callable[[Array, Params, Array], Array]  # (words [L], params, prompt) -> answer [L]
    log_prob: Callable[[Params, Array, Array], Array]  # (params, prompt, answer [L]) -> [L] nats
    log_probs: Callable[[Params, Array, Array], Array]  # (params, prompt, answer [L]) -> [L, V]
    num_active_params: int  # parameters one token passes through: the N of the 2N/4N ledger
    tabular: bool = False  # parameters are the logits [M, L, V]: closed-form moments apply
    pretrain: Callable[[Params, Array], Params] | None = None
    # (params, right answers [M, L]) -> params to start with; None: those of `init`
    inverts: bool = False  # and `sample` is `keys.choose` from their softmax, a word a position
    by_prefix: bool = False  # parameters are the logits [M, R, V], rows as simrl.prefixes has them
    listed: Callable[[Params, Array], Array] | None = None
    # (params, prompt) -> log-probabilities [N] of all V^L answers by their numbers (simrl.listing);
    # None: positions are independent, and one `log_probs` tells all


class TeacherForced(Policy):
    """A policy whose positions depend on each other, over more answers than can be enumerated.

    Of its distribution only the probability of a given answer is known: `log_probs` at position t
    is the law of symbol t after the symbols of that answer before it.
    """


class Rollout(NamedTuple):
    """What one group of B answers to one prompt has produced."""

    prompt: Array  # [] int32
    answers: Array  # [B, L] int32
    credit: Array  # [B, L] float
    success: Array  # [B] float
    log_prob: Array  # [B, L] nats, under the policy that sampled
    statistics: Any = None  # exact ScoreStatistics of the prompt, for advantages that are told them


class Advantage(NamedTuple):
    """How rewards become weights of score terms."""

    init: Callable[[], State]  # () -> state
    weights: Callable[[State, Rollout], tuple[State, Array]]  # -> (state, weights [B, L])
    moments: Callable[[State, Any, int], Any] | None = None
    # (state, ScoreStatistics, B) -> exact Moments of the whole batch estimator; None: use redraws
    binary_moments: bool = False  # `moments` hold for rewards of 0 or 1 alone
    oracle: bool = False  # `weights` reads the statistics of a rollout
    baseline: Callable[[Any], Array] | None = None
    # ScoreStatistics -> [U]: `weights` are credit less this, whatever else; asked of an oracle
    trailing: bool = False  # `weights` also takes a state and credit with lanes on the last axis
    tally: Callable[[State, Array, Array], tuple[State, Array]] | None = None
    # (state, credit [K, L], times [K, L]) -> (state, weights [K, L]): `weights` of B rewards of
    # which `times` are `credit`; lanes may stand behind


class Surrogate(NamedTuple):
    """How weighted guesses become the directions of an update, one for each pass over them."""

    direction: Callable[[Policy, Params, Rollout, Array, Params], Params]
    # (policy, params, rollouts [G, ...], weights [G, B, L], first params) -> ascent direction
    num_epochs: int = 1  # passes over the same guesses, an optimiser step each
    score: bool = False  # the gradient estimate is the weighted score, whatever is made of it
    penalty: Callable[[Array, Array | None], Array] | None = None
    # (log-probabilities [L, V] nats, the first ones or None) -> gradient [L, V] by the logits of
    # what is added to the estimate at a prompt whatever is guessed; tables of logits
    on_columns: Callable[[Any, Array, Array, int, Any], Array] | None = None
    # (simrl.columns.Law [L, V, N] of a prompt drawn, weights of its guesses summed by symbol
    # [L, V, N], the same of all symbols [L, N], M, simrl.columns.Fence) -> direction [L, V, N] but
    # for penalties, of N lanes: what the fused path asks for
    penalty_on_columns: Callable[[Any, Array | None, Any], Array] | None = None
    # (Law [L, V, N], first logits [L, V, N] or None, Fence) -> `penalty` [L, V, N] of N lanes
    tabular: bool = False  # made for policies that are tables of logits alone
    anchored: bool = False  # reads the params at the start, whose forward pass is charged
    whole: bool = False  # reads every position of an answer, as it was drawn, whatever its weights
    reweigh: Callable[[Array, Array], Array] | None = None
    # (log-ratios, nats, of positions or `whole` answers; weights) -> those of later passes


class Curriculum(NamedTuple):
    """Which prompts an update draws."""

    init: Callable[[], State]  # () -> state
    choose: Callable[[State, Array], Array]  # (state, words [G]) -> prompts [G] int32
    update: Callable[[State, Array, Array], State]  # (state, prompts [G], success [G, B]) -> state
    law: Callable[[State], Array]  # state -> probabilities [M] by which `choose` draws
    oracle: bool = False  # `choose` and `law` are given the policy's exact pass rates [M] instead
    trailing: bool = False
    # `law` and `update` also take arrays with lanes on the last axis, and `choose` is `keys.choose`
    # from a table of `law`: what the fused path asks for


class Info(NamedTuple):
    """What one update lets others look at."""

    prompts: Array  # [G] int32: the prompts drawn; -1: this group was not drawn after all
    answers: Array  # [G, B, L] int32: guesses, or labels (supervised alone has no guesses)
    success: Array  # [G, B] float: guesses that were right (labels: 1)
    num_samples: Array  # [G] uint32: labelled tokens (supervised), trajectories (policy gradient)
    num_tokens: Array  # [G] uint32: tokens decoded or labelled
    flops: Array  # [G, 2] uint32 words (high, low): each group's charge by the 2N/4N convention
    dead: Array | None = None  # [G] uint32: trajectories that left no gradient; None: not told
    wins: Array | None = None  # [G] float: duels that the first of two guesses won; None: no duels
    won: Array | None = None  # [G, B / 2] bool: which of them; guess 2i is the first of its duel


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
    """An update rule. `keys` is a `simrl.keys.Streams` already folded with the step."""

    init: Callable[[Any], State]  # keys -> state
    step: Callable[[Any, State, Task], tuple[State, Info]]
    belief: Callable[..., Array]
    # (state, prompt) -> log-probabilities [L, V], nats; [1, N] of whole answers if `listed`; by a
    # `TeacherForced` policy (state, prompt, answer [L]) -> [L, V], each position after those before
    estimate: Callable[[Any, State, Task], Params]  # one draw of the gradient estimate (ascent)
    moments: Callable[[State, Task], Any] | None  # exact Moments of `estimate`; None: use redraws
    kind: str  # "supervised" | "policy_gradient": which column of the information table applies
    batch_size: int  # trajectories (labels) in one update
    squared_bias: Callable[[State, Task], Array] | None = None
    # |E estimate - gradient of the expected reward|^2 []; None: not known in closed form
    score: Callable[[State, Array], Params] | None = None
    # (state, answers [M, L]) -> gradient of the mean over prompts of their log-likelihood
    ledger: dict[str, int] | None = None  # FLOPs a token by line (measures.flops.ledger_lines)
    jump: Callable[[Any, State, Task, Array], Jump] | None = None
    # (keys, state, task, most [2] uint32 words) -> at most so many updates, in law those of `step`
    discards: bool = False  # what `Info.dead` counts is thrown away before training
    compares: bool = False
    # it is told which of two guesses, 2i and 2i + 1 of a group, is better, not what the world pays
    lumps: Lumps | None = None  # the measures read these instead of `belief`, where there are any
    fused: Fused | None = None
    draws: bool = True  # asks the world for labels or rewards; what it answers is told apart
    has_gradient: bool = True  # False: nothing is redrawn, `estimate` is not asked
    has_belief: bool = True  # False: `belief` is a choice that is certain, and no bits are told
    prospect: Callable[[State], Any] | None = None
    # state -> simrl.measures.best_arm.Prospect of the next sample, by the learner's own posterior
    partial: bool = False
    # some guesses are stopped midway, or begun for the learner: what they tell has no closed form
    listed: bool = False  # positions are not independent: the belief is by whole answers
    proposal: Callable[[State, Array], Array] | None = None
    # (state, prompt) -> log-probabilities [1, N] of a guess; None: it is drawn from the belief


class Trial(NamedTuple):
    """One condition, built: everything the loop needs to train one seed."""

    environment: Environment
    policy: Policy
    learner: Learner
    measures: tuple[str, ...] = ()  # those that are asked for besides: engine.observe.ASKED
    path: str = "plain"  # the loop takes `learner.step`, "fused": `fused`, "jump": `jump`
