"""Reports of runs and sweeps: HTML pages, curves, summaries and tables for the terminal, previews of data sets."""
