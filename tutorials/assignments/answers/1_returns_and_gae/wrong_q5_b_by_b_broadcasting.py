"""Values (B, 1) less returns (B,) is a table of all with all."""

QUESTION, LOSES = "q5", 2.0


def actor_critic_gradients(logits, values, actions, returns):
    """Give dL/dlogits, (B, A), and dL/dvalues, (B, 1)."""
    logits, values = logits.clone().requires_grad_(), values.clone().requires_grad_()
    errors = returns - values  # (B,)
    log_probs = Categorical(logits=logits).log_prob(actions)  # (B,)
    loss = -(log_probs * errors.detach()).mean() + 0.5 * errors.square().mean()
    return torch.autograd.grad(loss, [logits, values])
