"""Public data sets, each read from the files of its official release: a module per data set."""
