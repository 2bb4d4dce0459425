"""Read columns of texts as numbers, dates or texts."""
