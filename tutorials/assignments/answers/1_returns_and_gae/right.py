"""Answers to all questions, written differently from those in the notebook."""

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical


def discounted_returns(rewards, ended, gamma):
    columns = []
    for n in range(rewards.shape[1]):
        column, total = [], 0.0
        for reward, end in zip(
            rewards[:, n].tolist()[::-1], ended[:, n].tolist()[::-1], strict=True
        ):
            total = reward + (0.0 if end else gamma * total)
            column.append(total)
        columns.append(column[::-1])
    return torch.tensor(columns).T


def td_errors(rewards, values, next_values, terminated, gamma):
    return rewards - values + gamma * next_values.masked_fill(terminated, 0.0)


def gae(rewards, values, next_values, terminated, truncated, gamma, lambda_):
    deltas = td_errors(rewards, values, next_values, terminated, gamma)
    steps = len(rewards)
    goes_on = (~(terminated | truncated)).float()
    advantages = torch.zeros_like(rewards)
    for t in range(steps):
        weight = torch.ones_like(rewards[0])
        for k in range(t, steps):
            advantages[t] += weight * deltas[k]
            weight = weight * gamma * lambda_ * goes_on[k]
    return advantages


def rows_to_learn_from(advantages, valid):
    kept = torch.masked_select(advantages, valid)
    centred = kept - kept.sum() / kept.numel()
    return centred / (torch.sqrt(centred.square().sum() / (kept.numel() - 1)) + 1e-8)


def actor_critic_gradients(logits, values, actions, returns):
    logits, values = logits.clone().requires_grad_(), values.clone().requires_grad_()
    with torch.no_grad():
        advantages = returns.unsqueeze(1) - values
    chosen = logits.log_softmax(-1).gather(1, actions.unsqueeze(1))
    actor_loss = -(chosen * advantages).sum() / len(actions)
    critic_loss = nn.functional.mse_loss(values, returns.unsqueeze(1)) / 2
    return torch.autograd.grad(actor_loss + critic_loss, [logits, values])


class Keeper(nn.Module):
    def __init__(self):
        super().__init__()
        self.policy = nn.Linear(6, 4, bias=False)
        self.value = nn.Linear(6, 1, bias=False)


keepers = []


def start(seed):
    torch.manual_seed(seed)
    keeper = Keeper()
    keepers.append((keeper, torch.optim.Adam(keeper.parameters(), lr=0.03)))


def act(observations, greedy):
    with torch.no_grad():
        policy = Categorical(logits=keepers[-1][0].policy(observations))
    return policy.probs.argmax(-1) if greedy else policy.sample()


def learn(rollout):
    keeper, optimizer = keepers[-1]
    rewards, seen = rollout["rewards"], rollout["observations"]
    values = 80 * keeper.value(seen).squeeze(-1)
    never = torch.zeros_like(rewards, dtype=torch.bool)
    last = never.clone()
    last[-1] = True
    before, after = values[:-1].detach(), values[1:].detach()
    advantages = gae(rewards, before, after, last, never, 1.0, 0.95)
    weights = rows_to_learn_from(advantages, ~never)
    chosen = keeper.policy(seen[:-1]).log_softmax(-1)
    chosen = chosen.gather(-1, rollout["actions"].unsqueeze(-1)).flatten()
    errors = (values[:-1] - discounted_returns(rewards, last, 1.0)) / 80
    optimizer.zero_grad()
    ((errors**2).mean() / 2 - (chosen * weights).mean()).backward()
    optimizer.step()
