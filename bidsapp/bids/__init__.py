"""What we know of BIDS: finding scans and labels, names, sidecars, dataset_description, validation."""
