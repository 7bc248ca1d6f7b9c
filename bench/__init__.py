"""The figures of the closing notes, each beside a floor measured in the same run."""
