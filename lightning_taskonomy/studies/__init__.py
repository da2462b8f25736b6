"""Studies: one paper's measurements, decisions and report each, from one recipe; what they share, once.

A folder per study. Importing this package imports none of them, so that ``status`` starts without torch.
"""
