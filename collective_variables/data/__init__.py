"""Problems and tables of the user, read, checked, split and scaled."""
