"""Real images: readers, preparation, cache, splits, phantoms, and the loaders of a run; writers of generated images."""
