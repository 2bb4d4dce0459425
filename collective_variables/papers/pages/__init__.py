"""Make self-contained HTML pages with figures that fit the screen, and graphs of stages."""
