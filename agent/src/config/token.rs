//! The API's token, or where it is: no error and no `Debug` shows what is written here.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::pipeline::SecretFrom;
use crate::secret::Secret;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Token {
    /// It is written in the file.
    Written(Secret),
    /// `${NAME}`, `{env: NAME}` or `{file: PATH}`.
    From(SecretFrom),
}

const ALLOWED: &str = "expected a token in quotes, ${NAME} or {env: NAME} for a variable of the agent's environment, or {file: PATH}";

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TokenVisitor)
    }
}

struct TokenVisitor;

macro_rules! not_repeated {
    ($($visit:ident($type:ty))*) => {
        $(fn $visit<E: Error>(self, _: $type) -> Result<Token, E> {
            Err(E::custom(ALLOWED))
        })*
    };
}

impl<'de> Visitor<'de> for TokenVisitor {
    type Value = Token;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ALLOWED)
    }

    not_repeated! { visit_bool(bool) visit_i64(i64) visit_u64(u64) visit_f64(f64) visit_bytes(&[u8]) }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, _: A) -> Result<Token, A::Error> {
        Err(A::Error::custom(ALLOWED))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Token, E> {
        let Some(rest) = text.strip_prefix("${") else { return Ok(Token::Written(Secret::new(text))) };
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let name = rest.strip_suffix('}').filter(|name| !name.is_empty() && name.chars().all(word));
        let name = name.ok_or_else(|| E::custom(ALLOWED))?;
        Ok(Token::From(SecretFrom::Env(name.to_owned())))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Token, A::Error> {
        let from = SecretFrom::deserialize(MapAccessDeserializer::new(map));
        from.map(Token::From).map_err(|_| A::Error::custom(ALLOWED))
    }
}
