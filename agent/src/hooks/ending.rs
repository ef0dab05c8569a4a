//! How a call of a script ended, and what is to be said of it.

use super::errors::Thrown;
use super::limits::{ScriptLimits, duration_text, size_text};
use super::source::{Place, Source};
use super::spot;

/// A limit that a call ran into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Limit {
    Time,
    Memory,
    Stack,
}

/// How a call of a hook ended.
#[derive(Debug)]
pub(crate) enum CallEnd {
    Done,
    Threw(Thrown),
    Hit(Limit, Option<Place>),
    /// The script is being stopped.
    Stopped,
}

impl CallEnd {
    /// What is to be said of it, without position: `None` when all went well.
    pub(crate) fn message(&self, what: &str, limits: &ScriptLimits) -> Option<String> {
        match self {
            Self::Done => None,
            Self::Stopped => Some(format!("{what} was cut short: the script is being stopped")),
            Self::Threw(thrown) => Some(format!("{what} threw {}", thrown.message)),
            Self::Hit(limit, _) => Some(match limit {
                Limit::Time => {
                    format!("{what} exceeded its time limit of {}", duration_text(limits.call_time))
                }
                Limit::Memory => {
                    format!("{what} exceeded its memory limit of {}", size_text(limits.memory as u64))
                }
                Limit::Stack => {
                    format!("{what} exceeded its stack limit of {}", size_text(limits.stack as u64))
                }
            }),
        }
    }

    /// Where it ended, where known.
    pub(crate) fn place(&self, source: &Source) -> Option<Place> {
        match self {
            Self::Threw(thrown) => thrown.place(),
            Self::Hit(Limit::Time, Some(place)) => Some(spot::of_timeout(source, place)),
            Self::Hit(_, place) => place.clone(),
            Self::Done | Self::Stopped => None,
        }
    }
}
