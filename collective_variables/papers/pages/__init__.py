"""Pages of HTML that hold all that they need: figures as wide as their room, and graphs."""
