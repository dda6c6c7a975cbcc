"""Adversarial losses: logits -> scalar, for each player. Every class has the same two methods."""
