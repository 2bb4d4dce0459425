"""Show rounds of labelling of several problems: figures, sentences and tables."""
