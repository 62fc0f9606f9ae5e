"""A linear model of the changes."""

QUESTION, LOSES = "q5", 4.0


world = {}


def fit(observations, actions):
    """Learn from observations (N, T + 1, 3) and actions (N, T, 1)."""
    world["network"] = nn.Linear(4, 3)
    optimizer = torch.optim.Adam(world["network"].parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, 30 * 16)
    inputs = torch.cat([observations[:, :-1], actions], -1).flatten(0, 1)  # (4000, 4)
    world["input mean"], world["input std"] = inputs.mean(0), inputs.std(0)
    inputs = (inputs - world["input mean"]) / world["input std"]
    changes = (observations[:, 1:] - observations[:, :-1]).flatten(0, 1)
    world["mean"], world["std"] = changes.mean(0), changes.std(0)
    targets = (changes - world["mean"]) / world["std"]
    for _ in range(30):
        for rows in torch.randperm(len(inputs)).split(256):
            loss = (world["network"](inputs[rows]) - targets[rows]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def step(observations, actions):
    """Give the next observations, (B, 3), as the model sees them, of actions (B, 1)."""
    inputs = (torch.cat([observations, actions], -1) - world["input mean"]) / world["input std"]
    return observations + world["network"](inputs) * world["std"] + world["mean"]


@torch.no_grad()
def predict(start, actions):
    """Give predictions, (B, k, 3), from start (B, 3) and actions (B, k, 1)."""
    found = [start]
    for action in actions.unbind(1):
        found.append(step(found[-1], action))
    return torch.stack(found[1:], 1)
