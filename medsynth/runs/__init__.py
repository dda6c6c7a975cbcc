"""A run's folder and life: create, resume, status, end, summary, provenance."""
