"""How good the synthesized images are: torchmetrics' distances between the features of real and generated images."""
