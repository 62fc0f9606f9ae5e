"""An end in the middle of a window is overlooked."""

QUESTION, LOSES = "q2", 1.0


def window_starts(ended, k):
    """Give the numbers of the steps, 1-d, that windows of k steps begin with; ended is (T,)."""
    starts = [t for t in range(len(ended) - k + 1) if not ended[t]]
    return torch.tensor(starts, dtype=torch.long)
