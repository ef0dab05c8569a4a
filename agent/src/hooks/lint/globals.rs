//! Names that a script does not declare: JavaScript's, helpers, variables of `--env`, or mistakes.

use oxc::ast::AstKind;
use oxc::semantic::Reference;
use oxc::span::GetSpan as _;

use super::visit::Look;
use super::{Severity, nearest};

/// What other hosts of JavaScript have, and what to use here.
const ELSEWHERE: [(&str, &str); 14] = [
    ("require", "a module is a file beside the script: import { x } from \"./lib.mjs\""),
    ("module", "hooks need no export"),
    ("exports", "hooks need no export"),
    ("process", "variables of --env are in env"),
    ("fetch", "vendor.webhook makes HTTP requests"),
    ("XMLHttpRequest", "vendor.webhook makes HTTP requests"),
    ("setTimeout", "jobs.schedule calls functions by the clock"),
    ("setInterval", "jobs.schedule calls functions by the clock"),
    ("setImmediate", "jobs.schedule calls functions by the clock"),
    ("Buffer", "bodies are text, or base64 where encoding says so"),
    ("window", "globals are in globalThis"),
    ("global", "globals are in globalThis"),
    ("alert", "vendor.slack sends alerts, console.log writes to the log"),
    ("print", "console.log writes to the log"),
];

pub(super) fn check(look: &mut Look<'_, '_>) {
    let scoping = look.semantic.scoping();
    let unresolved: Vec<(String, Vec<&Reference>)> = scoping
        .root_unresolved_references()
        .iter()
        .map(|(name, ids)| (name.to_string(), ids.iter().map(|id| scoping.get_reference(*id)).collect()))
        .collect();
    for (name, references) in unresolved {
        // An assignment outside strict mode makes a global.
        let is_made_here = !look.is_module && references.iter().any(|reference| reference.is_write());
        if look.known.contains(&name) || look.types.globals.contains_key(&name) || is_made_here {
            continue;
        }
        let asked_for = |reference: &&&Reference| {
            let parent = look.semantic.nodes().parent_kind(reference.node_id());
            matches!(parent, AstKind::UnaryExpression(unary) if unary.operator.is_typeof())
        };
        let Some(first) = references.iter().find(|reference| !asked_for(reference)) else { continue };
        if is_variable(&name) {
            look.variables.insert(name);
            continue;
        }
        let at = look.semantic.reference_span(first).start;
        let holds_members = matches!(
            look.semantic.nodes().parent_kind(first.node_id()),
            AstKind::StaticMemberExpression(member) if member.object.span().start == at
        );
        let near = nearest(&name, look.types.globals.keys().map(String::as_str));
        let elsewhere = ELSEWHERE.iter().find(|(known, _)| *known == name);
        match (elsewhere, near) {
            (Some((_, instead)), _) => {
                look.say(at, Severity::Error, format!("there is no {name} here: {instead}"));
            }
            (None, Some(near)) if holds_members => {
                look.say(at, Severity::Error, format!("there is no {name}; did you mean {near}?"));
            }
            _ => look.say(
                at,
                Severity::Warning,
                format!("{name} is not defined here: is it a variable of --env?"),
            ),
        }
    }
}

/// Whether a name is written as variables of the environment are.
fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}
