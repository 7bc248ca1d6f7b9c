"""Sockets and DNS for SIP; no protocol decision is made here."""
