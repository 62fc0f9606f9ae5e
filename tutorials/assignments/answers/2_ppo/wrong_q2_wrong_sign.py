"""The loss makes good actions rarer."""

QUESTION, LOSES = "q2", 4.0


def policy_loss(log_probs, old_log_probs, advantages, clip_range):
    """Give the loss, a scalar, of log-probabilities and advantages, (B,)."""
    ratios = (log_probs - old_log_probs).exp()
    clipped = ratios.clamp(1 - clip_range, 1 + clip_range)
    return torch.minimum(ratios * advantages, clipped * advantages).mean()
