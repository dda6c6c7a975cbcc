"""Translation of whole series: sources on the grid that a translator was trained on, patches, and the way back."""
