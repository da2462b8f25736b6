"""The Taskonomy study."""

from lightning_taskonomy.studies.taxonomy.study import TaxonomyStudy

__all__ = ["TaxonomyStudy"]
