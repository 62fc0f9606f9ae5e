"""What was, less what follows."""

QUESTION, LOSES = "q1", 2.0


def normalized_changes(observations, following):
    """Give targets (B, D), means (D,) and deviations (D,) of observations (B, D) and next ones."""
    changes = observations - following
    means, deviations = changes.mean(0), changes.std(0)
    deviations = torch.where(deviations == 0, 1.0, deviations)
    return (changes - means) / deviations, means, deviations
