"""Estimates of memory, time and disk for a training on several devices."""
