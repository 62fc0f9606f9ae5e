"""No prediction starts from a prediction."""

QUESTION, LOSES = "q3", 2.0


def open_loop(weights, start, actions):
    """Give predictions, (B, k, D), from start (B, D) and actions (B, k, A); weights (D + A, D)."""
    state, found = start, []
    for action in actions.unbind(1):
        found.append(start + torch.cat([start, action], -1) @ weights)
    return torch.stack(found, 1)
