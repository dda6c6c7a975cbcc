"""Discriminators: a frozen part (features) and a trained part (head): images -> features -> logits (N, K)."""
