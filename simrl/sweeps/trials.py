"""Values that components of a user's own return for a few inputs, checked before compiling.

Shapes and dtypes have been checked before (`simrl.sweeps.contracts`). Everything here is concrete:
small programs, run once for each component.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simrl import keys, listing
from simrl.policies import dependence
from simrl.policies.dependence import MAX_ENUMERATED
from simrl.sweeps.errors import RAISED_BY_USERS, in_one_line
from simrl.types import Advantage, Array, Environment, Policy, Rollout, Shape

NUM_ANSWERS = 1024  # sampled to compare `sample` with `log_probs`
MOST_FLOATS = 2**22  # of their log-probabilities: fewer answers of larger shapes
NUM_INPUTS = 64  # words, answers
NATS = 0.02  # by which two log-probabilities may differ: far above the rounding of bfloat16
SIGMAS, COUNTS = 6.0, 12.0  # a count further off than both together: by Bernstein's inequality less
# than once in a million symbols where `sample` and `log_probs` agree


def policy_problems(policy: Policy, shape: Shape) -> list[str]:
    """Returns a line if the functions of a policy contradict each other.

    At its first parameters and at others near them: a start at zero hides what depends on what.
    """
    try:
        key = jax.random.key(0)
        first = policy.init(key)
        computed = jax.jit(partial(_answered, policy, shape))
        for params in (first, _moved(first, key)):
            problem = _contradiction(shape, *map(np.asarray, computed(params)))
            if problem is not None:
                return [problem]
    except RAISED_BY_USERS as error:
        return [f"policy fails: {in_one_line(error)}"]
    return []


def _moved(params: Any, key: Array) -> Any:
    """The parameters with noise of about a third of their size, or .1 where they are zero."""
    leaves, structure = jax.tree.flatten(params)

    def noisy(number: int, leaf: Array) -> Array:
        leaf = jnp.asarray(leaf)
        finite = jnp.where(jnp.isfinite(leaf), leaf, 0)  # a symbol may be ruled out by -inf
        size = 0.1 + 0.3 * jnp.sqrt(jnp.mean(jnp.square(finite)))
        noise = jax.random.normal(jax.random.fold_in(key, number), leaf.shape)
        return (leaf + size * noise).astype(leaf.dtype)

    return jax.tree.unflatten(structure, [noisy(i, leaf) for i, leaf in enumerate(leaves)])


def _answered(policy: Policy, shape: Shape, params: Any) -> tuple[Array, ...]:
    """Answers [n, L] to the last prompt, their `log_probs` and `log_prob`, and other `log_probs`.

    Those are [4, L, V] of the first answers: row t if the symbols from t on were others.
    """
    num_prompts, length, vocab_size = shape
    num = max(min(NUM_ANSWERS, MOST_FLOATS // (length * vocab_size)), 16)
    prompt, words = jnp.int32(num_prompts - 1), keys.words(jax.random.key(1), (num, length))
    answers = jax.vmap(policy.sample, (0, None, None))(words, params, prompt)
    over_answers = jax.vmap(policy.log_probs, (None, None, 0))
    laws = over_answers(params, prompt, answers)
    own = jax.vmap(policy.log_prob, (None, None, 0))(params, prompt, answers)
    later = jnp.arange(length)[:, None] <= jnp.arange(length)
    mixed = jnp.where(later[:, None], (answers[:4] + 1) % vocab_size, answers[:4])
    rows = jax.vmap(over_answers, (None, None, 0))(params, prompt, mixed)  # [L, 4, L, V]
    others = jnp.moveaxis(jnp.diagonal(rows, axis1=0, axis2=2), -1, 1)
    return answers, laws, own, others


def _contradiction(
    shape: Shape, answers: np.ndarray, laws: np.ndarray, own: np.ndarray, others: np.ndarray
) -> str | None:
    """The first contradiction in what a policy has `_answered`."""
    vocab_size = shape.vocab_size
    outside = answers[(answers < 0) | (answers >= vocab_size)]
    if outside.size:
        return f"policy.sample: must return symbols in 0 ... {vocab_size - 1}, got {outside[0]}"
    if np.isnan(laws).any():
        return "policy.log_probs: must be log-probabilities, got nan"
    laws = laws.astype(np.float64)
    with np.errstate(over="ignore"):
        total = np.logaddexp.reduce(laws, axis=-1)
    worst = total.flat[np.argmax(np.abs(total))]
    if not abs(worst) < NATS:
        note = "must be normalised over symbols (logsumexp 0; jax.nn.log_softmax)"
        return f"policy.log_probs: {note}, got a logsumexp of {worst:.4g}"
    of_answer = np.take_along_axis(laws, answers[..., None], axis=-1)[..., 0]
    apart = ~np.isclose(of_answer, own.astype(np.float64), rtol=0, atol=NATS)
    if apart.any():
        where = tuple(np.argwhere(apart)[0])
        note = f"got {own[where]:.4g} where log_probs has {of_answer[where]:.4g} nats"
        return f"policy.log_prob: must equal log_probs at the symbols of the answer, {note}"
    early = np.isclose(laws[:4], others, rtol=0, atol=NATS).all(axis=(0, 2))
    if not early.all():
        t = int(np.argmin(early))
        note = f"got a row {t} that changes with symbols from {t} on (shift the answer by one)"
        return f"policy.log_probs: row t must depend on the symbols before t alone, {note}"
    return _sampling_problem(answers, np.exp(laws))


def _sampling_problem(answers: np.ndarray, probs: np.ndarray) -> str | None:
    """Whether symbols come up as often as they should.

    `answers` [n, L], `probs` [n, L, V] each given the symbols before: what is counted beyond what
    is expected is a sum of martingale differences, whatever depends on what.
    """
    counts = (answers[..., None] == np.arange(probs.shape[-1])).sum(axis=0)
    expected, variance = probs.sum(axis=0), (probs * (1 - probs)).sum(axis=0)
    excess = np.abs(counts - expected) - SIGMAS * np.sqrt(variance) - COUNTS
    if excess.max() <= 0:
        return None
    t, symbol = np.unravel_index(np.argmax(excess), excess.shape)
    note = f"in {counts[t, symbol]} of {len(answers)} answers, not {expected[t, symbol]:.4g}"
    return f"policy.sample: must follow log_probs, got symbol {symbol} at position {t} {note}"


def environment_problems(environment: Environment) -> list[str]:
    """Returns a line if an environment computes a value that its contract does not allow."""
    try:
        computed = jax.jit(partial(_played, environment))
        tasks = [computed(jax.random.key(seed)) for seed in range(3)]
    except RAISED_BY_USERS as error:
        return [f"environment fails: {in_one_line(error)}"]
    values = {name: np.stack([np.asarray(task[name]) for task in tasks]) for name in tasks[0]}
    credit, success, total = values["credit"], values["success"], values["target"].sum(axis=-1)
    sure = not environment.noisy and environment.right is None and environment.verifier is None
    num_prompts, _, vocab_size = environment.shape
    verdict = np.isin(credit, (0, 1)) | (not environment.binary)
    normalised = abs(total - 1) < 1e-3
    reward = "environment.reward"
    checks = [
        _outside("environment.prompt", values["prompt"], 0, num_prompts - 1),
        _outside("environment.label", values["label"], 0, vocab_size - 1),
        _outside("environment.target", values["target"], 0, 1 + NATS),
        _unlike("environment.target: must sum to 1 at each position", total, normalised),
        _unlike(f"{reward}: credit must be finite", credit, np.isfinite(credit)),
        _unlike(f"{reward}: success must be 0 or 1", success, np.isin(success, (0, 1))),
        _unlike("environment.binary: credit must then be 0 or 1", credit, verdict),
    ]
    if sure and values["right"].max(initial=0) == 0:
        checks += [f"{reward}: success must be 1 for the likeliest symbols of target, got 0"]
    return [problem for problem in checks if problem is not None][:1]


def _played(environment: Environment, key: Array) -> dict[str, Array]:
    """Prompts, labels, targets and rewards of a task, for random and for the likeliest answers."""
    _, length, vocab_size = environment.shape
    task, words = environment.init(key), keys.words(key, (2, NUM_INPUTS, length))
    prompts = jax.vmap(environment.prompt, (0, None))(words[0, :, 0], task)
    laws = jax.vmap(environment.target, (None, 0))(task, prompts)
    guesses = (words[1] % vocab_size).astype(jnp.int32)
    right = jnp.argmax(laws, axis=-1).astype(jnp.int32)
    reward = jax.vmap(environment.reward, (0, None, 0, 0))
    paid, best = (reward(words[0], task, prompts, answers) for answers in (guesses, right))
    return {
        "prompt": prompts,
        "label": jax.vmap(environment.label, (0, None, 0))(words[0], task, prompts),
        "target": laws,
        "credit": jnp.concatenate([jnp.ravel(paid.credit), jnp.ravel(best.credit)]).astype(float),
        "success": jnp.concatenate([paid.success, best.success]).astype(float),
        "right": best.success.astype(float),
    }


def is_exact_match(environment: Environment) -> bool:
    """Returns whether a reward is 1 for the likeliest symbols of `target` and 0 for other answers.

    Every answer to every prompt of a few tasks is tried; the reward must not read its words. Then
    the channel is "exact", though the environment does not say so.
    """
    num_prompts, length, vocab_size = environment.shape
    few = num_prompts * listing.num_answers(environment.shape) <= MAX_ENUMERATED
    known = environment.right is not None or environment.noisy or environment.verifier is not None
    if not few or known or environment.channel is not None or environment.reward_law is not None:
        return False
    words = jnp.zeros(length, jnp.uint32)
    answers = listing.decode(jnp.arange(vocab_size**length), length, vocab_size)

    def reward(task: Any, prompt: Array, answer: Array, words: Array) -> Any:
        return environment.reward(words, task, prompt, answer)

    @jax.jit
    def matches(key: Array) -> Array:
        task, prompts = environment.init(key), jnp.arange(num_prompts)
        laws = jax.vmap(environment.target, (None, 0))(task, prompts)
        right = jnp.all(answers == jnp.argmax(laws, axis=-1)[:, None], axis=-1)
        over_answers = jax.vmap(reward, (None, None, 0, None))
        paid = jax.vmap(over_answers, (None, 0, None, None))(task, prompts, answers, words)
        credit = jnp.broadcast_to(paid.credit.reshape(*right.shape, -1), (*right.shape, length))
        return jnp.all(paid.success == right) & jnp.all(credit == right[..., None])

    task = jax.eval_shape(environment.init, jax.eval_shape(lambda: jax.random.key(0)))
    arguments = task, jax.ShapeDtypeStruct((), jnp.int32), answers[0]
    if dependence.reads_last(reward, *arguments, words):
        return False
    return all(bool(matches(jax.random.key(seed))) for seed in range(3))


def _outside(name: str, values: np.ndarray, low: int, high: float) -> str | None:
    note = f"{name}: must lie in {low} ... {high:.4g}"
    return _unlike(note, values, (values >= low) & (values <= high))


def _unlike(note: str, values: np.ndarray, right: np.ndarray) -> str | None:
    """What is wanted, and the first value that is not so; None if all are."""
    if right.all():
        return None
    return f"{note}, got {values.flat[np.argmin(right)]:.7g}"


def advantage_problems(advantage: Advantage, batch_size: int, length: int) -> list[str]:
    """Returns a line if weights are no numbers where all rewards are equal, as they will be."""
    if advantage.oracle:
        return []
    zeros = jnp.zeros((batch_size, length))
    answers = jnp.zeros((batch_size, length), jnp.int32)

    @jax.jit
    def weights(reward: Array) -> Array:
        rollout = Rollout(jnp.int32(0), answers, reward + zeros, reward + zeros[:, 0], zeros)
        return advantage.weights(advantage.init(), rollout)[1]

    try:
        finite = np.array([np.isfinite(weights(jnp.float32(reward))).all() for reward in (0, 1)])
    except RAISED_BY_USERS as error:
        return [f"advantage fails: {in_one_line(error)}"]
    if finite.all():
        return []
    note = "add a small number to what is divided by"
    return [f"advantage.weights: must be finite where all rewards are equal, got nan; {note}"]
