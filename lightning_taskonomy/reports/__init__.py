"""Tables, figures and one page from what a study left in its folder. No torch."""

from lightning_taskonomy.reports.command import report

__all__ = ["report"]
