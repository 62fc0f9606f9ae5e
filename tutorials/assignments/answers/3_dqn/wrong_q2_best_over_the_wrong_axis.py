"""The best row for each action, not the best action for each row."""

QUESTION, LOSES = "q2", 3.0


def td_targets(rewards, discounts, terminated, next_q, next_target_q):
    """Give y, (B,). `next_q` (B, A) is the network's Q(s', ·), `next_target_q` the target network's."""
    best = next_q.argmax(0, keepdim=True).expand(len(next_q), -1)[:, :1] % next_q.shape[1]  # (B, 1)
    values = next_target_q.gather(1, best).squeeze(1)
    return rewards + discounts * torch.where(terminated, 0.0, values)
