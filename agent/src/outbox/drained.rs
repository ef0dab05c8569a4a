//! What was left when waiting for the outbox ended.

use std::fmt;

/// What was left when waiting for the outbox ended.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Drained {
    /// Empty if everything was sent or given up.
    pub undelivered: Vec<Undelivered>,
}

/// Deliveries that still wait for one destination.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Undelivered {
    /// Where to; without secrets.
    pub destination: String,
    /// How many.
    pub count: usize,
}

impl fmt::Display for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.undelivered.is_empty() {
            return f.write_str("the outbox is empty");
        }
        let total: usize = self.undelivered.iter().map(|u| u.count).sum();
        write!(f, "{total} not delivered:")?;
        for (i, Undelivered { destination, count }) in self.undelivered.iter().enumerate() {
            write!(f, "{} {count} for {destination}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}
