"""From pairs to weights: pairs, the locked split, nnU-Net's dataset, plans, the trainer."""
