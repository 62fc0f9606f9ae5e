"""The rewards are added as they are."""

QUESTION, LOSES = "q1", 3.0


def n_step_sums(rewards, ended, gamma, n):
    """Give sums, (T,), and discounts γ^k, (T,), of rewards (T,) and ended (T, bool)."""
    sums, discounts = torch.zeros_like(rewards), torch.ones_like(rewards)
    for t in range(len(rewards)):
        for k in range(t, min(t + n, len(rewards))):
            sums[t] += rewards[k]
            discounts[t] *= gamma
            if ended[k]:
                break
    return sums, discounts
