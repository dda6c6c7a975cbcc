"""Schedules: values as functions of the images seen, for learning rates, penalty weights and the like."""
