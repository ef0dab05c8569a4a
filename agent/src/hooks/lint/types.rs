//! What scripts can see, read from `scripts/remora.d.ts`: the one place that says it for editors, for `remora scripts check`
//! and, by a test, for the runtime.
//!
//! Types are kept as far as a cheap check asks for them: which members there are, what a function takes, which kinds of
//! values a literal may have. What is not understood is [`Type::default`], of which nothing is demanded.

use std::collections::BTreeMap;

use oxc::allocator::Allocator;
use oxc::ast::ast::{
    BindingPattern, Declaration, FormalParameters, Statement, TSLiteral, TSSignature, TSType, TSTypeName,
};
use oxc::parser::Parser;
use oxc::span::SourceType;

/// The types as users get them.
pub const DECLARATIONS: &str = include_str!("../../../../scripts/remora.d.ts");

/// Kinds of values: bits of [`Type::kinds`].
pub(super) mod kind {
    pub(crate) const TEXT: u8 = 1;
    pub(crate) const NUMBER: u8 = 2;
    pub(crate) const BOOLEAN: u8 = 4;
    pub(crate) const OBJECT: u8 = 8;
    pub(crate) const FUNCTION: u8 = 16;
    pub(crate) const NOTHING: u8 = 32;
    pub(crate) const ANY: u8 = 63;
}

/// What is known of a value.
#[derive(Clone, Debug)]
pub(super) struct Type {
    /// Kinds of values that it may be.
    pub(super) kinds: u8,
    /// The only texts and numbers that it may be, as written in JavaScript; empty: any.
    pub(super) literals: Vec<String>,
    /// All that it has, where that is known.
    pub(super) members: Option<BTreeMap<String, Type>>,
    /// The interface whose members it has.
    pub(super) name: Option<String>,
    /// What a call takes and gives.
    pub(super) signature: Option<Box<Signature>>,
}

impl Default for Type {
    fn default() -> Self {
        Self { kinds: kind::ANY, literals: Vec::new(), members: None, name: None, signature: None }
    }
}

/// A function's parameters.
#[derive(Clone, Debug, Default)]
pub(super) struct Signature {
    pub(super) params: Vec<(String, Type)>,
    /// How many of them a call must give.
    pub(super) required: usize,
    /// Whether a call may give more than there are.
    pub(super) rest: bool,
    pub(super) returns: Type,
}

/// All of the declarations.
#[derive(Debug, Default)]
pub(super) struct Types {
    /// `declare const`.
    pub(super) globals: BTreeMap<String, Type>,
    /// Function types whose names are those of hooks.
    pub(super) hooks: BTreeMap<String, Signature>,
    named: BTreeMap<String, Type>,
}

impl Types {
    /// Reads the declarations.
    pub(super) fn read() -> Self {
        let allocator = Allocator::default();
        let parsed = Parser::new(&allocator, DECLARATIONS, SourceType::d_ts()).parse();
        let mut types = Self::default();
        for statement in &parsed.program.body {
            match statement {
                Statement::TSInterfaceDeclaration(interface) => {
                    let of = members(&interface.body.body);
                    types.named.insert(interface.id.name.to_string(), of);
                }
                Statement::TSTypeAliasDeclaration(alias) => {
                    types.alias(&alias.id.name, &alias.type_annotation);
                }
                Statement::VariableDeclaration(_) => {
                    if let Some(Declaration::VariableDeclaration(variables)) = statement.as_declaration() {
                        for variable in &variables.declarations {
                            let (BindingPattern::BindingIdentifier(id), Some(of)) =
                                (&variable.id, &variable.type_annotation)
                            else {
                                continue;
                            };
                            types.globals.insert(id.name.to_string(), read(&of.type_annotation));
                        }
                    }
                }
                _ => {}
            }
        }
        types
    }

    fn alias(&mut self, name: &str, of: &TSType<'_>) {
        let of = read(of);
        match (&of.signature, super::is_hook_name(name)) {
            (Some(signature), true) => {
                self.hooks.insert(name.to_owned(), (**signature).clone());
            }
            _ => {
                self.named.insert(name.to_owned(), of);
            }
        }
    }

    /// The type behind a name, if it is one.
    pub(super) fn resolved<'t>(&'t self, of: &'t Type) -> &'t Type {
        match of.name.as_ref().and_then(|name| self.named.get(name)) {
            Some(named) => named,
            None => of,
        }
    }

    /// What a hook or a registered function is called with.
    pub(super) fn hook(&self, name: &str) -> Option<&Signature> {
        self.hooks.get(name)
    }

    /// Kinds of values that a type may be, names looked up.
    pub(super) fn kinds(&self, of: &Type) -> u8 {
        match of.name.as_ref().and_then(|name| self.named.get(name)) {
            Some(named) => named.kinds | (of.kinds & !kind::OBJECT),
            None => of.kinds,
        }
    }
}

fn members(signatures: &[TSSignature<'_>]) -> Type {
    let mut known = BTreeMap::new();
    for signature in signatures {
        match signature {
            TSSignature::TSPropertySignature(property) => {
                let Some(name) = property.key.static_name() else { continue };
                let of = property.type_annotation.as_ref();
                known.insert(name.into_owned(), of.map(|of| read(&of.type_annotation)).unwrap_or_default());
            }
            TSSignature::TSMethodSignature(method) => {
                let Some(name) = method.key.static_name() else { continue };
                let returns = method.return_type.as_ref().map(|of| read(&of.type_annotation));
                let signature = signature_of(&method.params, returns.unwrap_or_default());
                let of = known.entry(name.into_owned()).or_insert_with(|| function(Signature::default()));
                of.signature = Some(Box::new(match of.signature.take() {
                    Some(other) if !other.params.is_empty() || other.rest => overloaded(*other, signature),
                    _ => signature,
                }));
            }
            // Anything may be in it.
            _ => return Type { kinds: kind::OBJECT, ..Type::default() },
        }
    }
    Type { kinds: kind::OBJECT, members: Some(known), ..Type::default() }
}

fn function(signature: Signature) -> Type {
    Type { kinds: kind::FUNCTION, signature: Some(Box::new(signature)), ..Type::default() }
}

/// What takes either: as few as the one, as many as the other, at each place what one of them takes there.
fn overloaded(one: Signature, other: Signature) -> Signature {
    let required = one.required.min(other.required);
    let rest = one.rest || other.rest;
    let (mut longer, shorter) =
        if one.params.len() >= other.params.len() { (one, other) } else { (other, one) };
    for ((_, of), (_, also)) in longer.params.iter_mut().zip(shorter.params) {
        *of = union(std::mem::take(of), also);
    }
    Signature { required, rest, ..longer }
}

fn signature_of(params: &FormalParameters<'_>, returns: Type) -> Signature {
    let mut signature = Signature { rest: params.rest.is_some(), returns, ..Signature::default() };
    for param in &params.items {
        let name = param.pattern.get_identifier_name().map_or_else(String::new, |name| name.to_string());
        let of = param.type_annotation.as_ref().map(|of| read(&of.type_annotation)).unwrap_or_default();
        signature.params.push((name.trim_end_matches('_').to_owned(), of));
        if !param.optional {
            signature.required = signature.params.len();
        }
    }
    signature
}

fn read(of: &TSType<'_>) -> Type {
    let only = |kinds| Type { kinds, ..Type::default() };
    match of {
        TSType::TSStringKeyword(_) => only(kind::TEXT),
        TSType::TSNumberKeyword(_) | TSType::TSBigIntKeyword(_) => only(kind::NUMBER),
        TSType::TSBooleanKeyword(_) => only(kind::BOOLEAN),
        TSType::TSNullKeyword(_) | TSType::TSUndefinedKeyword(_) | TSType::TSVoidKeyword(_) => {
            only(kind::NOTHING)
        }
        TSType::TSObjectKeyword(_) | TSType::TSArrayType(_) => only(kind::OBJECT),
        TSType::TSLiteralType(literal) => match &literal.literal {
            TSLiteral::StringLiteral(text) => Type {
                kinds: kind::TEXT,
                literals: vec![format!("{:?}", text.value.as_str())],
                ..Type::default()
            },
            TSLiteral::NumericLiteral(number) => {
                Type { kinds: kind::NUMBER, literals: vec![number.value.to_string()], ..Type::default() }
            }
            TSLiteral::BooleanLiteral(_) => only(kind::BOOLEAN),
            _ => Type::default(),
        },
        TSType::TSTypeLiteral(literal) => members(&literal.members),
        TSType::TSFunctionType(function_type) => {
            let returns = read(&function_type.return_type.type_annotation);
            function(signature_of(&function_type.params, returns))
        }
        TSType::TSTypeReference(reference) => match &reference.type_name {
            TSTypeName::IdentifierReference(name) if name.name == "Record" => only(kind::OBJECT),
            // What becomes text: the one alias that is no object.
            TSTypeName::IdentifierReference(name) if name.name == "Text" => {
                only(kind::TEXT | kind::NUMBER | kind::BOOLEAN)
            }
            TSTypeName::IdentifierReference(name) if super::is_hook_name(&name.name) => only(kind::FUNCTION),
            TSTypeName::IdentifierReference(name) if reference.type_arguments.is_none() => {
                Type { kinds: kind::OBJECT, name: Some(name.name.to_string()), ..Type::default() }
            }
            _ => Type::default(),
        },
        TSType::TSUnionType(several) => several.types.iter().map(read).reduce(union).unwrap_or_default(),
        TSType::TSParenthesizedType(inner) => read(&inner.type_annotation),
        _ => Type::default(),
    }
}

/// Either of the two. Members are known where only one of them can have any.
fn union(one: Type, other: Type) -> Type {
    let has_members = |of: &Type| of.kinds & kind::OBJECT != 0;
    let any_of = |of: &Type| of.literals.is_empty() && of.kinds & (kind::TEXT | kind::NUMBER) != 0;
    let literals = if any_of(&one) || any_of(&other) {
        Vec::new()
    } else {
        let more = other.literals.iter().filter(|literal| !one.literals.contains(literal));
        one.literals.iter().chain(more).cloned().collect()
    };
    let kinds = one.kinds | other.kinds;
    match (has_members(&one), has_members(&other)) {
        (true, true) => Type { kinds, literals, ..Type::default() },
        (true, false) => Type { kinds, literals, ..one },
        (false, _) => Type { kinds, literals, ..other },
    }
}
