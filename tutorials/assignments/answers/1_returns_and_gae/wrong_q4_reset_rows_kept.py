"""Reset rows are learned from."""

QUESTION, LOSES = "q4", 1.0


def rows_to_learn_from(advantages, valid):
    """Give the normalised advantages, (B,), of the rows of (T, N) that are env steps."""
    kept = advantages.flatten()
    return (kept - kept.mean()) / (kept.std() + 1e-8)
