"""Logits are used as they are, without normalising."""

QUESTION, LOSES = "q1", 3.0


def log_probs_and_entropy(logits, actions):
    """Give the log-probabilities, (B,), and the mean entropy, a scalar, in nats."""
    all_log_probs = logits  # (B, A)
    log_probs = all_log_probs.gather(1, actions.reshape(-1, 1)).squeeze(1)  # (B,)
    entropy = -(all_log_probs.exp() * all_log_probs).sum(-1).mean()
    return log_probs, entropy
