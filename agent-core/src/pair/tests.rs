//! Pairing: by position, after losses, and what must not be paired.
