//! Variables of the scripts. They hold tokens: no error and no `Debug` shows a value.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::cli::is_variable_name;

/// Names and values.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Variables(pub(crate) BTreeMap<String, String>);

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl<'de> Deserialize<'de> for Variables {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_option(Map)
    }
}

struct Map;

impl<'de> Visitor<'de> for Map {
    type Value = Variables;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("variables, as NAME: \"value\"")
    }

    fn visit_none<E: Error>(self) -> Result<Variables, E> {
        Ok(Variables::default())
    }

    fn visit_unit<E: Error>(self) -> Result<Variables, E> {
        Ok(Variables::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Variables, D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Variables, A::Error> {
        let mut variables = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if !is_variable_name(&name) {
                return Err(A::Error::custom(format!(
                    "{name:?} cannot be a variable of a script: letters, digits, '_' and '$' are allowed, and no digit first"
                )));
            }
            let Text(value) = map.next_value()?;
            variables.insert(name, value);
        }
        Ok(Variables(variables))
    }
}

/// A string, and nothing that YAML could take for something else.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl TextVisitor {
    fn refused<E: Error>() -> E {
        E::custom("the value is no string: put it in quotes")
    }
}

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
        Ok(Text(text.to_owned()))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Text, E> {
        Err(Self::refused())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Text, E> {
        Err(Self::refused())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Text, E> {
        Err(Self::refused())
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<Text, E> {
        Err(Self::refused())
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Text, E> {
        Err(Self::refused())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Text, E> {
        Err(Self::refused())
    }

    fn visit_unit<E: Error>(self) -> Result<Text, E> {
        Err(Self::refused())
    }
}
