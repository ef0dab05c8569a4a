//! What the predicates do not know is left to the interpreter of the crate `cel`, with variables that are read when it
//! asks for them.
//!
//! Invariants: one evaluation reads at most [`FUEL`] units of an item, and makes no text or list longer than [`LONGEST`], so that
//! neither loops over lists nor concatenation run away. A panic of the interpreter is an error of the filter.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use cel::common::ast::IdedExpr;
use cel::common::types::{
    CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelTimestamp, DYN_TYPE,
    STRING_TYPE, Type,
};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::context::VariableResolver;
use cel::{Context, Env, ExecutionError, Value as CelValue};
use chrono::DateTime;
use regex::Regex;
use serde_json::Value;

use super::slot::Slot;
use super::source::Source;
use super::value::{Datum, Outcome};

/// What one evaluation may read: an entry of a list is a unit, and so are 64 bytes.
const FUEL: usize = 1 << 18;
/// Bytes of a text, and entries of a list, that `+` makes.
const LONGEST: usize = 64 << 10;

/// `matches` with an expression compiled beforehand; `+` with a bound; KFL2's `map_get`.
pub(super) const MATCHES: &str = "kfl_matches";
pub(super) const ADD: &str = "kfl_add";
pub(super) const MAP_GET: &str = "map_get";

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    // Err: the name is taken, which the tests would show.
    let _ = env.add_overload(MATCHES, MATCHES, vec![STRING_TYPE, DYN_TYPE], matches);
    let _ = env.add_overload(ADD, ADD, vec![DYN_TYPE, DYN_TYPE], add);
    let _ = env.add_overload(MAP_GET, MAP_GET, vec![DYN_TYPE, DYN_TYPE, DYN_TYPE], map_get);
    Arc::new(env)
});

/// Whether the expression is true of the item.
pub(super) fn test(expr: &IdedExpr, slots: &[Slot], source: &dyn AsSource) -> Outcome {
    let result = evaluate(expr, slots, source, |value| value.downcast_ref::<CelBool>().map(|b| *b.inner()));
    Outcome::from(result.flatten())
}

/// The value of an expression that asks nothing of an item.
pub(super) fn constant(expr: &IdedExpr, slots: &[Slot]) -> Option<Datum<'static>> {
    evaluate(expr, slots, &Nothing, |value| {
        if let Some(value) = value.downcast_ref::<CelBool>() {
            Some(Datum::Bool(*value.inner()))
        } else if let Some(value) = value.downcast_ref::<CelInt>() {
            Some(Datum::Int(*value.inner()))
        } else if let Some(value) = value.downcast_ref::<CelDouble>() {
            Some(Datum::Double(*value.inner()))
        } else if let Some(value) = value.downcast_ref::<CelString>() {
            Some(Datum::owned(value.inner().to_owned()))
        } else {
            value.downcast_ref::<CelTimestamp>()?.inner().timestamp_nanos_opt().map(Datum::Time)
        }
    })?
}

fn evaluate<T>(
    expr: &IdedExpr,
    slots: &[Slot],
    source: &dyn AsSource,
    take: impl FnOnce(&dyn Val) -> T,
) -> Option<T> {
    let variables = Variables { slots, source, fuel: AtomicUsize::new(FUEL) };
    let run = || {
        let mut context = Context::with_env(Arc::clone(&ENV));
        context.set_variable_resolver(&variables);
        let value = CelValue::resolve_val(expr, &context).ok()?;
        Some(take(&*value))
    };
    catch_unwind(AssertUnwindSafe(run)).ok().flatten()
}

/// A source that the interpreter may hold: it asks for `Sync`, and never leaves the thread.
pub(super) trait AsSource: Sync {
    fn slot<'a>(&'a self, slot: &'a Slot) -> Datum<'a>;
}

impl<S: Source + Sync> AsSource for S {
    fn slot<'a>(&'a self, slot: &'a Slot) -> Datum<'a> {
        slot.read(self)
    }
}

/// No item at all.
struct Nothing;

impl AsSource for Nothing {
    fn slot<'a>(&'a self, slot: &'a Slot) -> Datum<'a> {
        match slot {
            Slot::Time(nanos) => Datum::Time(*nanos),
            _ => Datum::Missing,
        }
    }
}

struct Variables<'a> {
    slots: &'a [Slot],
    source: &'a dyn AsSource,
    fuel: AtomicUsize,
}

impl Variables<'_> {
    /// Whether there is so much left.
    fn burn(&self, units: usize) -> bool {
        let left = self.fuel.load(Ordering::Relaxed).checked_sub(units);
        self.fuel.store(left.unwrap_or(0), Ordering::Relaxed);
        left.is_some()
    }
}

impl VariableResolver for Variables<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let slot = self.slots.get(Slot::number(variable)?)?;
        if let Slot::Pattern(regex) = slot {
            return Some(CowVal::owned(Pattern(Arc::clone(regex))));
        }
        let value = self.source.slot(slot);
        self.burn(units(&value)).then(|| cel_value(value)).flatten()
    }
}

fn units(value: &Datum<'_>) -> usize {
    match value {
        Datum::Text(text) => 1 + text.len() / 64,
        Datum::Json(value) => json_units(value),
        _ => 1,
    }
}

fn json_units(value: &Value) -> usize {
    1 + match value {
        Value::String(text) => text.len() / 64,
        Value::Array(values) => values.iter().map(json_units).sum(),
        Value::Object(entries) => entries.iter().map(|(key, value)| key.len() / 64 + json_units(value)).sum(),
        _ => 0,
    }
}

/// `None` where there is nothing: an undeclared reference then, so an error as CEL has them.
fn cel_value<'a>(value: Datum<'a>) -> Option<CowVal<'a, 'a>> {
    Some(match value {
        Datum::Missing => return None,
        Datum::Bool(value) => CowVal::owned(CelBool::from(value)),
        Datum::Int(value) => CowVal::owned(CelInt::from(value)),
        Datum::Double(value) => CowVal::owned(CelDouble::from(value)),
        Datum::Text(text) => CowVal::owned(CelString::from(text)),
        Datum::Time(nanos) => {
            CowVal::owned(CelTimestamp::from(DateTime::from_timestamp_nanos(nanos).fixed_offset()))
        }
        Datum::Json(value) => CowVal::Owned(json_value(&value)),
    })
}

fn json_value(value: &Value) -> Box<dyn Val> {
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(value) => Box::new(CelBool::from(*value)),
        Value::Number(number) => match number.as_i64() {
            Some(number) => Box::new(CelInt::from(number)),
            None => Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
        },
        Value::String(text) => Box::new(CelString::from(text.clone())),
        Value::Array(values) => {
            Box::new(CelList::from(values.iter().map(json_value).collect::<Vec<Box<dyn Val>>>()))
        }
        Value::Object(entries) => {
            let entries = entries
                .iter()
                .map(|(key, value)| (CelMapKey::String(CelString::from(key.clone())), json_value(value)));
            Box::new(CelMap::from(entries.collect::<HashMap<CelMapKey<'static>, Box<dyn Val>>>()))
        }
    }
}

/// A compiled expression, handed through the interpreter.
#[derive(Clone, Debug)]
struct Pattern(Arc<Regex>);

impl Val for Pattern {
    fn get_type(&self) -> &Type {
        &DYN_TYPE
    }

    fn cel_type() -> &'static Type {
        &DYN_TYPE
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Pattern {}

fn refused(function: &str, message: &str) -> ExecutionError {
    ExecutionError::function_error(function, message)
}

#[expect(clippy::needless_pass_by_value, reason = "the interpreter's type of a function")]
fn matches<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let [text, pattern] = &args[..] else { return Err(refused("matches", "takes one argument")) };
    let text = text.downcast_ref::<CelString>().ok_or_else(|| refused("matches", "asked of no text"))?;
    let pattern = pattern.downcast_ref::<Pattern>().ok_or_else(|| refused("matches", "no expression"))?;
    Ok(CowVal::owned(CelBool::from(pattern.0.is_match(text.inner()))))
}

#[expect(clippy::needless_pass_by_value, reason = "the interpreter's type of a function")]
fn add<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let [left, right] = &args[..] else { return Err(refused("+", "takes two operands")) };
    let length = |value: &CowVal<'b, 'v>| match value.downcast_ref::<CelString>() {
        Some(text) => text.inner().len(),
        None => value.as_sizer().map_or(0, |sizer| usize::try_from(*sizer.size().inner()).unwrap_or(0)),
    };
    if length(left) + length(right) > LONGEST {
        return Err(refused("+", "the result would be too long"));
    }
    let adder = left.as_adder().ok_or_else(|| refused("+", "operands that cannot be added"))?;
    Ok(CowVal::Owned(adder.add(&**right)?.into_owned()))
}

fn map_get<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let mut args = args.into_iter();
    let (Some(map), Some(key), Some(default)) = (args.next(), args.next(), args.next()) else {
        return Err(refused(MAP_GET, "takes three arguments"));
    };
    let map = map.downcast_ref::<CelMap>().ok_or_else(|| refused(MAP_GET, "asked of no map"))?;
    let found = map.as_indexer().and_then(|map| map.get(&*key).ok()).map(CowVal::into_owned);
    Ok(found.map_or(default, CowVal::Owned))
}
