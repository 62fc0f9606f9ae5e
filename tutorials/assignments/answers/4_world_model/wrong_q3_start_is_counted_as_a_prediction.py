"""The first prediction is the start itself."""

QUESTION, LOSES = "q3", 3.0


def open_loop(weights, start, actions):
    """Give predictions, (B, k, D), from start (B, D) and actions (B, k, A); weights (D + A, D)."""
    state, found = start, []
    for action in actions.unbind(1):
        found.append(state)
        state = state + torch.cat([state, action], -1) @ weights
    return torch.stack(found, 1)
