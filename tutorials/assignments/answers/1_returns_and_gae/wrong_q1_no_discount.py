"""Later rewards count as much as near ones."""

QUESTION, LOSES = "q1", 3.0


def discounted_returns(rewards, ended, gamma):
    """Give G, (T, N), of rewards (T, N) and ended (T, N, bool)."""
    returns = torch.zeros_like(rewards)
    following = torch.zeros_like(rewards[0])
    for t in reversed(range(len(rewards))):
        following = rewards[t] + torch.where(ended[t], 0.0, following)
        returns[t] = following
    return returns
