"""The doctor, who says in plain words what looks ill in a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from gymnasium import Space, spaces
from lightning.pytorch.callbacks import Callback

from lightning_rl.agent import LightningAgentModule

# A reading is what the agent logs at once: of 4,096 rows, unless the trainer says otherwise. The
# healthy runs, read after every iteration, were PPO on CartPole-v1 (10 seeds) and Acrobot-v1 (3),
# REINFORCE on CartPole-v1 (3), DQN on CartPole-v1 (2) and SAC on Pendulum-v1 (1), all with their
# default settings.

# At most 0.023 in healthy runs. Schulman ("Nuts and bolts of deep RL research", 2016) warns that a
# spike of the KL goes with a drastic loss of performance.
KL_SPIKE = 0.1
# At most 0.38 for one iteration and 0.23 for two in a row in healthy runs.
CLIPPED_TOO_OFTEN = 0.5
CLIPPED_READINGS = 3
# Some ratio was clipped in all healthy runs, if few: 0.001 of them on Pendulum-v1.
UNCLIPPED_READINGS = 5
# Between 0.4 and 1 in healthy runs of discrete actions; 0.17 (see `entropy_left`) of SAC.
ENTROPY_LEFT = 0.05
ENTROPY_READINGS = 2
# Below 0.1 for at most 5 readings (120 updates) in a row in healthy runs, at their start. Later, a
# policy that gets the same return everywhere leaves no variance to explain: values down to -5.6 say
# nothing then, but the value loss has fallen below a tenth of its highest.
EXPLAINED_TOO_LITTLE = 0.1
EXPLAINED_READINGS = 8
EXPLAINED_UPDATES = 300  # a critic that was hardly trained can't know anything yet
VALUE_LOSS_LEFT = 0.1
# In healthy runs the mean return never fell by more than a fifth of its first episodes' deviation.
FALL = 0.5  # of the rise since the start, or of that deviation where it is larger
SMALLEST_FALL = 0.05  # of the best return, which may owe as much to one lucky episode
FALL_READINGS = 3
RISE = 2.0  # deviations of the first episodes above their mean: something was learned
FIRST_EPISODES = 20  # that must have ended before returns are compared
# Every parameter of the package's agents had some gradient in every iteration of healthy runs.
DEAD_ITERATIONS = 5
VALUE_SWITCHES = ("baseline", "value_coef")  # off, they leave the values no gradient on purpose

HEALTHY = "Doctor: nothing ill was seen."
TUTORIAL = "tutorials/06_silent_bugs.ipynb"


@dataclass(frozen=True)
class Finding:
    """What the doctor saw: `name` at `env_step`, in one `sentence`."""

    env_step: int
    name: str
    sentence: str


class Doctor(Callback):
    """Say in a plain sentence when a run looks ill, why that may be, and where to read on.

    It reads what the agent logs, and the gradients once an iteration; it changes nothing. A
    diagnosis needs its signal: an agent that logs no `approx_kl` has no KL spike. Each is said
    once a `fit`, on stdout, or at its end that nothing ill was seen:

    - `entropy collapse`: the policy hardly explores any more, and the return has not risen;
    - `KL spike`: one iteration moved the policy very far;
    - `explained variance`: the values do not predict the returns, for long;
    - `clip fraction high`: most samples are clipped, so most of the data is thrown away;
    - `clip fraction zero`: several updates an iteration do not move the policy at all;
    - `dead gradients`: some weights never get a gradient;
    - `falling return`: the return has lost what it had won, or is worse than at the start.

    With a module that is not an agent it does nothing.

    Args:
        target_return: a mean training return that is good enough; the entropy may then fall.
            Default: any return clearly above that of the first episodes.

    Attributes:
        findings: what was said in this `fit`, in order.

    Example:
        >>> from lightning_rl import AgentTrainer, PPOAgent, PPOConfig
        >>> doctor = Doctor()
        >>> trainer = AgentTrainer(max_env_steps=65_536, callbacks=[doctor])
        >>> agent = PPOAgent(config=PPOConfig(learning_rate=1.0))
        >>> trainer.fit(agent, "CartPole-v1")  # doctest: +SKIP
        >>> [finding.name for finding in doctor.findings]  # doctest: +SKIP
        ['KL spike', ...]
    """

    def __init__(self, target_return: float | None = None) -> None:
        self.target_return = target_return
        self._forget()

    def _forget(self) -> None:
        self.findings: list[Finding] = []
        self._read_at: int | None = None  # the env step of the last reading
        self._streaks: dict[str, int] = {}  # name -> readings in a row in which it was seen
        self._highest: dict[str, float] = {}  # metric -> highest reading
        self._first_return: float | None = None  # mean of the first episodes
        self._deviation = 0.0  # of the first episodes' returns
        self._env_step = 0  # of what is being examined
        self._updates = 0  # of this iteration
        self._updates_before = 0  # of the last one
        self._all_updates = 0
        self._learned_at = 0  # `_all_updates` when the values last explained something
        self._dead: dict[str, int] = {}  # parameter -> iterations in a row without a gradient

    # ---- Lightning's hooks -------------------------------------------------------------------

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Forget the run before."""
        self._forget()

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Read what was logged after the last iteration."""
        self._updates_before, self._updates = self._updates, 0
        self._read(trainer, pl_module)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Look at the gradients of each iteration's first update."""
        self._updates += 1
        self._all_updates += 1
        if self._updates == 1 and isinstance(pl_module, LightningAgentModule):
            self._env_step = pl_module.env_steps
            self._examine_gradients(pl_module, optimizer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Read what was logged last, and say so if all was well."""
        self._updates_before = self._updates
        self._read(trainer, pl_module)
        if self._read_at is not None and not self.findings:
            pl_module.print(HEALTHY)

    # ---- examinations ------------------------------------------------------------------------

    def _read(self, trainer: Any, agent: Any) -> None:
        if not isinstance(agent, LightningAgentModule):
            return
        logged = trainer.callback_metrics
        if "step" not in logged or int(logged["step"]) == self._read_at:
            return
        metrics = {name: float(value) for name, value in logged.items()}
        self._read_at = self._env_step = int(metrics["step"])
        for name in ("entropy", "value_loss", "episode_return"):
            if name in metrics:
                self._highest[name] = max(metrics[name], self._highest.get(name, -math.inf))
        self._examine_return(agent, metrics)
        self._examine_entropy(agent, metrics)
        self._examine_updates(agent, metrics)
        self._examine_values(agent, metrics)

    def _examine_return(self, agent: LightningAgentModule, metrics: dict[str, float]) -> None:
        if "episode_return" not in metrics or len(agent.episodes) < FIRST_EPISODES:
            return
        now = metrics["episode_return"]
        if self._first_return is None:
            self._first_return = self._highest["episode_return"] = now
            self._deviation = float(agent.episodes["episode_return"][-100:].std())
        best = self._highest["episode_return"]
        won = max(best - self._first_return, self._deviation)
        fell = best - now > max(FALL * won, SMALLEST_FALL * abs(best))
        if self._lasts("falling return", fell, FALL_READINGS):
            self._say(
                agent,
                "falling return",
                f"the mean return fell to {now:.1f} from its best of {best:.1f}; the updates may "
                "be too large (a learning rate too high), or push the wrong way (the sign of the "
                "advantages or of the loss)",
            )

    def _has_risen(self, metrics: dict[str, float]) -> bool:
        """Tell whether the return is good: above the target, or clearly above its start."""
        if self._first_return is None:
            return False
        good = self.target_return
        if good is None:
            good = self._first_return + RISE * self._deviation
        return metrics["episode_return"] > good

    def _examine_entropy(self, agent: LightningAgentModule, metrics: dict[str, float]) -> None:
        if "entropy" not in metrics:
            return
        entropy, highest = metrics["entropy"], self._highest["entropy"]
        space = agent.action_space
        if isinstance(space, spaces.Discrete):
            highest = math.log(space.n)  # of a policy that likes all actions alike, as at the start
        collapsed = entropy_left(entropy, highest, space) < ENTROPY_LEFT
        ill = collapsed and not self._has_risen(metrics)
        if self._lasts("entropy collapse", ill, ENTROPY_READINGS):
            self._say(
                agent,
                "entropy collapse",
                f"the policy's entropy fell from {highest:.2f} to {entropy:.2f} although the "
                "return is not good, so it hardly tries anything new; the learning rate may be "
                "too high, or the entropy bonus too small or of the wrong sign",
            )

    def _examine_updates(self, agent: LightningAgentModule, metrics: dict[str, float]) -> None:
        kl = metrics.get("approx_kl", 0.0)
        if kl > KL_SPIKE:
            self._say(
                agent,
                "KL spike",
                f"one iteration moved the policy by an approx_kl of {kl:.2g}, where below 0.02 is "
                "usual; the learning rate may be too high, or the passes over a rollout too many",
            )
        clipped = metrics.get("clip_fraction")
        if clipped is None:
            return
        if self._lasts("clip fraction high", clipped > CLIPPED_TOO_OFTEN, CLIPPED_READINGS):
            self._say(
                agent,
                "clip fraction high",
                f"{clipped:.0%} of the samples were clipped, so they taught nothing; the learning "
                "rate may be too high, or the clip range too small",
            )
        still = kl == 0.0 or not self._has_risen(metrics)
        idle = clipped == 0.0 and self._updates_before > 1 and still
        if self._lasts("clip fraction zero", idle, UNCLIPPED_READINGS):
            self._say(
                agent,
                "clip fraction zero",
                f"no sample was clipped in {self._updates_before} updates an iteration, as if the "
                "policy did not move; the learning rate may be too low, or the new policy be "
                "compared with itself: the old log-probabilities must be those of the rollout",
            )

    def _examine_values(self, agent: LightningAgentModule, metrics: dict[str, float]) -> None:
        explained = metrics.get("explained_variance")
        if explained is None or values_are_off(agent):
            return
        loss_left = VALUE_LOSS_LEFT * self._highest.get("value_loss", 0.0)
        useless = (
            explained < EXPLAINED_TOO_LITTLE and metrics.get("value_loss", math.inf) >= loss_left
        )
        if not useless:
            self._learned_at = self._all_updates
        trained = self._all_updates - self._learned_at >= EXPLAINED_UPDATES
        if self._lasts("explained variance", useless, EXPLAINED_READINGS) and trained:
            self._say(
                agent,
                "explained variance",
                f"the values explain {explained:.2f} of the returns' variance (1 is perfect, 0 is "
                "what a constant does), so the advantages are mostly noise; the value loss may not "
                "reach the network, or the rewards may be too large: try normalize_rewards",
            )

    def _examine_gradients(self, agent: LightningAgentModule, optimizer: Any) -> None:
        learned = {id(p) for group in optimizer.param_groups for p in group["params"]}
        zeros_are_meant = values_are_off(agent)
        for name, parameter in agent.named_parameters():
            if not parameter.requires_grad or id(parameter) not in learned:
                continue
            gradient = parameter.grad
            dead = gradient is None or (not zeros_are_meant and not gradient.any())
            self._dead[name] = self._dead.get(name, 0) + 1 if dead else 0
        names = [name for name, iterations in self._dead.items() if iterations >= DEAD_ITERATIONS]
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            self._say(
                agent,
                "dead gradients",
                f"{', '.join(names[:3])}{more} got no gradient in {DEAD_ITERATIONS} iterations; a "
                "detach() may cut them off from the loss, their units may be dead, or the policy "
                "may be so sure of its actions that nothing can change it",
            )

    # ---- speaking ----------------------------------------------------------------------------

    def _lasts(self, name: str, seen: bool, readings: int) -> bool:
        """Tell whether something was seen in so many readings in a row."""
        self._streaks[name] = self._streaks.get(name, 0) + 1 if seen else 0
        return self._streaks[name] >= readings

    def _say(self, agent: LightningAgentModule, name: str, sentence: str) -> None:
        if any(finding.name == name for finding in self.findings):
            return
        sentence = f"Doctor, at env step {self._env_step:,}: {sentence} ({TUTORIAL}: {name})."
        self.findings.append(Finding(self._env_step, name, sentence))
        agent.print(sentence)  # on stdout, beside the progress bar, in one process only


def values_are_off(agent: LightningAgentModule) -> bool:
    """Tell whether the agent's config says that no value function is learned."""
    config = getattr(agent, "config", None)
    return any(not getattr(config, name, True) for name in VALUE_SWITCHES)


def entropy_left(entropy: float, highest: float, space: Space) -> float:
    """Give the part of a policy's entropy that is left, from 1 down to 0.

    A Gaussian's entropy may be negative: log σ, and a constant, for each number of an action. There
    it is the part of the deviation σ that is left, as the mean of log σ over the numbers tells it.

    Args:
        entropy: in nats, now.
        highest: in nats, to compare with.
        space: the action space.

    Example:
        >>> entropy_left(0.1, 0.4, spaces.Discrete(2))
        0.25
        >>> round(entropy_left(1.0 - math.log(10), 1.0, spaces.Box(-1, 1, (1,))), 3)
        0.1
    """
    if isinstance(space, spaces.Box):
        return math.exp((entropy - highest) / math.prod(space.shape))
    return entropy / highest if highest > 0 else 1.0
