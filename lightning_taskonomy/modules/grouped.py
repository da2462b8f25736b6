"""The networks of a grouping as one module: trained side by side, deployed as one."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal, Self

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.modules.base import BaseModule, adamw, allow_unused_parameters
from lightning_taskonomy.modules.multitask import MultiTaskModule
from lightning_taskonomy.modules.trained import trained
from lightning_taskonomy.tasks import Task, keys_of

__all__ = ["GroupedModule"]


class GroupedModule(BaseModule):
    """Several networks, each trained on all of its tasks and asked for some of them.

    "Which Tasks Should Be Learned Together in Multi-task Learning?" (Standley et al., ICML 2020), section 3: under a
    budget for inference some networks are kept, and a task is answered by the one that does best at it. A network may
    so be trained on tasks that another one answers; their heads are not run, and :meth:`deployed` drops them.

    The networks share no weight, so one fit that descends the sum of their losses trains each as if it were alone,
    under an optimizer that goes by single weights (SGD, Adam). Three things differ from a fit of its own: clipping by
    the norm of all gradients, a schedule that goes by a loss, and early stopping see the sum over the networks. The
    best weights can be kept by network: ``BestWeights`` with ``monitor: {networks.0.: val/network_0/loss, ...}``.

    Logged are ``train/loss`` and ``val/loss``, sums over the networks; ``<split>/network_<i>/loss``, the loss that
    network is trained by; ``<split>/<task>/<metric>`` of each task by the network that serves it; and
    ``<split>/network_<i>/<task>/<metric>`` of the tasks that a network learns without serving them.

    Args:
        networks: The networks. Their own optimizers and schedules do not count.
        serves: Per network the tasks that it answers, each task at most once in all; where not given, a task is
            answered by the first network that has it.
        optimizer: Called with the parameters of all networks.
        scheduler: Called with the optimizer.
        scheduler_interval: Whether the schedule counts epochs or steps.
        drop_unused: Leave out from the start what :meth:`deployed` drops.

    Raises:
        InputError: There is no network, ``serves`` names a task twice or one that its network does not have, or a
            network answers nothing.
    """

    networks: nn.ModuleList

    def __init__(
        self,
        networks: list[MultiTaskModule],
        serves: list[list[str]] | None = None,
        optimizer: OptimizerCallable = adamw,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: Literal["epoch", "step"] = "epoch",
        drop_unused: bool = False,
    ) -> None:
        super().__init__(optimizer, scheduler, scheduler_interval)
        self.serves = _checked(networks, serves)
        self.networks = nn.ModuleList(networks)
        if drop_unused:
            self._drop_unused()

    @classmethod
    def from_runs(cls, folders: Sequence[str | Path], serves: list[list[str]] | None = None) -> Self:
        """The networks of finished runs with their weights, in eval mode: nothing is trained again.

        Args:
            folders: Run folders of one network each, such as those of a study.
            serves: Per run the tasks that it answers; where not given, a task is answered by the first that has it.

        Raises:
            InputError: A folder holds no finished run, or one of another kind; or as the constructor.
        """
        return cls([trained(folder, MultiTaskModule) for folder in folders], serves).eval()

    @property
    def tasks(self) -> dict[str, Task]:
        """The tasks that are answered, by name, network by network."""
        return {name: network.tasks[name] for network, names in self._parts() for name in names}

    @property
    def batch_keys(self) -> list[str]:
        """The entries of a batch that the networks read: inputs and targets, sorted."""
        return keys_of(task for network, _ in self._parts() for task in network.tasks.values())

    def deployed(self) -> Self:
        """A copy in eval mode without the heads of tasks that a network does not serve."""
        copy = deepcopy(self).eval()
        copy._drop_unused()
        return copy

    def forward(self, batch: Mapping[str, Tensor] | Tensor, names: list[str] | None = None) -> dict[str, Tensor]:
        """Predictions by task name, each in its task's units and from the network that serves it.

        Args:
            batch: The batch; or images (B, 3, H, W) alone, RGB in [0, 1].
            names: The tasks to answer; all where not given. Those whose input is not there are left out.

        Raises:
            InputError: A name is served by no network.
        """
        inputs = {"image": batch} if isinstance(batch, Tensor) else batch
        tasks = self.tasks if names is None else names
        for name in tasks:
            if name not in self.tasks:
                raise InputError(f"no network serves task {name!r}{hint(name, self.tasks)}")
        predictions: dict[str, Tensor] = {}
        for network, served in self._parts():
            wanted = [name for name in served if name in tasks]
            predictions |= network(inputs, wanted) if wanted else {}
        return predictions

    def decode(self, name: str, preds: Tensor) -> Any:
        """Raw output to what a person wants, as the network that serves the task does it.

        Args:
            name: The task.
            preds: Its raw output (B, ...), in its units.
        """
        return next(network for network, names in self._parts() if name in names).decode(name, preds)

    # Lightning's steps

    def setup(self, stage: str) -> None:
        """The networks learn of the trainer; plain DDP gets ``find_unused_parameters``."""
        for network, _ in self._parts():
            network.trainer = self.trainer
        if stage == "fit":
            allow_unused_parameters(self.trainer)

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor | None:
        """The sum of the networks' losses; none where no task has a label."""
        losses, logged = [], {}
        for index, (network, _) in enumerate(self._parts()):
            trained = network.training_losses(batch)
            if trained is not None:
                losses.append(trained[0])
                logged[f"train/network_{index}/loss"] = trained[1]
        if not losses:
            return None
        size = len(next(iter(batch.values())))
        self.log_loss(torch.stack(list(logged.values())).sum(), size)
        self.log_dict(logged, batch_size=size)
        return torch.stack(losses).sum()

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        """Updates the validation metrics of all networks."""
        for network, _ in self._parts():
            network.validation_step(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Logs them; see the class."""
        self._log_evaluation("val")

    def test_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Updates the test metrics of all networks.

        Returns:
            ``id`` and one score per image (B,) for each task, by the network that serves it; lower is better, NaN where
            unlabelled.
        """
        scores: dict[str, Tensor] = {}
        for network, names in self._parts():
            scored = network.test_step(batch, batch_idx)
            scores |= {name: value for name, value in scored.items() if name == "id" or name in names}
        return scores

    def on_test_epoch_end(self) -> None:
        """Logs them; see the class."""
        self._log_evaluation("test")

    def predict_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> dict[str, Any]:
        """What a person wants to know, by task name: predictions as :meth:`decode` makes them."""
        return {name: self.decode(name, preds) for name, preds in self(batch).items()}

    def on_train_start(self) -> None:
        """As each network."""
        for network, _ in self._parts():
            network.on_train_start()

    def on_train_epoch_end(self) -> None:
        """As each network."""
        for network, _ in self._parts():
            network.on_train_epoch_end()

    def on_train_end(self) -> None:
        """As each network."""
        for network, _ in self._parts():
            network.on_train_end()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """As each network."""
        for network, _ in self._parts():
            network.on_save_checkpoint(checkpoint)

    def _log_evaluation(self, split: str) -> None:
        """Logs what the networks have measured: what they serve under its plain name, the rest under the network's."""
        logged: dict[str, Any] = {}
        for index, (network, names) in enumerate(self._parts()):
            values = (network.val_metrics if split == "val" else network.test_metrics).finish()
            for key, value in values.items():
                rest = key.removeprefix(f"{split}/")
                logged[key if rest.split("/")[0] in names else f"{split}/network_{index}/{rest}"] = value
        losses = [logged[name] for i in range(len(self.networks)) if (name := f"{split}/network_{i}/loss") in logged]
        if losses:
            self.log_dict({f"{split}/loss": torch.stack(losses).sum(), **logged})

    def _parts(self) -> list[tuple[MultiTaskModule, list[str]]]:
        """Each network with the tasks that it serves."""
        return list(zip(self.networks, self.serves, strict=True))  # type: ignore[arg-type]  # a ModuleList forgets what is in it

    def _drop_unused(self) -> None:
        """Removes the heads of tasks that a network does not serve."""
        for network, names in self._parts():
            network.keep_tasks(names)


def _checked(networks: Sequence[MultiTaskModule], serves: Sequence[Sequence[str]] | None) -> list[list[str]]:
    """The tasks that each network serves, in its own order."""
    if not networks:
        raise InputError("networks is empty: a grouping has one network at least")
    if serves is None:
        earlier: set[str] = set()
        first = []
        for network in networks:
            first.append([name for name in network.tasks if name not in earlier])
            earlier.update(network.tasks)
        serves = first
    if len(serves) != len(networks):
        raise InputError(f"serves has {len(serves)} lists for {len(networks)} networks; give one per network")
    taken: set[str] = set()
    for index, (network, names) in enumerate(zip(networks, serves, strict=True)):
        if not names:
            raise InputError(f"network {index} ({', '.join(network.tasks)}) serves no task; leave it out")
        for name in names:
            if name not in network.tasks:
                raise InputError(f"serves: network {index} has no task {name!r} to serve{hint(name, network.tasks)}")
            if name in taken:
                raise InputError(f"serves names task {name!r} twice; one network answers it")
            taken.add(name)
    return [[name for name in network.tasks if name in names] for network, names in zip(networks, serves, strict=True)]
