"""n + 1 rewards are added."""

QUESTION, LOSES = "q1", 3.0


def n_step_sums(rewards, ended, gamma, n):
    """Give sums, (T,), and discounts γ^k, (T,), of rewards (T,) and ended (T, bool)."""
    sums, discounts = torch.zeros_like(rewards), torch.ones_like(rewards)
    for t in range(len(rewards)):
        for k in range(t, min(t + n + 1, len(rewards))):
            sums[t] += discounts[t] * rewards[k]
            discounts[t] *= gamma
            if ended[k]:
                break
    return sums, discounts
