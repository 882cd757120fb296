"""What is measured of a learner at one moment: a function of its belief, never of its algorithm.

Values are per prompt [M], so that each prompt is binned by its own pass rate. Information is in
bits per trajectory (one answer), joint information in bits per group of an update.
"""

from functools import partial

import jax
import jax.numpy as jnp

from simrl import keys
from simrl.engine import answers, asked, joint
from simrl.engine.answers import Truth as Truth
from simrl.measures import feedback, guesses, information, lumps
from simrl.types import Array, Info, State, Task, Trial, Verifier

ASKED = asked.ASKED  # measures that a spec can ask for besides those that are always there


def truth(trial: Trial, task: Task) -> Truth:
    """The right answer to every prompt: the likeliest label."""
    if trial.learner.lumps is not None:
        entries, right = trial.learner.lumps.entries, jnp.zeros((1, 1), jnp.int32)
        return Truth(right, jax.nn.one_hot(right, entries.num_entries), entries)
    if answers.are_listed(trial):
        return answers.truth(trial, task)
    prompts = jnp.arange(trial.environment.shape.num_prompts)
    laws = jax.vmap(trial.environment.target, (None, 0))(task, prompts)
    return Truth(jnp.argmax(laws, axis=-1).astype(jnp.int32), laws)


def beliefs(trial: Trial, state: State, known: Truth | None = None) -> Array:
    """Log-probabilities [M, L, V], nats; of one answer where they are lumped; [M, 1, N] listed.

    Of a `TeacherForced` policy those along the right answers, which must then be `known`.
    """
    if trial.learner.lumps is not None:
        return trial.learner.lumps.log_probs(state)[None, None]
    if answers.are_teacher_forced(trial):
        assert known is not None
        prompts = jnp.arange(trial.environment.shape.num_prompts)
        return jax.vmap(trial.learner.belief, (None, 0, 0))(state, prompts, known.answers)
    whole = whole_beliefs(trial, state)
    return answers.beliefs(trial, whole) if answers.are_listed(trial) else whole


def whole_beliefs(trial: Trial, state: State) -> Array:
    """The learner's own log-probabilities, [M, L, V] or [M, 1, N], of every answer, nats."""
    prompts = jnp.arange(trial.environment.shape.num_prompts)
    return jax.vmap(trial.learner.belief, (None, 0))(state, prompts)


def log_odds(log_probs: Array, known: Truth) -> Array:
    """Log-odds [M] of the whole answer being right, nats."""
    if known.entries is not None:
        log_probs = lumps.log_masses(log_probs, known.entries.counts)
    log_probs = answers.merged(log_probs, known)
    return jax.vmap(information.sequence_log_odds)(log_probs, known.answers)


def mean_log_odds(odds: Array) -> Array:
    """Log-odds [] of the mean over prompts of the pass rates, right at both ends."""
    if odds.shape[0] == 1:
        return odds[0]
    log_right = jax.nn.logsumexp(jax.nn.log_sigmoid(odds))
    return log_right - jax.nn.logsumexp(jax.nn.log_sigmoid(-odds))


def verifier_of(trial: Trial) -> Verifier | None:
    """The verifier that errs in what the learner is told; labels have none."""
    return None if trial.learner.kind == "supervised" else trial.environment.verifier


def channel_of(trial: Trial) -> str | None:
    """The information channel of the learner's feedback, None where it has no closed form."""
    environment = trial.environment
    unknown = trial.learner.partial or trial.learner.compares or answers.are_teacher_forced(trial)
    if environment.noisy or verifier_of(trial) is not None or unknown:
        return None
    if trial.learner.kind == "supervised":
        return "label"
    _, length, vocab_size = environment.shape
    unlisted = vocab_size**length > information.MAX_LISTED_GUESSES and length > 1
    if environment.channel == "fraction" and unlisted and not answers.are_listed(trial):
        return None
    return environment.channel


def information_form(trial: Trial) -> str | None:
    """How one sample's information is had: "closed", "noisy", "verified", "sampled", or None.

    None: not defined. "noisy", "verified": closed forms of labels whose law given the answer is
    known, and of a verifier that errs. "sampled": Monte Carlo over guesses, with standard errors at
    the log points.
    """
    environment = trial.environment
    if trial.learner.partial or answers.are_teacher_forced(trial):
        return None
    if answers.are_listed(trial):
        return answers.information_form(trial)
    if verifier_of(trial) is not None:
        _, length, vocab_size = environment.shape
        listed = length == 1 or vocab_size**length <= information.MAX_LISTED_GUESSES
        return "verified" if listed or environment.channel == "token" else "sampled"
    if not environment.noisy:
        if channel_of(trial) is not None:
            return "closed"
        unknown = environment.channel is None or trial.learner.compares
        return None if unknown else "sampled"
    if "known_channel" not in trial.measures or environment.label_channel is None:
        return None
    by_position = environment.channel in ("token", "reward_to_go")
    one_position = environment.shape.length == 1
    return (
        "noisy" if trial.learner.kind == "supervised" or by_position or one_position else "sampled"
    )


def joint_channel(trial: Trial) -> str | None:
    """How the guesses of a group add up: as whole answers, position by position, or not known."""
    channel = channel_of(trial)
    if answers.are_listed(trial):
        return answers.joint_channel(trial, channel)
    if channel in ("label", "exact") or channel is None:
        return channel
    if trial.environment.shape.length == 1:
        return "exact"
    return "token" if channel in ("token", "reward_to_go") else None


def quantities(trial: Trial) -> tuple[str, ...]:
    """The names of the real-valued phase sums of this trial, in order."""
    names = ["pass_rate"]
    if trial.learner.has_belief:
        names += [*(("nominal",) if _has_nominal(trial) else ()), "absorbed"]
    names += [*told(trial), *(("updates",) if trial.learner.discards else ())]
    if information_form(trial) is not None:
        names += ["expected", "realised"]
    if trial.environment.noisy and not answers.are_teacher_forced(trial):
        names += ["gap", "observed_pass_rate"]
        names += ["absorbed_label"] if trial.learner.kind == "supervised" else []
    elif _has_verdicts(trial):
        names += ["observed_pass_rate"]
    if trial.learner.moments is not None:
        names += ["trace_covariance", "squared_norm"]
    return tuple(dict.fromkeys(names + asked.quantities(trial)))


def _has_verdicts(trial: Trial) -> bool:
    """Whether a verifier errs, at a rate that is known of a guess."""
    by_position = trial.environment.channel == "token" and answers.are_teacher_forced(trial)
    return trial.environment.verifier is not None and not by_position


def _has_nominal(trial: Trial) -> bool:
    """Whether the essay's curve is known: of one answer alone it is where nothing else is right."""
    if not answers.are_teacher_forced(trial) or trial.learner.compares:
        return True
    sure = verifier_of(trial) is None or _has_verdicts(trial)
    return sure and not trial.environment.noisy


def told(trial: Trial) -> tuple[str, ...]:
    """The names of what is summed at every update."""
    joint = () if joint_channel(trial) is None else ("expected_update", "realised_update")
    return ("success", *joint, *asked.told(trial))


def of_state(
    trial: Trial,
    state: State,
    task: Task,
    known: Truth,
    key: Array,
    num_draws: int = 64,
    odds: Array | None = None,
) -> dict[str, Array]:
    """Measures [M] of the policy and of the learner's estimator before an update.

    `key` and `num_draws` serve what has no closed form; a name that ends in `_error` is a standard
    error over the draws. `odds` [M]: the state's `log_odds`, where they are known.
    """
    log_probs = beliefs(trial, state, known)
    odds = log_odds(log_probs, known) if odds is None else odds
    whole = log_probs
    log_probs = answers.merged(log_probs, known)
    values = {"pass_rate": jax.nn.sigmoid(odds)}
    names = quantities(trial)
    if "nominal" in names:
        values["nominal"] = _nominal(trial, log_probs, known, odds)
    if information_form(trial) is not None:
        listed = answers.are_listed(trial)
        about = partial(answers.informed, trial, state) if listed else partial(_of_one, trial, task)
        values |= about(log_probs, known, (key, num_draws))
    if "gap" in names:
        values["gap"] = jax.vmap(information.label_gap)(known.laws, log_probs)
        values["observed_pass_rate"] = _observed_pass_rate(log_probs, known)
    elif "observed_pass_rate" in names:
        values["observed_pass_rate"] = jax.nn.sigmoid(_observed_log_odds(trial, log_probs, known))
    if trial.learner.moments is not None:
        trace, norm = trial.learner.moments(state, task)
        values["trace_covariance"] = jnp.broadcast_to(trace, odds.shape)
        values["squared_norm"] = jnp.broadcast_to(norm, odds.shape)
    return values | asked.of_state(trial, state, task, (whole, odds), known)


def _of_one(
    trial: Trial, task: Task, log_probs: Array, known: Truth, draws: tuple[Array, int]
) -> dict[str, Array]:
    """Expected and realised bits [M] of one sample at each prompt, by `information_form`."""
    environment, form = trial.environment, information_form(trial)
    channel = channel_of(trial)
    if known.entries is not None:
        told = lumps.information(log_probs[0, 0], known.entries.counts, 0)
        return {name: bits[None] for name, bits in told._asdict().items()}
    if form == "closed":
        assert channel is not None
        measure = jax.vmap(lambda lp, y: information.sequence_information(lp, y, channel))
        return measure(log_probs, known.answers)._asdict()
    rates = (verifier_of(trial) or Verifier(0.0, 0.0))._asdict()
    if form == "verified":
        verdicts = "token" if environment.channel == "token" else "exact"
        verified = partial(feedback.verified_information, channel=verdicts, **rates)
        return jax.vmap(lambda *belief: verified(*belief))(log_probs, known.answers)._asdict()
    prompts = jnp.arange(log_probs.shape[0])
    laws = None
    if environment.noisy and environment.label_channel is not None:
        laws = jax.vmap(environment.label_channel, (None, 0))(task, prompts)
    if form == "noisy":
        supervised = trial.learner.kind == "supervised"
        noisy = feedback.noisy_label_information if supervised else feedback.noisy_token_information
        return jax.vmap(noisy)(log_probs, known.answers, laws)._asdict()
    key, num_draws = draws

    def sampled(
        prompt: Array, log_probs: Array, answer: Array, law: Array | None
    ) -> guesses.SampledInformation:
        own, channel = keys.fold_in(key, prompt), environment.channel or ""
        return guesses.sampled_information(
            own, log_probs, answer, channel, num_draws, confusion=law, **rates
        )

    return answers.estimated(jax.vmap(sampled)(prompts, log_probs, known.answers, laws))


def _nominal(trial: Trial, log_probs: Array, known: Truth, odds: Array) -> Array:
    """The essay's curve [M]: -log2 p of a label, h(p) of a verdict; their means if noisy."""
    if trial.learner.compares:  # a duel is won every second time: a bit for its two guesses
        return jnp.full_like(odds, 0.5)
    if verifier_of(trial) is not None:
        odds = _observed_log_odds(trial, log_probs, known)
    if not trial.environment.noisy:
        return information.nominal_information(odds, trial.learner.kind)
    if trial.learner.kind == "supervised":
        return -jnp.sum(known.laws * log_probs, axis=(1, 2)) / jnp.log(2.0)
    return information.binary_entropy(_observed_pass_rate(log_probs, known))


def _observed_pass_rate(log_probs: Array, known: Truth) -> Array:
    """Chance [M] that a guess agrees with a fresh label at every position."""
    return jnp.prod(jnp.sum(jnp.exp(log_probs) * known.laws, axis=-1), axis=-1)


def _observed_log_odds(trial: Trial, log_probs: Array, known: Truth) -> Array:
    """Log-odds [M] that a verifier that errs passes a guess, or all its positions, nats."""
    rates = trial.environment.verifier or ()
    if trial.environment.channel != "token":
        return feedback.observed_log_odds(log_odds(log_probs, known), *rates)
    if answers.are_listed(trial):
        return answers.observed_log_odds(trial, log_probs, known)
    by_position = information.log_odds(log_probs, known.answers)
    seen = feedback.observed_log_odds(by_position, *rates)
    return jax.vmap(information.joint_log_odds)(seen)


def full(trial: Trial, state: State) -> Array:
    """Whether [] a state has run out of entries: its seed stops, to be run again with more."""
    return jnp.bool_(False) if trial.learner.lumps is None else trial.learner.lumps.full(state)


def absorbed(odds_before: Array, odds_after: Array) -> Array:
    """Bits [M] gained about the right answer between two beliefs, from its log-odds [M] in nats.

    Through the log-odds, because a float32 log-probability near 0 has lost its digits.
    """
    gain = jax.nn.log_sigmoid(odds_after) - jax.nn.log_sigmoid(odds_before)
    return gain / jnp.log(2.0)


def label_score(log_probs: Array, known: Truth) -> Array:
    """Expected log-probability [M] of labels drawn from their law, nats.

    What is absorbed about them between two beliefs is its difference.
    """
    return jnp.sum(known.laws * log_probs, axis=(1, 2))


def of_update(trial: Trial, log_probs: Array, known: Truth, info: Info) -> dict[str, Array]:
    """Joint information of what an update was told [M], and its number of right guesses [M].

    For each prompt, over all guesses (labels) at it in the update: repeats tell nothing new.
    """
    made, belief = info.answers, log_probs
    if answers.are_listed(trial):
        log_probs = answers.merged(log_probs, known)
        made = answers.guessed(trial, known, info.prompts, made)
    guesses = made.reshape(-1, made.shape[-1])  # [N, L]
    size = info.answers.shape[1]
    prompts = jnp.arange(log_probs.shape[0])
    mine = jnp.repeat(info.prompts, size) == prompts[:, None]  # [M, N]
    values = {"success": jnp.sum(jnp.where(mine, info.success.reshape(-1), 0), axis=1)}
    channel = joint_channel(trial)
    if channel is not None:
        # Repeats are found once for all prompts: a guess is the same only at the same prompt.
        owners = jnp.repeat(info.prompts, size)
        world = answers.world_of(trial) if answers.are_listed(trial) else None
        told_of = joint.measure_of(channel, len(prompts), known.entries, world)
        measure = jax.vmap(told_of, (0, 0, None, None, 0))
        found = measure(log_probs, known.answers, guesses, owners, mine)
        values["expected_update"], values["realised_update"] = found
    groups = info.prompts == prompts[:, None]  # [M, G]
    return values | asked.of_update(trial, belief, known, info, groups)
