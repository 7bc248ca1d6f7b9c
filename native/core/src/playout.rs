//! The room's tracks on their way to the carrier: jitter buffers, decoders, the mix.
