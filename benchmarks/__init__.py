"""Programs that time the project, check its reproduction and update its tables and pictures."""
