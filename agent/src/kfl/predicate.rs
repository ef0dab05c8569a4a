//! The part of CEL that filters mostly are, as a small tree that is walked without an allocation: names, literals, comparisons,
//! `&& || !`, `in`, the methods of strings. The rest stays an expression of the interpreter, as small as it can be.
//!
//! Invariant: a tree says what the interpreter would say of the whole expression, errors included: an error on one side of
//! `&&` gives way to a false on the other, one of `||` to a true.

use std::cmp::Ordering;
use std::sync::Arc;

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators as op};
use regex::Regex;

use super::interpret::{self, AsSource};
use super::names::Kind;
use super::slot::Slot;
use super::source::Source;
use super::value::{Datum, Outcome};

/// A condition.
#[derive(Debug)]
pub(super) enum Predicate {
    Const(bool),
    /// A slot that is a bool.
    Flag(usize),
    Not(Box<Predicate>),
    And(Vec<Predicate>),
    Or(Vec<Predicate>),
    Compare(Comparison, Term, Term),
    /// Whether the term is one of these.
    OneOf(Term, Vec<Datum<'static>>),
    Text(Method, Term, String),
    Matches(Term, Arc<Regex>),
    Interpreted(Box<IdedExpr>),
}

/// What a condition is about.
#[derive(Debug)]
pub(super) enum Term {
    Slot(usize),
    /// The length of a text.
    Size(usize),
    Const(Datum<'static>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Comparison {
    Equal,
    Unequal,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Method {
    Contains,
    StartsWith,
    EndsWith,
}

impl Predicate {
    /// The tree of an expression whose names are `slots`.
    pub(super) fn of(expr: &IdedExpr, slots: &[Slot]) -> Self {
        Self::known(expr, slots).unwrap_or_else(|| Self::Interpreted(Box::new(expr.clone())))
    }

    fn known(expr: &IdedExpr, slots: &[Slot]) -> Option<Self> {
        match &expr.expr {
            Expr::Literal(LiteralValue::Boolean(value)) => Some(Self::Const(*value.inner())),
            Expr::Ident(_) => {
                let number = Slot::of(expr)?;
                (slots.get(number)?.kind() == Some(Kind::Bool)).then_some(Self::Flag(number))
            }
            Expr::Call(call) => Self::call(call, slots),
            _ => None,
        }
    }

    fn call(call: &CallExpr, slots: &[Slot]) -> Option<Self> {
        match (call.func_name.as_str(), &call.target, call.args.as_slice()) {
            (op::LOGICAL_NOT, None, [a]) => Some(Self::Not(Box::new(Self::of(a, slots)))),
            (op::LOGICAL_AND, None, [a, b]) => {
                let mut parts = Vec::new();
                for side in [a, b] {
                    match Self::of(side, slots) {
                        Self::And(inner) => parts.extend(inner),
                        part => parts.push(part),
                    }
                }
                Some(Self::And(parts))
            }
            (op::LOGICAL_OR, None, [a, b]) => {
                let mut parts = Vec::new();
                for side in [a, b] {
                    match Self::of(side, slots) {
                        Self::Or(inner) => parts.extend(inner),
                        part => parts.push(part),
                    }
                }
                Some(Self::Or(parts))
            }
            (op::IN, None, [value, list]) => {
                let Expr::List(list) = &list.expr else { return None };
                let constants = list.elements.iter().map(|element| constant(element, slots));
                let constants = constants.collect::<Option<Vec<_>>>()?;
                (list.optional_indices.is_empty()).then_some(())?;
                Some(Self::OneOf(Term::of(value, slots)?, constants))
            }
            (name @ ("contains" | "startsWith" | "endsWith"), Some(target), [needle]) => {
                let Datum::Text(needle) = constant(needle, slots)? else { return None };
                let method = match name {
                    "contains" => Method::Contains,
                    "startsWith" => Method::StartsWith,
                    _ => Method::EndsWith,
                };
                Some(Self::Text(method, Term::of(target, slots)?, needle.into_owned()))
            }
            (interpret::MATCHES, None, [text, pattern]) => match slots.get(Slot::of(pattern)?)? {
                Slot::Pattern(regex) => Some(Self::Matches(Term::of(text, slots)?, Arc::clone(regex))),
                _ => None,
            },
            (operator, None, [a, b]) => {
                let comparison = match operator {
                    op::EQUALS => Comparison::Equal,
                    op::NOT_EQUALS => Comparison::Unequal,
                    op::LESS => Comparison::Less,
                    op::LESS_EQUALS => Comparison::LessEqual,
                    op::GREATER => Comparison::Greater,
                    op::GREATER_EQUALS => Comparison::GreaterEqual,
                    _ => return None,
                };
                Some(Self::Compare(comparison, Term::of(a, slots)?, Term::of(b, slots)?))
            }
            _ => None,
        }
    }

    /// What it says of an item.
    pub(super) fn test<S: Source + Sync>(&self, slots: &[Slot], source: &S) -> Outcome {
        match self {
            Self::Const(value) => Outcome::from(*value),
            Self::Flag(slot) => match slots[*slot].read(source) {
                Datum::Bool(value) => Outcome::from(value),
                _ => Outcome::Error,
            },
            Self::Not(inner) => match inner.test(slots, source) {
                Outcome::True => Outcome::False,
                Outcome::False => Outcome::True,
                Outcome::Error => Outcome::Error,
            },
            Self::And(parts) => fold(parts, Outcome::False, Outcome::True, slots, source),
            Self::Or(parts) => fold(parts, Outcome::True, Outcome::False, slots, source),
            Self::Compare(comparison, a, b) => {
                comparison.test(&a.value(slots, source), &b.value(slots, source))
            }
            Self::OneOf(term, values) => match term.value(slots, source) {
                Datum::Missing => Outcome::Error,
                value => Outcome::from(values.iter().any(|one| one.equals(&value))),
            },
            Self::Text(method, term, needle) => match term.value(slots, source) {
                Datum::Text(text) => Outcome::from(match method {
                    Method::Contains => text.contains(needle.as_str()),
                    Method::StartsWith => text.starts_with(needle.as_str()),
                    Method::EndsWith => text.ends_with(needle.as_str()),
                }),
                _ => Outcome::Error,
            },
            Self::Matches(term, regex) => match term.value(slots, source) {
                Datum::Text(text) => Outcome::from(regex.is_match(&text)),
                _ => Outcome::Error,
            },
            Self::Interpreted(expr) => interpret::test(expr, slots, source as &dyn AsSource),
        }
    }

    /// Whether any of it is left to the interpreter.
    pub(super) fn is_interpreted(&self) -> bool {
        match self {
            Self::Interpreted(_) => true,
            Self::Not(inner) => inner.is_interpreted(),
            Self::And(parts) | Self::Or(parts) => parts.iter().any(Self::is_interpreted),
            _ => false,
        }
    }
}

/// `&&` and `||`: one `decisive` decides, else an error stays an error.
fn fold<S: Source + Sync>(
    parts: &[Predicate],
    decisive: Outcome,
    otherwise: Outcome,
    slots: &[Slot],
    source: &S,
) -> Outcome {
    let mut end = otherwise;
    for part in parts {
        match part.test(slots, source) {
            outcome if outcome == decisive => return decisive,
            Outcome::Error => end = Outcome::Error,
            _ => {}
        }
    }
    end
}

impl Comparison {
    fn test(self, a: &Datum<'_>, b: &Datum<'_>) -> Outcome {
        if matches!(a, Datum::Missing) || matches!(b, Datum::Missing) {
            return Outcome::Error;
        }
        match self {
            Self::Equal => Outcome::from(a.equals(b)),
            Self::Unequal => Outcome::from(!a.equals(b)),
            Self::Less => Outcome::from(a.compare(b).map(Ordering::is_lt)),
            Self::LessEqual => Outcome::from(a.compare(b).map(Ordering::is_le)),
            Self::Greater => Outcome::from(a.compare(b).map(Ordering::is_gt)),
            Self::GreaterEqual => Outcome::from(a.compare(b).map(Ordering::is_ge)),
        }
    }
}

impl Term {
    fn of(expr: &IdedExpr, slots: &[Slot]) -> Option<Self> {
        if let Some(number) = Slot::of(expr) {
            return match slots.get(number)? {
                // What is not scalar compares by its parts.
                Slot::Read(name) if matches!(name.kind, Kind::List | Kind::Map | Kind::Object) => None,
                // May be a list, where a name is repeated.
                Slot::Member(name, _) if !matches!(name.field, super::names::Field::Headers(_)) => None,
                Slot::Pattern(_) => None,
                _ => Some(Self::Slot(number)),
            };
        }
        if let Expr::Call(CallExpr { func_name, target, args }) = &expr.expr
            && func_name == "size"
            && let (Some(text), []) | (None, [text]) = (target.as_deref(), args.as_slice())
            && let Some(number) = Slot::of(text)
            && slots.get(number).and_then(Slot::kind) == Some(Kind::Text)
        {
            return Some(Self::Size(number));
        }
        constant(expr, slots).map(Self::Const)
    }

    #[inline]
    fn value<'a, S: Source>(&'a self, slots: &'a [Slot], source: &'a S) -> Datum<'a> {
        match self {
            Self::Slot(number) => slots[*number].read(source),
            Self::Size(number) => match slots[*number].read(source) {
                Datum::Text(text) => Datum::unsigned(text.chars().count() as u64),
                _ => Datum::Missing,
            },
            Self::Const(value) => value.borrowed(),
        }
    }
}

/// The value of an expression that asks nothing of an item.
fn constant(expr: &IdedExpr, slots: &[Slot]) -> Option<Datum<'static>> {
    is_constant(expr, slots).then(|| interpret::constant(expr, slots)).flatten()
}

fn is_constant(expr: &IdedExpr, slots: &[Slot]) -> bool {
    match &expr.expr {
        Expr::Literal(_) => true,
        Expr::Ident(_) => {
            Slot::of(expr).and_then(|number| slots.get(number)).is_some_and(|slot| !slot.is_of_item())
        }
        Expr::Call(CallExpr { target, args, .. }) => {
            target.iter().all(|target| is_constant(target, slots))
                && args.iter().all(|arg| is_constant(arg, slots))
        }
        _ => false,
    }
}
