"""Twice the loss that was asked for."""

QUESTION, LOSES = "q3", 1.0


def value_loss(values, returns):
    """Give the loss, a scalar, of values (B, 1) and returns (B,)."""
    return (values.squeeze(-1) - returns).square().mean()
