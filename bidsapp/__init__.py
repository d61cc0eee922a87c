"""HippoTune: retrain hippocampal U-Nets in CorObl space with an nnU-Net v2 backend."""

__version__ = "0.1.0"
