"""Three answers about a generator, faithful, useful and private, each by a rule over stored results."""
