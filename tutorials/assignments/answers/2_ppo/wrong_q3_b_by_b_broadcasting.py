"""Values (B, 1) less returns (B,) is a table of all with all."""

QUESTION, LOSES = "q3", 1.0


def value_loss(values, returns):
    """Give the loss, a scalar, of values (B, 1) and returns (B,)."""
    return 0.5 * (values - returns).square().mean()
