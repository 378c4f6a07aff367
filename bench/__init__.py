"""Measurements that are committed: what they print is what documents and closing notes quote."""
