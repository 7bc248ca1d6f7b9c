"""The command line (contract 2): one module per verb."""
