"""Answers to all questions, written differently from those in the notebook."""

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

from lightning_rl.functional import gae


def log_probs_and_entropy(logits, actions):
    policy = Categorical(logits=logits)
    return policy.log_prob(actions.flatten()), policy.entropy().mean()


def policy_loss(log_probs, old_log_probs, advantages, clip_range):
    ratios = torch.exp(log_probs - old_log_probs)
    good = torch.clamp(ratios, max=1 + clip_range)  # for A > 0
    bad = torch.clamp(ratios, min=1 - clip_range)  # for A < 0
    return -(torch.where(advantages > 0, good, bad) * advantages).sum() / len(ratios)


def value_loss(values, returns):
    return nn.functional.mse_loss(values, returns.unsqueeze(1)) / 2


def minibatches(rows, batch_size, epochs, seed):
    random = np.random.default_rng(seed)
    orders = [random.permutation(rows) for _ in range(epochs)]
    starts = range(0, rows, batch_size)
    return [torch.from_numpy(order[i : i + batch_size]) for order in orders for i in starts]


class Brain(nn.Module):
    def __init__(self):
        super().__init__()
        self.policy = nn.Sequential(
            nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2)
        )
        self.value = nn.Sequential(
            nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)
        )
        with torch.no_grad():
            self.policy[-1].weight.mul_(0.01)


brains = []


def start(seed):
    torch.manual_seed(seed)
    brain = Brain()
    brains.append((brain, torch.optim.Adam(brain.parameters(), lr=3e-3, eps=1e-5)))


def act(observations, greedy):
    with torch.no_grad():
        policy = Categorical(logits=brains[-1][0].policy(observations))
    return policy.probs.argmax(-1) if greedy else policy.sample()


def learn(rollout, progress):
    brain, optimizer = brains[-1]
    optimizer.param_groups[0]["lr"] = 3e-3 * (1 - progress)
    seen, valid, actions = rollout["observations"], rollout["valid"], rollout["actions"]
    with torch.no_grad():
        values = 20 * brain.value(seen).squeeze(-1)
        ends = rollout["terminated"], rollout["truncated"]
        advantages = gae(rollout["rewards"], values[:-1], values[1:], *ends, 0.98, 0.95, valid)[
            valid
        ]
        returns = advantages + values[:-1][valid]
        observations, actions = seen[:-1][valid], actions[valid]
        before = Categorical(logits=brain.policy(observations)).log_prob(actions)
    for chosen in minibatches(len(actions), 256, 10, int(1000 * progress)):
        after = Categorical(logits=brain.policy(observations[chosen])).log_prob(actions[chosen])
        weights = advantages[chosen]
        weights = (weights - weights.mean()) / (weights.std() + 1e-8)
        loss = policy_loss(after, before[chosen], weights, 0.2)
        loss = loss + value_loss(brain.value(observations[chosen]), returns[chosen] / 20)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(brain.parameters(), 0.5)
        optimizer.step()
