"""Studies: one paper's measurements, decisions and report each, from one recipe."""

from lightning_taskonomy.results import Results
from lightning_taskonomy.studies.base import Study
from lightning_taskonomy.studies.meta_transfer import MetaTransferStudy
from lightning_taskonomy.studies.taxonomy import TaxonomyStudy

__all__ = ["MetaTransferStudy", "Results", "Study", "TaxonomyStudy"]
