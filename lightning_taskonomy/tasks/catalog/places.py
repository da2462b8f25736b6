"""The 365 scenes of MIT Places (Zhou et al., TPAMI 2018), by their number in its list of categories."""

from lightning_taskonomy.tasks.base import Family, Task, TaskKind

SCENE_CLASSIFICATION = Task("scene_classification", TaskKind.CLASSIFICATION, "scene_class", 365, family=Family.SEMANTIC)
