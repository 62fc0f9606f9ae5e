"""A NaN behind the end gets through, as 0 times NaN is NaN."""

QUESTION, LOSES = "q2", 1.0


def td_errors(rewards, values, next_values, terminated, gamma):
    """Give δ, (T, N). All arrays are (T, N); next_values is V of the state that followed."""
    bootstrap = next_values * (~terminated)
    return rewards + gamma * bootstrap - values
