"""The policy with the best single return."""

QUESTION, LOSES = "q2", 1.0


def choose(trained, held_out):
    """Give the number of a policy, for returns (P, E) in weathers trained in, and held out."""
    return int(held_out.amax(1).argmax())
