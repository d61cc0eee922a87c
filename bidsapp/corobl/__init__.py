"""CorObl space: its grids, registration to the template, resampling there and back, the left flip."""
