"""Agents that learn by proximal policy optimisation: their rollouts and updates."""
