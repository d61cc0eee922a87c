"""One person's session from scans to finished outputs: prepare, segment, publish, show."""
