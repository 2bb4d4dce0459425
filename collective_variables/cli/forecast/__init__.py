"""Forecast the time of a command from measured rates and counts of its work."""
