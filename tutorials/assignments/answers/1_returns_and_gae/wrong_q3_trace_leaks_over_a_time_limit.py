"""The trace goes on from a truncated episode into the next."""

QUESTION, LOSES = "q3", 2.0


def gae(rewards, values, next_values, terminated, truncated, gamma, lambda_):
    """Give A, (T, N). All arrays are (T, N)."""
    deltas = rewards + gamma * torch.where(terminated, 0.0, next_values) - values
    advantages, trace = torch.zeros_like(rewards), torch.zeros_like(rewards[0])
    for t in reversed(range(len(rewards))):
        stop = terminated[t]
        trace = deltas[t] + gamma * lambda_ * torch.where(stop, 0.0, trace)
        advantages[t] = trace
    return advantages
