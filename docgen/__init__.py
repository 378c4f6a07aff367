"""Pages of docs/ that are written from the code; `python -m docgen` writes them. It is no part of the service."""
