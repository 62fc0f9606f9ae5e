"""The actor's loss teaches the critic."""

QUESTION, LOSES = "q5", 1.0


def actor_critic_gradients(logits, values, actions, returns):
    """Give dL/dlogits, (B, A), and dL/dvalues, (B, 1)."""
    logits, values = logits.clone().requires_grad_(), values.clone().requires_grad_()
    errors = returns - values.squeeze(-1)  # (B,)
    log_probs = Categorical(logits=logits).log_prob(actions)  # (B,)
    loss = -(log_probs * errors).mean() + 0.5 * errors.square().mean()
    return torch.autograd.grad(loss, [logits, values])
