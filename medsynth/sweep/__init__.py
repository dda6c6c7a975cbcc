"""Many trainings, each in a process of its own: jobs with a record on disk, resumed, known by what they compose."""
