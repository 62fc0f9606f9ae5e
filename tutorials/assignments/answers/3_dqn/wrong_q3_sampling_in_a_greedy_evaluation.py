"""Actions are drawn from a softmax even when ε is 0."""

QUESTION, LOSES = "q3", 2.0


def epsilon_greedy(q, epsilon):
    """Give actions, (B,), for q (B, A)."""
    random = torch.randint(q.shape[1], (len(q),))
    return torch.where(
        torch.rand(len(q)) < epsilon, random, torch.distributions.Categorical(logits=q).sample()
    )
