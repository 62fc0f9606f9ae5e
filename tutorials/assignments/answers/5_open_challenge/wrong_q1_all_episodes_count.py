"""Rewards after the first end are counted, too."""

QUESTION, LOSES = "q1", 1.0


def worth(rewards, ended):
    """Give a number for rewards (T, N) and ended (T, N, bool)."""
    before = ended.int().cumsum(0) - ended.int()  # episodes that ended before this step
    return rewards.sum(0).mean()
