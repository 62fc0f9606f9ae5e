"""All rows explore, or none."""

QUESTION, LOSES = "q3", 1.0


def epsilon_greedy(q, epsilon):
    """Give actions, (B,), for q (B, A)."""
    random = torch.randint(q.shape[1], (len(q),))
    return torch.where(torch.rand(1) < epsilon, random, q.argmax(1))
