"""The change is not added."""

QUESTION, LOSES = "q3", 3.0


def open_loop(weights, start, actions):
    """Give predictions, (B, k, D), from start (B, D) and actions (B, k, A); weights (D + A, D)."""
    state, found = start, []
    for action in actions.unbind(1):
        state = torch.cat([state, action], -1) @ weights
        found.append(state)
    return torch.stack(found, 1)
