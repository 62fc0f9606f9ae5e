"""Each step is detached from the one before."""

QUESTION, LOSES = "q6", 4.0


agent = {}


def learn_to_act(observations):
    """Learn in the dream, from the states of the data, (N, T + 1, 3)."""
    agent["policy"] = nn.Sequential(nn.Linear(3, 64), nn.Tanh(), nn.Linear(64, 1), nn.Tanh())
    optimizer = torch.optim.Adam(agent["policy"].parameters(), lr=1e-2)
    states = observations.flatten(0, 1)
    for _ in range(100):
        state = states[torch.randint(len(states), (64,))]
        total = 0.0
        for t in range(25):
            action = 4 * agent["policy"](state)
            total = total + 0.97**t * reward(state, action).mean()
            state = step(state, action).detach()
        optimizer.zero_grad()
        (-total / 25).backward()
        nn.utils.clip_grad_norm_(agent["policy"].parameters(), 1.0)
        optimizer.step()


@torch.no_grad()
def act(observations):
    """Give torques, (N, 1), for observations, (N, 3)."""
    return 4 * agent["policy"](observations)
