//! A safe wrapper of the libopus decoder at 8 kHz, mono.
