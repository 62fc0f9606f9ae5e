"""What does not fit at the end is written to the start."""

QUESTION, LOSES = "q5", 2.0


def remember(memory, count, rows):
    """Give (memory, count) after writing rows, (B, D), to memory, (C, D)."""
    places = torch.arange(len(rows)) + (count if count + len(rows) <= len(memory) else 0)
    memory = memory.clone()
    memory[places] = rows
    return memory, count + len(rows)
