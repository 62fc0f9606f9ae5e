"""Reset rows are left out, but their content moves mean and deviation."""

QUESTION, LOSES = "q4", 1.0


def rows_to_learn_from(advantages, valid):
    """Give the normalised advantages, (B,), of the rows of (T, N) that are env steps."""
    kept = advantages[valid]
    return (kept - advantages.mean()) / (advantages.std() + 1e-8)
