"""The only driver of the SIP core, and the tap on its messages."""
