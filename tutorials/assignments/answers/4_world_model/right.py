"""Answers to all questions, written differently from those in the notebook."""

import numpy as np
import torch
from torch import nn


def normalized_changes(observations, following):
    changes = following - observations
    centred = changes - changes.sum(0) / len(changes)
    scale = (centred.square().sum(0) / (len(changes) - 1)).sqrt()
    scale = scale.masked_fill(scale == 0, 1.0)
    return centred / scale, changes.sum(0) / len(changes), scale


def window_starts(ended, k):
    last = len(ended) - k + 1
    episodes = ended.int().cumsum(0) - ended.int()  # of which episode each step is
    return (episodes[:last] == episodes[k - 1 :]).nonzero().flatten()


def open_loop(weights, start, actions):
    inner, outer = weights.split([start.shape[1], actions.shape[2]])
    rolled = start.new_empty(len(start), actions.shape[1] + 1, start.shape[1])
    rolled[:, 0] = start
    for t in range(actions.shape[1]):
        rolled[:, t + 1] = rolled[:, t] + rolled[:, t] @ inner + actions[:, t] @ outer
    return rolled[:, 1:]


def valid_prediction_time(predicted, truth, deviations):
    for t in range(truth.shape[1]):
        errors = (((predicted[:, t] - truth[:, t]) / deviations) ** 2).mean(-1)
        if (errors < 0.25).sum().item() < 0.8 * len(errors):
            return t
    return truth.shape[1]


class World(nn.Module):
    def __init__(self, inputs, changes):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4, 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU(), nn.Linear(96, 3)
        )
        self.shift, self.scale = inputs.mean(0), inputs.std(0)
        _, self.mean, self.std = normalized_changes(torch.zeros_like(changes), changes)

    def forward(self, inputs):
        return self.layers((inputs - self.shift) / self.scale)

    def next(self, states, actions):
        return states + self(torch.cat([states, actions], -1)) * self.std + self.mean


worlds, policies = [], []


def fit(observations, actions):
    inputs = torch.cat([observations[:, :-1], actions], -1).reshape(-1, 4)
    changes = observations.diff(dim=1).reshape(-1, 3)
    world = World(inputs, changes)
    targets = (changes - world.mean) / world.std
    optimizer = torch.optim.AdamW(world.parameters(), lr=4e-3, weight_decay=1e-6)
    for done in range(600):
        optimizer.param_groups[0]["lr"] = 4e-3 * (1 - done / 600)
        rows = torch.randint(len(inputs), (256,))
        optimizer.zero_grad()
        nn.functional.mse_loss(world(inputs[rows]), targets[rows]).backward()
        optimizer.step()
    worlds.append(world.requires_grad_(False))


def predict(start, actions):
    states = [start]
    for t in range(actions.shape[1]):
        states.append(worlds[-1].next(states[-1], actions[:, t]))
    return torch.stack(states[1:], 1)


def learn_to_act(observations):
    policy = nn.Sequential(nn.Linear(3, 48), nn.SiLU(), nn.Linear(48, 1), nn.Tanh())
    policies.append(policy)
    optimizer = torch.optim.Adam(policy.parameters(), lr=8e-3)
    states = observations.reshape(-1, 3)
    for _ in range(120):
        state, rewards = states[torch.randperm(len(states))[:64]], []
        for t in range(25):
            torque = 4 * policy(state)
            angle = torch.atan2(state[:, 1], state[:, 0])
            rewards.append(-(0.97**t) * (angle**2 + 0.1 * state[:, 2] ** 2).mean())
            state = worlds[-1].next(state, torque)
        optimizer.zero_grad()
        (-torch.stack(rewards).mean()).backward()
        nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()


def act(observations):
    with torch.no_grad():
        return 4 * policies[-1](observations)
