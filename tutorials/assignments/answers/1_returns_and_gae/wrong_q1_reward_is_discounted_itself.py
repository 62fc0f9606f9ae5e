"""Each reward is discounted once too often."""

QUESTION, LOSES = "q1", 3.0


def discounted_returns(rewards, ended, gamma):
    """Give G, (T, N), of rewards (T, N) and ended (T, N, bool)."""
    returns = torch.zeros_like(rewards)
    following = torch.zeros_like(rewards[0])
    for t in reversed(range(len(rewards))):
        following = gamma * (rewards[t] + torch.where(ended[t], 0.0, following))
        returns[t] = following
    return returns
