"""A pass leaves out the rows that fill no whole minibatch."""

QUESTION, LOSES = "q4", 2.0


def minibatches(rows, batch_size, epochs, seed):
    """Give a list of 1-d tensors of row numbers; the same seed gives the same ones."""
    random = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(epochs):
        found += [
            p
            for p in torch.randperm(rows, generator=random).split(batch_size)
            if len(p) == batch_size
        ]
    return found
