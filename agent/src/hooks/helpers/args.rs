//! A helper's arguments, read with errors that name helper, argument and cause.

use std::cell::Cell;

use rquickjs::atom::PredefinedAtom;
use rquickjs::object::Filter;
use rquickjs::{Ctx, Exception, Function, IntoJs, Object, Value};

use crate::hooks::limits::size_text;
use crate::hooks::raw;

/// Entries that an object argument (fields, files, headers) may have.
const ENTRIES: usize = 256;
/// Above it JavaScript's numbers are not whole any more.
const MOST_COUNT: f64 = 9_007_199_254_740_991.0;

/// Why a helper failed.
#[derive(Debug)]
pub(crate) enum HelperError {
    /// Thrown as `TypeError`: an argument is missing or of the wrong type.
    Type(String),
    /// Thrown as `Error`: argument (or none) and cause.
    Failed(String),
    /// Already pending in QuickJS, or its own (out of memory).
    Js(rquickjs::Error),
}

impl From<rquickjs::Error> for HelperError {
    fn from(error: rquickjs::Error) -> Self {
        Self::Js(error)
    }
}

pub(crate) type HelperResult<'js> = Result<Value<'js>, HelperError>;

/// One call of a helper.
pub(crate) struct Call<'js> {
    ctx: Ctx<'js>,
    helper: &'static str,
    args: Vec<Value<'js>>,
    /// Bytes of one text, and of all texts of the call together: one string may be named many times.
    longest: usize,
    taken: Cell<usize>,
}

impl<'js> Call<'js> {
    pub(crate) fn new(ctx: Ctx<'js>, helper: &'static str, args: Vec<Value<'js>>, longest: usize) -> Self {
        Self { ctx, helper, args, longest, taken: Cell::new(0) }
    }

    pub(crate) fn ctx(&self) -> &Ctx<'js> {
        &self.ctx
    }

    pub(crate) fn args(&self) -> &[Value<'js>] {
        &self.args
    }

    /// An argument that was given and is neither `undefined` nor `null`.
    pub(crate) fn given(&self, index: usize) -> Option<&Value<'js>> {
        self.args.get(index).filter(|value| !value.is_undefined() && !value.is_null())
    }

    pub(crate) fn required(&self, index: usize, name: &str) -> Result<&Value<'js>, HelperError> {
        self.given(index).ok_or_else(|| {
            HelperError::Type(format!("{}: argument {} ({name}) is missing", self.helper, index + 1))
        })
    }

    /// A required text; numbers and booleans become text as in JavaScript.
    pub(crate) fn text(&self, index: usize, name: &str) -> Result<String, HelperError> {
        self.to_text(self.required(index, name)?, index, name)
    }

    /// An optional text.
    pub(crate) fn optional_text(&self, index: usize, name: &str) -> Result<Option<String>, HelperError> {
        self.given(index).map(|value| self.to_text(value, index, name)).transpose()
    }

    /// A required text of at most so many bytes.
    pub(crate) fn short_text(&self, index: usize, name: &str, longest: usize) -> Result<String, HelperError> {
        let text = self.text(index, name)?;
        if text.len() > longest {
            return Err(self.failed(name, format!("is longer than {longest} bytes")));
        }
        Ok(text)
    }

    /// A required number.
    pub(crate) fn number(&self, index: usize, name: &str) -> Result<f64, HelperError> {
        let value = self.required(index, name)?;
        value.as_number().ok_or_else(|| self.wrong_type(index, name, "a number", value))
    }

    /// An optional whole number from 0.
    pub(crate) fn optional_count(&self, index: usize, name: &str) -> Result<Option<u64>, HelperError> {
        if self.given(index).is_none() {
            return Ok(None);
        }
        let number = self.number(index, name)?;
        if number.fract() != 0.0 || !(0.0..=MOST_COUNT).contains(&number) {
            return Err(self.failed(name, format!("{number} is no whole number from 0")));
        }
        Ok(Some(number as u64))
    }

    /// A required function.
    pub(crate) fn function(&self, index: usize, name: &str) -> Result<&Function<'js>, HelperError> {
        let value = self.required(index, name)?;
        value.as_function().ok_or_else(|| self.wrong_type(index, name, "a function", value))
    }

    /// An optional text or array of texts.
    pub(crate) fn optional_texts(
        &self,
        index: usize,
        name: &str,
    ) -> Result<Option<Vec<String>>, HelperError> {
        let Some(value) = self.given(index) else { return Ok(None) };
        let Some(array) = value.as_array() else { return Ok(Some(vec![self.to_text(value, index, name)?])) };
        // Not `len`: it asserts that the length is a 32-bit integer.
        if array.as_object().get::<_, f64>(PredefinedAtom::Length)? > ENTRIES as f64 {
            return Err(self.failed(name, format!("has more than {ENTRIES} entries")));
        }
        array
            .iter::<Value<'js>>()
            .map(|value| self.to_text(&value?, index, name))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    fn to_text(&self, value: &Value<'js>, index: usize, name: &str) -> Result<String, HelperError> {
        let text = scalar_text(value)?.ok_or_else(|| self.wrong_type(index, name, "a string", value))?;
        self.bounded(text, name)
    }

    fn bounded(&self, text: String, name: &str) -> Result<String, HelperError> {
        if text.len() > self.longest {
            let (size, bound) = (text.len(), size_text(self.longest as u64));
            return Err(
                self.failed(name, format!("is {size} bytes long, more than the {bound} that are allowed"))
            );
        }
        let taken = self.taken.get().saturating_add(text.len());
        self.taken.set(taken);
        if taken > self.longest.saturating_mul(2) {
            let bound = size_text(self.longest.saturating_mul(2) as u64);
            return Err(self.failed(name, format!("the call's texts are more than {bound} together")));
        }
        Ok(text)
    }

    /// A text, or an object or array as JSON (`JSON.stringify`, `toJSON` included). The flag says it was JSON.
    pub(crate) fn text_or_json(&self, index: usize, name: &str) -> Result<(String, bool), HelperError> {
        let value = self.required(index, name)?;
        if let Some(text) = scalar_text(value)? {
            return Ok((self.bounded(text, name)?, false));
        }
        match self.json(value)? {
            Some(json) => Ok((self.bounded(json, name)?, true)),
            None => Err(self.wrong_type(index, name, "a string or an object", value)),
        }
    }

    fn json(&self, value: &Value<'js>) -> Result<Option<String>, HelperError> {
        let Some(json) = self.ctx.json_stringify(value.clone())? else { return Ok(None) };
        Ok(Some(raw::text(&json)?))
    }

    /// The members of a plain object, in order; absent, `null` and `undefined` objects have none. Values: `undefined`
    /// and `null` are `""`, numbers and booleans text, objects JSON.
    pub(crate) fn pairs(&self, index: usize, name: &str) -> Result<Vec<(String, String)>, HelperError> {
        let Some(value) = self.given(index) else { return Ok(Vec::new()) };
        let Some(object) = value.as_object().filter(|_| !value.is_function() && !value.is_array()) else {
            return Err(self.wrong_type(index, name, "an object", value));
        };
        let mut pairs = Vec::new();
        for entry in object.own_props::<rquickjs::String<'js>, Value<'js>>(Filter::new().string().enum_only())
        {
            let (key, value) = entry?;
            if pairs.len() == ENTRIES {
                return Err(self.failed(name, format!("has more than {ENTRIES} entries")));
            }
            let key = self.bounded(raw::text(&key)?, name)?;
            let text = self.member_text(&value, name, &key)?;
            pairs.push((key, text));
        }
        Ok(pairs)
    }

    fn member_text(&self, value: &Value<'js>, name: &str, key: &str) -> Result<String, HelperError> {
        if value.is_undefined() || value.is_null() {
            return Ok(String::new());
        }
        let text = match scalar_text(value)? {
            Some(text) => Some(text),
            None => self.json(value)?,
        };
        match text {
            Some(text) => self.bounded(text, &format!("{name}[{key:?}]")),
            None => Err(HelperError::Type(format!(
                "{}: {name}[{key:?}] must be a string, not {}",
                self.helper,
                type_text(value)
            ))),
        }
    }

    /// A required object.
    pub(crate) fn object(&self, index: usize, name: &str) -> Result<&Object<'js>, HelperError> {
        let value = self.required(index, name)?;
        value
            .as_object()
            .filter(|_| !value.is_function())
            .ok_or_else(|| self.wrong_type(index, name, "an object", value))
    }

    pub(crate) fn wrong_type(
        &self,
        index: usize,
        name: &str,
        wanted: &str,
        value: &Value<'_>,
    ) -> HelperError {
        let (helper, is) = (self.helper, type_text(value));
        HelperError::Type(format!("{helper}: argument {} ({name}) must be {wanted}, not {is}", index + 1))
    }

    /// An error of one argument.
    pub(crate) fn failed(&self, argument: &str, cause: impl std::fmt::Display) -> HelperError {
        HelperError::Failed(format!("{}: {argument}: {cause}", self.helper))
    }

    /// An error of the call as a whole.
    pub(crate) fn failed_call(&self, cause: impl std::fmt::Display) -> HelperError {
        HelperError::Failed(format!("{}: {cause}", self.helper))
    }

    /// A result.
    pub(crate) fn returns(&self, value: impl IntoJs<'js>) -> HelperResult<'js> {
        Ok(value.into_js(&self.ctx)?)
    }

    /// Nothing to return.
    pub(crate) fn done(&self) -> HelperResult<'js> {
        Ok(Value::new_undefined(self.ctx.clone()))
    }

    /// Makes the error pending in QuickJS.
    pub(crate) fn throw(&self, error: HelperError) -> rquickjs::Error {
        match error {
            HelperError::Type(message) => Exception::throw_type(&self.ctx, &message),
            HelperError::Failed(message) => Exception::throw_message(&self.ctx, &message),
            HelperError::Js(error) => error,
        }
    }
}

/// Strings, numbers, big integers and booleans as text; nothing else.
fn scalar_text(value: &Value<'_>) -> Result<Option<String>, rquickjs::Error> {
    if let Some(string) = value.as_string() {
        return raw::text(string).map(Some);
    }
    if value.is_number() || value.is_bool() || value.is_big_int() {
        let text: rquickjs::convert::Coerced<String> = value.get()?;
        return Ok(Some(text.0));
    }
    Ok(None)
}

fn type_text(value: &Value<'_>) -> &'static str {
    if value.is_function() {
        "a function"
    } else if value.is_array() {
        "an array"
    } else if value.is_symbol() {
        "a symbol"
    } else if value.is_object() {
        "an object"
    } else if value.is_number() {
        "a number"
    } else if value.is_bool() {
        "a boolean"
    } else {
        "a value of another type"
    }
}
