"""One backbone, one head per task: task-specific networks and multi-task learning with labels missing anywhere."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lightning_taskonomy import losses
from lightning_taskonomy.batch import is_labelled
from lightning_taskonomy.errors import InputError, hint
from lightning_taskonomy.models.backbones import Backbone
from lightning_taskonomy.models.heads import Head, merge_views
from lightning_taskonomy.modules.base import BaseModule, adamw, allow_unused_parameters
from lightning_taskonomy.modules.bifurcation import LossHook
from lightning_taskonomy.modules.evaluation import Evaluation
from lightning_taskonomy.modules.objectives import HeadFactory, Objective, objective, target_of
from lightning_taskonomy.optim import LateFlags, any_process
from lightning_taskonomy.tasks import LabelKind, Task, TaskKind, keys_of, map_size, resolve

__all__ = ["MultiTaskModule"]

Features = list[Tensor]


class MultiTaskModule(BaseModule):
    """One task or many on one backbone.

    The backbone runs once per distinct input of the tasks; views of a pair, a triplet or a jigsaw pass through it
    together (towers that share weights) and reach the head side by side. A subclass overrides one step:
    :meth:`encode`, :meth:`predict_task`, :meth:`task_loss` or :meth:`combine`.

    Args:
        tasks: Names of the catalog, dotted paths, or tasks.
        backbone: Any backbone.
        heads: Head factories by task name or by kind (``dense``, ``vector``, ...), in place of the kind's default.
        optimizer: Called with the parameters.
        scheduler: Called with the optimizer.
        scheduler_interval: Whether the schedule counts epochs or steps.

    Raises:
        InputError: Unknown task, a key of ``heads`` that is neither task nor kind, or a head that does not fit.
    """

    def __init__(
        self,
        tasks: list[str | Task],
        backbone: Backbone,
        heads: dict[str, HeadFactory] | None = None,
        optimizer: OptimizerCallable = adamw,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: Literal["epoch", "step"] = "epoch",
    ) -> None:
        super().__init__(optimizer, scheduler, scheduler_interval)
        self.tasks = resolve(tasks)
        self.backbone = backbone
        self.objectives: dict[str, Objective] = {name: objective(task) for name, task in self.tasks.items()}
        self.heads = self.configure_heads(heads or {})
        self.val_metrics, self.test_metrics = self.configure_metrics("val"), self.configure_metrics("test")
        self._checked: set[str] = set()
        self._broken = LateFlags(list(self.tasks))
        self._loss_hooks: OrderedDict[int, LossHook] = OrderedDict()  # RemovableHandle refers to it weakly
        self._is_silent = False

    # construction: each step may be overridden

    def configure_heads(self, heads: Mapping[str, HeadFactory]) -> nn.ModuleDict:
        """One head per task, from the factory of its name, of its kind, or the kind's default."""
        allowed = {*self.tasks, *(kind.value for kind in TaskKind)}
        for name in heads:
            if name not in allowed:
                raise InputError(f"heads names {name!r}, which is neither a task here nor a kind{hint(name, allowed)}")
        built = {}
        for name, task in self.tasks.items():
            if hasattr(nn.ModuleDict, name):
                raise InputError(f"no task may be named {name!r}, a word of torch.nn.ModuleDict; name it otherwise")
            factory = heads.get(name) or heads.get(task.kind.value) or self.objectives[name].head
            channels = [task.views * c for c in self.backbone.out_channels]
            built[name] = factory(channels, list(self.backbone.reductions), task)
        for head in built.values():
            if isinstance(head, Head):
                head.connect(built)
        return nn.ModuleDict(built)

    def configure_metrics(self, prefix: str) -> Evaluation:
        """What is measured in a validation or a test, logged as ``<prefix>/<task>/<metric>``."""
        return Evaluation(prefix, self.tasks, self.objectives)

    def keep_tasks(self, names: Sequence[str]) -> None:
        """Drops the heads of all other tasks, for a network that is asked for these alone.

        Args:
            names: The tasks that stay.
        """
        for name in [name for name in self.tasks if name not in names]:
            del self.tasks[name], self.objectives[name], self.heads[name]
        self.val_metrics, self.test_metrics = self.configure_metrics("val"), self.configure_metrics("test")
        self._broken = LateFlags(list(self.tasks))

    @property
    def batch_keys(self) -> list[str]:
        """The entries of a batch that the tasks read: inputs and targets, sorted."""
        return keys_of(self.tasks.values())

    # one batch

    def has_input(self, task: Task, batch: Mapping[str, Tensor]) -> bool:
        """Whether the batch holds what the task is read from."""
        return task.input in batch

    def image_size(self, task: Task, batch: Mapping[str, Tensor]) -> tuple[int, int]:
        """Height and width of the task's input."""
        height, width = batch[task.input].shape[-2:]
        return height, width

    def encode(self, batch: Mapping[str, Tensor], key: str) -> Features:
        """The backbone's features of one input.

        Args:
            batch: The batch.
            key: The input's key; (B, 3, H, W), or (B, V, 3, H, W) for several views.

        Returns:
            Feature maps (B, V*C, h, w).
        """
        images = batch[key]
        if images.dim() == 4:
            features: Features = self.backbone(images)
            return features
        return merge_views(self.backbone(images.flatten(0, 1)), images.shape[1])

    def predict_task(self, task: Task, features: Features, size: tuple[int, int]) -> Tensor:
        """A task's prediction from the features, in the task's units.

        Args:
            task: The task.
            features: What :meth:`encode` gave for the task's input.
            size: Height and width of the input image.
        """
        height, width = map_size(size, task.stride)
        padded = self.backbone.padded(size)
        preds: Tensor = self.heads[task.name](features, map_size(padded, task.stride)).float()
        if padded != size and preds.dim() == 4:
            preds = preds[..., :height, :width]
        return preds if task.shift == 0 and task.scale == 1 else task.shift + task.scale * preds

    def forward(self, batch: Mapping[str, Tensor], names: list[str] | None = None) -> dict[str, Tensor]:
        """Predictions by task name; the backbone runs once per distinct input that the batch holds."""
        predictions, features = {}, dict[str, Features]()
        for name in self.tasks if names is None else names:
            task = self.tasks[name]
            if not self.has_input(task, batch):
                continue
            if task.input not in features:
                features[task.input] = self.encode(batch, task.input)
            predictions[name] = self.predict_task(task, features[task.input], self.image_size(task, batch))
        return predictions

    def task_loss(self, task: Task, predictions: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """The task's loss: the mean error over what is valid in the batch, over all processes.

        Args:
            task: The task.
            predictions: Its predictions, in its units.
            batch: The batch with its target, if it has any label of the task.
        """
        target, world = target_of(task, batch, predictions), self.trainer_world_size
        total, count = self.objectives[task.name].total_and_count(predictions, target)
        if world > 1:
            count = cast(Tensor, self.all_gather(count.detach())).sum(0) / world
        return (total / count.clamp(min=1 / world)).sum()  # of one term, or of several that are divided each by its own

    def combine(self, task_losses: dict[str, Tensor]) -> Tensor:
        """One loss from the tasks' losses: their weighted sum. Weightings override this."""
        return torch.stack([self.tasks[name].weight * loss for name, loss in task_losses.items()]).sum()

    # what callbacks at the bifurcation ask for: see Bifurcated

    def head_loss(self, name: str, features: Features, batch: Mapping[str, Tensor]) -> Tensor:
        """A task's weighted loss from the features alone; :meth:`task_loss` logs nothing meanwhile.

        Args:
            name: The task.
            features: What :meth:`encode` gave for the task's input.
            batch: The batch with its input and target.
        """
        task, self._is_silent = self.tasks[name], True
        try:
            predictions = self.predict_task(task, features, self.image_size(task, batch))
            return task.weight * self.task_loss(task, predictions, batch)
        finally:
            self._is_silent = False

    def log(self, *args: Any, **kwargs: Any) -> None:
        """As Lightning's, but silent within :meth:`head_loss`."""
        if not self._is_silent:
            super().log(*args, **kwargs)

    def label_key(self, name: str) -> str:
        """The key of the task's target.

        Args:
            name: The task.
        """
        return self.tasks[name].target

    def register_loss_hook(self, hook: LossHook) -> RemovableHandle:
        """Lets a hook replace each task's loss of :meth:`losses`.

        Args:
            hook: Called with the task's name and its loss.
        """
        handle = RemovableHandle(self._loss_hooks)
        self._loss_hooks[handle.id] = hook
        return handle

    @property
    def trainer_world_size(self) -> int:
        """Processes that train together; 1 without a trainer."""
        try:
            return self.trainer.world_size
        except RuntimeError:  # Lightning's word for a module that is not attached to a trainer
            return 1

    def labelled(self, batch: Mapping[str, Tensor]) -> list[str]:
        """The tasks that have any valid label in this batch, on any process.

        A :class:`~lightning_taskonomy.batch.Batch`, as the data modules here give it, says so on the host; of another
        mapping the labels are looked at, for which the device is waited for.

        Args:
            batch: The batch.

        Raises:
            InputError: The batch holds nothing of any task; or in training the loss of an earlier step was not finite.
        """
        readable = [task for task in self.tasks.values() if self.has_input(task, batch)]
        if all(batch.keys().isdisjoint(task.targets) for task in readable):
            raise InputError(
                f"a batch holds {sorted(batch)} but none of the tasks' inputs and targets {self.batch_keys}"
            )
        labelled = {task.name for task in readable if any(is_labelled(batch, key) for key in task.targets)}
        flags = [*(name in labelled for name in self.tasks), self.training and bool(self._broken.arrived())]
        *flags, broken = any_process(flags)
        if broken:  # what one process has heard of the losses of all has yet to arrive at another: they stop together
            self._refuse(self._broken.all())
        return [name for name, flag in zip(self.tasks, flags, strict=True) if flag]

    def losses(self, batch: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Losses and predictions of the tasks that have labels here; the other heads do not run."""
        names = self.labelled(batch)
        predictions = self(batch, names)
        if not self._checked.issuperset(names):
            self._check({name: predictions[name] for name in names if self.tasks[name].target in batch}, batch)
        task_losses = {}
        for name in names:
            loss = self.task_loss(self.tasks[name], predictions[name], batch)
            for hook in self._loss_hooks.values():
                loss = hook(name, loss)
            task_losses[name] = loss
        return task_losses, predictions

    def _check(self, predictions: dict[str, Tensor], batch: Mapping[str, Tensor]) -> None:
        """Once per task: do predictions and targets have one size, and classes their range?"""
        for name, preds in predictions.items():
            task, target = self.tasks[name], batch[self.tasks[name].target]
            if task.is_dense and preds.shape[-2:] != target.shape[-2:]:
                raise InputError(
                    f"task {name!r}: predictions are {tuple(preds.shape[-2:])} pixels and its target {task.target!r} "
                    f"is {tuple(target.shape[-2:])}; give images and labels one size, or the task a stride"
                )
            if task.kind in (TaskKind.SEGMENTATION, TaskKind.CLASSIFICATION):
                losses.check_classes(target, task.channels, name)
            for key, label in task.targets.items():
                if label.kind is LabelKind.OBJECT_CLASSES and label.classes and key in batch:
                    losses.check_classes(batch[key], label.classes, f"{name}: {key}")
            self._checked.add(name)

    # Lightning's steps

    def setup(self, stage: str) -> None:
        """With several tasks plain DDP gets ``find_unused_parameters``: a batch may lack labels of one."""
        if stage == "fit" and len(self.tasks) > 1:
            allow_unused_parameters(self.trainer)

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor | None:
        """The combined loss; none where no task has a label."""
        trained = self.training_losses(batch)
        if trained is None:
            return None
        loss, mean, task_means = trained
        size = _batch_size(batch)
        self.log_loss(mean, size)
        if len(task_means) > 1:
            self.log_dict({f"train/{name}/loss": value for name, value in task_means.items()}, batch_size=size)
        return loss

    def training_losses(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, dict[str, Tensor]] | None:
        """The combined loss, and what is logged of it; none where no task has a label.

        Args:
            batch: The batch.

        Returns:
            The loss to descend; its mean over all processes; and the tasks' losses by name, over all processes too.
        """
        task_losses, _ = self.losses(batch)
        if not task_losses:
            return None
        loss, names = self.combine(task_losses), list(task_losses)
        # over the processes each task's loss was divided by the mean of their counts: its mean is that over all labels
        means = self._mean_over_processes(torch.stack([loss.detach(), *(task_losses[n].detach() for n in names)]))
        task_means = dict(zip(names, means[1:].unbind(), strict=True))
        self.require_finite(task_means)
        return loss, means[0], task_means

    def _mean_over_processes(self, values: Tensor) -> Tensor:
        world = self.trainer_world_size
        return values if world == 1 else cast(Tensor, self.all_gather(values)).reshape(world, -1).mean(0)

    def require_finite(self, task_losses: Mapping[str, Tensor]) -> None:
        """Stops the run when a loss is not finite; the device's answer is read once it has come, a step late or more.

        Args:
            task_losses: The losses of this step.

        Raises:
            InputError: Names the tasks and the first step with such a loss; the last checkpoint is untouched.
        """
        self._refuse(self._broken.arrived())
        fine = torch.zeros_like(next(iter(task_losses.values())))
        stacked = torch.stack([task_losses[name].detach() if name in task_losses else fine for name in self.tasks])
        self._broken.add(~stacked.isfinite(), self.global_step)

    def _refuse(self, broken: Mapping[str, int]) -> None:
        if broken:
            first = min(broken.values())
            names = ", ".join(name for name, step in broken.items() if step == first)
            raise InputError(
                f"the loss of {names} is NaN or infinite at step {first}; the last checkpoint "
                "is kept; lower the learning rate, clip gradients or look at the labels with 'data check'"
            )

    def on_train_start(self) -> None:
        """Forgets what an earlier fit broke."""
        self._broken = LateFlags(list(self.tasks))

    def on_train_epoch_end(self) -> None:
        """Waits for what the device has to say of the losses."""
        self._refuse(self._broken.all())

    def on_train_end(self) -> None:
        """Waits for what the device has to say of the losses."""
        self._refuse(self._broken.all())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """No checkpoint is written of a network that a loss has broken."""
        self._refuse(self._broken.all())

    def _evaluate(self, batch: Mapping[str, Tensor], evaluation: Evaluation) -> dict[str, Tensor]:
        task_losses, predictions = self.losses(batch)
        for name, loss in task_losses.items():
            evaluation.update(name, predictions[name], target_of(self.tasks[name], batch, predictions[name]), loss)
        return predictions

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        """Updates the validation metrics."""
        self._evaluate(batch, self.val_metrics)

    def on_validation_epoch_end(self) -> None:
        """Logs ``val/loss`` and ``val/<task>/<metric>``."""
        self.log_dict(self.val_metrics.finish())

    def test_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Updates the test metrics.

        Returns:
            ``id`` and one score per image (B,) for each task, lower is better, NaN where unlabelled.
        """
        predictions = self._evaluate(batch, self.test_metrics)
        return self.scores(predictions, batch)

    def on_test_epoch_end(self) -> None:
        """Logs ``test/loss`` and ``test/<task>/<metric>``."""
        self.log_dict(self.test_metrics.finish())

    def scores(self, predictions: dict[str, Tensor], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """One score per image and task, NaN where unlabelled, and the images' ids."""
        size = _batch_size(batch)
        scores = {"id": batch["id"]} if "id" in batch else {}
        for name in self.tasks:
            if name in predictions:
                target = target_of(self.tasks[name], batch, predictions[name])
                error, valid = self.objectives[name].score_errors(predictions[name], target)
                scores[name] = losses.per_image(error, valid)
            else:
                scores[name] = torch.full((size,), torch.nan, device=self.device)
        return scores

    def predict_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> dict[str, Any]:
        """What a person wants to know, by task name: predictions as :meth:`decode` makes them."""
        return {name: self.decode(name, preds) for name, preds in self(batch).items()}

    def decode(self, name: str, preds: Tensor) -> Any:
        """Raw output to what a person wants: see :class:`~lightning_taskonomy.modules.objectives.Objective`.

        Args:
            name: The task.
            preds: Its raw output (B, ...), in its units.
        """
        return self.objectives[name].decode(preds, self.tasks[name])


def _batch_size(batch: Mapping[str, Any]) -> int:
    return int(next(entry for entry in batch.values() if isinstance(entry, Tensor)).shape[0])
