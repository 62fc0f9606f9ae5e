"""Each step is learned from once, and forgotten."""

QUESTION, LOSES = "q6", 4.0


agent = {}


def start(seed):
    """Make a new agent."""
    torch.manual_seed(seed)
    for name in ("network", "target"):
        agent[name] = nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 3))
    agent["target"].load_state_dict(agent["network"].state_dict())
    agent["optimizer"] = torch.optim.Adam(agent["network"].parameters(), lr=2e-3)
    agent["memory"], agent["steps"] = [], 0


@torch.no_grad()
def act(observations, epsilon):
    """Give actions, (N,), for observations, (N, 30)."""
    best = agent["network"](observations).argmax(1)
    random = torch.randint(3, (len(best),))
    return torch.where(torch.rand(len(best)) < epsilon, random, best)


def learn(observations, actions, rewards, following, terminated):
    """Learn after a step: observations (4, 30) and those that followed, the others (4,)."""
    with torch.no_grad():
        best = agent["network"](following).argmax(1, keepdim=True)
        values = agent["target"](following).gather(1, best).squeeze(1)
        targets = rewards + 0.95 * torch.where(terminated, 0.0, values)
    values = agent["network"](observations).gather(1, actions.unsqueeze(1)).squeeze(1)
    loss = (values - targets).square().mean()
    agent["optimizer"].zero_grad()
    loss.backward()
    agent["optimizer"].step()
    agent["steps"] += 1
    if agent["steps"] % 100 == 0:
        agent["target"].load_state_dict(agent["network"].state_dict())
