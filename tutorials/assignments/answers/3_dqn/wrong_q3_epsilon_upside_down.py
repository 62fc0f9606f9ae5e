"""ε is the chance of the best action."""

QUESTION, LOSES = "q3", 2.0


def epsilon_greedy(q, epsilon):
    """Give actions, (B,), for q (B, A)."""
    random = torch.randint(q.shape[1], (len(q),))
    return torch.where(torch.rand(len(q)) >= epsilon, random, q.argmax(1))
