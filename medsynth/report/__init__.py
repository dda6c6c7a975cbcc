"""What people look at afterwards: curves and a summary of each run."""
