"""Measurements of the parts and of the whole line, side by side."""
