"""The store: calls, events, transcripts and what hangs on them, in SQLite or PostgreSQL.

A projection of the journals of all instances. Who lists, searches or remembers beyond one
instance reads here; who writes down what happened to a call writes the journal.
"""
