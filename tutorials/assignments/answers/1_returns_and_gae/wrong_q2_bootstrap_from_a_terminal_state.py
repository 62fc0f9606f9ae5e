"""The value after a real end is counted."""

QUESTION, LOSES = "q2", 2.0


def td_errors(rewards, values, next_values, terminated, gamma):
    """Give δ, (T, N). All arrays are (T, N); next_values is V of the state that followed."""
    bootstrap = next_values
    return rewards + gamma * bootstrap - values
