"""Images with labels, some missing: data sets, joint transforms, the data module they share."""
