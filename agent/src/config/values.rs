//! Scalars of the file: sizes, times and numbers with what is allowed, addresses. Each is read as the command line
//! reads it, by the same function.

use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::time::Duration;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

use crate::capture::net::Net;
use crate::cli::{base_url, units};

/// What is written as one word or number.
pub(super) trait Word: Sized {
    /// What is allowed, for who wrote something else altogether.
    const ALLOWED: &'static str;

    /// Reads it.
    ///
    /// # Errors
    /// What is allowed.
    fn read(text: &str) -> Result<Self, String>;
}

/// Reads a [`Word`], whatever YAML takes it for.
fn word<'de, D: Deserializer<'de>, W: Word>(deserializer: D) -> Result<W, D::Error> {
    deserializer.deserialize_any(Words(PhantomData))
}

struct Words<W>(PhantomData<W>);

impl<W: Word> Visitor<'_> for Words<W> {
    type Value = W;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(W::ALLOWED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<W, E> {
        // A URL may have a password in it.
        let shown = if text.contains('@') { "[REDACTED]" } else { text };
        W::read(text).map_err(|allowed| E::custom(format!("found {shown:?}, {allowed}")))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<W, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<W, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<W, E> {
        self.visit_str(&number.to_string())
    }
}

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident($inner:ty) $allowed:literal: $read:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub(crate) struct $name(pub(crate) $inner);

        impl Word for $name {
            const ALLOWED: &'static str = $allowed;

            fn read(text: &str) -> Result<Self, String> {
                let read: fn(&str) -> Result<$inner, String> = $read;
                read(text).map(Self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                word(deserializer)
            }
        }
    )*};
}

words! {
    /// A length of time.
    Time(Duration) "a time such as 90s, 30m, 6h or 7d": units::time;
    /// A network.
    Network(Net) "a network such as 10.0.0.0/8": |text| text.parse().map_err(|error| format!("{error}"));
    /// An address with a port.
    Endpoint(SocketAddr) "an address and port such as 10.0.0.7:9200": |text| {
        text.parse().map_err(|_| String::from("expected an address and port such as 10.0.0.7:9200 or [fd00::7]:443"))
    };
    /// Where to listen; `None`: nowhere.
    ListenOn(Option<SocketAddr>) "an address and port such as 127.0.0.1:8899, or \"off\"": |text| match text {
        "off" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            String::from("expected an address and port such as 127.0.0.1:8899 or [::1]:8899, or \"off\"")
        }),
    };
    /// The base of an HTTP API, ending in a slash.
    BaseUrl(String) "an http or https URL": base_url;
    /// A filter that compiles.
    Kfl(String) "a KFL filter such as 'response.status >= 500'": |text| {
        units::filter(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
    };
}

/// A number of bytes between two bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Size<const LEAST: u64 = 0, const MOST: u64 = { u64::MAX }>(pub(crate) u64);

impl<const LEAST: u64, const MOST: u64> Word for Size<LEAST, MOST> {
    const ALLOWED: &'static str = "a number of bytes such as 512M or 4G";

    fn read(text: &str) -> Result<Self, String> {
        let bytes = units::size(text)?;
        if (LEAST..=MOST).contains(&bytes) {
            return Ok(Self(bytes));
        }
        Err(format!("allowed is {LEAST} to {MOST} bytes"))
    }
}

/// Messages a second.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct PerSecond(pub(crate) f64);

impl Word for PerSecond {
    const ALLOWED: &'static str = "a number of messages a second";

    fn read(text: &str) -> Result<Self, String> {
        units::rate(text).map(Self)
    }
}

impl<'de> Deserialize<'de> for PerSecond {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        word(deserializer)
    }
}

impl<'de, const LEAST: u64, const MOST: u64> Deserialize<'de> for Size<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        word(deserializer)
    }
}

/// A whole number between two bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Count<const LEAST: u32, const MOST: u32>(pub(crate) u32);

impl<const LEAST: u32, const MOST: u32> Word for Count<LEAST, MOST> {
    const ALLOWED: &'static str = "a whole number";

    fn read(text: &str) -> Result<Self, String> {
        let number = text.parse().ok().filter(|number| (LEAST..=MOST).contains(number));
        number.map(Self).ok_or_else(|| format!("allowed is a whole number from {LEAST} to {MOST}"))
    }
}

impl<'de, const LEAST: u32, const MOST: u32> Deserialize<'de> for Count<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        word(deserializer)
    }
}
