//! One look at a script's tree: who names which helper, and what is done with what a hook is given.

use std::collections::{BTreeSet, HashMap, HashSet};

use oxc::ast::AstKind;
use oxc::ast::ast::{
    Argument, BindingPattern, CallExpression, Expression, FormalParameters, IdentifierReference,
};
use oxc::semantic::{NodeId, Semantic, SymbolId};
use oxc::span::GetSpan as _;

use super::types::{Type, Types};
use super::{Severity, arguments, globals, is_hook_name, nearest, suggestion};

/// How far a value is followed through constants.
const DEPTH: u8 = 8;
/// What every object has.
const OF_ALL: [&str; 8] = [
    "constructor",
    "hasOwnProperty",
    "isPrototypeOf",
    "propertyIsEnumerable",
    "toJSON",
    "toLocaleString",
    "toString",
    "valueOf",
];

/// A text's tree, and what was found in it: byte, severity, message.
pub(super) struct Look<'s, 'a> {
    pub(super) types: &'s Types,
    pub(super) semantic: &'s Semantic<'a>,
    /// JavaScript's own globals.
    pub(super) known: &'s HashSet<String>,
    pub(super) is_module: bool,
    /// Parameters of hooks.
    params: HashMap<SymbolId, Type>,
    pub(super) found: Vec<(u32, Severity, String)>,
    pub(super) helpers: BTreeSet<String>,
    pub(super) variables: BTreeSet<String>,
}

impl<'s, 'a> Look<'s, 'a> {
    pub(super) fn new(
        types: &'s Types,
        semantic: &'s Semantic<'a>,
        known: &'s HashSet<String>,
        is_module: bool,
    ) -> Self {
        let (found, helpers, variables) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        Self { types, semantic, known, is_module, params: HashMap::new(), found, helpers, variables }
    }

    pub(super) fn all(&mut self) {
        self.hooks();
        globals::check(self);
        let semantic = self.semantic;
        for node in semantic.nodes().iter() {
            if let AstKind::CallExpression(call) = node.kind() {
                self.registered(call);
            }
        }
        for node in semantic.nodes().iter() {
            match node.kind() {
                AstKind::StaticMemberExpression(member) => {
                    let name = &member.property;
                    self.member(node.id(), &member.object, &name.name, name.span.start);
                }
                AstKind::ComputedMemberExpression(member) => {
                    if let Expression::StringLiteral(name) = &member.expression {
                        self.member(node.id(), &member.object, &name.value, name.span.start);
                    }
                }
                AstKind::CallExpression(call) => arguments::check(self, call),
                _ => {}
            }
        }
    }

    pub(super) fn say(&mut self, at: u32, severity: Severity, message: String) {
        self.found.push((at, severity, message));
    }

    /// Functions at the top level that are hooks, or were meant to be.
    fn hooks(&mut self) {
        let scoping = self.semantic.scoping();
        let root = scoping.root_scope_id();
        let declared: Vec<(String, SymbolId)> =
            scoping.get_bindings(root).iter().map(|(name, symbol)| (name.to_string(), *symbol)).collect();
        for (name, symbol) in declared {
            let node = self.semantic.symbol_declaration(symbol).kind();
            let Some(params) = params_of(node) else { continue };
            if let Some(hook) = self.types.hook(&name) {
                self.give(params, &hook.params);
                continue;
            }
            let hooks = || self.types.hooks.keys().map(String::as_str);
            let near = nearest(&name, hooks());
            let is_called = !scoping.get_resolved_reference_ids(symbol).is_empty();
            if is_called || !(is_hook_name(&name) || near.is_some()) {
                continue;
            }
            let at = scoping.symbol_span(symbol).start;
            match near {
                Some(near) => self.say(
                    at,
                    Severity::Error,
                    format!("{name} is no hook, so it is never called; did you mean {near}?"),
                ),
                None => {
                    let all = hooks().collect::<Vec<_>>().join(", ");
                    let message = format!("{name} is no hook, and nothing calls it; hooks are {all}");
                    self.say(at, Severity::Warning, message);
                }
            }
        }
    }

    /// `hooks.on("itemCaptured", …, function (data) { … })`.
    fn registered(&mut self, call: &CallExpression<'a>) {
        if self.path(&call.callee).as_deref() != Some("hooks.on") {
            return;
        }
        let Some(hook) = self.types.hook("onItemCaptured").cloned() else { return };
        match call.arguments.last() {
            Some(Argument::FunctionExpression(function)) => self.give(&function.params, &hook.params),
            Some(Argument::ArrowFunctionExpression(function)) => self.give(&function.params, &hook.params),
            _ => {}
        }
    }

    /// Says what a function's parameters are.
    fn give(&mut self, params: &FormalParameters<'a>, types: &[(String, Type)]) {
        for (param, (_, of)) in params.items.iter().zip(types) {
            match &param.pattern {
                BindingPattern::BindingIdentifier(id) => {
                    self.params.insert(id.symbol_id(), of.clone());
                }
                BindingPattern::ObjectPattern(pattern) => {
                    for property in &pattern.properties {
                        if let Some(name) = property.key.static_name() {
                            self.has(of, &name, property.key.span().start, "the item", Severity::Warning);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether `of` has a member of that name; says so if not.
    fn has(&mut self, of: &Type, name: &str, at: u32, what: &str, severity: Severity) {
        let Some(members) = &self.types.resolved(of).members else { return };
        if members.contains_key(name) || OF_ALL.contains(&name) {
            return;
        }
        let all: Vec<&str> = members.keys().map(String::as_str).collect();
        let message = format!("{what} has no {name}{}", suggestion(name, &all));
        self.say(at, severity, message);
    }

    fn member(&mut self, node: NodeId, object: &Expression<'a>, name: &str, at: u32) {
        if let Some(path) = self.path(object) {
            if path == "env" {
                self.variables.insert(name.to_owned());
                return;
            }
            let full = format!("{path}.{name}");
            if self.type_at(&full).is_some_and(|of| of.signature.is_some()) {
                self.helpers.insert(full);
            } else if let Some(of) = self.type_at(&path).cloned() {
                let severity = if self.is_called(node) { Severity::Error } else { Severity::Warning };
                self.has(&of, name, at, &path, severity);
            }
            return;
        }
        if self.is_assigned(node) {
            return;
        }
        if let Some(of) = self.type_of(object, 0) {
            let what = of.name.clone().unwrap_or_else(|| "it".to_owned());
            self.has(&of, name, at, shown(&what), Severity::Warning);
        }
    }

    fn is_called(&self, node: NodeId) -> bool {
        let span = self.semantic.nodes().kind(node).span();
        match self.semantic.nodes().parent_kind(node) {
            AstKind::CallExpression(call) => call.callee.span() == span && !call.optional,
            AstKind::StaticMemberExpression(member) => member.object.span() == span && !member.optional,
            _ => false,
        }
    }

    fn is_assigned(&self, node: NodeId) -> bool {
        let span = self.semantic.nodes().kind(node).span();
        match self.semantic.nodes().parent_kind(node) {
            AstKind::AssignmentExpression(assignment) => assignment.left.span() == span,
            AstKind::UnaryExpression(unary) => unary.operator.is_delete(),
            _ => false,
        }
    }

    /// `vendor.s3.put`, if that is the helper and no variable of the script's own.
    pub(super) fn path(&self, of: &Expression<'a>) -> Option<String> {
        match of.get_inner_expression() {
            Expression::Identifier(name) => {
                let helper = self.types.globals.contains_key(name.name.as_str()) && self.is_global(name);
                helper.then(|| name.name.to_string())
            }
            Expression::StaticMemberExpression(member) => {
                Some(format!("{}.{}", self.path(&member.object)?, member.property.name))
            }
            _ => None,
        }
    }

    fn is_global(&self, name: &IdentifierReference<'a>) -> bool {
        self.symbol(name).is_none()
    }

    fn symbol(&self, name: &IdentifierReference<'a>) -> Option<SymbolId> {
        self.semantic.scoping().get_reference(name.reference_id()).symbol_id()
    }

    pub(super) fn type_at(&self, path: &str) -> Option<&'s Type> {
        let mut names = path.split('.');
        let mut of = self.types.globals.get(names.next()?)?;
        for name in names {
            of = self.types.resolved(of).members.as_ref()?.get(name)?;
        }
        Some(of)
    }

    /// What is known of a value: of a hook's parameter, of what lies in it, of a constant that it was put into.
    pub(super) fn type_of(&self, of: &Expression<'a>, depth: u8) -> Option<Type> {
        if depth > DEPTH {
            return None;
        }
        match of.get_inner_expression() {
            Expression::Identifier(name) => {
                let symbol = self.symbol(name)?;
                if self.semantic.scoping().symbol_is_mutated(symbol) {
                    return None;
                }
                if let Some(of) = self.params.get(&symbol) {
                    return Some(of.clone());
                }
                match self.semantic.symbol_declaration(symbol).kind() {
                    AstKind::VariableDeclarator(variable) if variable.id.is_binding_identifier() => {
                        self.type_of(variable.init.as_ref()?, depth + 1)
                    }
                    _ => None,
                }
            }
            Expression::StaticMemberExpression(member) => {
                let object = self.type_of(&member.object, depth + 1)?;
                let members = self.types.resolved(&object).members.as_ref()?;
                members.get(member.property.name.as_str()).cloned()
            }
            Expression::CallExpression(call) => {
                let path = self.path(&call.callee)?;
                Some(self.type_at(&path)?.signature.as_ref()?.returns.clone())
            }
            _ => None,
        }
    }
}

/// An interface's name in words.
fn shown(name: &str) -> &str {
    match name {
        "Item" => "the item",
        "HttpRequest" => "the request",
        "HttpResponse" => "the response",
        "Endpoint" => "an end (src, dst)",
        other => other,
    }
}

/// The parameters of a declaration that is a function.
fn params_of<'n, 'a>(node: AstKind<'a>) -> Option<&'n FormalParameters<'a>>
where
    'a: 'n,
{
    match node {
        AstKind::Function(function) => Some(&function.params),
        AstKind::VariableDeclarator(variable) => match variable.init.as_ref()? {
            Expression::FunctionExpression(function) => Some(&function.params),
            Expression::ArrowFunctionExpression(function) => Some(&function.params),
            _ => None,
        },
        _ => None,
    }
}
