"""Decides how what tasks wrote is read from object storage."""
