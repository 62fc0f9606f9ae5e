"""The return of an episode goes on into the next one."""

QUESTION, LOSES = "q1", 2.0


def discounted_returns(rewards, ended, gamma):
    """Give G, (T, N), of rewards (T, N) and ended (T, N, bool)."""
    returns = torch.zeros_like(rewards)
    following = torch.zeros_like(rewards[0])
    for t in reversed(range(len(rewards))):
        following = rewards[t] + gamma * following
        returns[t] = following
    return returns
