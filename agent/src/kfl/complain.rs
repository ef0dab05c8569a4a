//! What is said of a filter that is refused: where, and what may have been meant.

use super::error::KflError;
use super::names;
use super::resolve::{FUNCTIONS, MACROS, Resolver};

impl Resolver<'_> {
    pub(super) fn unknown_name(&self, id: u64, path: &[String]) -> KflError {
        let written = path.join(".");
        let near = names::nearest(&written, names::all().map(|name| name.name));
        let hint = match (written.as_str(), near) {
            ("and", _) => "; CEL writes && for and".to_owned(),
            ("or", _) => "; CEL writes || for or".to_owned(),
            ("nil", _) => "; CEL writes null for nil".to_owned(),
            (_, Some(near)) => format!("; did you mean {near}?"),
            (_, None) => "; docs/kfl.md lists the names".to_owned(),
        };
        let shown: String = written.chars().take(80).collect();
        KflError::at(self.text, self.begin(id, path), format!("there is no name {shown:?}{hint}"))
    }

    pub(super) fn unknown_function(&self, id: u64, name: &str) -> KflError {
        if MACROS.contains(&name) {
            let examples = "has(response.status), request.headersList.exists(h, h.name == \"Via\")";
            return self.error(id, format!("{name} is called the wrong way: it is used as in {examples}"));
        }
        let near = names::nearest(name, FUNCTIONS.iter().chain(MACROS).copied());
        let hint = near.map_or_else(
            || format!("; there are {}, {}", FUNCTIONS.join(", "), MACROS.join(", ")),
            |near| format!("; did you mean {near}?"),
        );
        let shown: String = name.chars().take(80).collect();
        self.error(id, format!("there is no function {shown:?}{hint}"))
    }

    pub(super) fn error(&self, id: u64, message: String) -> KflError {
        KflError::at(self.text, self.begin(id, &[]), message)
    }

    /// Where an expression begins; one that the parser places at its dot or bracket begins where its first name does.
    fn begin(&self, id: u64, path: &[String]) -> usize {
        let at = self.info.offset_for(id).map_or(0, |(start, _)| start as usize);
        // Positions count characters.
        let at = self.text.char_indices().nth(at).map_or(self.text.len(), |(byte, _)| byte);
        match path.first() {
            Some(first) if !self.text[at..].starts_with(first.as_str()) => {
                self.text[..at].rfind(first.as_str()).unwrap_or(at)
            }
            _ => at,
        }
    }
}
