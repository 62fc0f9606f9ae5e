"""What follows n steps later is discounted once."""

QUESTION, LOSES = "q1", 2.0


def n_step_sums(rewards, ended, gamma, n):
    """Give sums, (T,), and discounts γ^k, (T,), of rewards (T,) and ended (T, bool)."""
    sums, discounts = torch.zeros_like(rewards), torch.ones_like(rewards)
    for t in range(len(rewards)):
        for k in range(t, min(t + n, len(rewards))):
            sums[t] += discounts[t] * rewards[k]
            discounts[t] *= gamma
            if ended[k]:
                break
    return sums, torch.full_like(rewards, gamma)
