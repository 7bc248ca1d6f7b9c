"""The projection of the journal that lists and searches will read. Not built yet."""
