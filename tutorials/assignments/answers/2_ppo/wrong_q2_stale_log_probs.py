"""The ratio is taken without its exponential."""

QUESTION, LOSES = "q2", 3.0


def policy_loss(log_probs, old_log_probs, advantages, clip_range):
    """Give the loss, a scalar, of log-probabilities and advantages, (B,)."""
    ratios = 1 + (log_probs - old_log_probs)
    clipped = ratios.clamp(1 - clip_range, 1 + clip_range)
    return -torch.minimum(ratios * advantages, clipped * advantages).mean()
