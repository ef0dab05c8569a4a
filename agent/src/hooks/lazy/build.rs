//! Makes JavaScript values of an item's fields.
//!
//! Properties are defined, never set, so that nothing that a script did to a prototype takes part.

use std::marker::PhantomData;
use std::rc::Rc;

use rquickjs::object::Property;
use rquickjs::{Array, Ctx, Error, Object, Result, String as JsString, Value};

use crate::view::{Fields, Key, Out, Part, readable};

use super::{Kept, class};

/// Takes values; arrays and maps are made of those that were taken last.
pub(super) struct Made<'a, 'js> {
    ctx: &'a Ctx<'js>,
    kept: &'a Rc<Kept>,
    values: Vec<Value<'js>>,
    /// The map being filled.
    map: Option<Object<'js>>,
    /// The first error; all that follows is idle.
    error: Option<Error>,
}

impl<'a, 'js> Made<'a, 'js> {
    pub(super) fn new(ctx: &'a Ctx<'js>, kept: &'a Rc<Kept>) -> Self {
        Self { ctx, kept, values: Vec::new(), map: None, error: None }
    }

    /// The value that was written.
    pub(super) fn finish(mut self) -> Result<Value<'js>> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.values.pop().unwrap_or_else(|| Value::new_undefined(self.ctx.clone()))),
        }
    }

    fn push(&mut self, value: Result<Value<'js>>) {
        match value {
            Ok(value) => self.values.push(value),
            Err(error) => drop(self.error.get_or_insert(error)),
        }
    }

    fn try_to(&mut self, what: impl FnOnce(&mut Self) -> Result<()>) {
        if self.error.is_none()
            && let Err(error) = what(self)
        {
            self.error = Some(error);
        }
    }

    fn define(&mut self, name: &str, write: impl FnOnce(&mut Self)) {
        self.try_to(|this| {
            write(this);
            match (this.values.pop(), &this.map) {
                (Some(value), Some(map)) => plain(map, name, value),
                _ => Ok(()),
            }
        });
    }

    /// Fills a new object, and hands it to `and` before it is a value.
    fn fill(&mut self, entries: impl FnOnce(&mut Self), and: fn(&Object<'js>) -> Result<()>) {
        self.try_to(|this| {
            let outer = this.map.replace(Object::new(this.ctx.clone())?);
            entries(this);
            if let Some(map) = std::mem::replace(&mut this.map, outer) {
                and(&map)?;
                this.values.push(map.into_value());
            }
            Ok(())
        });
    }
}

/// Defines what an assignment to a plain object would make.
pub(super) fn plain<'js>(object: &Object<'js>, name: &str, value: Value<'js>) -> Result<()> {
    object.prop(name, Property::from(value).writable().configurable().enumerable())
}

/// Lets `headers["content-type"]` find `Content-Type`: by a property that no enumeration and no JSON shows.
fn match_lower_case(headers: &Object<'_>) -> Result<()> {
    for entry in headers.own_props::<String, Value<'_>>(rquickjs::Filter::default()) {
        let (name, value) = entry?;
        let lower = name.to_ascii_lowercase();
        if lower != name && !class::has_own(headers, &lower)? {
            headers.prop(lower, Property::from(value).writable().configurable())?;
        }
    }
    Ok(())
}

impl Fields for Made<'_, '_> {
    type Value = Self;

    fn field(&mut self, key: Key, write: impl FnOnce(&mut Self)) {
        self.define(key.name, write);
    }
}

impl Out for Made<'_, '_> {
    fn null(&mut self) {
        self.push(Ok(Value::new_null(self.ctx.clone())));
    }

    fn boolean(&mut self, value: bool) {
        self.push(Ok(Value::new_bool(self.ctx.clone(), value)));
    }

    fn number(&mut self, value: u64) {
        self.push(Ok(Value::new_number(self.ctx.clone(), value as f64)));
    }

    fn milliseconds(&mut self, nanos: u64) {
        self.push(Ok(Value::new_number(self.ctx.clone(), nanos as f64 / 1e6)));
    }

    fn text(&mut self, bytes: &[u8]) {
        let text = JsString::from_str(self.ctx.clone(), &readable(bytes));
        self.push(text.map(JsString::into_value));
    }

    fn list(&mut self, elements: impl FnOnce(&mut Self)) {
        self.try_to(|this| {
            let first = this.values.len();
            elements(this);
            let array = Array::new(this.ctx.clone())?;
            for (at, value) in this.values.drain(first.min(this.values.len())..).enumerate() {
                array
                    .as_object()
                    .prop(at as u32, Property::from(value).writable().configurable().enumerable())?;
            }
            this.values.push(array.into_value());
            Ok(())
        });
    }

    fn map(&mut self, entries: impl FnOnce(&mut Self)) {
        self.fill(entries, |_| Ok(()));
    }

    fn headers(&mut self, entries: impl FnOnce(&mut Self)) {
        self.fill(entries, match_lower_case);
    }

    fn entry(&mut self, name: &[u8], _plain: bool, write: impl FnOnce(&mut Self)) {
        self.define(&readable(name), write);
    }

    fn part(&mut self, part: Part) {
        let object = class::object(self.ctx, self.kept, part);
        self.push(object);
    }
}

/// Makes the value of one field.
pub(super) struct Picked<'a, 'js> {
    pub(super) name: &'a str,
    pub(super) made: Made<'a, 'js>,
    pub(super) there: bool,
}

impl<'a, 'js> Fields for Picked<'a, 'js> {
    type Value = Made<'a, 'js>;

    fn field(&mut self, key: Key, write: impl FnOnce(&mut Self::Value)) {
        if !self.there && key.name == self.name {
            self.there = true;
            write(&mut self.made);
        }
    }
}

/// Makes the values of all fields.
pub(super) struct Every<'a, 'js> {
    names: Vec<&'static str>,
    made: Made<'a, 'js>,
}

impl<'a, 'js> Every<'a, 'js> {
    pub(super) fn new(made: Made<'a, 'js>) -> Self {
        Self { names: Vec::new(), made }
    }

    /// The fields in their order.
    pub(super) fn finish(self) -> Result<Vec<(&'static str, Value<'js>)>> {
        self.made.error.map_or_else(|| Ok(self.names.into_iter().zip(self.made.values).collect()), Err)
    }
}

impl<'a, 'js> Fields for Every<'a, 'js> {
    type Value = Made<'a, 'js>;

    fn field(&mut self, key: Key, write: impl FnOnce(&mut Self::Value)) {
        self.names.push(key.name);
        write(&mut self.made);
    }
}

/// Looks for a field and makes nothing.
pub(super) struct Find<'a> {
    pub(super) name: &'a str,
    pub(super) found: Option<&'static str>,
}

impl<'a> Fields for Find<'a> {
    type Value = Made<'a, 'a>;

    fn field(&mut self, key: Key, _write: impl FnOnce(&mut Self::Value)) {
        if key.name == self.name {
            self.found = Some(key.name);
        }
    }
}

/// Names of the fields.
#[derive(Default)]
pub(super) struct Listed<'a>(pub(super) Vec<&'static str>, PhantomData<&'a ()>);

impl<'a> Fields for Listed<'a> {
    type Value = Made<'a, 'a>;

    fn field(&mut self, key: Key, _write: impl FnOnce(&mut Self::Value)) {
        self.0.push(key.name);
    }
}
