"""The step that ends an episode is left out."""

QUESTION, LOSES = "q1", 3.0


def worth(rewards, ended):
    """Give a number for rewards (T, N) and ended (T, N, bool)."""
    before = ended.int().cumsum(0)  # episodes that ended before this step
    return (rewards * (before == 0)).sum(0).mean()
