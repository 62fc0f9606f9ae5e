"""Errors are not in deviations."""

QUESTION, LOSES = "q4", 1.0


def valid_prediction_time(predicted, truth, deviations):
    """Give a whole number, 0 to k, of (B, k, D) predictions and truth, and (D,) deviations."""
    errors = (predicted - truth).square().mean(-1)  # (B, k)
    enough = (errors < 0.25).float().mean(0) >= 0.8  # (k,)
    return int(enough.int().cumprod(0).sum())
