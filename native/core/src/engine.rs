//! The threads: one that sets connections up, others that move packets.
