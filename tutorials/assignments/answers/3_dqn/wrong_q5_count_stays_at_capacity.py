"""The count forgets how often the ring went round."""

QUESTION, LOSES = "q5", 2.0


def remember(memory, count, rows):
    """Give (memory, count) after writing rows, (B, D), to memory, (C, D)."""
    places = (count + torch.arange(len(rows))) % len(memory)
    memory = memory.clone()
    memory[places] = rows
    return memory, min(count + len(rows), len(memory))
