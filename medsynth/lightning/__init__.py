"""All that touches pytorch-lightning's inside: precision, processes, checkpoints, callbacks."""
