"""What the guesses of an update told together where whole answers are listed; lanes last.

As simrl.measures.told, of all N = V^L answers by their numbers (simrl.listing). In shapes A of
them, because N are the lanes.
"""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from simrl import columns, columnwise, listing, prefixes
from simrl.columns import Fence
from simrl.measures import duels, messages, right_answers, told
from simrl.measures.information import Information
from simrl.measures.messages import World
from simrl.measures.sequences import Array, weighted
from simrl.types import Heard


def of_messages(heard: Heard, truth: Array, odds: Array, fence: Fence, world: World) -> Information:
    """Bits [K, N] of guesses each told what `world` tells by a verifier that never errs.

    As `simrl.measures.listed.joint_information`: answers that would cause the same messages are
    one class. Each is compared with each, because sorting many seeds takes longer.
    """
    prompts, answers = heard.prompts, heard.answers
    assert answers is not None
    law = jnp.exp(_listed(heard, truth))
    words = _packed(answers, prompts, world, fence)

    def add(mass: Array, probs: Array, *others: Array) -> Array:
        for a in range(probs.shape[1]):
            pairs = zip(words, others, strict=True)
            alike = (mine == other[:, a : a + 1] for mine, other in pairs)
            every = functools.reduce(jnp.logical_and, alike)
            mass = mass + jnp.where(every, probs[:, a : a + 1], 0)
        return mass

    law = fence(law)
    mass = columns.over_answers(add, fence.at_once, jnp.zeros_like(law), law, *words)
    # What is left by a class that is more than half is a sum of its own.
    large = mass > 0.5
    rest = columns.total(jnp.where(large, 0, law))
    log_mass = jnp.where(large, columns.log1p(-jnp.minimum(rest, 0.5))[:, None], jnp.log(mass))
    log_mass = fence(log_mass)
    code = told.numbers(truth[:, None], len(prompts), world.vocab_size)
    own = columns.pick(log_mass, code)[:, 0]
    return told.once(-columns.total(weighted(law, log_mass)), -own, prompts)


def _packed(answers: Array, prompts: Array, world: World, fence: Fence) -> list[Array]:
    """What the guesses at each prompt are told under each answer as digits of words [K, A, N]."""
    num, lanes = prompts.shape
    base, size = messages.num_messages(world), world.vocab_size**world.length
    each = int(31 // np.log2(base))
    truths = listing.decode(jnp.arange(size), world.length, world.vocab_size)
    guesses = jnp.swapaxes(answers.reshape(num, world.length, -1, lanes), 1, 2)
    guesses = guesses.reshape(-1, world.length, lanes)  # [K C, L, N]
    mine = jnp.repeat(told.same(prompts), len(guesses) // num, axis=1)  # [K, K C, N]

    def say(b: Array, word: Array) -> Array:
        hits = guesses[b] == truths[..., None]  # [A, L, N]
        message = messages.of_hits(hits, world)
        return word * base + jnp.where(mine[:, b, None], message, 0)

    words = []
    for begin in range(0, len(guesses), each):
        end = min(begin + each, len(guesses))
        none = jnp.zeros((num, size, lanes), jnp.int32)
        words.append(jax.lax.fori_loop(begin, end, say, none))
    return words


def _listed(heard: Heard, truth: Array) -> Array:
    """Log-probabilities [K, A, N] of all answers, nats."""
    law, num = heard.law, len(heard.prompts)
    tree = prefixes.tree_of(law.powers, truth, num)
    assert tree is not None  # else positions are independent, and told of as such
    return prefixes.joint(law, tree)


def _as_one(answers: Array, right: Array, world: World) -> Array:
    """Answers [K L, C, N], of the right ones [K, A, N] the first for all."""
    codes = told.numbers(answers, len(right), world.vocab_size)
    codes = jnp.where(right_answers.is_among(codes, right), right[:, :1], codes)
    symbols = [listing.symbol(codes, t, *world[:2]) for t in range(world.length)]
    return jnp.stack(symbols, axis=1).reshape(answers.shape)


def of_duels(heard: Heard, truth: Array, right: Array | None, world: World, fence: Fence) -> Array:
    """Realised bits [K, N] of the verdicts of all duels; what the world pays is not told.

    `right` [K, A, N]: the right answers by their numbers, if there are several; they are as one.
    """
    prompts, answers, num = heard.prompts, heard.answers, len(heard.prompts)
    if heard.won is None:
        return jnp.full(prompts.shape, jnp.nan)
    assert answers is not None
    won = jnp.repeat(heard.won, world.length, axis=0)  # [K L, C / 2, N]
    if right is not None:
        answers = _as_one(answers, right, world)
    pairs = answers[:, ::2], answers[:, 1::2]
    of_duel = columnwise.over_lanes(partial(duels.log_likelihood, world=world))

    def add(sums: Array, *guesses: Array) -> Array:
        apart = (jnp.swapaxes(told.by_draw(x, num), 1, 2) for x in guesses)
        return sums + columns.total(jax.vmap(jax.vmap(of_duel))(*apart))

    def realised(log_probs: Array, answer: Array, likely: Array, *right: Array) -> Array:
        answer, law = listing.code(answer, world.vocab_size), listing.joint(log_probs)
        law = listing.merged(law[None], *right)[0] if right else law
        return duels.realised_jointly(law, answer, likely)

    nothing = jnp.zeros((num, world.vocab_size**world.length, won.shape[-1]))
    guesses = jnp.where(won, *pairs), jnp.where(won, *pairs[::-1])
    found = fence(columns.over_answers(add, fence.at_once, nothing, *guesses))
    if num > 1:
        found = columns.total(jnp.where(told.same(prompts)[:, :, None], found[None], 0))
    law, tree = heard.law, prefixes.tree_of(heard.law.powers, truth, num)
    laws = told.by_draw(law.log_probs, num) if tree is None else prefixes.joint(law, tree)[:, None]
    given = [laws, told.by_draw(truth, num), found]
    given += [] if right is None else [right]
    return told.first_of_each(columns.each(columnwise.over_lanes(realised))(*given), prompts)
