//! What stands for a name in a compiled filter: a number, under which everything about it was looked up once.

use cel::common::ast::{Expr, IdedExpr};
use std::sync::Arc;

use regex::Regex;

use super::names::{Field, Kind, Name};
use super::source::{Source, value};
use super::value::Datum;

/// Something that is read while a filter runs.
#[derive(Debug)]
pub(super) enum Slot {
    /// What a name stands for.
    Read(&'static Name),
    /// Whether the item has it.
    Has(&'static Name),
    /// An entry of a map.
    Member(&'static Name, String),
    /// Whether a map has the entry.
    HasMember(&'static Name, String),
    /// A time that was known when the filter was compiled, in nanoseconds since the epoch.
    Time(i64),
    /// A regular expression.
    Pattern(Arc<Regex>),
}

/// Begins an identifier that stands for a slot; nobody can write it.
const MARK: char = '$';

impl Slot {
    /// The identifier of a slot.
    pub(super) fn ident(number: usize) -> Expr {
        Expr::Ident(format!("{MARK}{number}"))
    }

    /// The slot that an identifier stands for.
    pub(super) fn number(ident: &str) -> Option<usize> {
        ident.strip_prefix(MARK)?.parse().ok()
    }

    /// The slot that an expression is.
    pub(super) fn of(expr: &IdedExpr) -> Option<usize> {
        match &expr.expr {
            Expr::Ident(name) => Self::number(name),
            _ => None,
        }
    }

    /// The value in this item.
    #[inline]
    pub(super) fn read<'a>(&self, source: &'a (impl Source + ?Sized)) -> Datum<'a> {
        match self {
            Self::Read(name) => value(source, name),
            Self::Has(name) => Datum::Bool(!matches!(source.read(name), Datum::Missing)),
            Self::Member(name, key) => source.member(name, key).0,
            Self::HasMember(name, key) => match source.member(name, key) {
                (_, false) if !name.kfl2 => Datum::Missing,
                (found, _) => Datum::Bool(!matches!(found, Datum::Missing)),
            },
            Self::Time(nanos) => Datum::Time(*nanos),
            Self::Pattern(_) => Datum::Missing,
        }
    }

    /// Its type, where that is known before there is an item.
    pub(super) fn kind(&self) -> Option<Kind> {
        match self {
            Self::Read(name) => Some(name.kind),
            Self::Has(_) | Self::HasMember(..) => Some(Kind::Bool),
            Self::Time(_) => Some(Kind::Time),
            Self::Member(..) | Self::Pattern(_) => None,
        }
    }

    /// Whether it is the number of an item or stream, or made from it.
    pub(super) fn is_number(&self) -> bool {
        let name = match self {
            Self::Read(name) | Self::Has(name) | Self::Member(name, _) | Self::HasMember(name, _) => name,
            Self::Time(_) | Self::Pattern(_) => return false,
        };
        matches!(name.field, Field::Id | Field::Index | Field::Stream)
    }

    /// Whether it tells of an item.
    pub(super) fn is_of_item(&self) -> bool {
        !matches!(self, Self::Time(_) | Self::Pattern(_))
    }
}
