"""Webhooks: what happened to a call, told to a receiver by signed POSTs (contract 6)."""
