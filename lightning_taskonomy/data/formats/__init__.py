"""Data sets in their official files, one module each: layout, encoding, splits, and which task reads what.

All modules are imported, found by being there, so that a recipe names a data set by its class alone.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
