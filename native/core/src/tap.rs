//! Both directions of a call's audio for a recorder, bounded.
