"""FLOPs by the 2N/4N convention: 2N a token forward, 4N backward (Kaplan et al. 2020, section 2.1).

N are the parameters one token passes through. A bill has lines, so that what a learner spends on
decoding, on a critic or on rollouts that teach nothing can be told apart; the lines add up:

- prefill: 2N a prompt token before its answer is decoded (0 if supervised);
- decode: 2N a token of a rollout that is learned from (0 if supervised);
- old_log_probs: 2N a token if computed again before training, as PPO and GRPO trainers do;
- training: 6N for each of them, and again for each further epoch over the same tokens;
- critic: 6N' for every token, its forward and backward pass over N' parameters;
- reference: 2N" for every token, the forward pass of a frozen policy (KL penalties, teachers);
- discarded: 2N for each token decoded and thrown away before training;
- dead: what decode and training charge for tokens whose rollouts leave no gradient, in full
  (8N, supervised 6N; 6N for tokens of their prompts, whose prefill is above), or their decode
  alone if the learner skips their backward pass.
"""

from typing import Any

import numpy as np

LINES = (
    "prefill",
    "decode",
    "old_log_probs",
    "training",
    "critic",
    "reference",
    "discarded",
    "dead",
)
_DECODE = {"supervised": 0, "policy_gradient": 2}  # FLOPs per parameter and token


def ledger(num_params: int, num_tokens: int, learner: str, **others: Any) -> int:
    """FLOPs that the 2N/4N convention charges for training on `num_tokens` tokens.

    "supervised": 6N a token (2N forward, 4N backward). "policy_gradient": 8N (2N decode before).
    Kaplan et al. 2020, section 2.1. Rollouts without signal are charged in full. `others` and
    errors: `ledger_lines`, of which this is the sum.

    Args:
      num_params: N, the parameters one token passes through.
      num_tokens: tokens labelled or decoded.
      learner: "supervised" | "policy_gradient".
    """
    return sum(ledger_lines(num_params, num_tokens, learner, **others).values())


def ledger_lines(
    num_params: int,
    num_tokens: int,
    learner: str,
    *,
    critic_params: int = 0,
    reference_params: int = 0,
    discarded_tokens: int = 0,
    dead_tokens: int = 0,
    skips_dead: bool = False,
    num_epochs: int = 1,
    prompt_tokens: int = 0,
    dead_prompt_tokens: int = 0,
    discarded_prompt_tokens: int = 0,
    recomputes_log_probs: bool = False,
) -> dict[str, Any]:
    """Returns the lines of `ledger`, FLOPs by name, all of LINES (see the top of this file).

    Prompt tokens are part of every pass but decoding. Counts may be arrays, as of a Dataset
    (`data["hit_tokens"].values`): lines are then float64.

    Args:
      num_params: N, the parameters one token passes through.
      num_tokens: tokens of the rollouts (labels) that were trained on, dead ones included.
      learner: "supervised" | "policy_gradient".
      critic_params: N', parameters of a value function.
      reference_params: N", parameters of a reference or teacher.
      discarded_tokens: tokens decoded besides.
      dead_tokens: how many of `num_tokens` are dead.
      skips_dead: the learner really does not train on dead rollouts.
      num_epochs: passes over each batch.
      prompt_tokens: of the rollouts that `num_tokens` counts.
      dead_prompt_tokens: how many of them are of dead rollouts.
      discarded_prompt_tokens: of discarded rollouts, besides; prefilled only.
      recomputes_log_probs: whether old_log_probs is charged.

    Raises:
      ValueError: another learner, or a count that is negative, not whole or impossible.

    Source: THEORY.md, section 5(a).
    """
    if learner not in _DECODE:
        raise ValueError(f"learner must be one of {', '.join(_DECODE)}, got {learner!r}")
    params, tokens = _whole("num_params", num_params), _whole("num_tokens", num_tokens)
    dead = _part("dead_tokens", dead_tokens, "num_tokens", tokens)
    prompts = _whole("prompt_tokens", prompt_tokens)
    dead_prompts = _part("dead_prompt_tokens", dead_prompt_tokens, "prompt_tokens", prompts)
    unused = _discarded("discarded_prompt_tokens", discarded_prompt_tokens, learner)
    decode, live, whole = _DECODE[learner] * params, tokens - dead, tokens + prompts
    training = 6 * params * _whole("num_epochs", num_epochs)
    return {
        "prefill": decode * (prompts + unused),
        "decode": decode * live,
        "old_log_probs": (2 * params if recomputes_log_probs else 0) * whole,
        "training": training * (live + prompts - dead_prompts),
        "critic": 6 * _whole("critic_params", critic_params) * whole,
        "reference": 2 * _whole("reference_params", reference_params) * whole,
        "discarded": decode * _discarded("discarded_tokens", discarded_tokens, learner),
        "dead": decode * dead + (0 if skips_dead else training) * (dead + dead_prompts),
    }


def _part(name: str, value: Any, of: str, whole: Any) -> Any:
    """Returns a count as `_whole` does, at most the count that it is part of."""
    part = _whole(name, value)
    if np.any(part > whole):
        raise ValueError(f"{name} must be at most {of}, got {part} of {whole}")
    return part


def _discarded(name: str, value: Any, learner: str) -> Any:
    """Returns a count as `_whole` does, of a learner that decodes."""
    count = _whole(name, value)
    if np.any(count) and not _DECODE[learner]:
        raise ValueError(f"a {learner} learner decodes nothing that it could discard")
    return count


def _whole(name: str, value: Any) -> Any:
    """A count as an int, or counts as float64, of which those that are not known are NaN."""
    known = np.asarray(value, np.float64)
    if np.any(known < 0) or np.any(np.floor(known) != known, where=~np.isnan(known)):
        raise ValueError(f"{name} must be a whole number, at least 0, got {value!r}")
    return int(value) if known.ndim == 0 and not np.isnan(known) else known
