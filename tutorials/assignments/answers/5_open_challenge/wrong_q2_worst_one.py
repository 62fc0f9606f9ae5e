"""The policy with the lowest mean."""

QUESTION, LOSES = "q2", 2.0


def choose(trained, held_out):
    """Give the number of a policy, for returns (P, E) in weathers trained in, and held out."""
    return int(held_out.mean(1).argmin())
