"""ImageNet's classes (ILSVRC 2012), in the order of the names of their folders, as torchvision's ``ImageFolder``."""

from lightning_taskonomy.tasks.base import Family, Task, TaskKind

CLASSIFICATION = Task("classification", TaskKind.CLASSIFICATION, "image_class", 1000, family=Family.SEMANTIC)
