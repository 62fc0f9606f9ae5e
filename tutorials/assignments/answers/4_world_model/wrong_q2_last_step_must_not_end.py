"""A window's last step may end no episode, either."""

QUESTION, LOSES = "q2", 3.0


def window_starts(ended, k):
    """Give the numbers of the steps, 1-d, that windows of k steps begin with; ended is (T,)."""
    starts = [t for t in range(len(ended) - k + 1) if not ended[t : t + k].any()]
    return torch.tensor(starts, dtype=torch.long)
