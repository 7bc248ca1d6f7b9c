"""The configuration: contract, section 3. Nothing else reads the environment."""
