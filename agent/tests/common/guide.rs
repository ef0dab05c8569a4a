//! The blocks of code in a document, and whether what it shows is what is printed.

/// Language, name and text of a block of code.
pub(crate) struct Block {
    pub(crate) kind: String,
    pub(crate) name: Option<String>,
    pub(crate) text: String,
}

/// All blocks of code.
#[track_caller]
pub(crate) fn blocks(guide: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for line in guide.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(info), None) => {
                let (kind, name) =
                    info.split_once(' ').map_or((info, None), |(kind, name)| (kind, Some(name)));
                let name = name.map(str::to_owned);
                open = Some(Block { kind: kind.to_owned(), name, text: String::new() });
            }
            (None, Some(block)) => block.text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block that does not end");
    found
}

/// Whether a line of the guide, with `…` for anything, is among those printed.
pub(crate) fn is_printed(shown: &str, printed: &str) -> bool {
    printed.lines().any(|line| {
        let mut rest = line;
        shown.trim().split('…').all(|part| match rest.find(part) {
            Some(at) => {
                rest = &rest[at + part.len()..];
                true
            }
            None => false,
        })
    })
}
