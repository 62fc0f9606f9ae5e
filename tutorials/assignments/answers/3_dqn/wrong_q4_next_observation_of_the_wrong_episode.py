"""Rows are left out first, and the next row taken afterwards."""

QUESTION, LOSES = "q4", 2.0


def transitions(observations, actions, valid):
    """Give observations (B, D), actions (B,), next observations (B, D); actions, valid are (T, N)."""
    return observations[:-1][valid], actions[valid], observations[:-1][valid].roll(-1, 0)
