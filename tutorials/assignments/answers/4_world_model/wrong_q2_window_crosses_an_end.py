"""Windows go on into the next episode."""

QUESTION, LOSES = "q2", 2.0


def window_starts(ended, k):
    """Give the numbers of the steps, 1-d, that windows of k steps begin with; ended is (T,)."""
    starts = [t for t in range(len(ended) - k + 1) if True]
    return torch.tensor(starts, dtype=torch.long)
