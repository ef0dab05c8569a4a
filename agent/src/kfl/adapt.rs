//! What the two sides of a comparison make of each other: a port is a number or a text, as the other side is; and a comparison that
//! no item can pass is an error.

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators as op};

use super::error::KflError;
use super::names::{self, Kind, Name};
use super::resolve::Resolver;
use super::slot::Slot;

impl Resolver<'_> {
    /// Takes the reading of a port, a time or a worker that the other side asks for, and tells of comparisons that no item
    /// can pass.
    pub(super) fn adapt(&mut self, call: &mut CallExpr) -> Result<(), KflError> {
        match (call.func_name.as_str(), call.args.as_mut_slice()) {
            (
                op::EQUALS | op::NOT_EQUALS | op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS,
                [a, b],
            ) => {
                self.adapt_to(a, kind_of(b))?;
                self.adapt_to(b, kind_of(a))?;
            }
            (op::IN, [value, list]) => {
                if let Expr::List(list) = &list.expr {
                    for element in &list.elements {
                        self.adapt_to(value, kind_of(element))?;
                    }
                }
            }
            ("startsWith" | "endsWith" | "contains", _) => {
                if let Some(target) = &mut call.target {
                    self.as_text(target);
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn adapt_to(&mut self, expr: &mut IdedExpr, other: Option<Kind>) -> Result<(), KflError> {
        let (Some(number), Some(other)) = (Slot::of(expr), other) else { return Ok(()) };
        let Some(Slot::Read(name)) = self.slots.get(number) else { return Ok(()) };
        let name: &'static Name = name;
        let is_number = |kind| matches!(kind, Kind::Int | Kind::Double);
        if name.kind == other || is_number(name.kind) && is_number(other) {
            return Ok(());
        }
        let wanted = if is_number(other) { Kind::Int } else { other };
        if let Some(reading) = names::reading(name, wanted) {
            // A slot of its own: the same expression may stand elsewhere.
            expr.expr = self.slot(Slot::Read(reading));
            return Ok(());
        }
        // It may have been adapted to the element before: then both readings are asked for.
        let shown = name.name.split('#').next().unwrap_or_default();
        let message =
            format!("{shown} is of type {}, and is compared with a {}", name.kind.as_str(), other.as_str());
        let hint = match (name.kind, other) {
            (Kind::Int | Kind::Double, Kind::Text) => ": write the number without quotes",
            (Kind::Text, Kind::Int | Kind::Double) => ": put the number in quotes",
            (Kind::Time, Kind::Text) => ": write timestamp(\"2026-12-31T23:59:59Z\")",
            (Kind::Map | Kind::Object, _) => ": compare one of its fields",
            (Kind::List, _) => ": write value in list",
            _ => "",
        };
        Err(self.error(expr.id, message + hint))
    }

    pub(super) fn as_text(&mut self, expr: &mut IdedExpr) {
        if let Some(Slot::Read(name)) = Slot::of(expr).and_then(|number| self.slots.get(number))
            && let Some(reading) = names::reading(name, Kind::Text)
        {
            expr.expr = self.slot(Slot::Read(reading));
        }
    }
}

/// The type of a literal.
fn kind_of(expr: &IdedExpr) -> Option<Kind> {
    match &expr.expr {
        Expr::Literal(literal) => match literal {
            LiteralValue::Boolean(_) => Some(Kind::Bool),
            LiteralValue::Double(_) => Some(Kind::Double),
            LiteralValue::Int(_) | LiteralValue::UInt(_) => Some(Kind::Int),
            LiteralValue::String(_) => Some(Kind::Text),
            LiteralValue::Bytes(_) | LiteralValue::Null => None,
        },
        _ => None,
    }
}
