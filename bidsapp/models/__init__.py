"""Models by name: the registry, the folder that holds fetched models, and the download. No other room uses the
network.

In: registry.toml as we ship it and as a lab adds to it.
Out: paths of models whose content was checked.
Open first: registry.py.
"""
