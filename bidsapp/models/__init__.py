"""Models as files: load safely, transfer, export, describe."""
