"""The later papers: spectral position and scaling (Nikolaou et al. 2025 and 2026)."""
