"""From checked pairs to trained weights, with nnU-Net as the engine.

In: pairs with their places in the split, the settings of config.ini, and the parent model.
Out: nnU-Net's raw and preprocessed data, checkpoints, TensorBoard events, and predictions of the test people.
Open first: trainer.py.
"""
