"""Reset rows are stored as if they were steps."""

QUESTION, LOSES = "q4", 2.0


def transitions(observations, actions, valid):
    """Give observations (B, D), actions (B,), next observations (B, D); actions, valid are (T, N)."""
    return observations[:-1].flatten(0, 1), actions.flatten(), observations[1:].flatten(0, 1)
