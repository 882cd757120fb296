"""PyTorch over all seeds at once: torch.distributions and autograd; needs torch to be installed."""

import importlib

import numpy as np

from experiments.peers.problems import HALF, Curves, Guessing, OneToken, TenArmed

torch = importlib.import_module("torch")


def chosen(logits, answers):
    """Log-probabilities [B, ...] of answers [B, ...] under logits [..., V]."""
    log_probs = torch.log_softmax(logits, dim=-1).expand(*answers.shape, -1)
    return log_probs.gather(-1, answers[..., None])[..., 0]


def sample(logits, size: int):
    """`size` choices [B, ...] from each row of logits [..., V]."""
    return torch.distributions.Categorical(logits=logits.detach()).sample((size,))


def ascend(logits, objective, rate) -> None:
    """One step up the gradient; the seeds share nothing, so the gradient of the sum is each's."""
    (gradient,) = torch.autograd.grad(objective.sum(), logits)
    with torch.no_grad():
        logits += rate * gradient


def ten_armed(problem: TenArmed, seed: int) -> Curves:
    """Runs of all conditions on one axis."""
    torch.manual_seed(seed)
    rates, baselines = (
        torch.from_numpy(x).repeat_interleave(problem.runs) for x in problem.conditions()
    )
    means = torch.randn(len(rates), problem.num_arms)
    logits = torch.zeros_like(means, requires_grad=True)
    mean_reward, looks = torch.zeros(len(rates)), []
    for step in range(problem.looks * problem.steps):
        arm = sample(logits, 1)
        reward = means.gather(1, arm.T)[:, 0] + torch.randn(len(rates))
        earlier = reward if step == 0 else mean_reward
        ascend(logits, (reward - baselines * earlier) * chosen(logits, arm)[0], rates[:, None])
        mean_reward = mean_reward + (reward - mean_reward) / (step + 1)
        if (step + 1) % problem.steps == 0:
            probs = torch.softmax(logits.detach(), dim=1)
            best = probs.gather(1, means.argmax(dim=1, keepdim=True))[:, 0]
            looks.append((best.numpy(), (probs * means).sum(dim=1).numpy()))
    shape = (-1, problem.runs, problem.looks)
    return Curves(*(np.stack(x, axis=-1).reshape(shape) for x in zip(*looks, strict=True)))


def guessing(problem: Guessing, seed: int) -> Curves:
    """Logits [N, L, V], answers [B, N, L]."""
    torch.manual_seed(seed)
    secret = torch.randint(problem.vocab_size, (problem.seeds, problem.length))
    logits = torch.zeros(*secret.shape, problem.vocab_size, requires_grad=True)
    looks = []
    for step in range(problem.looks * problem.steps):
        answers = sample(logits, problem.batch)
        reward = (answers == secret).float()
        weights = reward - reward.mean(dim=0)
        ascend(logits, (weights * chosen(logits, answers)).mean(dim=0), problem.rate)
        if (step + 1) % problem.steps == 0:
            probs = torch.softmax(logits.detach(), dim=-1)
            right = probs.gather(-1, secret[..., None])[..., 0]
            looks.append((right.prod(dim=1).numpy(), right.mean(dim=1).numpy()))
    return Curves(*(np.stack(x, axis=-1)[None] for x in zip(*looks, strict=True)))


def one_token(problem: OneToken, seed: int) -> Curves:
    """Every guess is sampled."""
    torch.manual_seed(seed)
    logits = torch.zeros(problem.seeds, problem.vocab_size, requires_grad=True)
    guesses, looks = torch.zeros(problem.seeds), []
    for _ in problem.stretches():
        for _ in range(problem.steps):
            left = (torch.softmax(logits.detach(), dim=1)[:, 0] < HALF).float()
            answers = sample(logits, problem.group)
            weights = (answers == 0).float()
            if problem.group > 1:
                spread = weights.std(dim=0, correction=0)
                weights = (weights - weights.mean(dim=0)) / torch.where(spread > 0, spread, 1.0)
            objective = (weights * chosen(logits, answers)).mean(dim=0)
            ascend(logits, left * objective, problem.rate)
            guesses += left * problem.group
        looks.append(torch.softmax(logits.detach(), dim=1)[:, 0].numpy())
        if looks[-1].min() >= HALF:
            break
    found = np.stack(looks, axis=-1)[None]
    return Curves(found, found, np.where(found[0, :, -1] >= HALF, guesses.numpy(), np.nan))
