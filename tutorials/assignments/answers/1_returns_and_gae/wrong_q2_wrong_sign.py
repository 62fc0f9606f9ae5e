"""Expected less got, in place of got less expected."""

QUESTION, LOSES = "q2", 3.0


def td_errors(rewards, values, next_values, terminated, gamma):
    """Give δ, (T, N). All arrays are (T, N); next_values is V of the state that followed."""
    bootstrap = torch.where(terminated, 0.0, next_values)
    return values - rewards - gamma * bootstrap
