"""A column of actions gives every action in every state."""

QUESTION, LOSES = "q1", 1.0


def log_probs_and_entropy(logits, actions):
    """Give the log-probabilities, (B,), and the mean entropy, a scalar, in nats."""
    all_log_probs = logits - logits.logsumexp(-1, keepdim=True)  # (B, A)
    log_probs = Categorical(logits=logits).log_prob(actions)  # (B,)
    entropy = -(all_log_probs.exp() * all_log_probs).sum(-1).mean()
    return log_probs, entropy
