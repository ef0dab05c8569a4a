//! `docs/kfl.md` against the code: its table of names is written from the one here, its examples compile.

use super::Filter;
use super::names::{self, Kind};

/// The table of `docs/kfl.md`.
fn table() -> String {
    let row = |name: &names::Name| {
        let (path, nothing) = match (name.kfl2, name.kind) {
            (false, _) => ("the item's own", "missing"),
            (true, kind) => (
                name.path,
                match kind {
                    Kind::Bool => "`false`",
                    Kind::Int | Kind::Double => "`0`",
                    Kind::Text => "`\"\"`",
                    Kind::Time => "1970",
                    Kind::List => "`[]`",
                    Kind::Map | Kind::Object => "`{}`",
                },
            ),
        };
        let path = if name.kfl2 { format!("`{path}`") } else { path.to_owned() };
        format!("| `{}` | {} | {path} | {nothing} |\n", name.name, name.kind.as_str())
    };
    let shown: String = names::NAMES.iter().filter(|name| !name.name.contains('#')).map(row).collect();
    let never: Vec<_> = names::NEVER
        .into_iter()
        .flatten()
        .filter(|name| name.path.is_empty())
        .map(|name| format!("`{}`", name.name))
        .collect();
    format!(
        "| name | type | in the item | where there is nothing |\n|---|---|---|---|\n{shown}\n\
         Always at their default, for filters written for Kubeshark: {}.\n",
        never.join(", ")
    )
}

#[test]
fn the_guide_lists_the_names_that_there_are() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/kfl.md");
    let guide = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = guide.split_once("lib kfl` -->\n").unwrap();
    let (found, after) = rest.split_once("<!-- end -->").unwrap();
    if std::env::var_os("REMORA_BLESS").is_some() {
        std::fs::write(&path, format!("{before}lib kfl` -->\n{}<!-- end -->{after}", table())).unwrap();
        return;
    }
    assert_eq!(found, table(), "REMORA_BLESS=1 writes it anew");
}

#[test]
fn the_guides_examples_compile() {
    let guide = include_str!("../../../docs/kfl.md");
    let examples = guide.split("```").nth(1).unwrap().trim();
    assert!(examples.lines().count() >= 10);
    for line in examples.lines() {
        let filter = line.split("   ").next().unwrap();
        Filter::compile(filter).unwrap_or_else(|error| panic!("{filter}: {error}"));
    }
}
