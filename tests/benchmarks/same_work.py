"""Three ways to do the same work: PPO on CartPole-v1 at rl-zoo's tuned setting.

8 environments, 32 steps, minibatches of 256, 20 epochs, gamma 0.98, lambda 0.8, learning rate 1e-3
and clip range 0.2 annealed linearly, no entropy bonus, two (64, 64) tanh perceptrons.
"""

from __future__ import annotations

import tempfile

import gymnasium as gym
import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

NUM_ENVS, NUM_STEPS, EPOCHS = 8, 32, 20
GAMMA, GAE_LAMBDA, LEARNING_RATE, CLIP_RANGE = 0.98, 0.8, 1e-3, 0.2
VALUE_COEF, MAX_GRAD_NORM = 0.5, 0.5


def ours(max_env_steps: int, seed: int, **trainer_options: object) -> object:
    """Train with a default AgentTrainer: progress bar, logger and checkpoints on."""
    from lightning_rl import AgentTrainer, PPOAgent, PPOConfig

    config = PPOConfig(
        rollout_steps=NUM_ENVS * NUM_STEPS,
        batch_size=NUM_ENVS * NUM_STEPS,
        update_epochs=EPOCHS,
        learning_rate=LEARNING_RATE,
        gamma=GAMMA,
        gae_lambda=GAE_LAMBDA,
        clip_range=CLIP_RANGE,
        anneal_learning_rate=True,
        anneal_clip_range=True,
    )
    agent = PPOAgent(config=config)
    with tempfile.TemporaryDirectory() as folder:
        trainer = AgentTrainer(
            max_env_steps=max_env_steps,
            num_envs=NUM_ENVS,
            seed=seed,
            accelerator="cpu",
            default_root_dir=folder,
            **trainer_options,
        )
        trainer.fit(agent, "CartPole-v1")
    return agent


def stable_baselines3(total_timesteps: int, seed: int, callback: object = None) -> object:
    """Train with Stable-Baselines3, its own vector environment and monitor."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    model = PPO(
        "MlpPolicy",
        make_vec_env("CartPole-v1", n_envs=NUM_ENVS, seed=seed),
        n_steps=NUM_STEPS,
        batch_size=NUM_ENVS * NUM_STEPS,
        n_epochs=EPOCHS,
        gamma=GAMMA,
        gae_lambda=GAE_LAMBDA,
        learning_rate=lambda remaining: LEARNING_RATE * remaining,
        clip_range=lambda remaining: CLIP_RANGE * remaining,
        ent_coef=0.0,
        seed=seed,
        device="cpu",
    )
    return model.learn(total_timesteps, callback=callback)


class Network(nn.Module):
    """The hand-written loop's policy and value function."""

    def __init__(self) -> None:
        super().__init__()
        self.actor = nn.Sequential(*self.hidden(), self.layer(nn.Linear(64, 2), 0.01))
        self.critic = nn.Sequential(*self.hidden(), self.layer(nn.Linear(64, 1), 1.0))

    def hidden(self) -> list[nn.Module]:
        gain = 2**0.5
        first, second = self.layer(nn.Linear(4, 64), gain), self.layer(nn.Linear(64, 64), gain)
        return [first, nn.Tanh(), second, nn.Tanh()]

    @staticmethod
    def layer(linear: nn.Linear, gain: float) -> nn.Linear:
        nn.init.orthogonal_(linear.weight, gain)
        nn.init.zeros_(linear.bias)
        return linear


def hand_written(max_env_steps: int, seed: int) -> nn.Module:
    """Train with one page of PyTorch: the same maths, on the same native vector environment."""
    torch.manual_seed(seed)
    envs = gym.make_vec("CartPole-v1", num_envs=NUM_ENVS)
    network = Network()
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE, eps=1e-5)
    obs = torch.zeros(NUM_STEPS, NUM_ENVS, 4)
    actions = torch.zeros(NUM_STEPS, NUM_ENVS, dtype=torch.long)
    log_probs, rewards, values = torch.zeros(3, NUM_STEPS, NUM_ENVS)
    terminated, truncated, valid = torch.zeros(3, NUM_STEPS, NUM_ENVS, dtype=torch.bool)
    next_obs = torch.as_tensor(envs.reset(seed=seed)[0])
    next_valid = torch.ones(NUM_ENVS, dtype=torch.bool)
    env_steps, progress = 0, 0.0
    while env_steps < max_env_steps:
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - progress)
        clip = CLIP_RANGE * (1 - progress)
        for t in range(NUM_STEPS):
            obs[t], valid[t] = next_obs, next_valid
            with torch.no_grad():
                distribution = Categorical(logits=network.actor(next_obs))
                values[t] = network.critic(next_obs).flatten()
            actions[t] = distribution.sample()
            log_probs[t] = distribution.log_prob(actions[t])
            observation, reward, end, cut, _ = envs.step(actions[t].numpy())
            next_obs, rewards[t] = torch.as_tensor(observation), torch.as_tensor(reward)
            terminated[t], truncated[t] = torch.as_tensor(end), torch.as_tensor(cut)
            next_valid = ~(terminated[t] | truncated[t])
        env_steps += int(valid.sum())
        progress = min(1.0, env_steps / max_env_steps)
        with torch.no_grad():
            next_value = network.critic(next_obs).flatten()
            advantages, last = torch.zeros_like(rewards), torch.zeros(NUM_ENVS)
            for t in reversed(range(NUM_STEPS)):
                alive, going = ~terminated[t], ~(terminated[t] | truncated[t])
                delta = rewards[t] + GAMMA * next_value * alive - values[t]
                advantages[t] = last = delta + GAMMA * GAE_LAMBDA * going * last
                next_value = values[t]
            returns = advantages + values
        rows = valid.flatten().nonzero().flatten()
        batch = [x.flatten(0, 1)[rows] for x in (obs, actions, log_probs, advantages, returns)]
        for _ in range(EPOCHS):
            order = torch.randperm(len(rows))
            for chosen in order.split(NUM_ENVS * NUM_STEPS):
                b_obs, b_actions, b_log_probs, b_advantages, b_returns = (x[chosen] for x in batch)
                distribution = Categorical(logits=network.actor(b_obs))
                log_ratio = distribution.log_prob(b_actions) - b_log_probs
                ratio = log_ratio.exp()
                with torch.no_grad():
                    approx_kl = ((ratio - 1) - log_ratio).mean()
                    clip_fraction = ((ratio - 1).abs() > clip).float().mean()
                b_advantages = (b_advantages - b_advantages.mean()) / (b_advantages.std() + 1e-8)
                clipped = ratio.clamp(1 - clip, 1 + clip) * b_advantages
                policy_loss = -torch.min(ratio * b_advantages, clipped).mean()
                value_loss = 0.5 * (network.critic(b_obs).flatten() - b_returns).square().mean()
                entropy = distribution.entropy().mean()
                loss = policy_loss + VALUE_COEF * value_loss - 0.0 * entropy
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), MAX_GRAD_NORM)
                optimizer.step()
    del approx_kl, clip_fraction  # what a loop would log
    envs.close()
    return network


def greedy_returns(act: object, episodes: int = 100, seed: int = 10_000) -> np.ndarray:
    """Play greedy episodes of CartPole-v1, one in each of `episodes` environments."""
    envs = gym.make_vec("CartPole-v1", num_envs=episodes)
    observations, _ = envs.reset(seed=seed)
    returns, running = np.zeros(episodes), np.ones(episodes, dtype=bool)
    while running.any():
        observations, rewards, terminated, truncated, _ = envs.step(act(observations))
        returns += rewards * running
        running &= ~(terminated | truncated)
    envs.close()
    return returns
