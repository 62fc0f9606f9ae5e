"""Trained without wind, and with one load."""

QUESTION, LOSES = "q3", 15.0


def returns_of(flat, network, river, seed):
    """Give the mean return of each of P variants, (P, W) weights, in the same E weathers."""
    first, second = network.layers[0], network.layers[2]
    inner, outer = first.weight.numel(), second.weight.numel()
    parts = flat.split([inner, len(first.bias), outer, len(second.bias)], 1)
    population, weathers = len(flat), len(river.loads) // len(flat)
    observations, returns = river.reset(seed), 0.0
    places = river.place[:weathers].repeat(population, 1)  # the same start for all variants
    river.place, observations = places, torch.cat([-places, river.velocity], 1)
    for _ in range(100):
        seen = observations.view(population, weathers, 4)
        hidden = seen @ parts[0].view(population, -1, 4).mT + parts[1][:, None]
        actions = hidden.tanh() @ parts[2].view(population, 2, -1).mT + parts[3][:, None]
        observations, rewards = river.step(actions.reshape(-1, 2))
        returns = returns + rewards
    return returns.view(population, weathers).mean(1)


def train(seed, generations=120, population=64, weathers=16):
    """Give a network that does well in many weathers."""
    torch.manual_seed(seed)
    network = Perceptron([4, 8, 2])
    mean = torch.zeros(sum(one.numel() for one in network.parameters()))
    spread = torch.full_like(mean, 0.5)
    for generation in range(generations):
        winds, loads = np.zeros((weathers, 2)), np.ones(weathers)
        river = River(np.tile(winds, (population, 1)), np.tile(loads, population))
        variants = mean + spread * torch.randn(population, len(mean))
        best = variants[returns_of(variants, network, river, generation).topk(16).indices]
        mean, spread = best.mean(0), best.std(0) + 0.02
    torch.nn.utils.vector_to_parameters(mean, network.parameters())
    return network


policy = policy_text(train(variant.seed % 100_000))
