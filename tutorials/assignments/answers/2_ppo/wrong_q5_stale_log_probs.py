"""The new policy is compared with itself: the ratio is always 1."""

QUESTION, LOSES = "q5", 7.0


agent = {}


def start(seed):
    """Make a new agent."""
    torch.manual_seed(seed)
    agent["actor"] = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 2))
    agent["critic"] = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 1))
    agent["parameters"] = [*agent["actor"].parameters(), *agent["critic"].parameters()]
    agent["optimizer"] = torch.optim.Adam(agent["parameters"], lr=1e-2)
    with torch.no_grad():
        agent["actor"][-1].weight.mul_(0.1)  # begin undecided


@torch.no_grad()
def act(observations, greedy):
    """Give actions, (N,), for observations, (N, 4)."""
    logits = agent["actor"](observations)
    return logits.argmax(-1) if greedy else Categorical(logits=logits).sample()


def learn(rollout, progress):
    """Learn from a rollout: (T, N) tensors, and observations (T + 1, N, 4)."""
    agent["optimizer"].param_groups[0]["lr"] = 1e-2 * (1 - progress)
    observations, valid = rollout["observations"], rollout["valid"]
    with torch.no_grad():
        values = 20 * agent["critic"](observations).squeeze(-1)  # (T + 1, N)
        flags = rollout["terminated"], rollout["truncated"]
        advantages = gae(rollout["rewards"], values[:-1], values[1:], *flags, 0.98, 0.95, valid)
        logits = agent["actor"](observations[:-1])
        old_log_probs = Categorical(logits=logits).log_prob(rollout["actions"])
    rows = (
        observations[:-1],
        rollout["actions"],
        old_log_probs,
        advantages,
        advantages + values[:-1],
    )
    rows = [part[valid] for part in rows]  # reset rows teach nothing
    for _ in range(10):
        for chosen in torch.randperm(len(rows[0])).split(512):
            update(*(part[chosen] for part in rows))


def update(observations, actions, old_log_probs, advantages, returns):
    """Make one step from a minibatch of B rows; values are 20 times the critic's output."""
    log_probs = Categorical(logits=agent["actor"](observations)).log_prob(actions)
    ratios = (log_probs - log_probs.detach()).exp()
    clipped = ratios.clamp(0.8, 1.2)
    weights = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    errors = agent["critic"](observations).squeeze(-1) - returns / 20
    loss = -torch.minimum(ratios * weights, clipped * weights).mean() + 0.5 * errors.square().mean()
    agent["optimizer"].zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(agent["parameters"], 0.5)
    agent["optimizer"].step()
