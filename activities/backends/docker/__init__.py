"""Volumes of one Docker engine, moved by containers that mount the one volume."""
