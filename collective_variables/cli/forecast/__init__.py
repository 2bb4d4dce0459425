"""Forecast the time of a command from rates measured here and counts of its work."""
