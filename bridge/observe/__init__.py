"""What the daemon says about itself: logs, and the loop's lateness."""
