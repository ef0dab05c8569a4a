//! What helpers are called with: how many arguments, of which kinds, and whether filters and cron patterns are any.

use oxc::ast::ast::{Argument, CallExpression, Expression, ObjectExpression, ObjectPropertyKind};
use oxc::span::GetSpan as _;

use super::types::{Signature, Type, kind};
use super::visit::Look;
use super::{Severity, suggestion};
use crate::hooks::helpers::parse_cron;
use crate::kfl::Filter;

pub(super) fn check<'a>(look: &mut Look<'_, 'a>, call: &CallExpression<'a>) {
    let Some(helper) = look.path(&call.callee) else { return };
    let Some(signature) = look.type_at(&helper).and_then(|of| of.signature.as_deref()) else { return };
    let is_spread = |argument: &Argument<'_>| matches!(argument, Argument::SpreadElement(_));
    if !call.arguments.iter().any(is_spread) {
        count(look, call, &helper, signature);
    }
    let given = call.arguments.iter().take_while(|argument| !is_spread(argument));
    for (at, argument) in given.enumerate() {
        let (Some((name, of)), Some(value)) = (signature.params.get(at), argument.as_expression()) else {
            break;
        };
        one(look, &helper, name, of, value, at < signature.required);
    }
    pattern(look, &helper, call);
}

fn count(look: &mut Look<'_, '_>, call: &CallExpression<'_>, helper: &str, signature: &Signature) {
    let (given, names) = (call.arguments.len(), signature.params.iter().map(|(name, _)| name.as_str()));
    if given < signature.required {
        let missing: Vec<&str> = names.take(signature.required).skip(given).collect();
        let at = call.span.start;
        look.say(at, Severity::Error, format!("{helper}: {} missing", listed(&missing)));
    } else if given > signature.params.len() && !signature.rest {
        let at = call.arguments.get(signature.params.len()).map_or(call.span.start, |of| of.span().start);
        let all: Vec<&str> = names.collect();
        let takes = if all.is_empty() { "no arguments".to_owned() } else { all.join(", ") };
        let message = format!("{helper} takes {takes}; what comes after that is ignored");
        look.say(at, Severity::Warning, message);
    }
}

fn listed(missing: &[&str]) -> String {
    match missing {
        [one] => format!("the argument {one} is"),
        several => format!("the arguments {} are", several.join(", ")),
    }
}

fn one<'a>(
    look: &mut Look<'_, 'a>,
    helper: &str,
    name: &str,
    of: &Type,
    value: &Expression<'a>,
    is_required: bool,
) {
    let at = value.span().start;
    let Some(given) = kind_of(value) else { return };
    let takes = look.types.kinds(of) | if is_required { 0 } else { kind::NOTHING };
    if given & takes == 0 {
        // Whatever else is given there is taken for false.
        let severity = if takes & kind::BOOLEAN != 0 { Severity::Warning } else { Severity::Error };
        look.say(
            at,
            severity,
            format!("{helper}: {name} must be {}, this is {}", words(takes), words(given)),
        );
        return;
    }
    let literal = match value {
        Expression::StringLiteral(text) => Some(format!("{:?}", text.value.as_str())),
        Expression::NumericLiteral(number) => Some(number.value.to_string()),
        _ => None,
    };
    if let Some(literal) = literal.filter(|literal| !of.literals.is_empty() && !of.literals.contains(literal))
    {
        let all: Vec<&str> = of.literals.iter().map(String::as_str).collect();
        let message = format!("{helper}: {name} cannot be {literal}; it is one of {}", all.join(", "));
        look.say(at, Severity::Error, message);
    }
    if let (Expression::ObjectExpression(object), Some(known)) = (value, &look.types.resolved(of).members) {
        let known: Vec<&str> = known.keys().map(String::as_str).collect();
        keys(look, &format!("{helper}: {name}"), object, &known);
    }
}

/// Keys of an object of options that there are not.
fn keys(look: &mut Look<'_, '_>, what: &str, object: &ObjectExpression<'_>, known: &[&str]) {
    for property in &object.properties {
        let ObjectPropertyKind::ObjectProperty(property) = property else { continue };
        if let Some(name) = property.key.static_name().filter(|name| !known.contains(&name.as_ref())) {
            let message = format!("{what} has no {name}{}", suggestion(&name, known));
            look.say(property.span.start, Severity::Error, message);
        }
    }
}

/// The kind of a value that is written out; `None` where it has to be run to be known.
fn kind_of(value: &Expression<'_>) -> Option<u8> {
    match value.get_inner_expression() {
        Expression::StringLiteral(_) | Expression::TemplateLiteral(_) => Some(kind::TEXT),
        Expression::NumericLiteral(_) | Expression::BigIntLiteral(_) => Some(kind::NUMBER),
        Expression::BooleanLiteral(_) => Some(kind::BOOLEAN),
        Expression::NullLiteral(_) => Some(kind::NOTHING),
        Expression::Identifier(name) if name.name == "undefined" => Some(kind::NOTHING),
        Expression::ObjectExpression(_) | Expression::ArrayExpression(_) => Some(kind::OBJECT),
        Expression::FunctionExpression(_) | Expression::ArrowFunctionExpression(_) => Some(kind::FUNCTION),
        _ => None,
    }
}

fn words(kinds: u8) -> String {
    let all = [
        (kind::TEXT, "text"),
        (kind::NUMBER, "a number"),
        (kind::BOOLEAN, "true or false"),
        (kind::OBJECT, "an object"),
        (kind::FUNCTION, "a function"),
        (kind::NOTHING, "nothing"),
    ];
    let mut named: Vec<&str> =
        all.iter().filter(|(bit, _)| kinds & bit != 0).map(|(_, word)| *word).collect();
    if named.len() > 1 {
        named.retain(|word| *word != "nothing");
    }
    named.join(" or ")
}

/// Filters and cron patterns that are written out.
fn pattern<'a>(look: &mut Look<'_, 'a>, helper: &str, call: &CallExpression<'a>) {
    let argument = |at: usize| call.arguments.get(at).and_then(Argument::as_expression);
    match helper {
        "kfl.match" => filter(look, helper, argument(0), Severity::Error),
        // Whether it is one may be just what is asked.
        "kfl.validate" => filter(look, helper, argument(0), Severity::Warning),
        "hooks.on" => {
            let Some(Expression::ObjectExpression(options)) = argument(1) else { return };
            for property in &options.properties {
                if let ObjectPropertyKind::ObjectProperty(property) = property
                    && property.key.static_name().as_deref() == Some("filter")
                {
                    filter(look, "hooks.on: filter", Some(&property.value), Severity::Error);
                }
            }
        }
        "jobs.schedule" => {
            let Some(Expression::StringLiteral(text)) = argument(1) else { return };
            if let Err(why) = parse_cron(&text.value) {
                look.say(text.span.start, Severity::Error, format!("jobs.schedule: cron: {why}"));
            }
        }
        _ => {}
    }
}

fn filter(look: &mut Look<'_, '_>, what: &str, value: Option<&Expression<'_>>, severity: Severity) {
    let (text, start) = match value {
        Some(Expression::StringLiteral(text)) => (text.value.as_str(), text.span.start),
        Some(Expression::TemplateLiteral(text)) if text.quasis.len() == 1 => {
            let Some(part) = text.quasis.first() else { return };
            (part.value.raw.as_str(), text.span.start)
        }
        _ => return,
    };
    let Err(error) = Filter::compile(text) else { return };
    // The place in the filter, as far as no escape before it takes more room in the script than in the filter.
    let before = text.split_inclusive('\n').take(error.line.saturating_sub(1)).map(str::len).sum::<usize>();
    let within: usize =
        text[before..].chars().take(error.column.saturating_sub(1)).map(char::len_utf8).sum::<usize>();
    let at = start + 1 + u32::try_from(before + within).unwrap_or(0);
    look.say(at, severity, format!("{what}: {}", error.message));
}
