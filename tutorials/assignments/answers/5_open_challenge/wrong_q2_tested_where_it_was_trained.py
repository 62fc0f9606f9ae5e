"""The policy that does best in the weathers it was trained in."""

QUESTION, LOSES = "q2", 1.0


def choose(trained, held_out):
    """Give the number of a policy, for returns (P, E) in weathers trained in, and held out."""
    return int(trained.mean(1).argmax())
