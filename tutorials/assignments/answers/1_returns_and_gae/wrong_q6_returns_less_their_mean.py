"""A baseline that does not see the weather: the mean of all returns."""

QUESTION, LOSES = "q6", 4.0


agent = {}


def start(seed):
    """Make a new agent."""
    torch.manual_seed(seed)
    agent["actor"], agent["critic"] = nn.Linear(6, 4), nn.Linear(6, 1)
    parameters = [*agent["actor"].parameters(), *agent["critic"].parameters()]
    agent["optimizer"] = torch.optim.Adam(parameters, lr=3e-2)


@torch.no_grad()
def act(observations, greedy):
    """Give actions, (N,), for observations, (N, 6)."""
    logits = agent["actor"](observations)
    return logits.argmax(-1) if greedy else Categorical(logits=logits).sample()


def learn(rollout):
    """Make a step from observations (9, N, 6), actions (8, N) and rewards (8, N).

    A critic's output times 80 is a good value: then its weights are as large as the actor's.
    """
    observations = rollout["observations"][:-1]  # (8, N, 6)
    returns = rollout["rewards"].flip(0).cumsum(0).flip(0)  # (8, N)
    values = 80 * agent["critic"](observations).squeeze(-1)  # (8, N)
    advantages = (returns - returns.mean()) / (returns.std() + 1e-8)
    log_probs = Categorical(logits=agent["actor"](observations)).log_prob(rollout["actions"])
    critic_loss = 0.5 * ((returns - values) / 80).square().mean()
    loss = -(log_probs * advantages).mean() + critic_loss
    agent["optimizer"].zero_grad()
    loss.backward()
    agent["optimizer"].step()
