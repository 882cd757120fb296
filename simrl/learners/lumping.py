"""Answers that no update has told apart, carried as one: jumps whose cost does not grow with V.

Plain SGD from equal logits leaves wrong answers equal until one of them bears a weight of its own:
an update moves each logit a by rate/B (sum of the weights of the guesses at a - pi_a sum of all
weights), and equal logits with equal terms stay equal. So K entries carry V answers: entry 0 is the
right answer, entries 1, 2, ... the wrong ones in the order in which updates first touched them, the
last entry all that are left. Entries not yet used are untouched answers like any other.

Untouched answers are exchangeable: which of them a guess names only matters where another guess
of the group names it too. So a guess among them is drawn as one of V - 1 - touched places, equal
places are one answer, and a new answer takes the next entry. What it is called is an independent
uniform permutation, drawn only where somebody wants to see all V answers. Both are exact in law.

Where entries run out the seed is `full` and stops; its numbers must be thrown away and the run
repeated with more entries. Every draw means the same whatever K is, so the longer run begins with
the shorter one, up to rounding: were it another run, seeds that need many entries would be selected
against.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simrl import keys
from simrl.learners import leap, updates
from simrl.learners.updates import Learning
from simrl.measures import flops, lumps
from simrl.measures.information import log_odds
from simrl.types import Array, Entries, Environment, Info, Jump, Learner, Lumps, Policy, Task

FEWEST = 64  # entries at least, where failures bear weights
GROUPS = 32  # groups of all-new guesses that the first size has entries for
GROWTH = 8  # from one size to the next


class Lumped(NamedTuple):
    """State of a learner with K entries."""

    learning: Learning  # its params [K]: the logit of one answer of each entry
    touched: Array  # [] int32: wrong answers that have borne a weight
    answer: Array  # [] int32: the right answer's symbol; known, and of use, once there is an update
    names: Array  # typed key: the symbols of the wrong answers, in the order they are touched


def sizes(vocab_size: int, failure: np.ndarray) -> tuple[int, ...]:
    """Numbers of entries to try in turn, the last of which never runs out; () if it is no gain.

    failure [B + 1]: weight of a failure by the number of successes. Where all are 0 the wrong
    answers stay one for ever.
    """
    size = len(failure) - 1
    if not np.any(np.asarray(failure)[:size]):
        return (2,) if vocab_size >= 8 else ()
    entries = max(FEWEST, 2 ** int(np.ceil(np.log2(GROUPS * size))))
    found = []
    while 4 * entries <= vocab_size:
        found.append(entries)
        entries *= GROWTH
    return (*found, vocab_size) if found else ()


def wrong_table(log_masses: Array, touched: Array) -> Array:
    """Inverse-CDF table [K] of a guess given that it is wrong: its entry, 0 if it is not touched.

    `log_masses` [K] nats. Entries that are not used yet have no weight of their own: a word picks
    the same answer whatever K is.
    """
    place = np.arange(len(log_masses))
    wrong = jax.nn.softmax(jnp.where(place == 0, -jnp.inf, log_masses))
    used = place <= touched
    untouched = jnp.sum(jnp.where(used, 0, wrong))
    return keys.cumulative(jnp.where(place == 0, untouched, jnp.where(used, wrong, 0)))


def draw_group(
    words: Array, success: Array, table: Array, touched: Array, vocab_size: int
) -> tuple[Array, Array]:
    """Guesses [B] as numbers that are equal where the answers are, and how many are new, [].

    Right and touched answers have the numbers of their entries; new ones are `touched` + 1, + 2,
    ... in the order of their first guess. words [2, B] uint32, success [B] bool, table [K] that of
    `wrong_table`.
    """
    entry = jnp.where(success, 0, jax.vmap(keys.choose, (0, None))(words[0], table))
    new = ~success & (entry == 0)
    place = keys.below(words[1], vocab_size - 1 - touched)
    code = jnp.where(new, touched + 1 + place, entry)
    earliest = jnp.argmax(code[:, None] == code, axis=1)  # the first guess at the same answer
    order = jnp.cumsum(new & (earliest == np.arange(len(success))))
    return jnp.where(new, touched + order[earliest], entry), order[-1]


def lumped(
    base: Learner, environment: Environment, policy: Policy, spec: Any, entries: int
) -> Learner:
    """`base`, built from the policy-gradient `spec` for a one-token world, with `entries` entries.

    It only jumps: `step` is that of `base`. `policy` must start uniform. Entries take the place of
    the symbols in `lumps` and in what an update reports; `belief` and `estimate` list all V.
    """
    vocab_size = environment.shape.vocab_size
    counts = Entries(entries, vocab_size).counts
    capacity = entries - 1 if counts[-1] == 1 else entries - 2
    optimizer = spec.optimizer.build()
    batch_moments = spec.advantage.build(spec.group_size, 1).moments
    estimate = base.estimate
    assert estimate is not None  # policy gradient has one

    def init(streams: Any) -> Lumped:
        logits = jnp.zeros((entries,))
        learning = Learning(logits, optimizer.init(logits), base.init(streams).advantage)
        return Lumped(learning, jnp.int32(0), jnp.int32(0), keys.fold_in(streams.start, 1))

    def log_probs(state: Lumped) -> Array:
        logits = state.learning.params
        return logits - jax.nn.logsumexp(lumps.log_masses(logits, counts))

    def moments(state: Lumped, task: Task) -> tuple[Array, Array]:
        one = lumps.score_statistics(jnp.exp(log_probs(state)), counts, 0)
        found = batch_moments(state.learning.advantage, one, spec.group_size)
        return found.trace_covariance, found.squared_norm

    def spread(state: Lumped) -> Learning:
        params = _spread(state, vocab_size)
        return Learning(params, optimizer.init(params), state.learning.advantage)

    carried = Lumps(Entries(entries, vocab_size), log_probs, lambda state: state.touched > capacity)
    return base._replace(
        init=init,
        belief=lambda state, prompt: base.belief(spread(state), prompt),
        estimate=lambda streams, state, task: estimate(streams, spread(state), task),
        moments=None if batch_moments is None else moments,
        squared_bias=None,
        score=None,
        lumps=carried,
        jump=_jump_of(environment, policy, spec, carried, optimizer),
    )


def _jump_of(
    environment: Environment, policy: Policy, spec: Any, carried: Lumps, optimizer: Any
) -> Any:
    """The learner's `jump`: a `leap` over right and wrong, then which wrong answers they are."""
    size, vocab_size = spec.group_size, environment.shape.vocab_size
    success, failure = (jnp.asarray(table, jnp.float32) for table in spec.advantage.tables(size))
    first = jnp.zeros((1,), jnp.int32)
    counts = carried.entries.counts
    lines = flops.ledger_lines(policy.num_active_params, 1, "policy_gradient")

    def info(labels: Array, weights: Array) -> Info:
        answers, weights = labels[None, :, None], weights[None, :, None]
        told = (labels == 0).astype(jnp.float32)[None]
        return updates.report(lines, first, answers, told, size, weights)

    def jump(streams: Any, state: Lumped, task: Task, most: Array) -> Jump:
        log_probs = carried.log_probs(state)
        masses = lumps.log_masses(log_probs, counts)
        odds = log_odds(masses, 0)
        chances = jax.nn.log_sigmoid(odds), jax.nn.log_sigmoid(-odds)
        told = leap.verdicts(streams, *chances, success, failure, most)
        # Both groups by one vmap: half the program to compile.
        words = keys.words(keys.fold_in(streams.sample, 3), (2, 2, size))
        right = jnp.stack([told.right, told.dead_right])
        draw = jax.vmap(draw_group, (0, 0, None, None, None))
        table = wrong_table(masses, state.touched)
        (live, dead), (new, _) = draw(words, right, table, state.touched, vocab_size)
        # A number beyond the entries bears no weight, or else the state after it is full.
        weighed = jnp.zeros(counts.shape).at[live].add(told.weights, mode="drop")
        gradient = (weighed - jnp.exp(log_probs) * jnp.sum(told.weights)) / size
        touches = jnp.any((told.weights != 0) & (live > 0))
        no_words = jnp.zeros((1,), jnp.uint32)
        return Jump(
            state=Lumped(
                updates.ascend(optimizer, state.learning, gradient, state.learning.advantage),
                state.touched + jnp.where(touches, new, 0),
                environment.label(no_words, task, first[0])[0],
                state.names,
            ),
            num_updates=leap.num_updates(told),
            num_dead=told.num_dead,
            live=info(live, told.weights),
            dead=info(dead, jnp.zeros_like(told.weights)),
        )

    return jump


def _spread(state: Lumped, vocab_size: int) -> Array:
    """Logits [1, 1, V] of all answers, by their symbols."""
    logits = state.learning.params
    entry = jnp.minimum(np.arange(1, vocab_size), len(logits) - 1)
    apart = jax.random.permutation(state.names, vocab_size - 1)  # from the right answer, less 1
    wrong = (state.answer + 1 + apart) % vocab_size
    whole = jnp.full((vocab_size,), logits[0]).at[wrong].set(logits[entry])
    return whole[None, None]
