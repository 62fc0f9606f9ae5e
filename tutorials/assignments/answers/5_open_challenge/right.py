"""Answers to all questions, written differently from those in the notebook."""

import numpy as np
import torch


def worth(rewards, ended):
    total = 0.0
    for column, ends in zip(rewards.T, ended.T, strict=True):
        first = ends.nonzero()[0].item()
        total += column[: first + 1].sum().item()
    return total / rewards.shape[1]


def choose(trained, held_out):
    means = [returns.sum().item() for returns in held_out]
    return means.index(max(means))


def by_gradient(seed):
    """The river is made of torch: go uphill through 100 steps of it."""
    torch.manual_seed(seed)
    network = Perceptron([4, 16, 2])
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-2)
    for day in range(150):
        river = River(*weather(32, 1000 * seed + day))
        seen, total = river.reset(day), 0.0
        for _ in range(100):
            seen, rewards = river.step(network(seen).tanh())
            total = total + rewards.mean()
        optimizer.zero_grad()
        (-total).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    return network


# What policy_text(by_gradient(1)) gave, elsewhere.
policy = (
    "AAAAAAAAAUkAAAAAAAADEXsiZGljdCI6IFtbInNpemVzIiwgeyJsaXN0IjogWzQsIDE2LCAyXX1dLCBbImFjdGl2YX"
    "Rpb24iLCAidGFuaCJdLCBbIndlaWdodHMiLCB7ImRpY3QiOiBbWyJsYXllcnMuMC53ZWlnaHQiLCB7InRlbnNvciI6"
    "IFsiZmxvYXQzMiIsIFsxNiwgNF0sIGZhbHNlXX1dLCBbImxheWVycy4wLmJpYXMiLCB7InRlbnNvciI6IFsiZmxvYX"
    "QzMiIsIFsxNl0sIGZhbHNlXX1dLCBbImxheWVycy4yLndlaWdodCIsIHsidGVuc29yIjogWyJmbG9hdDMyIiwgWzIs"
    "IDE2XSwgZmFsc2VdfV0sIFsibGF5ZXJzLjIuYmlhcyIsIHsidGVuc29yIjogWyJmbG9hdDMyIiwgWzJdLCBmYWxzZV"
    "19XV19XV19NrthvW981L6ZLz4/3dmuP/BDv7+ZeGQ/q9FdP1nOuL4ct5U8Mn2vvnZuFb/fTaw/QuV0vdOYCr+7F4G9"
    "eyGlP0XZFj+rRyY/LxqXvdPFbL9i9tC/CNjsvxIuLj9GuMY+3BbIvquoR72oJ8w/bTJdvxvyDT7ECpA9XfOIv8nXXD"
    "+Djuc+kRYCv+awor/32oQ/I7DKP1OZi78lySy/0k7PPiBhez9pKnw/3RMJv+68XL9YUi+/GYvtPlB0Yz88QjC/Ti1P"
    "Powm1z7+/Ju/T1O6v9miWL5gu8m+PNqvP7Htwz981Ou+WqWxviyo1D+iBVs/XoZIvxSUAz+UTrg/t04ov6yPfb0gij"
    "Q5P/MHvdivkLoi/UC+cC4FvctgKj0uOTS+F0vOPbnEO7zYEGw92A+jPWUkLj21RbM8FbWevWR6lT1OCQ6/cK2ev4Ej"
    "9D7AS5C98CfYPa1eoL+nJre/9e07P0IbRj/SN5Y/PmYcP4MQJ7+8aXA/Av58v19Xjb85AIC/ue+Fv0yCHT+vfqe/wV"
    "CgvwSrRz/UNpG/0PQCPyngy77Cn42/02U3vy+BdD+bLu4+ET6tP3Gihr8iuAK/crBHP2cqGD6ikcW9"
)
