"""Choose each point of a batch by one formula over features and labelled points."""
