"""Data sets in their official files, one module each: layout, encoding, splits, and which task reads what."""
