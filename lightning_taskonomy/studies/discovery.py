"""Every study of the library: each is a folder beside this file, found by being there."""

import importlib
import pkgutil

import lightning_taskonomy.studies
from lightning_taskonomy.studies.base import Study

__all__ = ["Study"]

for _folder in pkgutil.iter_modules(lightning_taskonomy.studies.__path__):
    if _folder.ispkg and _folder.name != "executors":
        importlib.import_module(f"{lightning_taskonomy.studies.__name__}.{_folder.name}")
