"""The max of the target network: not double Q."""

QUESTION, LOSES = "q2", 2.0


def td_targets(rewards, discounts, terminated, next_q, next_target_q):
    """Give y, (B,). `next_q` (B, A) is the network's Q(s', ·), `next_target_q` the target network's."""
    best = next_target_q.argmax(1, keepdim=True)  # (B, 1)
    values = next_target_q.gather(1, best).squeeze(1)
    return rewards + discounts * torch.where(terminated, 0.0, values)
