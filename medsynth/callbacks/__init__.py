"""What watches a run: records, progress, sample grids, exports."""
