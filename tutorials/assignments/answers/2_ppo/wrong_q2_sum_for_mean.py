"""The rows are added, so a larger minibatch makes a larger step."""

QUESTION, LOSES = "q2", 1.0


def policy_loss(log_probs, old_log_probs, advantages, clip_range):
    """Give the loss, a scalar, of log-probabilities and advantages, (B,)."""
    ratios = (log_probs - old_log_probs).exp()
    clipped = ratios.clamp(1 - clip_range, 1 + clip_range)
    return -torch.minimum(ratios * advantages, clipped * advantages).sum()
