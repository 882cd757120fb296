"""Tabular softmax policy, factorised over positions: one row of logits per prompt and position.

It starts `uniform`; `random`, with logits drawn from N(0, spread^2); `given`, with probabilities
`probs` of the symbols, the same at every prompt and position; or `pretrained`, at a pass rate p0
for every prompt: the right symbol of each position has p0^(1/L), the others share the rest.
"""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from simrl import keys
from simrl.records import readable
from simrl.types import Array, Policy, Shape

Starts = Literal["uniform", "random", "given", "pretrained"]
STARTS = get_args(Starts)


@readable
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Tabular:
    """Logits [M, L, V]; each start reads the number it is named by alone.

    Attributes:
        start: "uniform"; "random"; "given", with `probs`; or "pretrained", at `pass_rate`.
        spread: standard deviation of the logits of a random start, nats.
        probs: probabilities of the V symbols of a given start.
        pass_rate: probability of the right answer of a pretrained start.
    """

    start: Starts = field(default="uniform", metadata={"static": True})
    spread: float = 1.0
    probs: tuple[float, ...] = ()
    pass_rate: float = 0.5

    def problems(self, shape: Shape) -> list[str]:
        """What is wrong with this specification for worlds of this shape, one line each."""
        if self.start not in STARTS:
            return [f"start must be one of {', '.join(STARTS)}, not {self.start!r}"]
        if self.spread < 0:
            return [f"spread must not be negative, not {self.spread}"]
        if not 0 < self.pass_rate < 1:
            return [f"pass_rate must lie between 0 and 1, not {self.pass_rate}"]
        if self.start != "given":
            return [f"probs need the start given, not {self.start}"] if self.probs else []
        if len(self.probs) != shape.vocab_size:
            told = f"{shape.vocab_size} symbols, not {len(self.probs)}"
            return [f"probs must be one for each of {told}"]
        if not min(self.probs) > 0 or not math.isclose(sum(self.probs), 1, rel_tol=1e-6):
            return [f"probs must be positive and sum to 1, not {self.probs}"]
        return []

    def build(self, shape: Shape) -> Policy:
        """The policy for worlds of this shape."""
        num_prompts, length, vocab_size = shape

        def init(key: Array) -> Array:
            if self.start == "random":
                return self.spread * keys.normal(keys.words(key, shape))
            if self.start == "given":
                row = jnp.log(jnp.stack([jnp.asarray(prob, float) for prob in self.probs]))
                return jnp.broadcast_to(row, shape)
            return jnp.zeros((num_prompts, length, vocab_size))

        def pretrain(params: Array, answers: Array) -> Array:
            log_right = jnp.log(self.pass_rate) / length
            odds = log_right - jnp.log(-jnp.expm1(log_right)) + math.log(vocab_size - 1)
            return odds * jax.nn.one_hot(answers, vocab_size)

        def logits(params: Array, prompt: Array) -> Array:
            # A row is picked before the softmax, so one prompt never pays for all of them.
            return params[0] if num_prompts == 1 else params[prompt]

        def log_law(params: Array, prompt: Array) -> Array:
            return jax.nn.log_softmax(logits(params, prompt), axis=-1)

        def sample(words: Array, params: Array, prompt: Array) -> Array:
            rows = logits(params, prompt)
            powers = jnp.exp(rows - jnp.max(rows, axis=-1, keepdims=True))
            # Written as the fused path does (simrl.columns), that both pick the same symbols.
            probs = powers * (1 / jnp.sum(powers, axis=-1, keepdims=True))
            tables = jax.vmap(keys.cumulative)(probs)
            return jax.vmap(keys.choose)(words, tables)

        def log_prob(params: Array, prompt: Array, answer: Array) -> Array:
            return log_law(params, prompt)[jnp.arange(length), answer]

        def log_probs(params: Array, prompt: Array, answer: Array) -> Array:
            return log_law(params, prompt)

        return Policy(
            init,
            sample,
            log_prob,
            log_probs,
            num_active_params=vocab_size,
            tabular=True,
            inverts=True,
            pretrain=pretrain if self.start == "pretrained" else None,
        )
