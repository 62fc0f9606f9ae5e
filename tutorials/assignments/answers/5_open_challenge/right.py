"""Answers to all questions, written differently from those in the notebook."""

import numpy as np
import torch


def worth(rewards, ended):
    total = 0.0
    for column, ends in zip(rewards.T, ended.T, strict=True):
        first = ends.nonzero()[0].item()
        total += column[: first + 1].sum().item()
    return total / rewards.shape[1]


def choose(trained, held_out):
    means = [returns.sum().item() for returns in held_out]
    return means.index(max(means))


def by_gradient(seed):
    """The river is made of torch: go uphill through 100 steps of it."""
    torch.manual_seed(seed)
    network = Perceptron([4, 16, 2])
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-2)
    for day in range(25):
        river = River(*weather(16, 1000 * seed + day))
        seen, total = river.reset(day), 0.0
        for _ in range(100):
            seen, rewards = river.step(network(seen).tanh())
            total = total + rewards.mean()
        optimizer.zero_grad()
        (-total).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    return network


policy = policy_text(by_gradient(1))
